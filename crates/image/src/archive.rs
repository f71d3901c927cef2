//! Images as files: OCI layouts, in a folder or a tar archive, and docker's archives.
//!
//! What is saved is both at once, as docker itself has done since version 25:
//! an OCI layout with docker's `manifest.json` beside its index, so every tool
//! finds what it looks for. Formats: the image-layout part of the OCI image
//! specification, and docker's image specification 1.2.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::Digest;
use crate::layer::pack::Compression;
use crate::layer::tar::{Entry, Kind, Tar};
use crate::layer::{LayerError, LayerStream, Limits};
use crate::reference::ImageReference;
use crate::store::{BlobLock, Descriptor, ImageRecord, MAX_DOCUMENT, Manifest, Store, StoreError};

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The tag alone, as skopeo and podman write it.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole name, as containerd and docker write it.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// The most files and links of an archive: one of images has a few for each layer.
const MAX_FILES: usize = 100_000;

/// Why images were not saved or loaded.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file or folder could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The archive is damaged.
    #[error("cannot read {}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: LayerError,
    },
    /// It holds neither an OCI layout nor a docker archive.
    #[error("{} is neither an OCI layout nor a docker archive", .0.display())]
    NoImages(PathBuf),
    /// A document in it cannot be understood.
    #[error("{document} in {} is not valid", path.display())]
    Document {
        /// Where.
        path: PathBuf,
        /// Which.
        document: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Something that is referred to is not in it.
    #[error("{} lacks {name}", path.display())]
    Missing {
        /// Where.
        path: PathBuf,
        /// What.
        name: String,
    },
    /// It has images without names, and no name was given.
    #[error("the image in {} has no name", .0.display())]
    NoName(PathBuf),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    manifests: Vec<IndexEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<crate::registry::Platform>,
}

/// An image in docker's `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// Its manifest.
    pub digest: Digest,
    /// The names that it was given.
    pub names: Vec<String>,
}

/// Saves images, by name or id, as an archive that OCI tools and docker read.
///
/// # Errors
/// What is not in the store, or why the archive could not be written.
pub fn save<W: Write>(store: &Store, images: &[String], out: W) -> Result<W, ArchiveError> {
    let parts = gather(store, images)?;
    let mut builder = tar::Builder::new(out);
    let mut add = |name: &str, size: u64, data: &mut dyn Read| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(size);
        let written = builder.append_data(&mut header, name, data);
        written.map_err(|source| ArchiveError::Io {
            what: "write",
            path: PathBuf::from(name),
            source,
        })
    };
    for (name, bytes) in &parts.documents {
        add(name, bytes.len() as u64, &mut &bytes[..])?;
    }
    for digest in &parts.blobs {
        let mut blob = store.open_blob(digest)?;
        add(&blob_name(digest), store.blob_size(digest)?, &mut blob)?;
    }
    builder.into_inner().map_err(|source| ArchiveError::Io {
        what: "write",
        path: PathBuf::from("the archive"),
        source,
    })
}

/// Saves images as an OCI layout in a folder, which is made when it is not there.
///
/// # Errors
/// As [`save`].
pub fn save_layout(store: &Store, images: &[String], folder: &Path) -> Result<(), ArchiveError> {
    let parts = gather(store, images)?;
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ArchiveError::Io { what, path, source }
    };
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(failed("create", &blobs))?;
    for digest in &parts.blobs {
        let to = folder.join(blob_name(digest));
        if !to.exists() {
            // A reader must never see half a blob under its name.
            let temporary = to.with_extension("part");
            std::fs::copy(store.blob_path(digest), &temporary)
                .and_then(|_| std::fs::rename(&temporary, &to))
                .map_err(failed("write", &to))?;
        }
    }
    for (name, bytes) in &parts.documents {
        let to = folder.join(name);
        std::fs::write(&to, bytes).map_err(failed("write", &to))?;
    }
    Ok(())
}

/// All that goes into an archive.
struct Parts {
    documents: Vec<(&'static str, Vec<u8>)>,
    blobs: Vec<Digest>,
}

fn gather(store: &Store, images: &[String]) -> Result<Parts, ArchiveError> {
    let mut manifests = Vec::new();
    let mut docker: Vec<DockerImage> = Vec::new();
    let mut blobs = Vec::new();
    let mut seen = HashSet::new();
    for text in images {
        let record = store.resolve(text)?;
        let manifest = store.read_manifest(&record.digest)?;
        let name = store.named(text)?.map(|reference| reference.name);
        let reference: Option<ImageReference> = name.and_then(|name| name.parse().ok());
        let layers = record.layers.iter().map(|layer| layer.blob.digest);
        let all = layers.clone().chain([record.config_digest, record.digest]);
        blobs.extend(all.filter(|digest| seen.insert(*digest)));
        let tags: Vec<String> = reference.iter().map(ImageReference::familiar).collect();
        let config = blob_name(&record.config_digest);
        match docker.iter_mut().find(|image| image.config == config) {
            Some(image) => image.repo_tags.get_or_insert_default().extend(tags),
            None => docker.push(DockerImage {
                config,
                repo_tags: Some(tags),
                layers: layers.map(|digest| blob_name(&digest)).collect(),
            }),
        }
        manifests.push(index_entry(store, &record, manifest, reference)?);
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(INDEX_TYPE.to_owned()),
        manifests,
    };
    let path = Path::new("the archive");
    let index = serde_json::to_vec(&index).map_err(invalid(path, "index.json"))?;
    let docker = serde_json::to_vec(&docker).map_err(invalid(path, "manifest.json"))?;
    Ok(Parts {
        documents: vec![
            ("oci-layout", LAYOUT.to_vec()),
            ("index.json", index),
            ("manifest.json", docker),
        ],
        blobs,
    })
}

fn index_entry(
    store: &Store,
    record: &ImageRecord,
    manifest: Manifest,
    reference: Option<ImageReference>,
) -> Result<IndexEntry, ArchiveError> {
    let mut annotations = BTreeMap::new();
    if let Some(reference) = &reference {
        annotations.insert(IMAGE_NAME.to_owned(), reference.to_string());
        if let Some(tag) = reference.tag() {
            annotations.insert(REF_NAME.to_owned(), tag.to_owned());
        }
    }
    Ok(IndexEntry {
        descriptor: Descriptor {
            media_type: manifest
                .media_type
                .unwrap_or_else(|| MANIFEST_TYPE.to_owned()),
            digest: record.digest,
            size: store.blob_size(&record.digest)?,
        },
        annotations,
        platform: None,
    })
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn invalid(path: &Path, document: &'static str) -> impl FnOnce(serde_json::Error) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::Document {
        path,
        document,
        source,
    }
}

/// What a source has, by its names in there.
struct Contents<'a> {
    store: &'a Store,
    /// What the source is called, for messages.
    path: &'a Path,
    found: Found,
    /// What was put into the store, or begun.
    brought: RefCell<Vec<Digest>>,
}

enum Found {
    /// Everything is in the store already, whole, under its true digest.
    Archive {
        files: HashMap<String, Digest>,
        links: HashMap<String, String>,
    },
    /// The files of a folder, which are fetched when they are wanted.
    Folder,
}

/// Loads all images of an archive or a layout folder. `name` is for an image that has none.
///
/// Every blob is stored under the digest that its content has, so an archive
/// that lies about a digest only lacks that blob.
///
/// # Errors
/// What is wrong with the archive; images before the one that failed are kept,
/// and nothing else of it, unless another process is adding something: then
/// the next prune removes it.
pub fn load(store: &Store, path: &Path, name: Option<&str>) -> Result<Vec<Loaded>, ArchiveError> {
    let failed = |source| ArchiveError::Io {
        what: "open",
        path: path.to_owned(),
        source,
    };
    if std::fs::metadata(path).map_err(failed)?.is_dir() {
        let adding = store.adding()?;
        let contents = Contents {
            store,
            path,
            found: Found::Folder,
            brought: RefCell::default(),
        };
        let loaded = contents.load(name);
        store.release(adding, &contents.brought.into_inner());
        return loaded;
    }
    load_stream(store, File::open(path).map_err(failed)?, path, name)
}

/// Loads all images of an archive that is read from an open file or pipe;
/// `path` names it in messages.
///
/// # Errors
/// As [`load`].
pub fn load_stream(
    store: &Store,
    input: File,
    path: &Path,
    name: Option<&str>,
) -> Result<Vec<Loaded>, ArchiveError> {
    let adding = store.adding()?;
    let mut brought = Vec::new();
    let loaded = load_archive(store, input, path, name, &mut brought);
    // The archive's own index is no part of an image.
    store.release(adding, &brought);
    loaded
}

fn load_archive(
    store: &Store,
    input: File,
    path: &Path,
    name: Option<&str>,
    brought: &mut Vec<Digest>,
) -> Result<Vec<Loaded>, ArchiveError> {
    let damaged = |source| ArchiveError::Damaged {
        path: path.to_owned(),
        source,
    };
    let stream = LayerStream::new(input, &Limits::default()).map_err(damaged)?;
    let mut tar = Tar::new(stream);
    let mut files = HashMap::new();
    let mut links = HashMap::new();
    while let Some(entry) = tar.next().map_err(damaged)? {
        if files.len() + links.len() >= MAX_FILES {
            return Err(damaged(LayerError::Entries(MAX_FILES as u64)));
        }
        for name in [&entry.path, &entry.link] {
            crate::layer::bounded(name).map_err(damaged)?;
        }
        let name = tidy(&entry.path);
        match entry.kind {
            Kind::File => {
                let digest = keep(store, &entry, &mut tar, path)?;
                brought.push(digest);
                files.insert(name, digest);
            }
            // Old docker archives share layers by links to one another's folders.
            Kind::Symlink | Kind::HardLink => {
                let target = String::from_utf8_lossy(&entry.link).into_owned();
                let target = match entry.kind {
                    Kind::Symlink => join(&name, &target),
                    _ => tidy(target.as_bytes()),
                };
                links.insert(name, target);
            }
            _ => {}
        }
    }
    tar.finish().map_err(damaged)?;
    let contents = Contents {
        store,
        path,
        found: Found::Archive { files, links },
        brought: RefCell::default(),
    };
    let loaded = contents.load(name);
    brought.append(contents.brought.borrow_mut().as_mut());
    loaded
}

/// Puts a file of an archive into the store.
fn keep(
    store: &Store,
    entry: &Entry,
    tar: &mut Tar<LayerStream>,
    path: &Path,
) -> Result<Digest, ArchiveError> {
    let mut blob = store.new_blob()?;
    if entry.pieces.is_some() {
        // Nobody writes archives of images with holes in them.
        return Err(ArchiveError::NoImages(path.to_owned()));
    }
    loop {
        let data = tar.data().map_err(|source| ArchiveError::Damaged {
            path: path.to_owned(),
            source,
        })?;
        if data.is_empty() {
            return Ok(blob.commit()?.0);
        }
        blob.write_all(data).map_err(|source| ArchiveError::Io {
            what: "store",
            path: PathBuf::from(tidy(&entry.path)),
            source,
        })?;
        let n = data.len();
        tar.consume(n);
    }
}

/// Opens a file of a layout, which may be a pipe that nobody writes to.
fn open_file(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        )),
    }
}

/// A name in an archive without a leading `./`.
fn tidy(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    name.trim_start_matches("./")
        .trim_end_matches('/')
        .to_owned()
}

/// What a link in an archive means, by name.
fn join(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Contents<'_> {
    fn load(&self, name: Option<&str>) -> Result<Vec<Loaded>, ArchiveError> {
        if let Some(bytes) = self.document("index.json")? {
            let index: Index =
                serde_json::from_slice(&bytes).map_err(invalid(self.path, "index.json"))?;
            return self.load_index(index, name);
        }
        if let Some(bytes) = self.document("manifest.json")? {
            let images: Vec<DockerImage> =
                serde_json::from_slice(&bytes).map_err(invalid(self.path, "manifest.json"))?;
            return images
                .iter()
                .map(|image| self.load_docker(image, name))
                .collect();
        }
        Err(ArchiveError::NoImages(self.path.to_owned()))
    }

    fn load_index(&self, index: Index, name: Option<&str>) -> Result<Vec<Loaded>, ArchiveError> {
        let mut loaded: Vec<Loaded> = Vec::new();
        for entry in index.manifests {
            let whole = entry.annotations.get(IMAGE_NAME);
            let short = entry.annotations.get(REF_NAME);
            // podman writes a whole name where skopeo writes a tag.
            let own = whole.or(short.filter(|name| name.contains(['/', ':'])));
            let given = match (own, name, short) {
                (Some(own), _, _) => own.clone(),
                (None, Some(name), _) => name.to_owned(),
                (None, None, Some(short)) => format!("{}:{short}", self.stem()),
                (None, None, None) => return Err(ArchiveError::NoName(self.path.to_owned())),
            };
            let digest = self.image(&entry.descriptor, 0)?;
            // A name may say the digest of the index around the image: it was checked too.
            match given.parse::<ImageReference>() {
                Ok(name) if name.digest() == Some(entry.descriptor.digest) => {
                    self.store.tag_fetched(&name, &digest)?;
                }
                _ => drop(self.store.tag(&given, &digest)?),
            }
            match loaded.iter_mut().find(|image| image.digest == digest) {
                Some(image) => image.names.push(given),
                None => loaded.push(Loaded {
                    digest,
                    names: vec![given],
                }),
            }
        }
        if loaded.is_empty() {
            return Err(ArchiveError::NoImages(self.path.to_owned()));
        }
        Ok(loaded)
    }

    /// A name from the file's own, for an image that has only a tag.
    fn stem(&self) -> String {
        let stem = self.path.file_name().unwrap_or_default().to_string_lossy();
        let stem = stem.split('.').next().unwrap_or_default();
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let stem: String = stem.to_ascii_lowercase().chars().map(plain).collect();
        match stem.trim_matches('-') {
            "" => "loaded".to_owned(),
            stem => stem.to_owned(),
        }
    }

    /// Brings an image's blobs into the store; of an index, this platform's image.
    fn image(&self, descriptor: &Descriptor, depth: u8) -> Result<Digest, ArchiveError> {
        self.blob(descriptor)?;
        let is_index = descriptor.media_type.contains("index")
            || descriptor.media_type.contains("manifest.list");
        if is_index && depth < 4 {
            let bytes = self.store.read_blob(&descriptor.digest)?;
            let index: Index =
                serde_json::from_slice(&bytes).map_err(invalid(self.path, "an index"))?;
            let host = crate::registry::Platform::host();
            let fits = |entry: &&IndexEntry| {
                entry.platform.as_ref().is_none_or(|platform| {
                    (&platform.os, &platform.architecture) == (&host.os, &host.architecture)
                })
            };
            let entry = index.manifests.iter().find(fits);
            let entry = entry.ok_or_else(|| self.missing(&format!("an image for {host}")))?;
            return self.image(&entry.descriptor, depth + 1);
        }
        let manifest = self.store.read_manifest(&descriptor.digest)?;
        self.blob(&manifest.config)?;
        for layer in &manifest.layers {
            self.blob(layer)?;
        }
        Ok(descriptor.digest)
    }

    /// Makes sure that a blob is in the store.
    fn blob(&self, descriptor: &Descriptor) -> Result<(), ArchiveError> {
        let digest = &descriptor.digest;
        let name = blob_name(digest);
        if let Found::Archive { .. } = self.found {
            // It was stored by its true digest when the archive was read.
            return match self.store.has_blob(digest) {
                true => Ok(()),
                false => Err(self.missing(&name)),
            };
        }
        self.brought.borrow_mut().push(*digest);
        match self.store.lock_blob(digest, Some(descriptor.size))? {
            BlobLock::Present => Ok(()),
            BlobLock::Partial(mut blob) => {
                let path = self.path.join(&name);
                let mut from = match open_file(&path) {
                    Ok(file) => file,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {
                        return Err(self.missing(&name));
                    }
                    Err(source) => return Err(self.unreadable(path, source)),
                };
                blob.restart()?;
                io::copy(&mut from, &mut blob).map_err(|e| self.uncopied(path, e))?;
                Ok(blob.commit()?)
            }
        }
    }

    fn load_docker(&self, image: &DockerImage, name: Option<&str>) -> Result<Loaded, ArchiveError> {
        let find = |name: &str| self.find(name).ok_or_else(|| self.missing(name));
        let config = find(&image.config)?;
        let mut layers = Vec::new();
        for name in &image.layers {
            let digest = find(name)?;
            let mut first = io::BufReader::with_capacity(16, self.store.open_blob(&digest)?);
            let first = first
                .fill_buf()
                .map_err(|source| self.unreadable(PathBuf::from(name), source))?;
            layers.push(Descriptor {
                media_type: Compression::of(first).media_type().to_owned(),
                digest,
                size: self.store.blob_size(&digest)?,
            });
        }
        let config = Descriptor {
            media_type: CONFIG_TYPE.to_owned(),
            digest: config,
            size: self.store.blob_size(&config)?,
        };
        let digest = self.store.put_manifest(config, layers)?;
        self.brought.borrow_mut().push(digest);
        let mut names = image.repo_tags.clone().unwrap_or_default();
        if names.is_empty() {
            let name = name.ok_or_else(|| ArchiveError::NoName(self.path.to_owned()))?;
            names.push(name.to_owned());
        }
        for name in &names {
            self.store.tag(name, &digest)?;
        }
        Ok(Loaded { digest, names })
    }

    /// Finds a file of an archive, through links.
    fn find(&self, name: &str) -> Option<Digest> {
        let Found::Archive { files, links } = &self.found else {
            return None;
        };
        let mut name = tidy(name.as_bytes());
        for _ in 0..8 {
            if let Some(digest) = files.get(&name) {
                return Some(*digest);
            }
            name.clone_from(links.get(&name)?);
        }
        None
    }

    /// Reads a document by its name.
    fn document(&self, name: &'static str) -> Result<Option<Vec<u8>>, ArchiveError> {
        if let Found::Archive { .. } = self.found {
            let digest = self.find(name);
            return Ok(digest.map(|d| self.store.read_blob(&d)).transpose()?);
        }
        let path = self.path.join(name);
        let mut bytes = Vec::new();
        match open_file(&path) {
            Ok(file) => file
                .take(MAX_DOCUMENT)
                .read_to_end(&mut bytes)
                .map(|_| Some(bytes))
                .map_err(|source| self.unreadable(path, source)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.unreadable(path, source)),
        }
    }

    fn missing(&self, name: &str) -> ArchiveError {
        ArchiveError::Missing {
            path: self.path.to_owned(),
            name: name.to_owned(),
        }
    }

    /// One of reading and writing failed: a full disk can only be the latter.
    fn uncopied(&self, path: PathBuf, source: io::Error) -> ArchiveError {
        use io::ErrorKind as K;
        let what = match source.kind() {
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => "store",
            _ => "read",
        };
        ArchiveError::Io { what, path, source }
    }

    fn unreadable(&self, path: PathBuf, source: io::Error) -> ArchiveError {
        ArchiveError::Io {
            what: "read",
            path,
            source,
        }
    }
}
