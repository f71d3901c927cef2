//! The history: jobs that have ended and that the server keeps in mind no longer.
//!
//! It lies in a file of its own, so that the journal stays as small as its queue. A job
//! is in here, on the disk, before it is forgotten; while it may be in both, the server's
//! mind counts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyperion_api::queue::Filter;
use hyperion_lifecycle::{Past, Time};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};
use thiserror::Error;

/// Says that a file is a history of ours: `Hyqp`.
const APPLICATION: i64 = 0x4879_7170;
/// The form of the tables.
const FORM: i64 = 1;
/// So many jobs are told at a time.
pub(crate) const PAGE: usize = 1000;

/// How long jobs are kept in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// So long after they have ended.
    pub span: Option<Duration>,
    /// So many, those that ended last.
    pub jobs: Option<u64>,
}

/// Why the history cannot be used.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// Another version wrote it, or it is something else.
    #[error("{} is no history that this version of Hyperion knows", .0.display())]
    Foreign(PathBuf),
    /// A job cannot be written as text, or read from one.
    #[error("a job of the history {} is not understood", path.display())]
    Job {
        /// The file.
        path: PathBuf,
        /// What is not understood.
        source: serde_json::Error,
    },
    /// SQLite's.
    #[error("cannot use the history {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Its error.
        source: rusqlite::Error,
    },
}

/// The history, open.
#[derive(Debug)]
pub(crate) struct History {
    path: PathBuf,
    connection: Connection,
    keep: Keep,
    count: u64,
}

impl History {
    /// Opens the history in a file, or makes it. One that is broken is put aside; says where.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub(crate) fn open(path: &Path, keep: Keep) -> Result<(Self, Option<PathBuf>), HistoryError> {
        match Self::connect(path, keep) {
            Err(HistoryError::Sqlite { source, .. }) if is_broken(&source) => {
                let aside = super::journal::put_aside(path).map_err(|_| HistoryError::Sqlite {
                    path: path.to_owned(),
                    source,
                })?;
                Ok((Self::connect(path, keep)?, Some(aside)))
            }
            opened => Ok((opened?, None)),
        }
    }

    fn connect(path: &Path, keep: Keep) -> Result<Self, HistoryError> {
        let failed = |source| HistoryError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(failed)?;
        let number = |name: &str| -> rusqlite::Result<i64> {
            connection.pragma_query_value(None, name, |row| row.get(0))
        };
        connection
            .pragma_update(None, "locking_mode", "EXCLUSIVE")
            .map_err(failed)?;
        let known = (
            number("application_id").map_err(failed)?,
            number("user_version").map_err(failed)?,
        );
        if known != (0, 0) && known != (APPLICATION, FORM) {
            return Err(HistoryError::Foreign(path.to_owned()));
        }
        let made = format!(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             BEGIN IMMEDIATE;
             PRAGMA application_id = {APPLICATION};
             PRAGMA user_version = {FORM};
             CREATE TABLE IF NOT EXISTS job (
                 number INTEGER PRIMARY KEY,
                 user INTEGER NOT NULL,
                 name TEXT,
                 ended INTEGER NOT NULL,
                 past TEXT NOT NULL
             ) STRICT;
             CREATE INDEX IF NOT EXISTS job_ended ON job (ended);
             CREATE INDEX IF NOT EXISTS job_user ON job (user);
             CREATE INDEX IF NOT EXISTS job_name ON job (name);
             COMMIT;"
        );
        connection.execute_batch(&made).map_err(failed)?;
        let count = "SELECT count(*) FROM job INDEXED BY job_ended";
        let count = connection.query_row(count, [], |row| row.get::<_, i64>(0));
        Ok(Self {
            path: path.to_owned(),
            count: count.map_err(failed)?.cast_unsigned(),
            connection,
            keep,
        })
    }

    /// Writes jobs down, on the disk, and takes away those that are not to be kept longer.
    ///
    /// # Errors
    /// [`HistoryError`]; nothing has changed.
    pub(crate) fn add(&mut self, jobs: &[Past], now: Time) -> Result<(), HistoryError> {
        let mut texts = Vec::with_capacity(jobs.len());
        for job in jobs {
            let text = serde_json::to_string(job).map_err(|source| self.strange(source))?;
            texts.push((job, text));
        }
        let (keep, count) = (self.keep, self.count);
        let mut write = || -> rusqlite::Result<u64> {
            let group = self.connection.transaction()?;
            let mut count = count;
            {
                let known = "SELECT EXISTS (SELECT 1 FROM job WHERE number = ?1)";
                let mut known = group.prepare_cached(known)?;
                let insert = "INSERT OR REPLACE INTO job (number, user, name, ended, past)
                              VALUES (?1, ?2, ?3, ?4, ?5)";
                let mut insert = group.prepare_cached(insert)?;
                for (job, text) in &texts {
                    let asked = &job.asked;
                    let number = asked.job.cast_signed();
                    let again: bool = known.query_row([number], |row| row.get(0))?;
                    count += u64::from(!again);
                    let ended = job.ended().0.cast_signed();
                    let name = asked.submission.name.as_deref();
                    insert.execute(params![number, asked.user, name, ended, text])?;
                }
            }
            if let Some(span) = keep.span {
                let from = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
                let from = now.0.saturating_sub(from).cast_signed();
                count -= group.execute("DELETE FROM job WHERE ended < ?1", [from])? as u64;
            }
            if let Some(many) = keep.jobs.and_then(|most| count.checked_sub(most)) {
                let oldest = "DELETE FROM job WHERE number IN
                              (SELECT number FROM job ORDER BY ended LIMIT ?1)";
                count -= group.execute(oldest, [many.cast_signed()])? as u64;
            }
            group.commit()?;
            Ok(count)
        };
        self.count = write().map_err(|source| self.failed(source))?;
        Ok(())
    }

    /// Gives a job.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub(crate) fn get(&self, number: u64) -> Result<Option<Past>, HistoryError> {
        let find = "SELECT past FROM job WHERE number = ?1";
        let mut find = self.prepare(find)?;
        let found = find.query_row([number.cast_signed()], |row| row.get::<_, String>(0));
        let found = found.optional().map_err(|source| self.failed(source))?;
        found.map(|text| self.read(&text)).transpose()
    }

    /// Gives the numbers of a user's jobs of a name, in which `*` stands for anything.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub(crate) fn named(&self, user: u32, name: &str) -> Result<Vec<u64>, HistoryError> {
        // Nothing but `*` stands for something else.
        let pattern = name.replace('[', "[[]").replace('?', "[?]");
        let find = "SELECT number FROM job WHERE name GLOB ?1 AND user = ?2
                    ORDER BY number DESC LIMIT 1000";
        self.numbers(find, params![pattern, user])
    }

    /// Gives jobs that are wanted, by number, from one on: so many at most; none wanted
    /// where there is an end of them.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub(crate) fn page(&self, filter: &Filter) -> Result<Vec<Past>, HistoryError> {
        let from = filter.from.cast_signed();
        let since = filter.since.map(u64::cast_signed);
        let (user, most) = (filter.user, PAGE as i64);
        let numbers = match (since, user) {
            // The index has the numbers, too: nothing else is read of what is not wanted.
            (Some(since), _) => {
                let find = "SELECT number FROM job INDEXED BY job_ended
                            WHERE ended >= ?1 AND number >= ?2 ORDER BY number LIMIT ?3";
                self.numbers(find, params![since, from, most])?
            }
            (None, Some(user)) => {
                let find = "SELECT number FROM job INDEXED BY job_user
                            WHERE user = ?1 AND number >= ?2 ORDER BY number LIMIT ?3";
                self.numbers(find, params![user, from, most])?
            }
            (None, None) => {
                let find = "SELECT number FROM job WHERE number >= ?1 ORDER BY number LIMIT ?2";
                self.numbers(find, params![from, most])?
            }
        };
        let jobs = numbers.into_iter().map(|number| self.get(number));
        jobs.filter_map(Result::transpose).collect()
    }

    fn numbers(&self, find: &str, with: impl rusqlite::Params) -> Result<Vec<u64>, HistoryError> {
        let mut find = self.prepare(find)?;
        let rows = find.query_map(with, |row| row.get::<_, i64>(0));
        let numbers: rusqlite::Result<Vec<i64>> = rows.and_then(Iterator::collect);
        let numbers = numbers.map_err(|source| self.failed(source))?;
        Ok(numbers.into_iter().map(i64::cast_unsigned).collect())
    }

    fn prepare(&self, text: &str) -> Result<rusqlite::CachedStatement<'_>, HistoryError> {
        let prepared = self.connection.prepare_cached(text);
        prepared.map_err(|source| self.failed(source))
    }

    fn read(&self, text: &str) -> Result<Past, HistoryError> {
        serde_json::from_str(text).map_err(|source| self.strange(source))
    }

    fn failed(&self, source: rusqlite::Error) -> HistoryError {
        HistoryError::Sqlite {
            path: self.path.clone(),
            source,
        }
    }

    fn strange(&self, source: serde_json::Error) -> HistoryError {
        HistoryError::Job {
            path: self.path.clone(),
            source,
        }
    }
}

impl HistoryError {
    /// Tells whether the file is not what it was.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self, Self::Sqlite { source, .. } if is_broken(source))
    }
}

fn is_broken(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}
