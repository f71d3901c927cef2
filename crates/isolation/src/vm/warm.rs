//! Machines that begin from memory.
//!
//! When a machine's kernel and its init are up, and it has not been told yet whose it is,
//! it is as every other that was started with the same words on the same files. So what it
//! then is (its memory, its processors, its devices) is written down when such a machine is
//! started for the second time, and those after it go on from there: that takes a fraction
//! of a boot.
//!
//! Nothing that runs for somebody has run in it by then. What must not be the same in two
//! machines comes with the first message: the time, and a seed for random numbers.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hyperion_image::digest::Hasher;
use rustix::fs::{FlockOperation, flock};

/// How many are kept: those that were used last.
const MOST: usize = 4;
/// How many starts are remembered that were the first of their kind.
const MOST_SEEN: usize = 64;
/// Ends the name of what says that a machine was started once.
const SEEN: &str = "seen";
/// Ends the name of what is being written.
const NEW: &str = "new";

/// How a machine begins.
pub(super) enum Beginning {
    /// With its kernel.
    Cold,
    /// With its kernel, and what it then is is to be written down.
    Draft(Draft),
    /// From what was written down.
    From(Memory),
}

/// What was written down.
pub(super) struct Memory {
    pub(super) file: OwnedFd,
    path: PathBuf,
}

impl Memory {
    /// Removes what is of no use.
    pub(super) fn forget(self) {
        let _ = fs::remove_file(self.path);
    }
}

/// What is being written down; goes if it is not kept.
pub(super) struct Draft {
    pub(super) file: File,
    path: PathBuf,
}

impl Draft {
    /// Keeps it for those that come, and makes room.
    pub(super) fn keep(self) {
        let path = self.path.with_extension("");
        if fs::rename(&self.path, &path).is_ok() {
            let _ = fs::remove_file(path.with_extension(SEEN));
            make_room(&path);
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Tells how a machine begins with these words of QEMU's on these files; what was written
/// down lies in the folder. Whatever fails here, it begins with its kernel.
pub(super) fn beginning(folder: &Path, words: &[String], files: &[OwnedFd]) -> Beginning {
    named(words, files)
        .and_then(|name| find(&folder.join(name)))
        .unwrap_or(Beginning::Cold)
}

fn find(path: &Path) -> io::Result<Beginning> {
    if let Some(memory) = open(path)? {
        return Ok(Beginning::From(memory));
    }
    let seen = path.with_extension(SEEN);
    if !seen.exists() {
        if let Some(folder) = path.parent() {
            let mut options = fs::DirBuilder::new();
            options.recursive(true).mode(0o700).create(folder)?;
        }
        File::create(&seen)?;
        make_room(&seen);
        return Ok(Beginning::Cold);
    }
    let draft = path.with_extension(NEW);
    let mut options = fs::OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(&draft)?;
    // Who is at it already is not waited for.
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    // Nor is what he has kept in between written over.
    if file.metadata()?.nlink() == 0 || path.exists() {
        return Ok(Beginning::Cold);
    }
    file.set_len(0)?;
    Ok(Beginning::Draft(Draft { file, path: draft }))
}

fn open(path: &Path) -> io::Result<Option<Memory>> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // The last that were used stay.
    let _ = file.set_modified(SystemTime::now());
    Ok(Some(Memory {
        file: file.into(),
        path: path.to_owned(),
    }))
}

/// Gives the name of what machines with these words on these files have in common. It begins
/// with the boot of this host: its processor and QEMU's files are the same as long.
fn named(words: &[String], files: &[OwnedFd]) -> io::Result<String> {
    let mut hasher = Hasher::new();
    for word in words {
        // How fast the counter runs is measured at each start, and is the same.
        let constant = |part: &&str| !part.starts_with("tsc_early_khz=");
        for part in word.split(' ').filter(constant) {
            hasher.update(part.as_bytes());
            hasher.update(b" ");
        }
        hasher.update(b"\0");
        // QEMU itself, and its firmware; what it finds open follows below.
        if word.starts_with('/')
            && !word.starts_with("/proc/")
            && let Ok(meta) = fs::metadata(word)
        {
            hasher.update(&of(&meta)?);
        }
    }
    for file in files {
        let open = File::from(file.try_clone()?);
        hasher.update(&of(&open.metadata()?)?);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let boot: String = boot.trim().chars().filter(|c| *c != '-').collect();
    let key = hasher.finish().hex();
    Ok(format!("{boot}-{key}"))
}

/// Gives what changes when a file is another. Files of the store are made anew, never
/// changed, and those that are in use have their times changed for that.
///
/// # Errors
/// `Unsupported` where the file system does not tell when a file was made: its number may
/// then be that of one that is gone.
fn of(meta: &fs::Metadata) -> io::Result<[u8; 32]> {
    let born = meta.created()?.duration_since(SystemTime::UNIX_EPOCH);
    let born = born.map_err(io::Error::other)?.as_nanos() as u64;
    let numbers = [meta.dev(), meta.ino(), meta.size(), born];
    let mut bytes = [0; 32];
    for (to, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        to.copy_from_slice(&number.to_le_bytes());
    }
    Ok(bytes)
}

/// Removes what was not used for longest, and all of earlier boots of this host.
fn make_room(newest: &Path) {
    let boot = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        Some(name.split_once('-')?.0.to_owned())
    };
    let this = boot(newest);
    let folder = newest.parent().map(fs::read_dir);
    let entries = folder.into_iter().flatten().flatten().flatten();
    let (kept, old): (Vec<_>, Vec<_>) = entries
        .map(|entry| entry.path())
        .partition(|path| boot(path) == this);
    let (mut states, mut seen) = (Vec::new(), Vec::new());
    for path in kept {
        let used = fs::metadata(&path).and_then(|meta| meta.modified());
        let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
        match path.extension() {
            None => states.push((used, path)),
            Some(end) if end == SEEN => seen.push((used, path)),
            // Somebody is at it.
            Some(_) => {}
        }
    }
    let mut gone = old;
    for (mut paths, most) in [(states, MOST), (seen, MOST_SEEN)] {
        paths.sort_by(|a, b| b.cmp(a));
        gone.extend(paths.into_iter().skip(most).map(|(_, path)| path));
    }
    for path in gone {
        let _ = fs::remove_file(path);
    }
}

/// Removes all that was written down in a folder; gives how many bytes that was.
pub fn forget(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let removed = entries.filter_map(|entry| {
        let length = entry.metadata().ok()?.len();
        fs::remove_file(entry.path()).ok().map(|()| length)
    });
    removed.sum()
}

/// Makes a seed for the random numbers of a machine.
pub(super) fn seed() -> io::Result<[u64; 8]> {
    let mut bytes = [0_u8; 64];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags)?;
    }
    let mut seed = [0; 8];
    for (number, bytes) in seed.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use hyperion_testkit::TestDir;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("listed").flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn draft(path: &Path) -> Draft {
        match find(path).expect("found") {
            Beginning::Draft(draft) => draft,
            _ => panic!("there is no draft of {}", path.display()),
        }
    }

    fn is_cold(path: &Path) -> bool {
        matches!(find(path).expect("found"), Beginning::Cold)
    }

    #[test]
    fn the_second_start_is_written_down_and_the_third_goes_on_from_it() {
        let home = TestDir::new();
        let path = home.path().join("warm/boot-key");
        assert!(is_cold(&path));
        let mut second = draft(&path);
        // Somebody else at the same time does not wait, nor write to the same file.
        assert!(find(&path).is_err());
        second.file.write_all(b"memory").expect("written");
        second.keep();
        let Ok(Beginning::From(memory)) = find(&path) else {
            panic!("it was kept");
        };
        assert_eq!(
            io::read_to_string(File::from(memory.file.try_clone().expect("open"))).expect("read"),
            "memory"
        );
        assert_eq!(names(&home.path().join("warm")), ["boot-key"]);
        memory.forget();
        assert!(is_cold(&path), "and all begins anew");
    }

    #[test]
    fn what_is_not_kept_leaves_nothing() {
        let home = TestDir::new();
        let path = home.path().join("boot-key");
        assert!(is_cold(&path));
        drop(draft(&path));
        assert_eq!(names(home.path()), ["boot-key.seen"]);
        draft(&path).keep();
        assert_eq!(names(home.path()), ["boot-key"]);
        assert_eq!(forget(home.path()), 0);
        assert_eq!(names(home.path()), [] as [&str; 0]);
    }

    #[test]
    fn those_that_were_used_last_stay_and_nothing_of_an_earlier_boot_does() {
        let home = TestDir::new();
        for name in ["old-key", "old-key.seen", "old-key.new"] {
            fs::write(home.path().join(name), "").expect("written");
        }
        for number in 0..6 {
            let path = home.path().join(format!("boot-{number}"));
            assert!(is_cold(&path));
            draft(&path).keep();
            let used = SystemTime::now() - Duration::from_secs(3600 - number);
            let file = File::options().write(true).open(&path).expect("there");
            file.set_modified(used).expect("set");
            // The first is in use all the time.
            assert!(matches!(
                find(&home.path().join("boot-0")),
                Ok(Beginning::From(_))
            ));
        }
        assert_eq!(names(home.path()), ["boot-0", "boot-3", "boot-4", "boot-5"]);
    }

    #[test]
    fn another_file_or_word_is_another_machine_and_another_measurement_is_not() {
        let home = TestDir::new();
        let open = |name: &str, text: &str| {
            let path = home.path().join(name);
            fs::write(&path, text).expect("written");
            OwnedFd::from(File::open(path).expect("open"))
        };
        let words = |more: &str| ["qemu".to_owned(), format!("quiet {more}")];
        let (kernel, image) = (open("kernel", "k"), open("image", "i"));
        let name = |words: &[String], files: &[&OwnedFd]| {
            let files: Vec<OwnedFd> = files.iter().map(|f| f.try_clone().expect("open")).collect();
            named(words, &files).expect("named")
        };
        let usual = name(&words("tsc_early_khz=1"), &[&kernel, &image]);
        assert_eq!(name(&words("tsc_early_khz=2"), &[&kernel, &image]), usual);
        assert_ne!(name(&words("nosmp"), &[&kernel, &image]), usual);
        assert_ne!(name(&words(""), &[&kernel]), usual);
        let other = open("other", "i");
        assert_ne!(name(&words("tsc_early_khz=1"), &[&kernel, &other]), usual);
    }
}
