//! The journal: records of what has happened to jobs, in SQLite.
//!
//! Records are written in groups, each group whole or not at all. A group is safe from
//! whatever kills the process when [`Journal::append`] comes back, and from a host that
//! goes down when [`Journal::sync`] does. One process writes a journal at a time.
//!
//! A journal that cannot be read to its end (a broken disk, a file cut short) is put
//! aside as it is, and a new one is made of what came before the first record that is
//! missing or is not what it was, by its sum: what comes after it may rest on it.
//!
//! Records of jobs that are forgotten are taken away now and then, so that a journal is
//! as long as its queue, and not as old ([`Journal::compact`]).

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyperion_lifecycle::{Change, Record, Time};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};
use thiserror::Error;

/// Says that a file is a journal of ours: `Hyqu`.
const APPLICATION: i64 = 0x4879_7175;
/// The form of the tables.
const FORM: i64 = 2;
/// The number of no job: what is written under it is written anew when records are taken away.
const NOBODY: u64 = 0;
/// By so much the log is made longer, in bytes.
const PIECE: usize = 256 << 10;
/// How long another may keep the journal from us: its end takes a moment.
const PATIENCE: Duration = Duration::from_secs(2);

/// What goes wrong with a journal.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another process writes it.
    #[error("the journal {} is in use by another server", .0.display())]
    InUse(PathBuf),
    /// There is no room.
    #[error("there is no room for the journal {}", .0.display())]
    Full(PathBuf),
    /// The file is something else.
    #[error("{} is no journal of Hyperion", .0.display())]
    Foreign(PathBuf),
    /// Another version wrote it.
    #[error("the journal {} is of form {form}, and this version of Hyperion reads form {FORM}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Its form.
        form: i64,
    },
    /// A record is whole, and says what this version does not know.
    #[error("record {number} of the journal {} is not understood: another version of Hyperion wrote it", path.display())]
    Strange {
        /// The file.
        path: PathBuf,
        /// Which record.
        number: i64,
        /// What is not understood.
        source: serde_json::Error,
    },
    /// It has become broken.
    #[error("the journal {} cannot be read: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A record cannot be written as text.
    #[error("cannot write a record of the journal")]
    Record(#[source] serde_json::Error),
    /// The file system's.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// SQLite's.
    #[error("cannot use the journal {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Its error.
        #[source]
        source: rusqlite::Error,
    },
}

/// A journal that is open to be written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    connection: Connection,
    /// Where SQLite writes groups first, once there is one that may not be on the disk.
    unsynced: bool,
    log: Option<File>,
    /// So long is that, in bytes: what SQLite has not written yet is zero.
    room: u64,
    /// Says to other servers that it is in use, as long as it is open.
    _lock: Option<File>,
}

/// A long part of a submission, which records name by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Its SHA-256, in hexadecimal digits.
    pub digest: String,
    /// The text.
    pub bytes: Vec<u8>,
}

impl Text {
    /// Takes a text.
    pub fn new(bytes: Vec<u8>) -> Self {
        use sha2::{Digest as _, Sha256};
        let digest = Sha256::digest(&bytes);
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { digest, bytes }
    }
}

/// A journal that could not be read to its end.
#[derive(Debug)]
pub struct Broken {
    /// Where it lies now, as it was found.
    pub copy: PathBuf,
    /// Why it could not.
    pub why: String,
}

impl Journal {
    /// Opens the journal in a file, or makes it, and reads it: each record is told, in their
    /// order. Says whether it was broken.
    ///
    /// # Errors
    /// [`JournalError`]; a file that is no journal is left as it is.
    pub fn open(
        path: &Path,
        mut tell: impl FnMut(Record),
    ) -> Result<(Self, Option<Broken>), JournalError> {
        let lock = lock(path)?;
        if exists(&marker(path))? {
            // Whoever mended it was killed.
            take_new(path)?;
        }
        remove(&new(path))?;
        let mut told = 0u64;
        let whole = Self::connect(path).and_then(|journal| {
            journal.read(&mut |record| {
                told += 1;
                tell(record);
            })?;
            Ok(journal)
        });
        let why = match whole {
            Ok(mut journal) => {
                journal._lock = Some(lock);
                return Ok((journal, None));
            }
            Err(JournalError::Unreadable { why, .. }) => why,
            Err(JournalError::Sqlite { source, .. }) if is_broken(&source) => source.to_string(),
            Err(e) => return Err(e),
        };
        let copy = mend(path)?;
        let mut journal = Self::connect(path)?;
        journal._lock = Some(lock);
        // The first are told already.
        journal.read(&mut |record| match told {
            0 => tell(record),
            _ => told -= 1,
        })?;
        Ok((journal, Some(Broken { copy, why })))
    }

    /// Writes records behind all others, and texts that they name by digest: all of them,
    /// or none.
    ///
    /// # Errors
    /// [`JournalError::Full`] where there is no room; nothing is written.
    pub fn append(&mut self, records: &[Record], texts: &[Text]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let lines: Result<Vec<Line>, _> = records.iter().map(Line::of).collect();
        let lines = lines.map_err(JournalError::Record)?;
        let group = &self.connection;
        let written = in_group(group, || {
            keep(group, texts)?;
            lines
                .iter()
                .try_for_each(|line| line.insert(group, "record"))
        });
        written.map_err(|source| self.failed(source))?;
        self.unsynced = true;
        Ok(())
    }

    /// Reads a text that records name; `None` where there is none that is what it was.
    ///
    /// # Errors
    /// [`JournalError::Sqlite`].
    pub fn text(&self, digest: &str) -> Result<Option<Vec<u8>>, JournalError> {
        let mut find = self
            .connection
            .prepare_cached("SELECT bytes FROM text WHERE digest = ?1")
            .map_err(|source| self.failed(source))?;
        let found = find.query_row([digest], |row| row.get(0)).optional();
        let found = found.map_err(|source| self.failed(source))?.map(Text::new);
        Ok(found
            .filter(|text| text.digest == digest)
            .map(|text| text.bytes))
    }

    /// Tells whether something was written that may not be on the disk.
    pub fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Sees to it that all that was written is on the disk.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn sync(&mut self) -> Result<(), JournalError> {
        if !self.unsynced {
            return Ok(());
        }
        let [_, log] = sidecars(&self.path);
        let failed = |e| io_failed("sync", &log, e);
        let file = match self.log.take() {
            Some(file) => file,
            None => File::options().write(true).open(&log).map_err(failed)?,
        };
        let length = file.metadata().map_err(failed)?.len();
        // To write down each time how long it has become takes longer than what it holds. SQLite
        // reads a log up to the first page that is not of it. Where there is no room, it grows.
        if length > self.room && file.write_all_at(&[0; PIECE], length).is_ok() {
            self.room = length + PIECE as u64;
        }
        file.sync_data().map_err(failed)?;
        self.log = Some(file);
        self.unsynced = false;
        Ok(())
    }

    /// Takes away the records of jobs that are not known any more, and all texts but these;
    /// writes what is left of those records behind the others.
    ///
    /// # Errors
    /// As [`Journal::append`]; nothing is taken away.
    pub fn compact(
        &mut self,
        known: impl Fn(u64) -> bool,
        texts: &BTreeSet<&str>,
        carried: &Record,
    ) -> Result<(), JournalError> {
        let carried = Line::of(carried).map_err(JournalError::Record)?;
        let group = &self.connection;
        let written = in_group(group, || {
            group.execute_batch(&format!("CREATE TABLE kept {RECORD}"))?;
            {
                let mut all =
                    group.prepare("SELECT at, job, change FROM record ORDER BY number")?;
                let mut rows = all.query([])?;
                while let Some(row) = rows.next()? {
                    let job: Option<i64> = row.get(1)?;
                    let is_known = |job: u64| job != NOBODY && known(job);
                    if job.is_none_or(|job| is_known(job.cast_unsigned())) {
                        let (at, change) = (row.get(0)?, row.get(2)?);
                        Line { at, job, change }.insert(group, "kept")?;
                    }
                }
                carried.insert(group, "kept")?;
                let mut all = group.prepare("SELECT digest FROM text")?;
                let digests = all.query_map([], |row| row.get::<_, String>(0))?;
                let digests: rusqlite::Result<Vec<String>> = digests.collect();
                let mut drop = group.prepare("DELETE FROM text WHERE digest = ?1")?;
                for digest in digests? {
                    if !texts.contains(digest.as_str()) {
                        drop.execute([digest])?;
                    }
                }
            }
            group.execute_batch("DROP TABLE record; ALTER TABLE kept RENAME TO record")
        });
        written.map_err(|source| self.failed(source))?;
        self.unsynced = true;
        Ok(())
    }

    /// Tells all records, in their order, as they are on the disk.
    ///
    /// # Errors
    /// [`JournalError::Unreadable`] where it is broken; [`JournalError::Strange`].
    pub fn read(&self, tell: &mut dyn FnMut(Record)) -> Result<(), JournalError> {
        let torn = |why| JournalError::Unreadable {
            path: self.path.clone(),
            why,
        };
        // A file that was cut short may still give what is left of it.
        let sound: rusqlite::Result<String> =
            self.connection
                .query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        match sound {
            Ok(sound) if sound == "ok" => {}
            Ok(why) => return Err(torn(why)),
            Err(e) => return Err(torn(e.to_string())),
        }
        let mut number = 0;
        let mut strange = None;
        let why = whole_lines(&self.connection, |line| {
            number += 1;
            match serde_json::from_str(&line.change) {
                Ok(change) if strange.is_none() => tell(Record {
                    at: Time(line.at.cast_unsigned()),
                    change,
                }),
                Ok(_) => {}
                Err(source) => strange = strange.take().or(Some((number, source))),
            }
        });
        match (why, strange) {
            (Some(why), _) => Err(torn(why)),
            (None, None) => Ok(()),
            (None, Some((number, source))) => Err(JournalError::Strange {
                path: self.path.clone(),
                number,
                source,
            }),
        }
    }

    fn connect(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| failed(path, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        let journal = Self {
            path: path.to_owned(),
            connection,
            unsynced: false,
            log: None,
            room: 0,
            _lock: None,
        };
        journal.prepare()?;
        Ok(journal)
    }

    fn prepare(&self) -> Result<(), JournalError> {
        let failed = |source| self.failed(source);
        let connection = &self.connection;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        // Nobody else reads or writes it, also between two groups.
        connection
            .pragma_update(None, "locking_mode", "EXCLUSIVE")
            .map_err(failed)?;
        let number = |name: &str| -> Result<i64, JournalError> {
            let read = connection.pragma_query_value(None, name, |row| row.get(0));
            read.map_err(failed)
        };
        let (application, form) = (number("application_id")?, number("user_version")?);
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(failed)?;
        match (application, form, tables) {
            (APPLICATION, FORM, _) | (0, 0, 0) => {}
            (APPLICATION, form, _) => {
                let path = self.path.clone();
                return Err(JournalError::Form { path, form });
            }
            _ => return Err(JournalError::Foreign(self.path.clone())),
        }
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(failed)?;
        // A group is put on the disk when that is asked for; what goes from the log into
        // the file itself is on the disk in any case.
        connection
            .pragma_update(None, "synchronous", "NORMAL")
            .map_err(failed)?;
        if tables == 0 {
            let made = format!(
                "BEGIN IMMEDIATE;
                 PRAGMA application_id = {APPLICATION};
                 PRAGMA user_version = {FORM};
                 CREATE TABLE record {RECORD};
                 COMMIT;"
            );
            connection.execute_batch(&made).map_err(failed)?;
        }
        let texts = "CREATE TABLE IF NOT EXISTS text (
            digest TEXT PRIMARY KEY, bytes BLOB NOT NULL
        ) STRICT, WITHOUT ROWID";
        connection.execute_batch(texts).map_err(failed)
    }

    fn failed(&self, source: rusqlite::Error) -> JournalError {
        failed(&self.path, source)
    }
}

/// Writes all of a group or none of it, by statements that are understood once and kept.
fn in_group(
    connection: &Connection,
    write: impl FnOnce() -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let run = |words| connection.prepare_cached(words)?.execute([]).map(drop);
    run("BEGIN")?;
    let written = write().and_then(|()| run("COMMIT"));
    // Some failures have ended the group by themselves.
    if written.is_err() && !connection.is_autocommit() {
        let _ = run("ROLLBACK");
    }
    written
}

/// The columns of records.
const RECORD: &str = "(
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    job INTEGER,
    change TEXT NOT NULL,
    sum INTEGER NOT NULL
) STRICT";

/// A record as it is written.
struct Line {
    at: i64,
    /// The job that it is about.
    job: Option<i64>,
    change: String,
}

impl Line {
    fn of(record: &Record) -> serde_json::Result<Self> {
        let job = match &record.change {
            Change::Carried(_) => Some(NOBODY),
            change => change.job(),
        };
        Ok(Self {
            at: record.at.0.cast_signed(),
            job: job.map(u64::cast_signed),
            change: serde_json::to_string(&record.change)?,
        })
    }

    fn insert(&self, group: &Connection, table: &str) -> rusqlite::Result<()> {
        let insert = format!("INSERT INTO {table} (at, job, change, sum) VALUES (?1, ?2, ?3, ?4)");
        let mut insert = group.prepare_cached(&insert)?;
        insert.execute(params![self.at, self.job, self.change, self.sum()])?;
        Ok(())
    }

    /// A sum that is another when a byte is: FNV-1a.
    fn sum(&self) -> i64 {
        let numbers = [self.at, self.job.unwrap_or(-1)].map(i64::to_le_bytes);
        let bytes = numbers.as_flattened().iter().chain(self.change.as_bytes());
        let sum = bytes.fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        sum.cast_signed()
    }
}

/// Reads records up to the first that is missing or is not what it was; says why it
/// stopped there.
fn whole_lines(connection: &Connection, mut each: impl FnMut(Line)) -> Option<String> {
    let mut read = || -> Result<(), String> {
        let text = |e: rusqlite::Error| e.to_string();
        let all = "SELECT number, at, job, change, sum FROM record ORDER BY number";
        let mut all = connection.prepare(all).map_err(text)?;
        let mut rows = all.query([]).map_err(text)?;
        let mut before = 0;
        while let Some(row) = rows.next().map_err(text)? {
            let number: i64 = row.get(0).map_err(text)?;
            if number != before + 1 {
                return Err(format!("record {} is missing", before + 1));
            }
            let line = Line {
                at: row.get(1).map_err(text)?,
                job: row.get(2).map_err(text)?,
                change: row.get(3).map_err(text)?,
            };
            let sum: i64 = row.get(4).map_err(text)?;
            if sum != line.sum() {
                return Err(format!("record {number} is not what it was"));
            }
            each(line);
            before = number;
        }
        Ok(())
    };
    read().err()
}

/// Puts a file of SQLite's aside, with what lies beside it; gives where it lies.
pub(crate) fn put_aside(path: &Path) -> Result<PathBuf, JournalError> {
    let copy = unused(path);
    copy_all(path, &copy)?;
    remove(path)?;
    Ok(copy)
}

/// Puts a broken journal aside and makes a new one of what can be read; gives where the
/// broken one lies.
fn mend(path: &Path) -> Result<PathBuf, JournalError> {
    let copy = unused(path);
    copy_all(path, &copy)?;
    // Another copy is read, so that this one stays as it was found: to read a
    // journal may change it.
    let read = with_suffix(&copy, ".read");
    copy_all(&copy, &read)?;
    {
        let made = Journal::connect(&new(path))?;
        let group = &made.connection;
        let written = in_group(group, || {
            if let Ok(old) = Connection::open(&read) {
                let mut written = Ok(());
                whole_lines(&old, |line| {
                    if written.is_ok() {
                        written = line.insert(group, "record");
                    }
                });
                written?;
                keep(group, &texts(&old))?;
            }
            Ok(())
        });
        written.map_err(|source| failed(path, source))?;
        // All of it in the one file that is renamed.
        let whole = made
            .connection
            .pragma_update(None, "journal_mode", "DELETE");
        whole.map_err(|source| made.failed(source))?;
    }
    remove(&read)?;
    let marked = File::create(marker(path)).and_then(|file| file.sync_all());
    marked.map_err(|e| io_failed("make", &marker(path), e))?;
    sync_folder(path)?;
    take_new(path)?;
    Ok(copy)
}

/// Writes texts that are not there.
fn keep(group: &Connection, texts: &[Text]) -> rusqlite::Result<()> {
    for text in texts {
        let keep = "INSERT OR IGNORE INTO text (digest, bytes) VALUES (?1, ?2)";
        let mut keep = group.prepare_cached(keep)?;
        keep.execute(params![text.digest, text.bytes])?;
    }
    Ok(())
}

/// Reads all texts that can be read and are what they were.
fn texts(connection: &Connection) -> Vec<Text> {
    let mut texts = Vec::new();
    let Ok(mut all) = connection.prepare("SELECT digest, bytes FROM text") else {
        return texts;
    };
    let Ok(mut rows) = all.query([]) else {
        return texts;
    };
    while let Ok(Some(row)) = rows.next() {
        if let (Ok(digest), Ok(bytes)) = (row.get::<_, String>(0), row.get(1)) {
            let text = Text::new(bytes);
            if text.digest == digest {
                texts.push(text);
            }
        }
    }
    texts
}

/// Tells whether a file cannot be read, as one of SQLite's.
fn is_broken(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::SystemIoFailure)
    )
}

fn failed(path: &Path, source: rusqlite::Error) -> JournalError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => JournalError::InUse(path),
        Some(ErrorCode::DiskFull) => JournalError::Full(path),
        Some(ErrorCode::NotADatabase) => JournalError::Foreign(path),
        _ => JournalError::Sqlite { path, source },
    }
}

fn io_failed(doing: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Gives the files of a journal: itself, and what SQLite keeps beside it.
fn sidecars(path: &Path) -> [PathBuf; 2] {
    [path.to_owned(), with_suffix(path, "-wal")]
}

fn remove(path: &Path) -> Result<(), JournalError> {
    let index = with_suffix(path, "-shm");
    for file in sidecars(path).iter().chain([&index]) {
        match fs::remove_file(file) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_failed("remove", file, e)),
        }
    }
    Ok(())
}

/// Puts the new journal, which is whole, in the place of the broken one. What SQLite
/// kept beside that one would be taken for the new one's, so it goes first; until all
/// is done the marker says so.
fn take_new(path: &Path) -> Result<(), JournalError> {
    let new = new(path);
    if exists(&new)? {
        remove(path)?;
        fs::rename(&new, path).map_err(|e| io_failed("rename the new journal to", path, e))?;
        sync_folder(path)?;
    }
    remove(&marker(path))
}

/// Where a new journal is made.
fn new(path: &Path) -> PathBuf {
    with_suffix(path, ".new")
}

/// What says that the new journal is whole and is to be taken.
fn marker(path: &Path) -> PathBuf {
    with_suffix(path, ".take-new")
}

fn lock(path: &Path) -> Result<File, JournalError> {
    let at = with_suffix(path, ".lock");
    let options = File::options().append(true).create(true).open(&at);
    let file = options.map_err(|e| io_failed("open", &at, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(path.to_owned())),
        Err(TryLockError::Error(e)) => Err(io_failed("lock", &at, e)),
    }
}

fn exists(path: &Path) -> Result<bool, JournalError> {
    path.try_exists()
        .map_err(|e| io_failed("look for", path, e))
}

fn copy_all(from: &Path, to: &Path) -> Result<(), JournalError> {
    for (from, to) in sidecars(from).iter().zip(&sidecars(to)) {
        match fs::copy(from, to) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_failed("copy the broken journal to", to, e)),
        }
    }
    Ok(())
}

/// Writes the names in the folder of a journal to the disk.
fn sync_folder(path: &Path) -> Result<(), JournalError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|e| io_failed("sync", folder, e))
}

/// Gives a name for a broken journal that no other has.
fn unused(path: &Path) -> PathBuf {
    let mut names = (1u32..).map(|number| with_suffix(path, &format!(".broken-{number}")));
    let free = names.find(|name| !name.exists());
    free.unwrap_or_else(|| with_suffix(path, ".broken"))
}
