//! Files with holes: where their data are, and the checksum of those.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use sha2::{Digest as _, Sha256};

/// Where a file has data: offset and length, in order.
pub(crate) type Pieces = Vec<(u64, u64)>;

/// Finds out where a file has data.
///
/// # Errors
/// The kernel's. A file system that knows no holes has one piece.
pub(crate) fn pieces(file: &File, size: u64) -> io::Result<Pieces> {
    use rustix::fs::SeekFrom;
    use rustix::io::Errno;
    let mut out = Pieces::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(vec![(0, size)]),
            Err(e) => return Err(e.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
        if start >= end {
            break;
        }
        let full = out.len() >= MOST_PIECES;
        // Where there are more, what lies between them goes as zeros.
        match out.pop_if(|_| full) {
            Some((first, _)) => out.push((first, end - first)),
            None => out.push((start, end - start)),
        }
        at = end;
    }
    Ok(out)
}

/// The most pieces of one file.
const MOST_PIECES: usize = 1 << 16;

/// The checksum of a file: of its size, and of the place and data of each piece.
pub(crate) struct Checksum(Sha256);

impl Checksum {
    pub(crate) fn new(size: u64) -> Self {
        Self(Sha256::new_with_prefix(size.to_le_bytes()))
    }

    pub(crate) fn piece(&mut self, offset: u64, len: u64) {
        self.0.update(offset.to_le_bytes());
        self.0.update(len.to_le_bytes());
    }

    pub(crate) fn data(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> String {
        let digest = self.0.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Writes the map of a file with holes, as PAX format 1.0 has it.
pub(crate) fn map(pieces: &[(u64, u64)]) -> Vec<u8> {
    let mut text = format!("{}\n", pieces.len());
    for (offset, len) in pieces {
        text += &format!("{offset}\n{len}\n");
    }
    let mut map = text.into_bytes();
    map.resize(map.len().next_multiple_of(512), 0);
    map
}

/// Reads what a file has between its holes, and makes the checksum of it.
pub(crate) struct OfPieces {
    file: File,
    pieces: VecDeque<(u64, u64)>,
    sum: Checksum,
}

impl OfPieces {
    pub(crate) fn new(file: File, size: u64, pieces: Pieces) -> Self {
        let mut this = Self {
            file,
            pieces: pieces.into(),
            sum: Checksum::new(size),
        };
        this.begin();
        this
    }

    /// Gives how many bytes there are to be read.
    pub(crate) fn left(&self) -> u64 {
        self.pieces.iter().map(|(_, len)| len).sum()
    }

    /// Gives the checksum, when all has been read.
    pub(crate) fn checksum(self) -> String {
        self.sum.finish()
    }

    fn begin(&mut self) {
        if let Some(&(offset, len)) = self.pieces.front() {
            self.sum.piece(offset, len);
        }
    }
}

impl Read for OfPieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some((offset, left)) = self.pieces.front_mut() else {
            return Ok(0);
        };
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(out.len());
        let n = self.file.read_at(&mut out[..most], *offset)?;
        if n == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.sum.data(&out[..n]);
        *offset += n as u64;
        *left -= n as u64;
        if *left == 0 {
            self.pieces.pop_front();
            self.begin();
        }
        Ok(n)
    }
}
