//! Reads tar archives: ustar, GNU and PAX, with long names, large numbers,
//! extended attributes and the four ways to write a sparse file.
//!
//! Follows POSIX.1-2001 (pax), the manual of GNU tar, and, where they leave
//! something open, Go's `archive/tar`: most images are written and checked by
//! it, and two readers that disagree on an archive are a hole.

use std::io::{self, BufRead};

use super::{LayerError, MAX_PATH, to_path};

const BLOCK: usize = 512;
/// The most that all headers of an entry may carry beside themselves (long names, attributes), in bytes.
const MAX_EXTENSION: u64 = 4 << 20;
/// The most extended attributes of an entry: their names must fit into 64 KiB.
const MAX_XATTRS: usize = 256;
/// The most pieces a sparse file may have.
const MAX_PIECES: usize = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Folder,
    Fifo,
    /// A character or block device.
    Device,
}

/// One entry's header.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permission bits with set-id and sticky bits: `0o7777`.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Bytes of the file, holes included.
    pub(crate) size: u64,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where a sparse file has data: offset and length, in order.
    pub(crate) pieces: Option<Vec<(u64, u64)>>,
}

/// An archive that is being read.
pub(crate) struct Tar<R> {
    input: R,
    /// Data of the current entry that was not read yet, in bytes.
    data: u64,
    /// Padding behind it.
    padding: u64,
    global: Extension,
    /// The last entry begun, for messages.
    after: Vec<u8>,
}

/// What extension headers say of the entry that follows.
#[derive(Debug, Clone, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse_major: Option<u64>,
    sparse_name: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    sparse_map: Option<Vec<u64>>,
}

impl<R: BufRead> Tar<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            data: 0,
            padding: 0,
            global: Extension::default(),
            after: Vec::new(),
        }
    }

    /// Gives the next entry, or nothing at the end. What was not read of the
    /// last entry's data is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        self.skip()?;
        let mut extension = self.global.clone();
        let mut long_path = None;
        let mut long_link = None;
        let mut room = MAX_EXTENSION;
        loop {
            let Some(block) = self.header()? else {
                return Ok(None);
            };
            let header = Header(&block);
            let stored = header.number(124, 12).ok_or_else(|| self.bad("size"))?;
            match header.kind() {
                b'x' => {
                    let text = self.extension(stored, &mut room)?;
                    extension.add(&text).ok_or_else(|| self.bad("pax record"))?;
                }
                b'g' => {
                    let text = self.extension(stored, &mut room)?;
                    let mut global = std::mem::take(&mut self.global);
                    let added = global.add(&text);
                    // Only these make sense for every entry, and Go takes no others.
                    self.global = Extension {
                        uid: global.uid,
                        gid: global.gid,
                        mtime: global.mtime,
                        ..Extension::default()
                    };
                    added.ok_or_else(|| self.bad("pax record"))?;
                    extension.uid = extension.uid.or(global.uid);
                    extension.gid = extension.gid.or(global.gid);
                    extension.mtime = extension.mtime.or(global.mtime);
                }
                b'L' => long_path = Some(until_nul(&self.extension(stored, &mut room)?).to_owned()),
                b'K' => long_link = Some(until_nul(&self.extension(stored, &mut room)?).to_owned()),
                // The label of a volume.
                b'V' => {
                    self.expect(stored)?;
                    self.skip()?;
                }
                _ => return self.entry(&header, stored, extension, long_path, long_link),
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header<'_>,
        stored: u64,
        extension: Extension,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Option<Entry>, LayerError> {
        let path = extension.path.or(long_path);
        let path = path.unwrap_or_else(|| header.path());
        self.after.clone_from(&path);
        let kind = match header.kind() {
            // Before there were types a folder was known by its slash.
            0 | b'0' if path.ends_with(b"/") => Kind::Folder,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Folder,
            b'6' => Kind::Fifo,
            kind => {
                return Err(LayerError::Kind {
                    path: to_path(&path),
                    kind: char::from(kind),
                });
            }
        };
        let id = |given: Option<u64>, at| {
            let id = given.or_else(|| header.number(at, 8)).unwrap_or(0);
            u32::try_from(id).ok().filter(|&id| id != u32::MAX)
        };
        let uid = id(extension.uid, 108).ok_or_else(|| self.bad("uid"))?;
        let gid = id(extension.gid, 116).ok_or_else(|| self.bad("gid"))?;
        let mode = header.number(100, 8).ok_or_else(|| self.bad("mode"))?;
        let mtime = extension
            .mtime
            .unwrap_or_else(|| (header.signed(136, 12).unwrap_or(0), 0));
        let link = extension.link.or(long_link);
        let link = link.unwrap_or_else(|| until_nul(header.field(157, 100)).to_owned());
        if kind == Kind::Symlink && !(1..=MAX_PATH).contains(&link.len()) {
            return Err(self.bad("target of a link"));
        }
        // Other kinds have no data, whatever their size says.
        let stored = match kind {
            Kind::File => extension.size.unwrap_or(stored),
            _ => 0,
        };
        self.expect(stored)?;
        let mut entry = Entry {
            path: extension.sparse_name.unwrap_or(path),
            kind,
            mode: mode as u32 & 0o7777,
            uid,
            gid,
            mtime,
            size: stored,
            link,
            xattrs: extension.xattrs,
            pieces: None,
        };
        if kind == Kind::File {
            let map = if header.kind() == b'S' {
                let size = header
                    .number(483, 12)
                    .ok_or_else(|| self.bad("sparse size"))?;
                entry.size = size;
                Some(self.gnu_map(header)?)
            } else if extension.sparse_major == Some(1) {
                entry.size = extension
                    .sparse_size
                    .ok_or_else(|| self.bad("sparse size"))?;
                Some(self.inline_map()?)
            } else if let Some(map) = extension.sparse_map {
                entry.size = extension
                    .sparse_size
                    .ok_or_else(|| self.bad("sparse size"))?;
                Some(map)
            } else {
                None
            };
            if let Some(map) = map {
                let pieces = self.pieces(&map, entry.size);
                entry.pieces = Some(pieces.ok_or_else(|| self.bad("sparse map"))?);
            }
        }
        Ok(Some(entry))
    }

    /// Hands out the next of the entry's stored data; empty at its end.
    pub(crate) fn data(&mut self) -> Result<&[u8], LayerError> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(self.data).unwrap_or(usize::MAX);
        // Asked twice for the borrow's sake: the first fills, the second looks.
        if fill(&mut self.input)?.is_empty() {
            return Err(self.cut());
        }
        let buffer = fill(&mut self.input)?;
        Ok(&buffer[..buffer.len().min(left)])
    }

    /// Marks `n` bytes of what [`Self::data`] gave as read.
    pub(crate) fn consume(&mut self, n: usize) {
        self.input.consume(n);
        self.data -= n as u64;
    }

    /// Reads on to the end of the input, so that its digest is that of all.
    pub(crate) fn finish(mut self) -> Result<R, LayerError> {
        loop {
            let n = fill(&mut self.input)?.len();
            if n == 0 {
                return Ok(self.input);
            }
            self.input.consume(n);
        }
    }

    fn expect(&mut self, bytes: u64) -> Result<(), LayerError> {
        if bytes > i64::MAX as u64 {
            return Err(self.bad("size"));
        }
        self.data = bytes;
        self.padding = bytes.wrapping_neg() % BLOCK as u64;
        Ok(())
    }

    fn skip(&mut self) -> Result<(), LayerError> {
        let mut left = self.data + self.padding;
        while left > 0 {
            let n = fill(&mut self.input)?.len() as u64;
            if n == 0 {
                return Err(self.cut());
            }
            let n = n.min(left);
            self.input.consume(n as usize);
            left -= n;
        }
        (self.data, self.padding) = (0, 0);
        Ok(())
    }

    /// Reads a header; nothing at the end of the archive.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block.iter().all(|&b| b == 0) {
            return match self.block()? {
                Some(next) if next.iter().any(|&b| b != 0) => Err(self.bad("end")),
                _ => Ok(None),
            };
        }
        // The sum counts its own field as spaces; some old writers added signed bytes.
        let sum = |add: fn(u8) -> i64| -> i64 {
            let own = 148..156;
            let one = |(at, &b)| add(if own.contains(&at) { b' ' } else { b });
            block.iter().enumerate().map(one).sum()
        };
        let stored = Header(&block).number(148, 8).map(|n| n as i64);
        if stored != Some(sum(i64::from)) && stored != Some(sum(|b| i64::from(b as i8))) {
            return Err(self.bad("checksum"));
        }
        Ok(Some(block))
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            let buffer = fill(&mut self.input)?;
            if buffer.is_empty() {
                return if have == 0 { Ok(None) } else { Err(self.cut()) };
            }
            let n = buffer.len().min(BLOCK - have);
            block[have..have + n].copy_from_slice(&buffer[..n]);
            self.input.consume(n);
            have += n;
        }
        Ok(Some(block))
    }

    /// Reads the data of an extension header; `room` is what the entry's may still hold.
    fn extension(&mut self, size: u64, room: &mut u64) -> Result<Vec<u8>, LayerError> {
        *room = room
            .checked_sub(size)
            .ok_or_else(|| self.bad("size of an extension"))?;
        self.expect(size)?;
        let mut out = Vec::with_capacity(size as usize);
        loop {
            let data = self.data()?;
            if data.is_empty() {
                break;
            }
            out.extend_from_slice(data);
            let n = data.len();
            self.consume(n);
        }
        self.skip()?;
        Ok(out)
    }

    /// Reads the map of GNU's old sparse format: four pieces in the header, 21
    /// in each block behind it.
    fn gnu_map(&mut self, header: &Header<'_>) -> Result<Vec<u64>, LayerError> {
        let mut map = Vec::new();
        let mut take = |header: &Header<'_>, at: usize, n: usize| {
            for i in 0..n {
                if header.0[at + i * 24] == 0 {
                    break;
                }
                map.push(header.number(at + i * 24, 12)?);
                map.push(header.number(at + i * 24 + 12, 12)?);
            }
            (map.len() < 2 * MAX_PIECES).then_some(())
        };
        take(header, 386, 4).ok_or_else(|| self.bad("sparse map"))?;
        let mut more = header.0[482] != 0;
        while more {
            let block = self.block()?.ok_or_else(|| self.cut())?;
            take(&Header(&block), 0, 21).ok_or_else(|| self.bad("sparse map"))?;
            more = block[504] != 0;
        }
        Ok(map)
    }

    /// Reads the map of PAX sparse format 1.0: numbers, a line each, at the
    /// head of the data and padded to a block.
    fn inline_map(&mut self) -> Result<Vec<u64>, LayerError> {
        let mut used = 0u64;
        let mut number: Option<u64> = None;
        let mut count = None;
        let mut map = Vec::new();
        while count.is_none_or(|count| (map.len() as u64) < count) {
            let byte = match self.data()?.first() {
                Some(&byte) => byte,
                None => return Err(self.bad("sparse map")),
            };
            self.consume(1);
            used += 1;
            match (byte, number) {
                (b'0'..=b'9', _) => {
                    let next = number.unwrap_or(0).checked_mul(10);
                    let next = next.and_then(|n| n.checked_add(u64::from(byte - b'0')));
                    number = Some(next.ok_or_else(|| self.bad("sparse map"))?);
                }
                (b'\n', Some(value)) if count.is_none() => {
                    if value > MAX_PIECES as u64 {
                        return Err(self.bad("sparse map"));
                    }
                    count = Some(2 * value);
                    number = None;
                }
                (b'\n', Some(value)) => {
                    map.push(value);
                    number = None;
                }
                _ => return Err(self.bad("sparse map")),
            }
        }
        let mut left = used.wrapping_neg() % BLOCK as u64;
        while left > 0 {
            let n = self.data()?.len() as u64;
            if n == 0 {
                return Err(self.bad("sparse map"));
            }
            let n = n.min(left);
            self.consume(n as usize);
            left -= n;
        }
        Ok(map)
    }

    /// Checks a sparse map: in order, inside the file, and all the data there is.
    fn pieces(&self, map: &[u64], size: u64) -> Option<Vec<(u64, u64)>> {
        if !map.len().is_multiple_of(2) || map.len() > 2 * MAX_PIECES || size > i64::MAX as u64 {
            return None;
        }
        let mut end = 0;
        let mut sum = 0u64;
        let mut out = Vec::with_capacity(map.len() / 2);
        for pair in map.chunks_exact(2) {
            let (offset, len) = (pair[0], pair[1]);
            if offset < end {
                return None;
            }
            end = offset.checked_add(len).filter(|&end| end <= size)?;
            sum += len;
            if len > 0 {
                out.push((offset, len));
            }
        }
        (sum == self.data).then_some(out)
    }

    fn bad(&self, what: &'static str) -> LayerError {
        LayerError::Header {
            after: to_path(&self.after),
            what,
        }
    }

    fn cut(&self) -> LayerError {
        LayerError::Truncated {
            after: to_path(&self.after),
        }
    }
}

fn fill<R: BufRead>(input: &mut R) -> Result<&[u8], LayerError> {
    // Looked at twice because a borrow cannot be given back from a loop.
    while let Err(e) = input.fill_buf() {
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(LayerError::Read(e));
        }
    }
    input.fill_buf().map_err(LayerError::Read)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or(bytes)
}

/// The fields of a header block.
struct Header<'a>(&'a [u8; BLOCK]);

impl Header<'_> {
    fn field(&self, at: usize, len: usize) -> &[u8] {
        &self.0[at..at + len]
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn path(&self) -> Vec<u8> {
        let name = until_nul(self.field(0, 100));
        // GNU's own magic ("ustar" and two spaces) uses the prefix for other things.
        let prefix = match self.field(257, 6) {
            b"ustar\0" if self.field(508, 4) == b"tar\0" => self.field(345, 131),
            b"ustar\0" => self.field(345, 155),
            _ => &[],
        };
        let prefix = until_nul(prefix);
        if prefix.is_empty() {
            return name.to_owned();
        }
        [prefix, b"/", name].concat()
    }

    /// Reads an unsigned number: octal digits, or binary after a set high bit.
    fn number(&self, at: usize, len: usize) -> Option<u64> {
        u64::try_from(self.signed(at, len)?).ok()
    }

    fn signed(&self, at: usize, len: usize) -> Option<i64> {
        let field = self.field(at, len);
        if field[0] & 0x80 != 0 {
            // The second bit is the sign; every further byte must fit.
            let negative = field[0] & 0x40 != 0;
            let mut value: i64 = if negative { -1 } else { 0 };
            let first = if negative { field[0] } else { field[0] & 0x7f };
            for byte in std::iter::once(first).chain(field[1..].iter().copied()) {
                value = value.checked_mul(256)?;
                value |= i64::from(byte);
            }
            return Some(value);
        }
        let text = field
            .iter()
            .skip_while(|b| **b == b' ')
            .take_while(|b| !matches!(b, 0 | b' '));
        let mut value: i64 = 0;
        for byte in text {
            let digit = byte.checked_sub(b'0').filter(|&digit| digit < 8)?;
            value = value.checked_mul(8)?.checked_add(i64::from(digit))?;
        }
        Some(value)
    }
}

impl Extension {
    /// Adds the records `LENGTH KEY=VALUE\n` of a PAX header.
    fn add(&mut self, mut text: &[u8]) -> Option<()> {
        // Format 0.0 repeats two keys, one pair for each piece.
        let mut offsets = Vec::new();
        while !text.is_empty() {
            let space = text.iter().position(|&b| b == b' ')?;
            let len = usize::try_from(decimal(&text[..space])?).ok()?;
            if len <= space + 1 || len > text.len() || text[len - 1] != b'\n' {
                return None;
            }
            let record = &text[space + 1..len - 1];
            text = &text[len..];
            let equals = record.iter().position(|&b| b == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = text_of(value)?,
                b"linkpath" => self.link = text_of(value)?,
                b"size" => self.size = number_of(value)?,
                b"uid" => self.uid = number_of(value)?,
                b"gid" => self.gid = number_of(value)?,
                b"mtime" if value.is_empty() => self.mtime = None,
                b"mtime" => self.mtime = Some(time(value)?),
                b"GNU.sparse.major" => self.sparse_major = number_of(value)?,
                b"GNU.sparse.name" => self.sparse_name = text_of(value)?,
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                    self.sparse_size = number_of(value)?;
                }
                b"GNU.sparse.map" => {
                    let numbers = value.split(|&b| b == b',').filter(|n| !n.is_empty());
                    self.sparse_map = Some(numbers.map(decimal).collect::<Option<_>>()?);
                }
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    let is_offset = key == b"GNU.sparse.offset";
                    if is_offset != (offsets.len() % 2 == 0) {
                        return None;
                    }
                    offsets.push(decimal(value)?);
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.retain(|(other, _)| other != name);
                        if self.xattrs.len() == MAX_XATTRS {
                            return None;
                        }
                        if !value.is_empty() {
                            self.xattrs.push((name.to_owned(), value.to_owned()));
                        }
                    }
                }
            }
        }
        if !offsets.is_empty() {
            self.sparse_map = Some(offsets);
        }
        Some(())
    }
}

/// A text of a PAX record: empty takes back what was said before.
fn text_of(value: &[u8]) -> Option<Option<Vec<u8>>> {
    if value.contains(&0) {
        return None;
    }
    Some((!value.is_empty()).then(|| value.to_owned()))
}

fn number_of(value: &[u8]) -> Option<Option<u64>> {
    if value.is_empty() {
        return Some(None);
    }
    decimal(value).map(Some)
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A time `[-]SECONDS[.FRACTION]`.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|&b| b == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let mut nanoseconds = 0;
    for place in 0..9 {
        let digit = match fraction.get(place) {
            Some(byte) => byte.checked_sub(b'0').filter(|&digit| digit < 10)?,
            None => 0,
        };
        nanoseconds = nanoseconds * 10 + u32::from(digit);
    }
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}
