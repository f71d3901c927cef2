//! The kernel itself: a `bzImage` as boot loaders take it, and the ELF file
//! `vmlinux` inside, which QEMU starts without the kernel's own decompressor
//! when a note says where (PVH, `xen/include/public/elfnote.h`).
//!
//! Offsets of a `bzImage` are from Documentation/arch/x86/boot.rst.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

use super::compressed;

/// The largest `vmlinux` that is unpacked, in bytes.
const LARGEST: u64 = 1 << 30;
/// The largest part with notes that is looked through, in bytes.
const NOTES: u64 = 64 << 10;
/// `XEN_ELFNOTE_PHYS32_ENTRY`: the address at which a kernel starts by PVH.
const PHYS32_ENTRY: u32 = 18;

/// What a `bzImage` says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// First word of its version: what `uname -r` will print.
    pub(super) release: Option<String>,
    /// Where the packed `vmlinux` lies: offset and length in bytes.
    payload: Option<(u64, u64)>,
}

/// Reads the header of a `bzImage`; nothing when it is none.
pub(super) fn header(image: &File) -> io::Result<Option<Header>> {
    let mut first = Vec::new();
    let mut reader = image;
    reader.seek(SeekFrom::Start(0))?;
    reader.take(128 << 10).read_to_end(&mut first)?;
    Ok(parse(&first, image.metadata()?.len()))
}

fn parse(first: &[u8], file: u64) -> Option<Header> {
    let half = |at: usize| Some(u16::from_le_bytes(*first.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u32::from_le_bytes(*first.get(at..)?.first_chunk()?));
    if first.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let release = || {
        let at = usize::from(half(0x20e)?) + 0x200;
        let text = first.get(at..first.len().min(at + 256))?;
        let word = text.split(|&b| b == b' ' || b == 0).next()?;
        std::str::from_utf8(word).ok().map(str::to_owned)
    };
    let payload = || {
        // A field of protocol 2.08.
        (half(0x206)? >= 0x208).then_some(())?;
        let sectors = match *first.get(0x1f1)? {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let offset = (sectors + 1) * 512 + u64::from(word(0x248)?);
        let length = u64::from(word(0x24c)?);
        (length > 0 && offset + length <= file).then_some((offset, length))
    };
    Some(Header {
        release: release(),
        payload: payload(),
    })
}

impl Header {
    /// Unpacks the `vmlinux`; nothing when it is packed in a way that is not read.
    pub(super) fn unpack(&self, image: &File, to: &mut impl Write) -> io::Result<Option<()>> {
        let Some((offset, length)) = self.payload else {
            return Ok(None);
        };
        let mut from = image;
        from.seek(SeekFrom::Start(offset))?;
        let unpacked = compressed::reader(from.take(length), LARGEST)
            .and_then(|mut from| io::copy(&mut from, to));
        match unpacked {
            Ok(_) => Ok(Some(())),
            // A full disk is an error; a damaged kernel is one that boots, if at all, as it is.
            Err(e) if e.raw_os_error().is_some() => Err(e),
            Err(_) => Ok(None),
        }
    }
}

/// Says whether a file is an x86-64 ELF program that can be started by PVH.
pub(super) fn starts_by_pvh(file: &File) -> io::Result<bool> {
    let Some(header) = read_at::<64>(file, 0)? else {
        return Ok(false);
    };
    // 64 bits, little-endian, version 1; a program; of x86-64.
    if !header.starts_with(b"\x7fELF\x02\x01\x01") || header[18..20] != [62, 0] {
        return Ok(false);
    }
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let start = long(&header, 32);
    if half(54) != 56 {
        return Ok(false);
    }
    for number in 0..u64::from(half(56)).min(64) {
        let Some(segment) = read_at::<56>(file, start.saturating_add(number * 56))? else {
            return Ok(false);
        };
        const NOTE: [u8; 4] = 4_u32.to_le_bytes();
        if segment[..4] != NOTE {
            continue;
        }
        let mut notes = vec![0; long(&segment, 32).min(NOTES) as usize];
        let at = long(&segment, 8).min(i64::MAX.cast_unsigned() - NOTES);
        let read = file.read_at(&mut notes, at)?;
        if has_entry(&notes[..read]) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads so many bytes; nothing where the file ends before.
fn read_at<const N: usize>(file: &File, at: u64) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    // The system takes a place that is beyond every file for a mistake.
    if i64::try_from(at).is_err() {
        return Ok(None);
    }
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |b| u64::from_le_bytes(*b))
}

/// Looks for the note with PVH's address among all.
fn has_entry(mut notes: &[u8]) -> bool {
    let mut next = || {
        let (head, rest) = notes.split_at_checked(12)?;
        let word = |at: usize| head[at..].first_chunk().map(|b| u32::from_le_bytes(*b));
        let (name, value, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let (owner, rest) = rest.split_at_checked(name.next_multiple_of(4))?;
        let (value, rest) = rest.split_at_checked(value.next_multiple_of(4))?;
        notes = rest;
        let found = kind == PHYS32_ENTRY && owner.starts_with(b"Xen\0") && value.len() >= 4;
        Some(found)
    };
    std::iter::from_fn(&mut next).any(|found| found)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An ELF header, a segment of notes, and such a note.
    pub(crate) fn vmlinux(note: u32) -> Vec<u8> {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        elf[18] = 62;
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        let mut segment = vec![0; 56];
        segment[0] = 4;
        segment[8] = 120;
        segment[32] = 36;
        elf.extend(segment);
        // One of another owner first.
        elf.extend([4, 0, 0, 0, 0, 0, 0, 0, 18, 0, 0, 0]);
        elf.extend(b"GNU\0");
        elf.extend([4, 0, 0, 0, 4, 0, 0, 0]);
        elf.extend(note.to_le_bytes());
        elf.extend(b"Xen\0");
        elf.extend([0, 0, 0, 1]);
        elf[96] = u8::try_from(elf.len() - 120).expect("short");
        elf
    }

    /// A `bzImage` around a packed file.
    pub(crate) fn bzimage(release: &str, packed: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2048];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        let version = format!("{release} (someone) #1 SMP\0");
        image[0x300..0x300 + version.len()].copy_from_slice(version.as_bytes());
        let offset = u32::try_from(image.len() - 1024).expect("short");
        image[0x248..0x24c].copy_from_slice(&offset.to_le_bytes());
        let length = u32::try_from(packed.len()).expect("short");
        image[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        image.extend(packed);
        image
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        file
    }

    #[test]
    fn a_kernel_is_found_in_its_boot_image() {
        let inside = vmlinux(PHYS32_ENTRY);
        let packed = zstd::encode_all(inside.as_slice(), 1).expect("packed");
        let image = file(&bzimage("6.1.0-x", &packed));
        let header = header(&image).expect("read").expect("a header");
        assert_eq!(header.release.as_deref(), Some("6.1.0-x"));
        let mut out = file(b"");
        assert_eq!(header.unpack(&image, &mut out).expect("read"), Some(()));
        assert!(starts_by_pvh(&out).expect("read"));
        assert_eq!(out.metadata().expect("a size").len(), inside.len() as u64);
    }

    #[test]
    fn only_a_note_of_xens_with_the_address_makes_pvh() {
        let good = vmlinux(PHYS32_ENTRY);
        assert!(starts_by_pvh(&file(&good)).expect("read"));
        assert!(!starts_by_pvh(&file(&vmlinux(17))).expect("read"));
        // Cut anywhere, and with any one byte of the headers changed: no panic.
        for at in 0..good.len() {
            assert!(at > 155 || !starts_by_pvh(&file(&good[..at])).expect("read"));
            let mut changed = good.clone();
            changed[at] = 0xff;
            let _ = starts_by_pvh(&file(&changed)).expect("read");
        }
    }

    #[test]
    fn a_header_that_points_outside_is_no_payload() {
        let good = bzimage("6.1", b"payload");
        let payload = |image: &[u8]| parse(image, image.len() as u64).and_then(|h| h.payload);
        assert_eq!(payload(&good), Some((2048, 7)));
        for (at, value) in [(0x248, [0xff; 4]), (0x24c, [0xff; 4]), (0x24c, [0; 4])] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value);
            assert_eq!(payload(&bad), None);
        }
        let mut old = good.clone();
        old[0x206] = 7;
        assert_eq!(payload(&old), None);
        for at in 0..good.len() {
            let _ = parse(&good[..at], at as u64);
        }
        assert_eq!(parse(b"#!/bin/sh", 9), None);
    }
}
