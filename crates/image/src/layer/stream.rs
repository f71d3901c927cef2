//! A layer's archive, decompressed and checked while it is read.
//!
//! One thread reads, hashes the blob and decompresses, one hashes the archive,
//! and the caller unpacks: on two processors that takes hardly longer than the
//! slowest of them alone.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{LayerError, Limits};
use crate::digest::{Digest, Hasher};

/// Bytes that are decompressed at a time.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait for a reader.
const AHEAD: usize = 16;

type Chunk = io::Result<Arc<Vec<u8>>>;

/// A layer's archive that is being decompressed in the background.
#[derive(Debug)]
pub struct LayerStream {
    chunks: Option<Receiver<Chunk>>,
    current: Arc<Vec<u8>>,
    at: usize,
    read: u64,
    limit: u64,
    decompress: Option<JoinHandle<Hasher>>,
    hash: Option<JoinHandle<Hasher>>,
}

/// The digests of a layer that was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerDigests {
    /// Digest of the blob.
    pub blob: Digest,
    /// Digest of the archive inside.
    pub diff_id: Digest,
    /// Bytes of the archive.
    pub size: u64,
}

impl LayerStream {
    /// Starts to read a blob: gzip, zstd or plain, as its first bytes say.
    ///
    /// # Errors
    /// [`LayerError::Read`] when no thread can be started.
    pub fn new(blob: File, limits: &Limits) -> Result<Self, LayerError> {
        let (to_reader, chunks) = sync_channel(AHEAD);
        let (to_hash, hashed) = sync_channel::<Arc<Vec<u8>>>(AHEAD);
        let spawn = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let hash = spawn("layer-hash").spawn(move || {
            let mut hasher = Hasher::new();
            for chunk in hashed {
                hasher.update(&chunk);
            }
            hasher
        });
        let decompress = spawn("layer-read").spawn(move || {
            let mut source = Hashing {
                file: blob,
                hasher: Hasher::new(),
            };
            if let Err(e) = decompress(&mut source, &to_reader, &to_hash) {
                let _ = to_reader.send(Err(e));
            }
            source.hasher
        });
        Ok(Self {
            chunks: Some(chunks),
            current: Arc::default(),
            at: 0,
            read: 0,
            limit: limits.bytes,
            decompress: Some(decompress.map_err(LayerError::Read)?),
            hash: Some(hash.map_err(LayerError::Read)?),
        })
    }

    /// Reads the rest and gives the digests of all.
    ///
    /// # Errors
    /// [`LayerError::Read`].
    pub fn finish(mut self) -> Result<LayerDigests, LayerError> {
        while let n @ 1.. = self.fill_buf().map_err(LayerError::Read)?.len() {
            self.consume(n);
        }
        let join = |thread: Option<JoinHandle<Hasher>>| {
            let hasher = thread.and_then(|thread| thread.join().ok());
            hasher.ok_or_else(|| LayerError::Read(io::Error::other("a reading thread died")))
        };
        let blob = join(self.decompress.take())?;
        let archive = join(self.hash.take())?;
        let size = archive.len();
        Ok(LayerDigests {
            blob: blob.finish(),
            diff_id: archive.finish(),
            size,
        })
    }
}

impl Drop for LayerStream {
    fn drop(&mut self) {
        // A closed channel ends the threads; they must not outlive the lock on the layer.
        self.chunks = None;
        for thread in [self.decompress.take(), self.hash.take()] {
            let _ = thread.map(JoinHandle::join);
        }
    }
}

impl BufRead for LayerStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.current.len() {
            let Some(Ok(chunk)) = self.chunks.as_ref().map(Receiver::recv) else {
                self.chunks = None;
                return Ok(&[]);
            };
            self.current = chunk?;
            self.at = 0;
            self.read = self.read.saturating_add(self.current.len() as u64);
            if self.read > self.limit {
                self.at = self.current.len();
                let limit = self.limit;
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("it unpacks to more than the {limit} bytes that are allowed"),
                ));
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for LayerStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let n = from.len().min(out.len());
        out[..n].copy_from_slice(&from[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Hashes what is read through it.
struct Hashing {
    file: File,
    hasher: Hasher,
}

impl Read for Hashing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(out)?;
        self.hasher.update(&out[..n]);
        Ok(n)
    }
}

fn decompress(
    source: &mut Hashing,
    to_reader: &SyncSender<Chunk>,
    to_hash: &SyncSender<Arc<Vec<u8>>>,
) -> io::Result<()> {
    let mut input = io::BufReader::with_capacity(CHUNK, source);
    let first = input.fill_buf()?;
    if first.starts_with(&[0x1f, 0x8b]) {
        pump(
            flate2::bufread::MultiGzDecoder::new(&mut input),
            to_reader,
            to_hash,
        )?;
    } else if first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable(first) {
        let decoder = zstd::stream::read::Decoder::with_buffer(&mut input)?;
        pump(decoder, to_reader, to_hash)?;
    } else {
        pump(&mut input, to_reader, to_hash)?;
    }
    // The blob's digest is that of all its bytes.
    io::copy(&mut input, &mut io::sink()).map(drop)
}

/// Says whether this is zstd's skippable frame, which some writers put first.
fn is_skippable(first: &[u8]) -> bool {
    matches!(first, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

fn pump(
    mut from: impl Read,
    to_reader: &SyncSender<Chunk>,
    to_hash: &SyncSender<Arc<Vec<u8>>>,
) -> io::Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let n = from.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        if n == 0 {
            return Ok(());
        }
        let chunk = Arc::new(chunk);
        let hash = to_hash.send(Arc::clone(&chunk));
        if hash.is_err() || to_reader.send(Ok(chunk)).is_err() {
            return Ok(());
        }
    }
}
