//! What a job wrote, with times, ranks and streams.
//!
//! A record is 8 bytes of time (microseconds since 1970), 4 of rank, 1 of
//! stream, 4 of length (all little-endian), and the bytes. A record that was
//! cut off by a crash is the end of the log.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use jiff::Timestamp;

use crate::jobs::private_file;

const HEADER: usize = 17;

/// Where bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// One piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it was read.
    pub time: Timestamp,
    /// Whose it is.
    pub rank: u32,
    /// Where it came from.
    pub stream: Stream,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Appends to a log.
#[derive(Debug)]
pub struct Writer(File);

impl Writer {
    /// Starts a log.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(private_file(path)?))
    }

    /// Appends one record.
    ///
    /// # Errors
    /// The kernel's: a full disk. What was written of the record is taken back.
    pub fn append(
        &mut self,
        time: Timestamp,
        rank: u32,
        stream: Stream,
        bytes: &[u8],
    ) -> io::Result<()> {
        let mut record = Vec::with_capacity(HEADER + bytes.len());
        record.extend_from_slice(&time.as_microsecond().to_le_bytes());
        record.extend_from_slice(&rank.to_le_bytes());
        record.push(if stream == Stream::Out { 1 } else { 2 });
        record.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        record.extend_from_slice(bytes);
        let start = self.0.stream_position()?;
        self.0.write_all(&record).inspect_err(|_| {
            let _ = self.0.set_len(start);
            let _ = self.0.seek(SeekFrom::Start(start));
        })
    }
}

/// Reads a log, again and again as it grows.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
}

impl Reader {
    /// Opens a log.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufReader::with_capacity(64 * 1024, File::open(path)?),
        })
    }

    /// Reads the next whole record; `None` when there is none yet.
    ///
    /// # Errors
    /// The kernel's; `InvalidData` when this is no log.
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        let start = self.file.stream_position()?;
        match self.read_record() {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                self.file.seek(SeekFrom::Start(start))?;
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn read_record(&mut self) -> io::Result<Record> {
        let mut head = [0; HEADER];
        self.file.read_exact(&mut head)?;
        let number = |from: usize| {
            u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]])
        };
        let mut micros = [0; 8];
        micros.copy_from_slice(&head[..8]);
        let time = Timestamp::from_microsecond(i64::from_le_bytes(micros));
        let time = time.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let stream = match head[12] {
            1 => Stream::Out,
            2 => Stream::Err,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let mut bytes = Vec::new();
        let length = u64::from(number(13));
        if (&mut self.file).take(length).read_to_end(&mut bytes)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Record {
            time,
            rank: number(8),
            stream,
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_cut_off_is_the_end_until_it_is_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log");
        let time = Timestamp::from_microsecond(1_700_000_000_000_000).expect("a time");
        let mut writer = Writer::create(&path).expect("made");
        writer
            .append(time, 3, Stream::Err, b"one\n")
            .expect("written");
        let whole = std::fs::read(&path).expect("read");
        std::fs::write(&path, [&whole[..], &whole[..10]].concat()).expect("cut");
        let mut reader = Reader::open(&path).expect("opened");
        let record = Record {
            time,
            rank: 3,
            stream: Stream::Err,
            bytes: b"one\n".to_vec(),
        };
        assert_eq!(reader.next_record().expect("read"), Some(record.clone()));
        assert_eq!(reader.next_record().expect("read"), None);
        std::fs::write(&path, [&whole[..], &whole[..]].concat()).expect("completed");
        assert_eq!(reader.next_record().expect("read"), Some(record));
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log");
        std::fs::write(&path, [0xff; 64]).expect("written");
        let error = Reader::open(&path)
            .expect("opened")
            .next_record()
            .expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
