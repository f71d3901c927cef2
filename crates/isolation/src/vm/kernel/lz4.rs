//! LZ4 in its old frame, which kernels are compressed with: blocks of at most
//! 8 MiB, each behind its length, without sums
//! (`doc/lz4_Frame_format.md` and `lz4_Block_format.md` of LZ4).

use std::io::{self, Read};

/// Bytes that a block unpacks to at most.
const BLOCK: usize = 8 << 20;
/// Bytes that such a block takes at most when it cannot be compressed.
const PACKED: usize = BLOCK + BLOCK / 255 + 16;

/// Decompresses; what does not end with a whole block is an error, but for the
/// size that kernels have behind their last block.
pub(super) struct Legacy<R> {
    from: R,
    packed: Vec<u8>,
    block: Vec<u8>,
    at: usize,
}

impl<R: Read> Legacy<R> {
    /// Begins behind the magic number.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(super) fn new(mut from: R) -> io::Result<Self> {
        from.read_exact(&mut [0; 4])?;
        Ok(Self {
            from,
            packed: Vec::new(),
            block: Vec::new(),
            at: 0,
        })
    }

    /// Reads and unpacks the next block; an empty one is the end.
    fn next(&mut self) -> io::Result<()> {
        self.block.clear();
        self.at = 0;
        let mut length = [0; 4];
        let Some(length) = whole(&mut self.from, &mut length)?.then(|| u32::from_le_bytes(length))
        else {
            return Ok(());
        };
        self.packed.clear();
        let read = (&mut self.from)
            .take(length.into())
            .take(PACKED as u64)
            .read_to_end(&mut self.packed)?;
        // The last four bytes are no length, but that of the whole kernel.
        if read == 0 {
            return Ok(());
        }
        if read != length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        unpack(&self.packed, &mut self.block)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a block of LZ4 is damaged"))
    }
}

impl<R: Read> Read for Legacy<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            self.next()?;
        }
        let n = out.len().min(self.block.len() - self.at);
        out[..n].copy_from_slice(&self.block[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// Fills a buffer, or says that nothing was left.
fn whole(from: &mut impl Read, buffer: &mut [u8; 4]) -> io::Result<bool> {
    let mut first = Vec::with_capacity(4);
    from.take(4).read_to_end(&mut first)?;
    match first.as_slice().try_into() {
        Ok(bytes) => *buffer = bytes,
        Err(_) if first.is_empty() => return Ok(false),
        Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
    }
    Ok(true)
}

/// Unpacks one block; nothing when it makes no sense or is too long.
fn unpack(mut from: &[u8], to: &mut Vec<u8>) -> Option<()> {
    loop {
        let (&token, rest) = from.split_first()?;
        from = rest;
        let literals = length(token >> 4, &mut from)?;
        let (bytes, rest) = from.split_at_checked(literals)?;
        from = rest;
        if to.len() + literals > BLOCK {
            return None;
        }
        to.extend_from_slice(bytes);
        if from.is_empty() {
            return Some(());
        }
        let (distance, rest) = from.split_at_checked(2)?;
        from = rest;
        let distance = usize::from(u16::from_le_bytes([distance[0], distance[1]]));
        let matched = length(token & 15, &mut from)?.checked_add(4)?;
        let mut at = to.len().checked_sub(distance)?;
        if distance == 0 || to.len() + matched > BLOCK {
            return None;
        }
        // A match may reach into what it writes itself: at most its distance at a time.
        let mut left = matched;
        while left > 0 {
            let n = left.min(to.len() - at);
            to.extend_from_within(at..at + n);
            at += n;
            left -= n;
        }
    }
}

/// Reads a length of which the token has the first four bits.
fn length(first: u8, from: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(first);
    if first == 15 {
        loop {
            let (&more, rest) = from.split_first()?;
            *from = rest;
            length = length.checked_add(usize::from(more))?;
            if more != 255 {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Packs without a search: runs of one byte as matches, the rest as literals.
    pub(crate) fn legacy(bytes: &[u8]) -> Vec<u8> {
        let mut to = vec![0x02, 0x21, 0x4c, 0x18];
        for block in bytes.chunks(BLOCK) {
            let mut packed = Vec::new();
            let mut from = block;
            while !from.is_empty() {
                let run = |part: &[u8]| part.iter().take_while(|&&b| b == part[0]).count();
                let literals = (0..from.len())
                    .find(|&at| run(&from[at..]) > 64)
                    .map_or(from.len(), |at| at + 1);
                let matched = match from.get(literals..) {
                    // The last bytes of a block are literals.
                    Some(rest) if !rest.is_empty() => {
                        (run(rest).min(from.len() - literals - 5)) / 4 * 4
                    }
                    _ => 0,
                };
                let nibble = |n: usize| u8::try_from(n.min(15)).expect("a nibble");
                packed.push(nibble(literals) << 4 | nibble(matched.saturating_sub(4)));
                more(&mut packed, literals);
                packed.extend(&from[..literals]);
                if matched > 0 {
                    packed.extend([1, 0]);
                    more(&mut packed, matched - 4);
                }
                from = &from[literals + matched..];
            }
            to.extend(u32::try_from(packed.len()).expect("short").to_le_bytes());
            to.extend(packed);
        }
        // As behind a kernel.
        to.extend(u32::try_from(bytes.len()).expect("short").to_le_bytes());
        to
    }

    fn more(to: &mut Vec<u8>, mut length: usize) {
        if length < 15 {
            return;
        }
        length -= 15;
        while length >= 255 {
            to.push(255);
            length -= 255;
        }
        to.push(u8::try_from(length).expect("below 255"));
    }

    #[test]
    fn a_block_that_lies_is_refused() {
        let mut to = Vec::new();
        for damaged in [
            &[][..],
            // More literals than there are.
            &[0x50, b'a'],
            // A match before the beginning, and one of no distance.
            &[0x10, b'a', 2, 0, 0],
            &[0x10, b'a', 0, 0, 0],
            // A length without an end.
            &[0xff, 255, 255],
        ] {
            to.clear();
            assert_eq!(unpack(damaged, &mut to), None, "{damaged:?}");
        }
        // 1 literal and then 8 MiB of it: one too many.
        let mut bomb = vec![0x1f, b'a', 1, 0];
        bomb.extend(std::iter::repeat_n(255, BLOCK / 255 + 1));
        bomb.push(0);
        to.clear();
        assert_eq!(unpack(&bomb, &mut to), None);
        assert!(to.len() <= BLOCK);
    }

    #[test]
    fn a_match_may_reach_into_itself() {
        let mut to = Vec::new();
        let block = [0x24, b'a', b'b', 2, 0, 0x10, b'!'];
        assert_eq!(unpack(&block, &mut to), Some(()));
        assert_eq!(to, b"ababababab!");
    }
}
