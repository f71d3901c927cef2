//! What the process beside a job's QEMU hears and asks through its monitor.
//!
//! Nothing is waited for: QEMU is asked when it has spoken, which its main loop
//! does, and so it answers at once. What it says may be a lie, for a guest may
//! have taken it over; none of it leads further than to this machine's end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use hyperion_model::CpuSet;
use rustix::process::Pid;
use serde_json::json;

use super::end::plain;
use super::qemu::PORT_ID;
use super::qmp::{Event, Qmp, QmpError, RunState};
use super::seats::{self, TieError};
use super::{DiskUse, MachineEnd};

/// How long QEMU may take to answer once it has spoken.
const ANSWER: Duration = Duration::from_secs(10);

/// How long between two looks at a machine that is read from memory.
const GLANCE: Duration = Duration::from_millis(2);

/// The way to QEMU's monitor.
pub(super) struct Monitor {
    state: State,
    /// The host's processor for each of the guest's.
    seats: Vec<u32>,
    /// QEMU was told by a signal to end.
    told: bool,
    /// The guest's init has opened its way to the host.
    opened: bool,
}

enum State {
    /// It has not greeted yet.
    New(OwnedFd),
    Talks(Box<Qmp>),
    Gone,
}

impl Monitor {
    pub(super) fn new(socket: OwnedFd, seats: Vec<u32>) -> Self {
        Self {
            state: State::New(socket),
            seats,
            told: false,
            opened: false,
        }
    }

    /// Tells whether the guest's init is up, as far as QEMU has said.
    pub(super) fn has_opened(&self) -> bool {
        self.opened
    }

    /// Tells whether QEMU will never say anything any more.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// Writes down what the machine is, and lets it go on; tells whether that was done.
    pub(super) fn write_down(&mut self, file: OwnedFd) -> bool {
        let State::Talks(qmp) = &mut self.state else {
            return false;
        };
        qmp.write_down(file, ANSWER).is_ok()
    }

    /// Waits until a machine runs that goes on from memory; tells whether it does.
    pub(super) fn sees_it_run(&mut self, limit: Duration) -> bool {
        let State::New(socket) = std::mem::replace(&mut self.state, State::Gone) else {
            return false;
        };
        let until = Instant::now() + limit;
        let Ok(mut qmp) = Qmp::connect(socket, limit) else {
            return false;
        };
        loop {
            match qmp.status() {
                Ok(status) if status.running => break,
                // As it was when it was written down.
                Ok(status) if status.state == RunState::Paused => {
                    if qmp.cont().is_err() {
                        return false;
                    }
                }
                Ok(_) if Instant::now() < until => std::thread::sleep(GLANCE),
                // It is gone when what was written down cannot be read.
                _ => return false,
            }
        }
        qmp.set_limit(ANSWER);
        self.state = State::Talks(Box::new(qmp));
        true
    }

    /// Is readable when QEMU has something to say; `None` when it never will again.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::New(socket) => Some(socket.as_fd()),
            State::Talks(qmp) => Some(qmp.as_fd()),
            State::Gone => None,
        }
    }

    /// Hears what has come; gives why the machine cannot go on, if it cannot.
    pub(super) fn hear(&mut self, qemu: Pid) -> Option<MachineEnd> {
        let heard = match std::mem::replace(&mut self.state, State::Gone) {
            State::New(socket) => Qmp::connect(socket, ANSWER).and_then(|mut qmp| {
                let end = match self.seat(&mut qmp, qemu) {
                    // Events may have come with the answers.
                    None => self.listen(&mut qmp)?,
                    end => end,
                };
                Ok((Box::new(qmp), end))
            }),
            State::Talks(mut qmp) => self.listen(&mut qmp).map(|end| (qmp, end)),
            State::Gone => return None,
        };
        match heard {
            Ok((qmp, end)) => {
                self.state = State::Talks(qmp);
                end
            }
            // On its way out, which is told elsewhere; or lost, and it was to be heard only.
            Err(_) => None,
        }
    }

    /// Lets the guest begin anew; tells whether QEMU was there to be told.
    pub(super) fn begin_anew(&mut self) -> bool {
        let State::Talks(qmp) = &mut self.state else {
            return false;
        };
        // A guest that starts itself anew is to end, otherwise (`-no-reboot`).
        let told = ["reset", "shutdown"].map(|action| json!({ "reboot": action }));
        let [reset, shutdown] = told;
        let begin = || {
            qmp.order("set-action", reset)?;
            qmp.reset()?;
            qmp.order("set-action", shutdown)
        };
        begin().is_ok()
    }

    /// Tells whether QEMU, which is gone, ended because a signal told it to.
    pub(super) fn was_told(&mut self, qemu: Pid) -> bool {
        self.hear(qemu);
        self.told
    }

    /// Ties each of the guest's processors to one of the host's.
    fn seat(&mut self, qmp: &mut Qmp, qemu: Pid) -> Option<MachineEnd> {
        if self.seats.is_empty() {
            return None;
        }
        let seat = |number: u32| {
            let seat = self.seats.get(number as usize);
            seat.map(|&cpu| CpuSet([cpu].into()))
        };
        match seats::tie(qmp, qemu, seat) {
            Ok(()) => None,
            Err(TieError::Unnamed(QmpError::Closed)) => None,
            Err(e) => Some(MachineEnd::Unbound { why: e.to_string() }),
        }
    }

    fn listen(&mut self, qmp: &mut Qmp) -> Result<Option<MachineEnd>, QmpError> {
        while let Some(event) = qmp.next_event(Duration::ZERO)? {
            match event.name.as_str() {
                "SHUTDOWN" => {
                    self.told |= event.data["reason"] == "host-signal";
                    // From here on it must not be asked anything: before QEMU 8.0 it
                    // may then wait for itself.
                    return Err(QmpError::Closed);
                }
                "VSERPORT_CHANGE" => {
                    let port = event.data["id"] == PORT_ID;
                    self.opened |= port && event.data["open"] == true;
                }
                "BLOCK_IO_ERROR" => return Ok(Some(failed_disk(&event))),
                // Nobody stops it but QEMU itself, and nothing would let it go on.
                "STOP" => {
                    let status = qmp.status()?;
                    if !status.running {
                        let state = status.state;
                        return Ok(Some(MachineEnd::Stands { state }));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Says which disk failed, and how.
fn failed_disk(event: &Event) -> MachineEnd {
    let word = |key: &str| event.data[key].as_str().unwrap_or_default();
    let reason = word("reason");
    MachineEnd::Disk {
        disk: DiskUse::of_node(word("node-name")),
        write: word("operation") == "write",
        full: event.is_of_full_disk(),
        why: plain(reason),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// Plays a QEMU that gives these answers, one to each command, and what it says unasked.
    fn monitor(seats: &[u32], said: &'static [&'static str]) -> Monitor {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        thread::spawn(move || {
            let mut say = &theirs;
            let mut commands = BufReader::new(&theirs).lines();
            let version = r#"{"qemu":{"micro":0,"minor":2,"major":7},"package":""}"#;
            let _ = writeln!(
                say,
                r#"{{"QMP":{{"version":{version},"capabilities":[]}}}}"#
            );
            let mut id = 0;
            let mut answer = |value: &str| {
                id += 1;
                commands.next();
                writeln!(&theirs, r#"{{"return":{value},"id":{id}}}"#)
            };
            let _ = answer("{}");
            for line in said {
                let _ = match line.strip_prefix("event ") {
                    Some(event) => {
                        let time = r#""timestamp":{"seconds":1,"microseconds":2}"#;
                        writeln!(say, r#"{{"event":{event},{time}}}"#)
                    }
                    None => answer(line),
                };
            }
        });
        Monitor::new(ours.into(), seats.to_vec())
    }

    fn this() -> Pid {
        rustix::process::getpid()
    }

    /// Hears all that a monitor says.
    fn end(monitor: &mut Monitor) -> Option<MachineEnd> {
        while let Some(fd) = monitor.fd() {
            let mut fds = [rustix::event::PollFd::new(
                &fd,
                rustix::event::PollFlags::IN,
            )];
            rustix::event::poll(&mut fds, None).expect("waited");
            if let Some(end) = monitor.hear(this()) {
                return Some(end);
            }
        }
        None
    }

    #[test]
    fn a_machine_that_stands_still_for_good_is_told() {
        let stop = r#"event "STOP","data":{}"#;
        let broken = [stop, r#"{"running":false,"status":"internal-error"}"#];
        let mut machine = monitor(&[], Box::leak(Box::new(broken)));
        let state = RunState::InternalError;
        assert_eq!(end(&mut machine), Some(MachineEnd::Stands { state }));
        let short = [stop, r#"{"running":true,"status":"running"}"#];
        assert_eq!(end(&mut monitor(&[], Box::leak(Box::new(short)))), None);
    }

    #[test]
    fn a_disk_that_fails_is_told_with_its_use_and_the_reason() {
        let full = r#"event "BLOCK_IO_ERROR","data":{"device":"","node-name":"disk","operation":"write","action":"report","reason":"No space left on device"}"#;
        let lost = r#"event "BLOCK_IO_ERROR","data":{"device":"","node-name":"root","operation":"read","action":"report","reason":"Input/output error\u001b[2J"}"#;
        for (said, told) in [
            (
                full,
                "this host could not write the disk for what the job writes of the virtual \
                 machine: No space left on device",
            ),
            (
                lost,
                "this host could not read the image of the virtual machine: Input/output error",
            ),
        ] {
            let end = end(&mut monitor(&[], Box::leak(Box::new([said])))).expect("an end");
            assert_eq!(end.to_string(), told);
            let is_full = matches!(end, MachineEnd::Disk { full: true, .. });
            assert_eq!(is_full, said == full);
        }
    }

    #[test]
    fn a_guest_begins_anew_and_is_to_end_when_it_does_so_by_itself() {
        let mut machine = monitor(&[], &["{}", "{}", "{}"]);
        assert!(!machine.begin_anew(), "nobody has greeted yet");
        assert_eq!(machine.hear(this()), None);
        assert!(machine.begin_anew());
        let mut machine = monitor(&[], &["{}"]);
        assert_eq!(machine.hear(this()), None);
        assert!(!machine.begin_anew(), "it is gone after the first answer");
    }

    #[test]
    fn it_is_known_who_ended_qemu() {
        let by_signal = r#"event "SHUTDOWN","data":{"guest":false,"reason":"host-signal"}"#;
        let mut machine = monitor(&[], Box::leak(Box::new([by_signal])));
        assert_eq!(end(&mut machine), None);
        assert!(machine.was_told(this()));
        let by_guest = r#"event "SHUTDOWN","data":{"guest":true,"reason":"guest-shutdown"}"#;
        let mut machine = monitor(&[], Box::leak(Box::new([by_guest])));
        assert_eq!(end(&mut machine), None);
        assert!(!machine.was_told(this()));
    }

    #[test]
    fn a_qemu_that_lies_about_its_threads_reaches_nobody_elses() {
        // The first process of this host is none of its threads.
        let lie = r#"[{"cpu-index":0,"thread-id":1}]"#;
        let mut machine = monitor(&[0], Box::leak(Box::new([lie])));
        let end = end(&mut machine);
        assert!(matches!(end, Some(MachineEnd::Unbound { .. })), "{end:?}");
    }
}
