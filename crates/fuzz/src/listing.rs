//! What a file system holds, in a form that two of them can be compared in.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Every path with what is there.
pub(crate) type Listing = BTreeMap<Vec<u8>, Object>;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) what: What,
    pub(crate) mode: u32,
    pub(crate) mtime: i64,
    /// The first path of the same file.
    pub(crate) same_as: Vec<u8>,
    /// A folder with whiteouts and nothing else, which may have been made for them.
    pub(crate) hollow: bool,
}

/// Kind and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    File { size: u64, content: Option<Vec<u8>> },
    Folder,
    Symlink(Vec<u8>),
    Fifo,
}

/// The longest file whose content is compared, in bytes.
pub(crate) const MAX_CONTENT: u64 = 1 << 20;
/// A path that is longer cannot be walked by name.
const MAX_PATH: usize = 3800;

/// Lists a folder into which a layer was unpacked, without whiteouts. Nothing
/// where it is too deep to be walked.
pub(crate) fn unpacked(root: &Path) -> Option<Listing> {
    let mut listing = Listing::new();
    let mut seen = HashMap::new();
    walk(root, Vec::new(), &mut listing, &mut seen).then_some(())?;
    // The first path by its bytes, whatever the order of the walk was.
    let mut first: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    for (path, object) in &listing {
        let name = first.entry(object.same_as.clone());
        name.or_insert_with(|| path.clone());
    }
    for object in listing.values_mut() {
        object.same_as.clone_from(&first[&object.same_as]);
    }
    Some(listing)
}

/// Says whether it came to the end.
fn walk(
    folder: &Path,
    path: Vec<u8>,
    listing: &mut Listing,
    seen: &mut HashMap<(u64, u64), Vec<u8>>,
) -> bool {
    if folder.as_os_str().len() > MAX_PATH {
        return false;
    }
    let meta = std::fs::symlink_metadata(folder).expect("it is there");
    let (mut whiteouts, mut kept) = (0, 0);
    for entry in std::fs::read_dir(folder).expect("it is a folder") {
        let entry = entry.expect("it can be read");
        let meta = std::fs::symlink_metadata(entry.path()).expect("it is there");
        let kind = meta.file_type();
        let name = [path.as_slice(), b"/", entry.file_name().as_bytes()].concat();
        let what = if kind.is_char_device() {
            assert_eq!(meta.rdev(), 0, "a layer made a device");
            whiteouts += 1;
            continue;
        } else if kind.is_dir() {
            if !walk(&entry.path(), name.clone(), listing, seen) {
                return false;
            }
            match listing[&name].hollow {
                true => whiteouts += 1,
                false => kept += 1,
            }
            continue;
        } else if kind.is_symlink() {
            let target = std::fs::read_link(entry.path()).expect("it is a link");
            What::Symlink(target.as_os_str().as_bytes().to_vec())
        } else if kind.is_fifo() {
            What::Fifo
        } else {
            assert!(kind.is_file(), "a layer made {kind:?}");
            let content = (meta.size() <= MAX_CONTENT)
                .then(|| std::fs::read(entry.path()).expect("it can be read"));
            What::File {
                size: meta.size(),
                content,
            }
        };
        kept += 1;
        let id = (meta.dev(), meta.ino());
        let same_as = seen.entry(id).or_insert_with(|| name.clone()).clone();
        listing.insert(name, object(what, &meta, same_as));
    }
    let mut own = object(What::Folder, &meta, path.clone());
    own.hollow = kept == 0 && whiteouts > 0;
    listing.insert(path, own);
    true
}

fn object(what: What, meta: &std::fs::Metadata, same_as: Vec<u8>) -> Object {
    Object {
        mode: meta.mode() & 0o7777,
        mtime: meta.mtime(),
        what,
        same_as,
        hollow: false,
    }
}
