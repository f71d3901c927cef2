//! A small ISO 9660 image of a few files, in memory.
//!
//! Names are kept by Joliet, beside the short ones that ISO 9660 itself knows.
//! Nothing in it is of now or of this host: the same files give the same bytes.

use std::collections::BTreeSet;

use thiserror::Error;

/// Everything lies in sectors of this many bytes.
const SECTOR: usize = 2048;
/// The longest name that Joliet keeps, in UTF-16 units.
const LONGEST_NAME: usize = 64;
/// What one image may hold; a seed has a few kilobytes.
const MOST_BYTES: usize = 64 << 20;

/// Why there is no image.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IsoError {
    /// Not a name that every reader shows as it is.
    #[error(
        "{0:?} cannot be the name of a file in the image: write letters, digits, '_', '.', '-', at most 64"
    )]
    Name(String),
    /// Two files of one name, capitals not looked at.
    #[error("there are two files {0:?}")]
    Twice(String),
    /// Not a label that both descriptors can hold.
    #[error("{0:?} cannot be the label: write one to sixteen letters, digits and '_'")]
    Label(String),
    /// More than fits.
    #[error("the files have more than {max} bytes", max = MOST_BYTES)]
    Large,
}

/// One file: its two names, where it begins and how long it is.
struct Entry<'a> {
    name: &'a str,
    short: String,
    content: &'a [u8],
    sector: usize,
}

/// Which of the two descriptions of the same files.
#[derive(Clone, Copy, PartialEq)]
enum Tree {
    Plain,
    Joliet,
}

/// Makes an image of files in one folder, with `label` as its volume's name.
///
/// # Errors
/// [`IsoError`] when a name or the label cannot be written, or it is too much.
pub fn image(label: &str, files: &[(&str, &[u8])]) -> Result<Vec<u8>, IsoError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if !(1..=16).contains(&label.len()) || !label.bytes().all(plain) {
        return Err(IsoError::Label(label.to_owned()));
    }
    let mut entries = entries(files)?;
    let first = 23;
    // The folders come first, since their length follows from the names alone.
    let folders = [Tree::Plain, Tree::Joliet].map(|tree| folder(tree, 0, &entries).len() / SECTOR);
    let folder_at = [first, first + folders[0]];
    let mut next = first + folders[0] + folders[1];
    for entry in &mut entries {
        entry.sector = next;
        next += entry.content.len().div_ceil(SECTOR);
    }
    let mut out = vec![0; 16 * SECTOR];
    for (at, tree) in [Tree::Plain, Tree::Joliet].into_iter().enumerate() {
        let root = (folder_at[at], folders[at] * SECTOR);
        out.extend(descriptor(tree, label, next, root, 19 + 2 * at));
    }
    out.extend(sector(b"\xffCD001\x01"));
    for at in folder_at {
        // A path table of one folder, which is its own parent; in both orders of bytes.
        let at = u32_of(at);
        let (little, big) = (at.to_le_bytes(), at.to_be_bytes());
        out.extend(sector(&[&[1, 0], &little[..], &[1, 0, 0, 0]].concat()));
        out.extend(sector(&[&[1, 0], &big[..], &[0, 1, 0, 0]].concat()));
    }
    for (at, tree) in [Tree::Plain, Tree::Joliet].into_iter().enumerate() {
        out.extend(folder(tree, folder_at[at], &entries));
    }
    for entry in &entries {
        out.extend_from_slice(entry.content);
        out.resize(out.len().next_multiple_of(SECTOR), 0);
    }
    Ok(out)
}

fn entries<'a>(files: &[(&'a str, &'a [u8])]) -> Result<Vec<Entry<'a>>, IsoError> {
    let mut entries: Vec<Entry<'a>> = Vec::new();
    let (mut names, mut shorts) = (BTreeSet::new(), BTreeSet::new());
    let total: usize = files.iter().map(|(_, content)| content.len()).sum();
    if total > MOST_BYTES || files.len() > 1000 {
        return Err(IsoError::Large);
    }
    for (name, content) in files {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if !(1..=LONGEST_NAME).contains(&name.len())
            || !name.bytes().all(plain)
            || name.bytes().all(|b| b == b'.')
        {
            return Err(IsoError::Name((*name).to_owned()));
        }
        if !names.insert(name.to_ascii_lowercase()) {
            return Err(IsoError::Twice((*name).to_owned()));
        }
        let mut short = short_name(name, None);
        for number in 0.. {
            if shorts.insert(short.clone()) {
                break;
            }
            short = short_name(name, Some(number));
        }
        entries.push(Entry {
            name,
            short,
            content,
            sector: 0,
        });
    }
    Ok(entries)
}

/// A name as ISO 9660 knows them: eight letters, a dot, three more, a version.
fn short_name(name: &str, number: Option<u32>) -> String {
    let clean = |text: &str, most: usize| -> String {
        let upper = text.chars().map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        });
        upper.take(most).collect()
    };
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let stem = match number {
        None => clean(stem, 8),
        Some(number) => format!("{}{number:03}", clean(stem, 5)),
    };
    format!("{stem}.{};1", clean(extension, 3))
}

/// The records of the one folder, itself and its parent first.
fn folder(tree: Tree, at: usize, entries: &[Entry<'_>]) -> Vec<u8> {
    let mut files: Vec<(Vec<u8>, &Entry<'_>)> = entries
        .iter()
        .map(|entry| match tree {
            Tree::Plain => (entry.short.clone().into_bytes(), entry),
            Tree::Joliet => (wide(entry.name), entry),
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    // Twice: what the folder says of itself is its length.
    let mut length = SECTOR;
    loop {
        let mut out = Vec::new();
        let own = [
            record(&[0], at, length, true),
            record(&[1], at, length, true),
        ];
        let others = files
            .iter()
            .map(|(name, entry)| record(name, entry.sector, entry.content.len(), false));
        for record in own.into_iter().chain(others) {
            // No record crosses from one sector into the next.
            let left = SECTOR - out.len() % SECTOR;
            if record.len() > left {
                out.resize(out.len() + left, 0);
            }
            out.extend(record);
        }
        out.resize(out.len().next_multiple_of(SECTOR), 0);
        if out.len() == length {
            return out;
        }
        length = out.len();
    }
}

fn record(name: &[u8], sector: usize, length: usize, folder: bool) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(both32(sector));
    out.extend(both32(length));
    // The first of January 1970.
    out.extend([70, 1, 1, 0, 0, 0, 0]);
    out.extend([if folder { 2 } else { 0 }, 0, 0]);
    out.extend(both16(1));
    // The longest have 64 × 2 bytes.
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name);
    if out.len() % 2 == 1 {
        out.push(0);
    }
    out[0] = u8::try_from(out.len()).unwrap_or(u8::MAX);
    out
}

/// What a volume says of itself: the primary description, or Joliet's.
fn descriptor(
    tree: Tree,
    label: &str,
    sectors: usize,
    root: (usize, usize),
    table: usize,
) -> Vec<u8> {
    let text = |text: &str, length: usize| match tree {
        Tree::Plain => {
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(length, b' ');
            bytes
        }
        Tree::Joliet => {
            let mut bytes = wide(text);
            while bytes.len() + 2 <= length {
                bytes.extend([0, b' ']);
            }
            bytes.resize(length, 0);
            bytes
        }
    };
    let mut out = vec![if tree == Tree::Joliet { 2 } else { 1 }];
    out.extend(b"CD001\x01\0");
    out.extend(text("", 32));
    out.extend(text(label, 32));
    out.extend([0; 8]);
    out.extend(both32(sectors));
    // Joliet of level 3 says who it is by this sequence.
    let mut escapes = [0; 32];
    if tree == Tree::Joliet {
        escapes[..3].copy_from_slice(b"%/E");
    }
    out.extend(escapes);
    for number in [1, 1, 2048] {
        out.extend(both16(number));
    }
    out.extend(both32(10));
    out.extend(u32_of(table).to_le_bytes());
    out.extend([0; 4]);
    out.extend(u32_of(table + 1).to_be_bytes());
    out.extend([0; 4]);
    out.extend(record(&[0], root.0, root.1, true));
    for _ in 0..4 {
        out.extend(text("", 128));
    }
    for _ in 0..3 {
        out.extend(text("", 37));
    }
    for _ in 0..4 {
        // No date.
        out.extend([b'0'; 16]);
        out.push(0);
    }
    out.push(1);
    sector(&out)
}

fn sector(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(SECTOR, 0);
    out
}

/// UTF-16 with the high byte first.
fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// A number in both orders of bytes, as the standard has it.
fn both32(number: usize) -> Vec<u8> {
    let number = u32_of(number);
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

fn both16(number: u16) -> Vec<u8> {
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

/// An image is far smaller than what this could not hold.
fn u32_of(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_whole_sectors() {
        let files: [(&str, &[u8]); 2] = [("meta-data", b"a"), ("empty", b"")];
        let one = image("cidata", &files).expect("an image");
        assert_eq!(one, image("cidata", &files).expect("an image"));
        assert_eq!(one.len() % SECTOR, 0);
        assert_eq!(&one[16 * SECTOR + 1..16 * SECTOR + 6], b"CD001");
    }

    #[test]
    fn names_that_a_reader_might_not_show_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "\u{e4}",
            "x;1",
            &"x".repeat(65),
        ] {
            let files: [(&str, &[u8]); 1] = [(bad, b"")];
            assert_eq!(image("a", &files), Err(IsoError::Name(bad.into())));
        }
        let twice: [(&str, &[u8]); 2] = [("a", b""), ("A", b"")];
        assert_eq!(image("a", &twice), Err(IsoError::Twice("A".into())));
        for bad in ["", "a b", "a-very-long-label"] {
            assert_eq!(image(bad, &[]), Err(IsoError::Label(bad.into())));
        }
    }

    #[test]
    fn short_names_stay_apart() {
        let files: [(&str, &[u8]); 3] = [
            ("vendor-data1", b""),
            ("vendor-data2", b""),
            ("a.json", b""),
        ];
        let entries = entries(&files).expect("entries");
        let shorts: Vec<_> = entries.iter().map(|entry| entry.short.as_str()).collect();
        assert_eq!(shorts, ["VENDOR_D.;1", "VENDO000.;1", "A.JSO;1"]);
    }
}
