//! Removing images, and what nothing refers to.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::rootfs::{AS_DISK, AS_EXT4, OWNED_BY_CALLER, remove_all};
use super::{Adding, ImageRecord, Store, StoreError, open_lock};
use crate::digest::Digest;
use crate::reference::familiar;

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pruned {
    /// Names that are gone.
    pub names: Vec<String>,
    /// Images that are gone.
    pub images: Vec<Digest>,
    /// Images without a name that stay because a running job uses them.
    pub in_use: Vec<Digest>,
    /// Bytes given back to the file system, by the sizes of blobs and one-file images.
    pub bytes: u64,
}

/// What images refer to.
#[derive(Default)]
struct Live {
    images: HashSet<Digest>,
    blobs: HashSet<Digest>,
    diff_ids: HashSet<Digest>,
}

impl Live {
    fn add(&mut self, image: &ImageRecord) {
        self.images.insert(image.digest);
        self.blobs.extend([image.digest, image.config_digest]);
        for layer in &image.layers {
            self.blobs.insert(layer.blob.digest);
            self.diff_ids.insert(layer.diff_id);
        }
    }
}

impl Store {
    /// Removes a name or, by digest or id, an image with all its names; content
    /// that no other image needs goes with its last name.
    ///
    /// # Errors
    /// [`StoreError::NoImage`]; [`StoreError::ManyNames`] for an id with more
    /// than one name, unless `force`; [`StoreError::InUse`] while a job runs in
    /// it, unless `force`, which takes the name and leaves the rest to
    /// [`Store::prune`]; [`StoreError::Io`].
    pub fn remove(&self, text: &str, force: bool) -> Result<Pruned, StoreError> {
        let all = self.list()?;
        let named = self.named(text)?;
        let digest = match &named {
            Some(reference) => reference.digest,
            None => self.resolve(text)?.digest,
        };
        let names: Vec<String> = match named {
            Some(reference) => vec![reference.name],
            None => {
                let of_it = all.iter().filter(|r| r.digest == digest);
                of_it.map(|r| r.name.clone()).collect()
            }
        };
        let others = all
            .iter()
            .any(|r| r.digest == digest && !names.contains(&r.name));
        let mut pruned = Pruned::default();
        if others {
            self.take_names(names, &mut pruned)?;
            return Ok(pruned);
        }
        if names.len() > 1 && !force {
            let names = names.iter().map(|name| familiar(name)).collect();
            return Err(StoreError::ManyNames { digest, names });
        }
        let mine = match self.claim(&digest)? {
            Claim::Mine(lock) => Some(lock),
            Claim::InUse if !force => return Err(StoreError::InUse(digest)),
            Claim::InUse | Claim::Gone => None,
        };
        self.take_names(names, &mut pruned)?;
        // While something is being added nobody can say what is unused; what
        // stays now is found by the next prune.
        let (Some(_mine), Ok(_lock)) = (mine, self.removing()) else {
            pruned.in_use.push(digest);
            return Ok(pruned);
        };
        // An image that cannot be read any more leaves its content to prune.
        let gone = self.record(&digest);
        self.forget(&digest, &mut pruned)?;
        if let Ok(gone) = gone {
            let live = self.live()?;
            let mut lost = Live::default();
            lost.add(&gone);
            for blob in lost.blobs.difference(&live.blobs) {
                pruned.file(&self.blob_path(blob))?;
            }
            for diff_id in lost.diff_ids.difference(&live.diff_ids) {
                let folder = self.dir.join("layers").join(diff_id.hex());
                pruned.file(&folder)?;
                pruned.file(Path::new(&format!("{}{OWNED_BY_CALLER}", folder.display())))?;
            }
        }
        Ok(pruned)
    }

    /// Removes images without a name that no job uses, content that no image
    /// needs, and what was left behind by anything that was killed.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while another process adds something; what is
    /// damaged or cannot be removed. What was removed until then is gone, and
    /// nothing that is needed.
    pub fn prune(&self) -> Result<Pruned, StoreError> {
        let _lock = self.removing()?;
        let mut pruned = Pruned::default();
        let named: HashSet<Digest> = self.list()?.into_iter().map(|r| r.digest).collect();
        for digest in self.images()? {
            if named.contains(&digest) {
                continue;
            }
            match self.claim(&digest)? {
                Claim::Mine(_lock) => self.forget(&digest, &mut pruned)?,
                Claim::InUse => pruned.in_use.push(digest),
                Claim::Gone => {}
            }
        }
        let live = self.needed()?;
        let keeps = |set: &HashSet<Digest>, name: &str| {
            let hex = name.strip_suffix(OWNED_BY_CALLER).unwrap_or(name);
            Digest::from_hex(hex).is_some_and(|digest| set.contains(&digest))
        };
        self.sweep("blobs/sha256", &mut pruned, |name| keeps(&live.blobs, name))?;
        self.sweep("erofs", &mut pruned, |name| {
            let mut of = [AS_EXT4, AS_DISK].iter();
            let digest = of.find_map(|end| name.strip_suffix(end));
            keeps(&live.images, digest.unwrap_or(name))
        })?;
        self.sweep("layers", &mut pruned, |name| keeps(&live.diff_ids, name))?;
        self.sweep("partial", &mut pruned, |_| false)?;
        self.sweep("tmp", &mut pruned, |_| false)?;
        Ok(pruned)
    }

    /// Ends an addition, and removes what it brought that no image needs.
    ///
    /// While others are adding too nobody can say what is unused: then it stays
    /// for the next prune, as does what cannot be removed.
    pub(crate) fn release(&self, adding: Adding, brought: &[Digest]) {
        drop(adding);
        let Ok(_lock) = self.removing() else { return };
        let Ok(live) = self.needed() else { return };
        for digest in brought.iter().filter(|d| !live.blobs.contains(d)) {
            let partial = self.dir.join("partial").join(digest.hex());
            for path in [self.blob_path(digest), partial] {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    fn take_names(&self, names: Vec<String>, pruned: &mut Pruned) -> Result<(), StoreError> {
        for name in names {
            self.untag(&name)?;
            pruned.names.push(name);
        }
        Ok(())
    }

    /// Removes everything in a folder of the store but what `keeps` names.
    fn sweep(
        &self,
        folder: &str,
        pruned: &mut Pruned,
        keeps: impl Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        let folder = self.dir.join(folder);
        for entry in std::fs::read_dir(&folder).map_err(StoreError::std("read", &folder))? {
            let entry = entry.map_err(StoreError::std("read", &folder))?;
            if !entry.file_name().to_str().is_some_and(&keeps) {
                pruned.file(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Gathers what all images need.
    fn needed(&self) -> Result<Live, StoreError> {
        // A name whose record was lost keeps its image all the same.
        for named in self.list()? {
            self.record(&named.digest)?;
        }
        self.live()
    }

    /// Gathers what the images need that have a record.
    fn live(&self) -> Result<Live, StoreError> {
        let mut live = Live::default();
        for digest in self.images()? {
            live.add(&self.record(&digest)?);
        }
        Ok(live)
    }

    fn forget(&self, digest: &Digest, pruned: &mut Pruned) -> Result<(), StoreError> {
        pruned.file(&self.erofs_path(digest))?;
        pruned.file(&self.ext4_path(digest))?;
        remove_all(&self.record_path(digest))?;
        pruned.images.push(*digest);
        Ok(())
    }

    /// Keeps everything else from adding while something is removed.
    fn removing(&self) -> Result<OwnedFd, StoreError> {
        let path = self.dir.join("lock");
        try_lock(&path)?.ok_or(StoreError::Busy)
    }

    /// Tries to be the only one that uses an image.
    fn claim(&self, digest: &Digest) -> Result<Claim, StoreError> {
        let path = self.record_path(digest);
        if !path.exists() {
            return Ok(Claim::Gone);
        }
        Ok(try_lock(&path)?.map_or(Claim::InUse, Claim::Mine))
    }
}

enum Claim {
    /// No job uses it, and none can while this is open.
    Mine(OwnedFd),
    InUse,
    Gone,
}

fn try_lock(path: &Path) -> Result<Option<OwnedFd>, StoreError> {
    let fd = open_lock(path)?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(fd)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(StoreError::io("lock", path)(errno)),
    }
}

impl Pruned {
    /// Removes a file or folder and counts its bytes.
    fn file(&mut self, path: &Path) -> Result<(), StoreError> {
        self.bytes += remove_all(path)?;
        Ok(())
    }
}
