//! Names for images, and from a name to its record.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ImageRecord, Store, StoreError};
use crate::digest::Digest;
use crate::reference::ImageReference;

/// A name and the image that it means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference {
    /// The whole name: registry, repository and tag or digest.
    pub name: String,
    /// The manifest.
    pub digest: Digest,
}

/// The fewest digits by which an image may be named.
const SHORTEST_ID: usize = 4;

impl Store {
    /// Gives `name` to an image whose manifest, config and layers are in the store.
    ///
    /// A name that meant another image means this one from now on.
    ///
    /// # Errors
    /// [`StoreError::Pinned`]; what is missing, damaged or not understood. The name is as before.
    pub fn tag(&self, name: &str, digest: &Digest) -> Result<ImageRecord, StoreError> {
        let reference = parse(name)?;
        if reference.digest().is_some_and(|pinned| pinned != *digest) {
            return Err(StoreError::Pinned(name.to_owned()));
        }
        self.tag_fetched(&reference, digest)
    }

    /// As [`Store::tag`], for what was fetched by that name and checked against its digest,
    /// which may be that of an index around the image.
    pub(crate) fn tag_fetched(
        &self,
        name: &ImageReference,
        digest: &Digest,
    ) -> Result<ImageRecord, StoreError> {
        let name = name.to_string();
        let _adding = self.adding()?;
        let record = self.record(digest)?;
        for layer in &record.layers {
            if !self.has_blob(&layer.blob.digest) {
                return Err(StoreError::MissingBlob(layer.blob.digest));
            }
        }
        let reference = Reference {
            name: name.clone(),
            digest: *digest,
        };
        let bytes = json(&reference, digest)?;
        self.write_atomically(&self.ref_path(&name), &bytes)?;
        Ok(record)
    }

    /// Takes a name away and says what it meant. The image stays until it is pruned.
    ///
    /// # Errors
    /// [`StoreError::NoImage`] when there is no such name, or [`StoreError::Io`].
    pub fn untag(&self, name: &str) -> Result<Digest, StoreError> {
        let name = canonical(name)?;
        let Some(reference) = self.read_ref(&name)? else {
            return Err(StoreError::NoImage(name));
        };
        let path = self.ref_path(&name);
        std::fs::remove_file(&path).map_err(StoreError::std("remove", &path))?;
        Ok(reference.digest)
    }

    /// Lists all names, in order.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn list(&self) -> Result<Vec<Reference>, StoreError> {
        let dir = self.dir.join("refs");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(StoreError::std("read", &dir))? {
            let path = entry.map_err(StoreError::std("read", &dir))?.path();
            let Some(bytes) = read_if_there(&path)? else {
                continue;
            };
            // Nobody but the store writes here; what it did not write is not a name.
            if let Ok(reference) = serde_json::from_slice(&bytes) {
                found.push(reference);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Lists the digests of all images, named or not.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn images(&self) -> Result<Vec<Digest>, StoreError> {
        let dir = self.dir.join("records");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(StoreError::std("read", &dir))? {
            let entry = entry.map_err(StoreError::std("read", &dir))?;
            found.extend(entry.file_name().to_str().and_then(Digest::from_hex));
        }
        found.sort();
        Ok(found)
    }

    /// Finds an image by `name[:tag]`, `name@digest`, digest, or the first
    /// digits of its manifest's or config's digest.
    ///
    /// # Errors
    /// [`StoreError::NoImage`], [`StoreError::Ambiguous`], or why it cannot be read.
    pub fn resolve(&self, text: &str) -> Result<ImageRecord, StoreError> {
        if let Some(reference) = self.named(text)? {
            return self.record(&reference.digest);
        }
        let none = || StoreError::NoImage(text.to_owned());
        let digest = text.rsplit_once('@').map_or(text, |(_, digest)| digest);
        if let Ok(digest) = digest.parse::<Digest>() {
            if self.record_path(&digest).exists() {
                return self.record(&digest);
            }
            return self.by_prefix(&digest.hex())?.ok_or_else(none);
        }
        if is_prefix(text) {
            return self.by_prefix(text)?.ok_or_else(none);
        }
        Err(none())
    }

    /// Gives what a text means when it is a name.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn named(&self, text: &str) -> Result<Option<Reference>, StoreError> {
        match canonical(text) {
            Ok(name) => self.read_ref(&name),
            // What cannot be a name may still be a digest.
            Err(_) => Ok(None),
        }
    }

    fn by_prefix(&self, prefix: &str) -> Result<Option<ImageRecord>, StoreError> {
        let images = self.images()?;
        let mut hits: Vec<_> = images
            .iter()
            .filter(|digest| digest.hex().starts_with(prefix))
            .map(|digest| self.record(digest))
            .collect::<Result<_, _>>()?;
        if hits.is_empty() {
            for digest in &images {
                let record = self.record(digest)?;
                if record.config_digest.hex().starts_with(prefix) {
                    hits.push(record);
                }
            }
        }
        match hits.len() {
            0 | 1 => Ok(hits.pop()),
            count => Err(StoreError::Ambiguous {
                prefix: prefix.to_owned(),
                count,
            }),
        }
    }

    /// Gives the record of an image by its manifest's digest, and makes it
    /// from the manifest and config when there is none.
    ///
    /// # Errors
    /// What is missing, damaged or not understood.
    pub fn record(&self, digest: &Digest) -> Result<ImageRecord, StoreError> {
        let path = self.record_path(digest);
        if let Some(bytes) = read_if_there(&path)?
            && let Ok(record) = serde_json::from_slice(&bytes)
        {
            return Ok(record);
        }
        let record = self.read_record(digest)?;
        self.write_atomically(&path, &json(&record, digest)?)?;
        Ok(record)
    }

    pub(super) fn record_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("records").join(digest.hex())
    }

    fn read_ref(&self, name: &str) -> Result<Option<Reference>, StoreError> {
        let bytes = read_if_there(&self.ref_path(name))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn ref_path(&self, name: &str) -> PathBuf {
        self.dir.join("refs").join(file_name(name))
    }
}

fn json<T: Serialize>(value: &T, digest: &Digest) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|source| StoreError::BadDocument {
        digest: *digest,
        what: "record",
        source,
    })
}

fn read_if_there(path: &std::path::Path) -> Result<Option<Vec<u8>>, StoreError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::std("read", path)(e)),
    }
}

fn is_prefix(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (SHORTEST_ID..=64).contains(&text.len()) && text.bytes().all(hex)
}

/// Makes a name whole, as docker does: `debian` is `docker.io/library/debian:latest`.
fn canonical(name: &str) -> Result<String, StoreError> {
    Ok(parse(name)?.to_string())
}

fn parse(name: &str) -> Result<ImageReference, StoreError> {
    name.parse().map_err(|source| StoreError::BadName {
        name: name.to_owned(),
        source,
    })
}

/// Says that a name cannot be given to what is made for it, before there was work for it.
///
/// # Errors
/// [`StoreError::BadName`]; [`StoreError::Pinned`], for nobody knows a digest beforehand.
pub(crate) fn check_name(name: &str) -> Result<(), StoreError> {
    match parse(name)?.digest() {
        None => Ok(()),
        Some(_) => Err(StoreError::Pinned(name.to_owned())),
    }
}

/// The file name for a name: itself with everything but letters, digits and
/// `.-_:@` escaped, or its digest when that would be too long for a file.
fn file_name(name: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(name.len() + 16);
    for (at, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"-_:@".contains(&byte);
        if plain || (byte == b'.' && at > 0) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02x}");
        }
    }
    if out.len() > 240 {
        return format!("%{}", Digest::of(name.as_bytes()).hex());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let store = Store::open(dir.path()).expect("made");
        (dir, store)
    }

    /// Puts an image without layers into the store.
    fn image(store: &Store, cmd: &str) -> Digest {
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["{cmd}"],"Entrypoint":null,
            "Env":["A=b"]}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        let size = config.len();
        let config = store.put_blob(config.as_bytes()).expect("written");
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json",
            "digest":"{config}","size":{size}}},"layers":[]}}"#
        );
        store.put_blob(manifest.as_bytes()).expect("written")
    }

    #[test]
    fn an_image_is_found_by_name_digest_and_prefix() {
        let (_dir, store) = store();
        let digest = image(&store, "sh");
        let record = store.tag("mpi", &digest).expect("tagged");
        assert_eq!(record.config.cmd, ["sh"]);
        assert_eq!(record.arch, "amd64");
        for text in [
            "mpi".to_owned(),
            "mpi:latest".to_owned(),
            "docker.io/library/mpi:latest".to_owned(),
            digest.to_string(),
            digest.hex(),
            digest.short(),
            format!("mpi@{digest}"),
            record.config_digest.short(),
            record.config_digest.to_string(),
        ] {
            assert_eq!(store.resolve(&text).expect(&text), record, "{text}");
        }
        for text in ["mp", "mpi:1", "0", "sha256:00", "../records", "a/b/c"] {
            assert!(
                matches!(store.resolve(text), Err(StoreError::NoImage(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_tag_moves_and_goes() {
        let (_dir, store) = store();
        let (one, two) = (image(&store, "one"), image(&store, "two"));
        store.tag("x:1", &one).expect("tagged");
        store.tag("x:1", &two).expect("tagged");
        store.tag("y", &one).expect("tagged");
        let names: Vec<_> = store.list().expect("listed");
        assert_eq!(names.len(), 2);
        assert_eq!(store.resolve("x:1").expect("found").config.cmd, ["two"]);
        assert_eq!(store.untag("x:1").expect("untagged"), two);
        assert!(matches!(store.untag("x:1"), Err(StoreError::NoImage(_))));
        assert_eq!(store.images().expect("listed").len(), 2);
    }

    #[test]
    fn a_name_with_a_digest_means_no_other_image() {
        let (_dir, store) = store();
        let (one, two) = (image(&store, "one"), image(&store, "two"));
        let pinned = format!("x@{one}");
        assert!(matches!(
            store.tag(&pinned, &two),
            Err(StoreError::Pinned(_))
        ));
        assert_eq!(store.list().expect("listed"), []);
        store.tag(&pinned, &one).expect("tagged");
        assert_eq!(store.resolve(&pinned).expect("found").digest, one);
        assert!(matches!(check_name(&pinned), Err(StoreError::Pinned(_))));
    }

    #[test]
    fn a_lost_or_damaged_record_is_made_again() {
        let (_dir, store) = store();
        let digest = image(&store, "sh");
        let record = store.tag("mpi", &digest).expect("tagged");
        std::fs::write(store.record_path(&digest), b"{").expect("written");
        assert_eq!(store.resolve("mpi").expect("found"), record);
        std::fs::remove_file(store.record_path(&digest)).expect("removed");
        assert_eq!(store.resolve("mpi").expect("found"), record);
    }

    #[test]
    fn a_name_is_not_given_to_what_is_no_image() {
        let (_dir, store) = store();
        let index = store.put_blob(br#"{"schemaVersion":2,"manifests":[]}"#);
        let index = index.expect("written");
        assert!(matches!(
            store.tag("x", &index),
            Err(StoreError::NotAnImage { .. })
        ));
        let junk = store.put_blob(b"junk").expect("written");
        assert!(matches!(
            store.tag("x", &junk),
            Err(StoreError::BadDocument { .. })
        ));
        assert!(matches!(
            store.tag("x", &Digest::of(b"absent")),
            Err(StoreError::MissingBlob(_))
        ));
        assert!(store.list().expect("listed").is_empty());
    }

    proptest! {
        #[test]
        fn no_name_leaves_its_folder(name in "\\PC{0,300}") {
            let file = file_name(&name);
            prop_assert!(!file.contains('/') && !file.starts_with('.') && file.len() <= 255);
        }
    }
}
