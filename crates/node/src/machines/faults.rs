//! What went wrong with the disks of a machine that runs, as QEMU tells it: the
//! keeper writes it down, for a guest may keep it to itself.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use hyperion_isolation::vm::machine::target_of;
use hyperion_isolation::vm::plain;
use hyperion_isolation::vm::qmp::Event;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The file, in the machine's folder.
pub(super) const FILE: &str = "faults.json";
/// How often it is written at most: a disk that fails does so often.
const EVERY: Duration = Duration::from_secs(1);
/// How many there are at most: more than a machine has disks, three times.
const MOST: usize = 256;

/// What was done with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// It could not be read.
    Read,
    /// It could not be written.
    Write,
    /// Its file is no image any more.
    Damaged,
}

/// Something that went wrong with a disk, once or more often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The disk's target.
    pub target: String,
    /// What was done.
    pub kind: FaultKind,
    /// There was no room on the host.
    pub full: bool,
    /// Why, in QEMU's words, the last time.
    pub why: String,
    /// How often.
    pub times: u64,
    /// The last time.
    pub last: Timestamp,
}

/// All of a machine, since its start.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Vec<Fault>,
    written: Option<Instant>,
    unwritten: bool,
}

impl Faults {
    /// Takes an event, if it is about a disk.
    pub(super) fn hear(&mut self, event: &Event, now: Timestamp) {
        let word = |key: &str| event.data[key].as_str().unwrap_or_default();
        let (kind, why) = match (event.name.as_str(), word("operation")) {
            ("BLOCK_IO_ERROR", "write") => (FaultKind::Write, word("reason")),
            ("BLOCK_IO_ERROR", _) => (FaultKind::Read, word("reason")),
            ("BLOCK_IMAGE_CORRUPTED", _) => (FaultKind::Damaged, word("msg")),
            _ => return,
        };
        let node = plain(word("node-name"));
        let target = target_of(&node).unwrap_or(&node);
        let same = |fault: &Fault| fault.target == target && fault.kind == kind;
        let number = match self.list.iter().position(same) {
            Some(number) => number,
            None if self.list.len() >= MOST => return,
            None => {
                // The first of its kind is told at once.
                self.written = None;
                self.list.push(Fault {
                    target: target.to_owned(),
                    kind,
                    full: false,
                    why: String::new(),
                    times: 0,
                    last: now,
                });
                self.list.len() - 1
            }
        };
        let at = &mut self.list[number];
        at.full = event.is_of_full_disk();
        at.why = plain(why);
        at.times = at.times.saturating_add(1);
        at.last = now;
        self.unwritten = true;
    }

    /// Writes down what is new, if that is due; gives how long there is time for the
    /// next look, at most `limit`.
    pub(super) fn write(&mut self, folder: &Path, limit: Duration) -> Duration {
        if !self.unwritten {
            return limit;
        }
        if let Some(since) = self.written.map(|written| written.elapsed())
            && since < EVERY
        {
            return EVERY.saturating_sub(since);
        }
        self.write_now(folder);
        limit
    }

    /// Writes down what is new.
    pub(super) fn write_now(&mut self, folder: &Path) {
        if self.unwritten {
            self.unwritten = false;
            self.written = Some(Instant::now());
            // In one step: others read it. A full disk of the host may be the fault itself.
            let draft = folder.join(".faults.json");
            let write = || -> io::Result<()> {
                super::keeper::write(folder, ".faults.json", &self.list)?;
                std::fs::rename(&draft, folder.join(FILE))
            };
            if write().is_err() {
                let _ = std::fs::remove_file(&draft);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hyperion_isolation::vm::qmp::Timestamp as At;
    use serde_json::json;

    use super::*;

    fn event(name: &str, data: serde_json::Value) -> Event {
        let time = At {
            seconds: 1,
            microseconds: 2,
        };
        Event {
            name: name.into(),
            data,
            time,
        }
    }

    #[test]
    fn faults_of_a_disk_are_counted_and_written_at_once_and_then_now_and_then() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = || -> Vec<Fault> {
            let text = std::fs::read(folder.path().join(FILE)).expect("written");
            serde_json::from_slice(&text).expect("JSON")
        };
        let hour = Duration::from_secs(3600);
        let now = Timestamp::UNIX_EPOCH;
        let mut faults = Faults::default();
        faults.hear(&event("RESUME", json!(null)), now);
        assert_eq!(faults.write(folder.path(), hour), hour);
        assert!(!folder.path().join(FILE).exists());
        let failed = json!({"node-name": "disk-vda", "operation": "read", "action": "report",
            "reason": "Input/output error\u{1b}[2J"});
        faults.hear(&event("BLOCK_IO_ERROR", failed.clone()), now);
        assert_eq!(faults.write(folder.path(), hour), hour);
        let one = read().remove(0);
        assert_eq!((one.target.as_str(), one.kind), ("vda", FaultKind::Read));
        assert_eq!((one.why.as_str(), one.times), ("Input/output error", 1));
        for _ in 0..1000 {
            faults.hear(&event("BLOCK_IO_ERROR", failed.clone()), now);
            assert!(faults.write(folder.path(), hour) <= EVERY);
        }
        let full = json!({"node-name": "disk-vda", "operation": "write", "nospace": true});
        faults.hear(&event("BLOCK_IO_ERROR", full), now);
        faults.write_now(folder.path());
        let both = read();
        assert_eq!((both[0].times, both[1].full), (1001, true));
        for number in 0..2 * MOST {
            let node = json!({"node-name": format!("disk-{number}"), "msg": ""});
            faults.hear(&event("BLOCK_IMAGE_CORRUPTED", node), now);
        }
        faults.write_now(folder.path());
        assert_eq!(read().len(), MOST);
    }
}
