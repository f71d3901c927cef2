//! What a job wrote, with times, ranks and streams.
//!
//! A record is 8 bytes of time (microseconds since 1970), 4 of rank, 1 of
//! stream, 4 of length (all little-endian), and the bytes. A record that was
//! cut off by a crash is the end of the log.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

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

/// Appends to a log, which is made with its first record.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: Option<File>,
}

impl Writer {
    /// Names the log; nothing is made yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None }
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
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(private_file(&self.path)?),
        };
        let start = file.stream_position()?;
        file.write_all(&record).inspect_err(|_| {
            let _ = file.set_len(start);
            let _ = file.seek(SeekFrom::Start(start));
        })
    }
}

/// Reads a log, again and again as it grows. One that is not there is empty.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: Option<BufReader<File>>,
}

impl Reader {
    /// Names the log; nothing is read yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Reads the next whole record; `None` when there is none yet.
    ///
    /// # Errors
    /// The kernel's; `InvalidData` when this is no log.
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        let file = match &mut self.file {
            Some(file) => file,
            none => match File::open(&self.path) {
                Ok(file) => none.insert(BufReader::with_capacity(64 * 1024, file)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(e),
            },
        };
        let start = file.stream_position()?;
        match Record::read(file) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                file.seek(SeekFrom::Start(start))?;
                Ok(None)
            }
            other => other.map(Some),
        }
    }
}

impl Record {
    fn read(file: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; HEADER];
        file.read_exact(&mut head)?;
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
        if file.take(length).read_to_end(&mut bytes)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self {
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
        let mut writer = Writer::new(path.clone());
        writer
            .append(time, 3, Stream::Err, b"one\n")
            .expect("written");
        let whole = std::fs::read(&path).expect("read");
        std::fs::write(&path, [&whole[..], &whole[..10]].concat()).expect("cut");
        let mut reader = Reader::new(path.clone());
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
        let error = Reader::new(path).next_record().expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
