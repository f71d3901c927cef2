//! Archives of appliances (`.ova`): a tar of a descriptor, its digests and
//! disks, all under plain names. Nothing is unpacked: a disk is read where it
//! lies, and every number is checked against the file's own length.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::{Sha256, Sha512};
use thiserror::Error;

use crate::layer::LayerError;
use crate::layer::tar::{Kind, Tar};

/// The most files of an archive.
const MOST_FILES: usize = 64;
/// The longest text in it, in bytes.
const LONGEST_TEXT: u64 = 1 << 20;

/// What is wrong with an archive.
#[derive(Debug, Error)]
pub enum OvaError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It is no tar that makes sense.
    #[error("{} is damaged near byte {offset}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// How far it was read.
        offset: u64,
        /// What is wrong.
        source: LayerError,
    },
    /// Something in it is no file under a plain name, or is there twice.
    #[error("{name:?} at byte {offset} of the archive {problem}")]
    Member {
        /// Its name, as written.
        name: String,
        /// Where its content begins.
        offset: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Something that must be in it is not.
    #[error("there is no {0} in the archive")]
    Missing(String),
    /// A text is none, or is too long.
    #[error("{name:?} in the archive is no text of at most 1 MiB")]
    Text {
        /// Its name.
        name: String,
    },
    /// A file is not what its digest says.
    #[error("{name:?} is damaged: its {algorithm} is {actual}, and should be {wanted}")]
    Digest {
        /// The file.
        name: String,
        /// The algorithm's name.
        algorithm: &'static str,
        /// What was computed.
        actual: String,
        /// What it should be.
        wanted: String,
    },
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its plain name.
    pub name: String,
    /// Where its content begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

/// An archive.
#[derive(Debug)]
pub struct Ova {
    path: PathBuf,
    file: File,
    /// What is in it, in order.
    pub members: Vec<Member>,
}

impl Ova {
    /// Looks through an archive. Folders, links, devices, sparse files, paths
    /// and names that stand there twice are refused.
    ///
    /// # Errors
    /// [`OvaError`].
    pub fn open(path: &Path) -> Result<Self, OvaError> {
        let read = |source| OvaError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        let members = members(BufReader::new(&file)).map_err(|e| match e {
            Look::Archive(offset, source) => OvaError::Archive {
                path: path.to_owned(),
                offset,
                source,
            },
            Look::Member(error) => error,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            members,
        })
    }

    /// Finds a file by its name.
    ///
    /// # Errors
    /// [`OvaError::Missing`].
    pub fn member(&self, name: &str) -> Result<&Member, OvaError> {
        let found = self.members.iter().find(|member| member.name == name);
        found.ok_or_else(|| OvaError::Missing(format!("{name:?}")))
    }

    /// Finds the only file whose name ends so, and reads it as a text.
    ///
    /// # Errors
    /// [`OvaError`].
    pub fn text(&self, end: &str) -> Result<Option<(&Member, String)>, OvaError> {
        let fits = |member: &&Member| member.name.to_ascii_lowercase().ends_with(end);
        let mut found = self.members.iter().filter(fits);
        let Some(member) = found.next() else {
            return Ok(None);
        };
        if let Some(second) = found.next() {
            return Err(refused(second, "is a second one of its kind"));
        }
        let none = || OvaError::Text {
            name: member.name.clone(),
        };
        if member.length > LONGEST_TEXT {
            return Err(none());
        }
        let mut bytes = Vec::new();
        self.part(member)
            .read_to_end(&mut bytes)
            .map_err(|source| self.unreadable(source))?;
        let text = String::from_utf8(bytes).map_err(|_| none())?;
        Ok(Some((member, text)))
    }

    fn unreadable(&self, source: io::Error) -> OvaError {
        OvaError::Read {
            path: self.path.clone(),
            source,
        }
    }

    fn part(&self, member: &Member) -> Part<'_> {
        Part {
            file: &self.file,
            offset: member.offset,
            left: member.length,
        }
    }

    /// Compares a file with its digest, in small hexadecimal digits.
    ///
    /// # Errors
    /// [`OvaError::Digest`]; [`OvaError::Missing`].
    pub fn verify(&self, name: &str, sum: Sum, wanted: &str) -> Result<(), OvaError> {
        let member = self.member(name)?;
        let actual = sum
            .of(self.part(member))
            .map_err(|source| self.unreadable(source))?;
        if actual == wanted {
            return Ok(());
        }
        Err(OvaError::Digest {
            name: name.to_owned(),
            algorithm: sum.word(),
            actual,
            wanted: wanted.to_owned(),
        })
    }
}

/// A way to make a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// SHA-1: finds accidents, and no attacker.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Sum {
    /// Gives its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
        }
    }

    /// Computes the digest of all that is read, in small hexadecimal digits.
    ///
    /// # Errors
    /// The reader's.
    pub fn of(self, from: impl Read) -> io::Result<String> {
        match self {
            Self::Sha1 => digest::<Sha1>(from),
            Self::Sha256 => digest::<Sha256>(from),
            Self::Sha512 => digest::<Sha512>(from),
        }
    }
}

fn digest<D: sha2::Digest>(mut from: impl Read) -> io::Result<String> {
    let mut state = D::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(got) => state.update(&piece[..got]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut text = String::new();
    for byte in state.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// A piece of a file.
struct Part<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        let got = self.file.read_at(&mut buffer[..most], self.offset)?;
        if got == 0 && most > 0 {
            // It was longer a moment ago.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

enum Look {
    Archive(u64, LayerError),
    Member(OvaError),
}

fn refused(member: &Member, problem: &'static str) -> OvaError {
    OvaError::Member {
        name: member.name.clone(),
        offset: member.offset,
        problem,
    }
}

fn members(from: impl BufRead) -> Result<Vec<Member>, Look> {
    let count = std::cell::Cell::new(0);
    let mut tar = Tar::new(Counted {
        from,
        count: &count,
    });
    let mut members: Vec<Member> = Vec::new();
    loop {
        let next = tar.next().map_err(|e| Look::Archive(count.get(), e))?;
        let Some(entry) = next else {
            return Ok(members);
        };
        let member = Member {
            name: String::from_utf8_lossy(&entry.path).into_owned(),
            offset: count.get(),
            length: entry.size,
        };
        let plain = std::str::from_utf8(&entry.path).is_ok_and(is_plain);
        let problem = if entry.kind != Kind::File || entry.pieces.is_some() {
            "is no plain file"
        } else if !plain {
            "lies in a folder, or has no plain name"
        } else if members.iter().any(|other| other.name == member.name) {
            "is there twice"
        } else if members.len() >= MOST_FILES {
            "is one file too many: 64 are read"
        } else {
            members.push(member);
            continue;
        };
        return Err(Look::Member(refused(&member, problem)));
    }
}

fn is_plain(name: &str) -> bool {
    let fine = |c: char| !c.is_control() && c != '/' && c != '\\';
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(fine)
}

/// Counts what was taken.
struct Counted<'a, R> {
    from: R,
    count: &'a std::cell::Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.from.read(buffer)?;
        self.count.set(self.count.get() + got as u64);
        Ok(got)
    }
}

impl<R: BufRead> BufRead for Counted<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.from.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.from.consume(n);
        self.count.set(self.count.get() + n as u64);
    }
}

/// Writes an archive: texts and files under plain names, in this order.
///
/// # Errors
/// The kernel's.
pub fn pack(
    to: impl Write,
    texts: &[(String, String)],
    files: &[(String, PathBuf)],
) -> io::Result<()> {
    let mut tar = tar::Builder::new(to);
    let header = |length: u64| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(length);
        header
    };
    for (name, text) in texts {
        tar.append_data(&mut header(text.len() as u64), name, text.as_bytes())?;
    }
    for (name, path) in files {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        tar.append_data(&mut header(length), name, file.take(length))?;
    }
    tar.into_inner()?.flush()
}

/// Reads the list of files of an archive in memory, for fuzzers.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    for member in members(bytes).unwrap_or_default() {
        assert!(is_plain(&member.name));
        let end = member.offset + member.length;
        assert!(end <= bytes.len() as u64, "{member:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> (tempfile::TempDir, PathBuf) {
        let mut tar = tar::Builder::new(Vec::new());
        build(&mut tar);
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.ova");
        std::fs::write(&path, tar.into_inner().expect("whole")).expect("written");
        (dir, path)
    }

    fn add(tar: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        let field = &mut header.as_gnu_mut().expect("GNU's").name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, content).expect("added");
    }

    #[test]
    fn what_is_packed_is_found_and_compared_with_its_digests() {
        let dir = tempfile::tempdir().expect("a folder");
        let disk = dir.path().join("content");
        std::fs::write(&disk, vec![7; 1000]).expect("a file");
        let path = dir.path().join("a.ova");
        let texts = [("a.ovf".to_owned(), "<Envelope/>".to_owned())];
        let files = [("a-vda.vmdk".to_owned(), disk)];
        pack(File::create(&path).expect("a file"), &texts, &files).expect("packed");
        let ova = Ova::open(&path).expect("opened");
        let (_, text) = ova.text(".ovf").expect("read").expect("there");
        assert_eq!(text, "<Envelope/>");
        let member = ova.member("a-vda.vmdk").expect("there");
        let whole = std::fs::read(&path).expect("read");
        let at = usize::try_from(member.offset).expect("near");
        assert_eq!(whole[at..][..1000], [7; 1000]);
        for sum in [Sum::Sha1, Sum::Sha256, Sum::Sha512] {
            let right = sum.of(&[7; 1000][..]).expect("computed");
            ova.verify("a-vda.vmdk", sum, &right).expect("right");
            let wrong = ova.verify("a-vda.vmdk", sum, "00").expect_err("wrong");
            assert!(wrong.to_string().contains(sum.word()), "{wrong}");
        }
        assert_eq!(
            Sum::Sha1.of(&b"abc"[..]).expect("computed"),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
        assert!(matches!(ova.member("b"), Err(OvaError::Missing(_))));
        assert!(ova.text(".mf").expect("read").is_none());
    }

    #[test]
    fn an_archive_with_more_than_plain_files_is_refused_with_the_place() {
        use tar::EntryType as T;
        for (name, kind, told) in [
            ("../x.vmdk", T::Regular, "lies in a folder"),
            ("/etc/passwd", T::Regular, "lies in a folder"),
            ("a/b", T::Regular, "lies in a folder"),
            (".hidden", T::Regular, "lies in a folder"),
            ("x.vmdk", T::Symlink, "is no plain file"),
            ("x.vmdk", T::Link, "is no plain file"),
            ("x", T::Fifo, "is no plain file"),
            ("x", T::Directory, "is no plain file"),
            ("a.ovf", T::Regular, "is there twice"),
        ] {
            let (_dir, path) = archive(|tar| {
                add(tar, "a.ovf", T::Regular, b"<Envelope/>");
                add(tar, name, kind, b"");
            });
            let error = Ova::open(&path).expect_err(name);
            // The reader of archives refuses some of it by itself.
            let itself = matches!(error, OvaError::Archive { .. });
            let error = error.to_string();
            assert!(error.contains("byte 1536"), "{error}");
            assert!(itself || error.contains(told), "{error}");
        }
        let (_dir, path) = archive(|tar| add(tar, "a.ovf", T::Regular, &[b'x'; 4096]));
        let whole = std::fs::read(&path).expect("read");
        std::fs::write(&path, &whole[..2000]).expect("cut");
        let error = Ova::open(&path).expect_err("cut");
        assert!(matches!(error, OvaError::Archive { .. }), "{error}");
        let (_dir, path) = archive(|tar| {
            (0..65).for_each(|i| add(tar, &format!("{i}.vmdk"), T::Regular, b""));
        });
        assert!(
            Ova::open(&path)
                .expect_err("many")
                .to_string()
                .contains("too many")
        );
    }
}
