//! Short texts for archives, so that a fuzzer's changes keep their meaning.
//!
//! A layer is a line for each entry, `KIND NAME [LINK or DATA]`:
//!
//! ```text
//! f etc/os debian     file          m 4755              mode of what follows
//! d etc               folder        t 1700000000        time of what follows
//! l a ../b            link          x user.note=1       PAX record of what follows
//! h a b               hard link     --                  the next layer
//! p fifo              FIFO
//! c dev               device
//! s a/b text          file and its checksum, as it comes out of a machine
//! ```
//!
//! `~` in a name stands for 100 letters and `^` for 50 folders.
//!
//! An archive of images is a line `=NAME` before each file; `{N}` stands for
//! the digest of the file with that number, which must come later.

use hyperion_image::Digest;
use tar::{Builder, EntryType, Header};

/// Turns a text into the archives of layers; words that mean nothing are skipped.
pub(crate) fn layers(text: &[u8]) -> Vec<Vec<u8>> {
    text.split(|&b| b == b'\n')
        .collect::<Vec<_>>()
        .split(|line| *line == b"--")
        .take(4)
        .map(layer)
        .collect()
}

fn layer(lines: &[&[u8]]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let (mut mode, mut time) = (0o755, 0);
    for line in lines {
        let mut words = line.splitn(3, |&b| b == b' ');
        let kind = words.next().unwrap_or_default();
        let name = words.next().unwrap_or_default();
        let rest = words.next().unwrap_or_default();
        let written = match kind {
            b"m" => {
                mode = octal(name);
                Ok(())
            }
            b"t" => {
                time = text_of(name).parse().unwrap_or(0);
                Ok(())
            }
            b"x" => {
                let record = text_of(line.get(2..).unwrap_or_default());
                let (key, value) = record.split_once('=').unwrap_or((&record, ""));
                builder.append_pax_extensions([(key, value.as_bytes())])
            }
            b"f" => add(
                &mut builder,
                EntryType::Regular,
                name,
                b"",
                rest,
                mode,
                time,
            ),
            b"s" => {
                let kind = EntryType::Regular;
                let sum = hyperion_image::fuzz::checksum(rest);
                add(&mut builder, kind, name, b"", rest, mode, time)
                    .and_then(|()| add(&mut builder, kind, b"sum", b"", sum.as_bytes(), mode, time))
            }
            b"d" => add(
                &mut builder,
                EntryType::Directory,
                name,
                b"",
                b"",
                mode,
                time,
            ),
            b"l" => add(
                &mut builder,
                EntryType::Symlink,
                name,
                rest,
                b"",
                mode,
                time,
            ),
            b"h" => add(&mut builder, EntryType::Link, name, rest, b"", mode, time),
            b"p" => add(&mut builder, EntryType::Fifo, name, b"", b"", mode, time),
            b"c" => add(&mut builder, EntryType::Char, name, b"", b"", mode, time),
            _ => Ok(()),
        };
        written.expect("written into memory");
    }
    builder.into_inner().expect("written into memory")
}

fn add(
    builder: &mut Builder<Vec<u8>>,
    kind: EntryType,
    name: &[u8],
    link: &[u8],
    data: &[u8],
    mode: u32,
    time: u64,
) -> std::io::Result<()> {
    let (name, link) = (spread(name), spread(link));
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(time);
    header.set_size(data.len() as u64);
    for (long, text) in [(b'L', &name), (b'K', &link)] {
        if text.len() > 100 {
            let mut long_header = Header::new_gnu();
            long_header.set_entry_type(EntryType::new(long));
            long_header.set_size(text.len() as u64);
            long_header.set_cksum();
            builder.append(&long_header, text.as_slice())?;
        }
    }
    let old = header.as_old_mut();
    let n = name.len().min(100);
    old.name[..n].copy_from_slice(&name[..n]);
    let n = link.len().min(100);
    old.linkname[..n].copy_from_slice(&link[..n]);
    header.set_cksum();
    builder.append(&header, data)
}

fn spread(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'~' => out.extend([b'n'; 100]),
            b'^' => out.extend(b"d/".repeat(50)),
            byte => out.push(byte),
        }
    }
    out
}

fn octal(text: &[u8]) -> u32 {
    u32::from_str_radix(&text_of(text), 8).unwrap_or(0o755) & 0o7777
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of an archive of images.
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

/// Turns a text into the files of an archive of images.
pub(crate) fn documents(text: &[u8]) -> Vec<Document> {
    let mut all: Vec<Document> = Vec::new();
    for line in text.split_inclusive(|&b| b == b'\n') {
        match line.strip_prefix(b"=") {
            Some(name) if all.len() < 12 => all.push(Document {
                name: text_of(name.trim_ascii_end()),
                content: Vec::new(),
            }),
            _ => {
                if let Some(document) = all.last_mut() {
                    document.content.extend_from_slice(line);
                }
            }
        }
    }
    let mut digests = vec![String::new(); all.len()];
    for at in (0..all.len()).rev() {
        for (number, digest) in digests.iter().enumerate().skip(at) {
            if number > at {
                let mark = format!("{{{number}}}");
                all[at].content = replace(&all[at].content, mark.as_bytes(), digest.as_bytes());
            }
        }
        digests[at] = Digest::of(&all[at].content).hex();
    }
    for document in &mut all {
        for (number, digest) in digests.iter().enumerate() {
            document.name = document.name.replace(&format!("{{{number}}}"), digest);
        }
    }
    all
}

fn replace(text: &[u8], mark: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(mark) {
            out.extend_from_slice(with);
            at += mark.len();
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

/// Puts files into a tar archive; a name with ` -> ` is a link.
pub(crate) fn archive(documents: &[Document]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for document in documents {
        let (name, link) = document
            .name
            .split_once(" -> ")
            .unwrap_or((&document.name, ""));
        let kind = match link {
            "" => EntryType::Regular,
            _ => EntryType::Symlink,
        };
        add(
            &mut builder,
            kind,
            name.as_bytes(),
            link.as_bytes(),
            &document.content,
            0o644,
            0,
        )
        .expect("written into memory");
    }
    builder.into_inner().expect("written into memory")
}

/// Corrects the check sums of all headers, without which nothing is read on.
pub(crate) fn seal(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = archive.get_mut(at..at + 512) {
        at += 512;
        if block.iter().all(|&b| b == 0) {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = block[124..135].iter().try_fold(0usize, |size, &b| {
            let digit = b.checked_sub(b'0').filter(|&digit| digit < 8)?;
            Some(size * 8 + usize::from(digit))
        });
        // Only these kinds have data behind them.
        if matches!(
            block[156],
            0 | b'0' | b'7' | b'S' | b'x' | b'g' | b'L' | b'K'
        ) {
            at += size.unwrap_or(0).min(archive.len()).next_multiple_of(512);
        }
    }
}
