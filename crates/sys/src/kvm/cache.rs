//! What was found earlier in the life of this host.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::KvmVerdict;
use super::verdict::{GLANCE, LIMIT, PATIENCE, Step};

/// What a verdict holds for. A boot stands for a kernel with its parameters,
/// the firmware's settings and what a hypervisor above allows; loading the
/// module anew makes another device file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    host: String,
    kernel: String,
    /// Empty where the kernel does not tell: then nothing is kept.
    boot: String,
    device: u64,
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: Key,
    /// None while a guest runs.
    found: Option<KvmVerdict>,
}

/// The right to try a guest.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A child that cannot be killed has the descriptor too and would keep the lock.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// The file, and what its content must fit.
pub(super) struct Cache {
    folder: PathBuf,
    key: Key,
}

impl Cache {
    /// Finds the place below a folder that need not exist yet.
    pub(super) fn of(root: &Path, device: &File) -> Self {
        let name = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let boot = crate::kernel_file::read("/proc/sys/kernel/random/boot_id");
        Self {
            folder: root.join("probe"),
            key: Key {
                host: text(name.nodename()),
                kernel: format!("{} {}", text(name.release()), text(name.version())),
                boot: boot.unwrap_or_default().trim().to_owned(),
                device: device.metadata().map(|m| m.ino()).unwrap_or_default(),
            },
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("kvm.json")
    }

    /// Gives the verdict of this boot. A guest that was begun in an earlier
    /// boot of the same kernel and never ended took the host down.
    pub(super) fn read(&self) -> Option<KvmVerdict> {
        let record: Record = serde_json::from_slice(&fs::read(self.file()).ok()?).ok()?;
        let same_kernel = |key: &Key| key.host == self.key.host && key.kernel == self.key.kernel;
        match record.found {
            Some(verdict) => (record.key == self.key).then_some(verdict),
            None if record.key.boot == self.key.boot => None,
            None => same_kernel(&record.key).then(|| KvmVerdict::Broken {
                step: Step::Start,
                why: "the host went down while a guest was tried".to_owned(),
            }),
        }
    }

    /// Lets others wait until what is returned is dropped, for as long as a
    /// guest may take; none where there is no folder for it, or another's
    /// guest takes longer.
    pub(super) fn lock(&self) -> Option<Lock> {
        // As whoever makes the folder of jobs: others may pass, not look.
        let mut maker = fs::DirBuilder::new();
        maker
            .recursive(true)
            .mode(0o711)
            .create(&self.folder)
            .ok()?;
        let folder = File::open(&self.folder).ok()?;
        let since = Instant::now();
        while flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
            if since.elapsed() > LIMIT + PATIENCE {
                return None;
            }
            std::thread::sleep(GLANCE);
        }
        Some(Lock(folder))
    }

    /// Notes that a guest is about to run, so that it is known if the host
    /// does not survive it.
    pub(super) fn begin(&self) {
        self.write(None);
    }

    /// Keeps what was found, if it will be the same the next time: what was
    /// refused before the first instruction is soon seen again and may pass.
    pub(super) fn keep(&self, verdict: &KvmVerdict) {
        match verdict {
            KvmVerdict::Works { .. } => self.write(Some(verdict)),
            KvmVerdict::Broken { step, .. } if *step != Step::Machine => self.write(Some(verdict)),
            _ => drop(fs::remove_file(self.file())),
        }
    }

    /// Without the file a guest is tried each time, so a failure is no error.
    fn write(&self, found: Option<&KvmVerdict>) {
        if self.key.boot.is_empty() {
            return;
        }
        let record = Record {
            key: self.key.clone(),
            found: found.cloned(),
        };
        let replace = || -> std::io::Result<()> {
            let new = self.folder.join(".kvm.json");
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(&record)?)?;
            // The host may be gone the next moment.
            file.sync_all()?;
            fs::rename(&new, self.file())
        };
        let _ = replace();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(root: &Path, boot: &str, device: u64) -> Cache {
        Cache {
            folder: root.join("probe"),
            key: Key {
                host: "node7".into(),
                kernel: "6.1.0 #1".into(),
                boot: boot.into(),
                device,
            },
        }
    }

    const WORKS: KvmVerdict = KvmVerdict::Works { ratio: 1.25 };

    #[test]
    fn a_verdict_holds_for_one_boot_and_one_device() {
        let dir = tempfile::tempdir().expect("a folder");
        let here = cache(dir.path(), "a", 1);
        assert_eq!(here.read(), None);
        let lock = here.lock().expect("a folder to lock");
        here.keep(&WORKS);
        drop(lock);
        assert_eq!(here.read(), Some(WORKS));
        assert_eq!(cache(dir.path(), "b", 1).read(), None, "another boot");
        assert_eq!(
            cache(dir.path(), "a", 2).read(),
            None,
            "a module loaded anew"
        );
        let broken = KvmVerdict::Broken {
            step: Step::Syscall,
            why: "not done".into(),
        };
        here.keep(&broken);
        assert_eq!(here.read(), Some(broken));
    }

    #[test]
    fn one_waits_for_the_other_even_if_its_child_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let here = cache(dir.path(), "a", 1);
        let lock = here.lock().expect("a folder to lock");
        let copy = lock.0.try_clone().expect("as a child has it");
        let folder = File::open(dir.path().join("probe")).expect("a folder");
        let take = || flock(&folder, FlockOperation::NonBlockingLockExclusive);
        assert!(take().is_err(), "it is taken");
        drop(lock);
        take().expect("it is free");
        drop(copy);
    }

    #[test]
    fn a_guest_that_took_the_host_down_is_not_tried_at_the_next_boot() {
        let dir = tempfile::tempdir().expect("a folder");
        let before = cache(dir.path(), "a", 1);
        drop(before.lock());
        before.begin();
        assert_eq!(
            before.read(),
            None,
            "whoever was killed meanwhile may try again"
        );
        let after = cache(dir.path(), "b", 1).read();
        assert!(
            matches!(after, Some(KvmVerdict::Broken { .. })),
            "{after:?}"
        );
        let mut other = cache(dir.path(), "b", 1);
        other.key.kernel = "6.12 #1".into();
        assert_eq!(other.read(), None, "another kernel may do better");
    }

    #[test]
    fn what_may_pass_is_not_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let here = cache(dir.path(), "a", 1);
        drop(here.lock());
        let busy = KvmVerdict::Broken {
            step: Step::Machine,
            why: "KVM_CREATE_VM: busy".into(),
        };
        let untried = KvmVerdict::Untried { why: "no".into() };
        for verdict in [busy, untried] {
            here.begin();
            here.keep(&verdict);
            assert!(!here.file().exists());
        }
    }

    #[test]
    fn a_damaged_file_and_a_folder_that_is_none_are_as_if_nothing_was_known() {
        let dir = tempfile::tempdir().expect("a folder");
        let here = cache(dir.path(), "a", 1);
        drop(here.lock());
        fs::write(here.file(), "{\"key\":").expect("written");
        assert_eq!(here.read(), None);
        here.keep(&WORKS);
        assert_eq!(here.read(), Some(WORKS));
        let nowhere = cache(Path::new("/dev/null"), "a", 1);
        assert!(nowhere.lock().is_none());
        nowhere.keep(&WORKS);
        assert_eq!(nowhere.read(), None);
        let unknown = cache(dir.path(), "", 1);
        unknown.keep(&KvmVerdict::Works { ratio: 2.0 });
        assert_eq!(unknown.read(), None, "a boot without a name");
    }
}
