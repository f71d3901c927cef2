//! The commands that are used, with types. Everything else goes by
//! [`Qmp::execute`].

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Qmp, QmpError, Version};

/// How a machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// It runs.
    Running,
    /// It was stopped by a command.
    Paused,
    /// It was started stopped (`-S`).
    Prelaunch,
    /// It has shut down, and QEMU was told to stay.
    Shutdown,
    /// It sleeps (ACPI S3).
    Suspended,
    /// A disk failed or is full; `cont` tries again.
    IoError,
    /// KVM or a device failed.
    InternalError,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// The guest's watchdog bit.
    Watchdog,
    /// A debugger holds it.
    Debug,
    /// It waits for another machine's state.
    Inmigrate,
    /// Its state went to another machine.
    Postmigrate,
    /// Its state is about to be sent.
    FinishMigrate,
    /// A state is being loaded.
    RestoreVm,
    /// Its state is being saved.
    SaveVm,
    /// Another word, of a later QEMU.
    #[serde(other)]
    Other,
}

impl RunState {
    /// Gives QEMU's own word.
    pub fn word(self) -> String {
        let word = serde_json::to_value(self).ok();
        let word = word.as_ref().and_then(Value::as_str);
        word.unwrap_or_default().to_owned()
    }
}

/// What `query-status` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// Whether processors run.
    pub running: bool,
    /// Why, or why not.
    #[serde(rename = "status")]
    pub state: RunState,
}

/// What a disk of the guest did since its start.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BlockStats {
    /// Name of the drive, where it has one (`-drive id=`).
    #[serde(default)]
    pub device: String,
    /// Name of the node of the block graph (`-blockdev node-name=`).
    #[serde(rename = "node-name", default)]
    pub node: String,
    /// Path or name of the guest's device.
    #[serde(rename = "qdev", default)]
    pub guest_device: String,
    /// The numbers.
    #[serde(rename = "stats")]
    pub counts: BlockCounts,
}

/// Numbers of [`BlockStats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct BlockCounts {
    /// Bytes read.
    #[serde(rename = "rd_bytes")]
    pub read_bytes: u64,
    /// Bytes written.
    #[serde(rename = "wr_bytes")]
    pub written_bytes: u64,
    /// Reads.
    #[serde(rename = "rd_operations")]
    pub reads: u64,
    /// Writes.
    #[serde(rename = "wr_operations")]
    pub writes: u64,
    /// Flushes.
    #[serde(rename = "flush_operations")]
    pub flushes: u64,
}

/// How the last access to a disk went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IoStatus {
    /// Well.
    Ok,
    /// There was no room on the host.
    Nospace,
    /// It failed in another way.
    #[serde(other)]
    Failed,
}

/// A disk of the guest, as `query-block` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BlockDevice {
    /// How the last access went, since the machine ran the last time.
    #[serde(rename = "io-status", default)]
    pub status: Option<IoStatus>,
    /// Its content.
    #[serde(default)]
    pub inserted: Option<Inserted>,
}

/// A way in or out of the guest, as `query-chardev` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Channel {
    /// Its name (`-chardev id=`).
    pub label: String,
    /// Somebody in the guest has it open.
    #[serde(rename = "frontend-open", default)]
    pub open: bool,
}

/// The content of a [`BlockDevice`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Inserted {
    /// Name of the node of the block graph (`-blockdev node-name=`).
    #[serde(rename = "node-name", default)]
    pub node: String,
}

/// A virtual processor and the thread of the host that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct CpuThread {
    /// Number of the virtual processor, from 0.
    #[serde(rename = "cpu-index")]
    pub index: u32,
    /// Number of the thread in QEMU's process.
    #[serde(rename = "thread-id")]
    pub thread: u32,
}

/// Formats of a picture of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Picture {
    /// Portable network graphics; QEMU 7.1 and later.
    Png,
    /// Portable pixmap.
    Ppm,
}

/// An internal snapshot: all of a machine, inside its qcow2 disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Its name.
    pub tag: String,
    /// Node that takes memory and devices.
    pub vmstate: String,
    /// Nodes of all disks.
    pub devices: Vec<String>,
}

const PNG: Version = Version {
    major: 7,
    minor: 1,
    micro: 0,
};
/// How often a job is asked whether it is done.
const GLANCE: Duration = Duration::from_millis(20);

impl Qmp {
    /// Asks how the machine stands.
    ///
    /// # Errors
    /// [`QmpError`], as all below.
    pub fn status(&mut self) -> Result<Status, QmpError> {
        self.execute("query-status", ())
    }

    /// Stops all processors of the machine.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn stop(&mut self) -> Result<(), QmpError> {
        self.order("stop", ())
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn cont(&mut self) -> Result<(), QmpError> {
        self.order("cont", ())
    }

    /// Presses the power button; what the guest does then is its own affair.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn power_down(&mut self) -> Result<(), QmpError> {
        self.order("system_powerdown", ())
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn reset(&mut self) -> Result<(), QmpError> {
        self.order("system_reset", ())
    }

    /// Ends QEMU. It may be gone before it answers; that is no error.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn quit(&mut self) -> Result<(), QmpError> {
        match self.order("quit", ()) {
            Err(QmpError::Closed) => Ok(()),
            other => other,
        }
    }

    /// Writes a picture of the screen to a file that QEMU opens.
    ///
    /// # Errors
    /// [`QmpError`]; [`QmpError::TooOld`] for PNG before QEMU 7.1.
    pub fn screenshot(&mut self, file: &Path, format: Picture) -> Result<(), QmpError> {
        match format {
            // Older ones do not know the argument.
            Picture::Ppm if self.version() < PNG => {
                self.order("screendump", json!({"filename": file}))
            }
            Picture::Png if self.version() < PNG => Err(QmpError::TooOld {
                what: "take a screenshot as PNG",
                version: self.version(),
                needed: PNG,
            }),
            _ => self.order("screendump", json!({"filename": file, "format": format})),
        }
    }

    /// Asks what the disks did.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn block_stats(&mut self) -> Result<Vec<BlockStats>, QmpError> {
        self.execute("query-blockstats", ())
    }

    /// Asks how the disks stand.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn blocks(&mut self) -> Result<Vec<BlockDevice>, QmpError> {
        self.execute("query-block", ())
    }

    /// Asks which ways into the guest there are, and whether anybody hears there.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn channels(&mut self) -> Result<Vec<Channel>, QmpError> {
        self.execute("query-chardev", ())
    }

    /// Asks which threads run the virtual processors.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn cpus(&mut self) -> Result<Vec<CpuThread>, QmpError> {
        self.execute("query-cpus-fast", ())
    }

    /// Says how much memory the guest is to have, in bytes. It gives back or takes it as it
    /// can: [`Qmp::memory`] tells how far it is.
    ///
    /// # Errors
    /// [`QmpError::Refused`] of a machine whose memory is as it is.
    pub fn set_memory(&mut self, bytes: u64) -> Result<(), QmpError> {
        self.order("balloon", json!({"value": bytes}))
    }

    /// Asks how much memory the guest has, in bytes.
    ///
    /// # Errors
    /// As [`Qmp::set_memory`].
    pub fn memory(&mut self) -> Result<u64, QmpError> {
        #[derive(Deserialize)]
        struct Balloon {
            actual: u64,
        }
        let balloon: Balloon = self.execute("query-balloon", ())?;
        Ok(balloon.actual)
    }

    /// Asks how much memory the guest can have, in bytes.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn most_memory(&mut self) -> Result<u64, QmpError> {
        #[derive(Deserialize)]
        struct Summary {
            #[serde(rename = "base-memory")]
            base: u64,
        }
        let summary: Summary = self.execute("query-memory-size-summary", ())?;
        Ok(summary.base)
    }

    /// Adds virtual processors, as many as there are places left; gives how many.
    ///
    /// # Errors
    /// [`QmpError`]; some may have been added.
    pub fn add_processors(&mut self, count: usize) -> Result<usize, QmpError> {
        /// Where one may be: socket, core and so on, by their names.
        #[derive(Deserialize)]
        struct Place {
            #[serde(rename = "type")]
            driver: String,
            props: BTreeMap<String, u64>,
            #[serde(rename = "qom-path")]
            taken: Option<String>,
        }
        let mut places: Vec<Place> = self.execute("query-hotpluggable-cpus", ())?;
        places.retain(|place| place.taken.is_none());
        let order = |place: &Place| {
            let part = |name: &str| place.props.get(name).copied();
            ["node-id", "socket-id", "die-id", "core-id", "thread-id"].map(part)
        };
        places.sort_by_key(order);
        places.truncate(count);
        for place in &places {
            let mut device = json!({"driver": place.driver});
            for (name, number) in &place.props {
                device[name] = (*number).into();
            }
            self.order("device_add", device)?;
        }
        Ok(places.len())
    }

    /// Gives a disk another size in bytes; the guest sees it at once.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn resize_disk(&mut self, node: &str, size: u64) -> Result<(), QmpError> {
        self.order("block_resize", json!({"node-name": node, "size": size}))
    }

    /// Hands QEMU an open file; gives the set that it has it in, `/dev/fdset/N`.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn lend(&mut self, file: BorrowedFd<'_>) -> Result<u32, QmpError> {
        #[derive(Deserialize)]
        struct Added {
            #[serde(rename = "fdset-id")]
            set: u32,
        }
        self.lent = Some(file.try_clone_to_owned().map_err(QmpError::Io)?);
        let added: Result<Added, _> = self.execute("add-fd", ());
        self.lent = None;
        Ok(added?.set)
    }

    /// Lets QEMU close what it was handed, once nothing uses it.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn take_back(&mut self, set: u32) -> Result<(), QmpError> {
        self.order("remove-fd", json!({"fdset-id": set}))
    }

    /// Adds a node to the graph of disks.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn add_node(&mut self, node: &Value) -> Result<(), QmpError> {
        self.order("blockdev-add", node)
    }

    /// Takes a node that nothing uses out of it.
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn remove_node(&mut self, node: &str) -> Result<(), QmpError> {
        self.order("blockdev-del", json!({"node-name": node}))
    }

    /// Lays the second node of each pair above the first: from this moment the guest
    /// writes to those, in all of them or in none.
    ///
    /// # Errors
    /// [`QmpError`]; nothing is changed where it is [`QmpError::Refused`].
    pub fn raise(&mut self, pairs: &[(String, String)]) -> Result<(), QmpError> {
        let raise = |(below, above): &(String, String)| json!({"type": "blockdev-snapshot", "data": {"node": below, "overlay": above}});
        let actions: Vec<Value> = pairs.iter().map(raise).collect();
        self.order("transaction", json!({"actions": actions}))
    }

    /// Saves all of a machine into its disks; it stands still meanwhile.
    ///
    /// # Errors
    /// [`QmpError`]; [`QmpError::Job`] when it began and failed.
    pub fn save(&mut self, snapshot: &Snapshot, limit: Duration) -> Result<(), QmpError> {
        self.job("snapshot-save", json!(snapshot), limit)
    }

    /// Goes back to a saved state. QEMU leaves the machine stopped if it was.
    ///
    /// # Errors
    /// As [`Qmp::save`].
    pub fn load(&mut self, snapshot: &Snapshot, limit: Duration) -> Result<(), QmpError> {
        self.job("snapshot-load", json!(snapshot), limit)
    }

    /// Throws a saved state away.
    ///
    /// # Errors
    /// As [`Qmp::save`].
    pub fn forget(&mut self, snapshot: &Snapshot, limit: Duration) -> Result<(), QmpError> {
        let Snapshot { tag, devices, .. } = snapshot;
        let arguments = json!({"tag": tag, "devices": devices});
        self.job("snapshot-delete", arguments, limit)
    }

    /// Starts a job that bears the name of its command, so that QEMU refuses a
    /// second one beside it, and waits for its end.
    fn job(
        &mut self,
        command: &str,
        mut arguments: Value,
        limit: Duration,
    ) -> Result<(), QmpError> {
        arguments["job-id"] = command.into();
        self.order(command, arguments)?;
        self.finish(command, limit)
    }

    /// Waits until a job has ended, and takes it off QEMU's list. One that is
    /// late goes on.
    ///
    /// # Errors
    /// [`QmpError`]; [`QmpError::Job`] when it failed.
    pub fn finish(&mut self, job: &str, limit: Duration) -> Result<(), QmpError> {
        #[derive(Deserialize)]
        struct Job {
            id: String,
            status: String,
            error: Option<String>,
        }
        let until = Instant::now() + limit;
        loop {
            let jobs: Vec<Job> = self.execute("query-jobs", ())?;
            let Some(found) = jobs.into_iter().find(|found| found.id == job) else {
                return Err(QmpError::Job {
                    job: job.to_owned(),
                    why: "it is not there".to_owned(),
                });
            };
            if found.status == "concluded" {
                self.order("job-dismiss", json!({"id": job}))?;
                return match found.error {
                    None => Ok(()),
                    Some(why) => Err(QmpError::Job { job: found.id, why }),
                };
            }
            if Instant::now() >= until {
                return Err(super::late(job, limit));
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Writes all that the machine is, but for its disks, to a file, and lets it go on.
    /// Whatever comes of it the machine runs, if QEMU still does as it is told.
    ///
    /// # Errors
    /// [`QmpError`]; [`QmpError::Job`] when it failed.
    pub fn write_down(&mut self, file: OwnedFd, limit: Duration) -> Result<(), QmpError> {
        self.stop()?;
        let written = self.migrate_to(file, limit);
        self.cont()?;
        written
    }

    fn migrate_to(&mut self, file: OwnedFd, limit: Duration) -> Result<(), QmpError> {
        #[derive(Deserialize)]
        struct Migration {
            status: Option<String>,
        }
        const JOB: &str = "migrate";
        self.lent = Some(file);
        let taken = self.order("getfd", json!({"fdname": "memory"}));
        self.lent = None;
        taken?;
        // It goes to a file, not over a network that others need.
        self.order(
            "migrate-set-parameters",
            json!({"max-bandwidth": 1_u64 << 40}),
        )?;
        self.order(JOB, json!({"uri": "fd:memory"}))?;
        let until = Instant::now() + limit;
        loop {
            let found: Migration = self.execute("query-migrate", ())?;
            match found.status.as_deref() {
                Some("completed") => return Ok(()),
                Some(status @ ("failed" | "cancelled")) => {
                    return Err(QmpError::Job {
                        job: JOB.to_owned(),
                        why: status.to_owned(),
                    });
                }
                _ => {}
            }
            if Instant::now() >= until {
                self.order("migrate_cancel", ())?;
                return Err(super::late(JOB, limit));
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Runs a line of QEMU's monitor for people, for what QMP has no command.
    ///
    /// # Errors
    /// [`QmpError`]. What the monitor complains about is in its text.
    pub fn monitor(&mut self, line: &str) -> Result<String, QmpError> {
        self.execute("human-monitor-command", json!({"command-line": line}))
    }
}
