//! From what was seen to what follows, without looking at anything.

use std::fmt;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The guest has this long. It needs a few milliseconds; the rest is for hosts
/// that are busy.
pub(super) const LIMIT: Duration = Duration::from_secs(2);

/// A processor that spins in the kernel heeds a signal late or not at all: it
/// is waited for so much longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How often is looked whether a guest has ended. A wait with a limit would
/// need a descriptor that kernels before 5.3 do not have.
pub(super) const GLANCE: Duration = Duration::from_millis(1);

/// A guest that takes more times longer than the host for the same loop is
/// emulated. By the processor it takes as long (1.0 to 1.4, nested too); by the
/// emulators that are known, at least 10 times longer.
const SLOWEST: f64 = 5.0;

/// What the guest does, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Step {
    /// Make a machine, memory and a processor.
    Machine = 0,
    /// Run the first instruction.
    Start = 1,
    /// Enter long mode.
    LongMode = 2,
    /// `lock cmpxchg16b` in ring 0.
    Cmpxchg16b = 3,
    /// Go to ring 3 and come back by an interrupt.
    UserMode = 4,
    /// Go to ring 3 and come back by a system call.
    Syscall = 5,
    /// Run a million instructions in ring 0 at the processor's speed.
    Speed = 6,
}

impl Step {
    const ALL: [Self; 7] = [
        Self::Machine,
        Self::Start,
        Self::LongMode,
        Self::Cmpxchg16b,
        Self::UserMode,
        Self::Syscall,
        Self::Speed,
    ];

    /// The step that comes after the first `done`; the last one after all.
    fn after(done: u8) -> Self {
        let next = usize::from(done) + 1;
        *Self::ALL.get(next).unwrap_or(&Self::Speed)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "making a machine",
            Self::Start => "the first instruction",
            Self::LongMode => "entering long mode",
            Self::Cmpxchg16b => "lock cmpxchg16b in ring 0",
            Self::UserMode => "going to ring 3 and coming back by an interrupt",
            Self::Syscall => "going to ring 3 and coming back by a system call",
            Self::Speed => "a million instructions in ring 0",
        })
    }
}

/// Whether KVM can be used, and if not, why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum KvmVerdict {
    /// A guest reached ring 3, came back and ran at the processor's speed.
    Works {
        /// Time of a loop in the guest's ring 0 over that on the host: about 1.
        ratio: f64,
    },
    /// There is no KVM.
    Missing {
        /// What was said when it was opened.
        why: String,
    },
    /// There is KVM, but not for this user.
    Denied {
        /// What was said when it was opened.
        why: String,
    },
    /// There is KVM, and it boots no kernel.
    Broken {
        /// What the guest did not do.
        step: Step,
        /// What it did instead.
        why: String,
    },
    /// Nothing is known: no guest was tried.
    Untried {
        /// Why not.
        why: String,
    },
}

impl KvmVerdict {
    /// Tells whether machines can run by KVM.
    pub fn works(&self) -> bool {
        matches!(self, Self::Works { .. })
    }
}

impl fmt::Display for KvmVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works { ratio } => write!(
                f,
                "a guest reached ring 3 and came back; its ring 0 takes {ratio:.2} times the host's time"
            ),
            Self::Missing { why } => write!(f, "no KVM: {why}"),
            Self::Denied { why } => write!(f, "KVM is not for this user: {why}"),
            Self::Broken { step, why } => write!(f, "a guest failed at {step}: {why}"),
            Self::Untried { why } => write!(f, "no guest was tried: {why}"),
        }
    }
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Evidence {
    /// `/dev/kvm` did not open: an errno.
    NotOpened(i32),
    /// No child could be started: an errno.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "there is no guest")
    )]
    NotTried(i32),
    /// There is no guest for this architecture.
    #[cfg_attr(target_arch = "x86_64", expect(dead_code, reason = "there is a guest"))]
    NoGuest,
    /// A guest was started.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "there is no guest")
    )]
    Tried(Trial),
}

/// How a guest fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trial {
    /// The number of the last step that it said it had done; a hostile guest says anything.
    pub(super) done: u8,
    /// How it ended.
    pub(super) end: End,
    /// The best time of the loop on the host.
    pub(super) native: Option<Duration>,
    /// The best time of the loop in the guest.
    pub(super) guest: Option<Duration>,
}

/// How a guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It said that it was through.
    Done,
    /// A call of the host's was refused.
    Refused {
        /// Which one, by its name in the kernel.
        call: &'static str,
        /// An errno.
        errno: i32,
    },
    /// The processor stopped for a reason of `linux/kvm.h`, with one number to it.
    Exit { reason: u32, detail: u64 },
    /// Its time was over.
    TooSlow,
    /// Its time was over, and it did not end when it was killed.
    Unkillable { pid: u32 },
    /// The process that ran it was killed.
    Killed { signal: i32 },
}

/// Judges what was seen.
pub(super) fn decide(evidence: &Evidence) -> KvmVerdict {
    match evidence {
        Evidence::NotOpened(errno) => {
            let why = format!("/dev/kvm: {}", message(*errno));
            match *errno {
                libc::EACCES | libc::EPERM => KvmVerdict::Denied { why },
                _ => KvmVerdict::Missing { why },
            }
        }
        Evidence::NotTried(errno) => KvmVerdict::Untried {
            why: message(*errno),
        },
        Evidence::NoGuest => KvmVerdict::Untried {
            why: "there is none for this architecture".to_owned(),
        },
        Evidence::Tried(trial) => judge(trial),
    }
}

fn judge(trial: &Trial) -> KvmVerdict {
    let broken = |step, why| KvmVerdict::Broken { step, why };
    let failed = Step::after(trial.done);
    let (ran, limit) = (failed > Step::Start, LIMIT.as_secs());
    match trial.end {
        End::Done => match (trial.guest, trial.native) {
            (Some(guest), Some(native)) if trial.done == Step::Speed as u8 => {
                let ratio = guest.as_secs_f64() / native.as_secs_f64().max(1e-9);
                if ratio <= SLOWEST {
                    return KvmVerdict::Works { ratio };
                }
                let why = format!("they took {ratio:.0} times the host's time: it is emulated");
                broken(Step::Speed, why)
            }
            _ => broken(failed, "the guest left steps out".to_owned()),
        },
        End::Refused { call, errno } if ran || call == "KVM_RUN" => {
            broken(failed, format!("{call}: {}", message(errno)))
        }
        End::Refused { call, errno } => {
            broken(Step::Machine, format!("{call}: {}", message(errno)))
        }
        End::Exit { reason, detail } => broken(failed, exit(reason, detail)),
        End::TooSlow => broken(failed, format!("not done within {limit} s")),
        End::Unkillable { pid } => broken(
            failed,
            format!("not done within {limit} s, and process {pid} does not end when it is killed"),
        ),
        // Somebody's doing, or want of memory, and not KVM's.
        End::Killed { signal } => KvmVerdict::Untried {
            why: format!("its process was ended by signal {signal}"),
        },
    }
}

fn message(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_owned()
}

/// Puts reasons of `linux/kvm.h` in words.
fn exit(reason: u32, detail: u64) -> String {
    match reason {
        2 => format!("output to an unknown port ({detail:#x})"),
        5 => "the processor was halted".to_owned(),
        6 => format!("memory that is not there was touched ({detail:#x})"),
        8 => "the processor was reset (triple fault)".to_owned(),
        9 => format!("the processor refused to enter the guest (reason {detail:#x})"),
        17 if detail == 1 => "KVM cannot emulate an instruction".to_owned(),
        17 => format!("an internal error of KVM (suberror {detail})"),
        reason => format!("the processor stopped for reason {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trial(done: u8, end: End) -> Trial {
        Trial {
            done,
            end,
            native: Some(Duration::from_micros(200)),
            guest: None,
        }
    }

    fn broken(trial: Trial) -> (Step, String) {
        match decide(&Evidence::Tried(trial)) {
            KvmVerdict::Broken { step, why } => (step, why),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_a_guest_that_did_all_at_the_hosts_speed_works() {
        let at = |micros| Trial {
            guest: Some(Duration::from_micros(micros)),
            ..trial(6, End::Done)
        };
        let verdict = decide(&Evidence::Tried(at(210)));
        assert!(verdict.works(), "{verdict:?}");
        assert!(verdict.to_string().contains("1.05 times"), "{verdict}");
        let (step, why) = broken(at(200_000));
        assert_eq!(step, Step::Speed);
        assert!(
            why.contains("1000 times") && why.contains("emulated"),
            "{why}"
        );
        assert_eq!(
            broken(trial(6, End::Done)).0,
            Step::Speed,
            "no time was taken"
        );
        let forged = Trial { done: 5, ..at(200) };
        assert_eq!(broken(forged).1, "the guest left steps out");
    }

    #[test]
    fn the_step_after_the_last_one_done_is_the_one_that_failed() {
        let table = [
            (0, Step::Start),
            (1, Step::LongMode),
            (2, Step::Cmpxchg16b),
            (3, Step::UserMode),
            (4, Step::Syscall),
            (5, Step::Speed),
            (255, Step::Speed),
        ];
        for (done, step) in table {
            assert_eq!(broken(trial(done, End::TooSlow)).0, step, "{done}");
        }
    }

    #[test]
    fn what_is_refused_before_the_first_instruction_is_a_machine_that_is_not_made() {
        let end = |call, errno| End::Refused { call, errno };
        let (step, why) = broken(trial(0, end("KVM_CREATE_VM", libc::EBUSY)));
        assert_eq!(step, Step::Machine);
        assert_eq!(why, "KVM_CREATE_VM: Device or resource busy");
        let (step, _) = broken(trial(0, end("KVM_RUN", libc::EFAULT)));
        assert_eq!(step, Step::Start);
        let (step, _) = broken(trial(2, end("KVM_RUN", libc::EFAULT)));
        assert_eq!(step, Step::Cmpxchg16b);
    }

    #[test]
    fn a_device_is_missing_or_denied_by_what_the_kernel_says() {
        let of = |errno| decide(&Evidence::NotOpened(errno));
        for errno in [libc::EACCES, libc::EPERM] {
            assert!(matches!(of(errno), KvmVerdict::Denied { .. }));
        }
        for errno in [libc::ENOENT, libc::ENODEV, libc::ENXIO, libc::EMFILE] {
            assert!(matches!(of(errno), KvmVerdict::Missing { .. }));
        }
        assert_eq!(
            of(libc::ENOENT).to_string(),
            "no KVM: /dev/kvm: No such file or directory"
        );
    }

    #[test]
    fn every_way_to_end_has_words() {
        let table = [
            (
                End::Exit {
                    reason: 8,
                    detail: 0,
                },
                "triple fault",
            ),
            (
                End::Exit {
                    reason: 17,
                    detail: 1,
                },
                "cannot emulate",
            ),
            (
                End::Exit {
                    reason: 17,
                    detail: 3,
                },
                "suberror 3",
            ),
            (
                End::Exit {
                    reason: 99,
                    detail: 0,
                },
                "reason 99",
            ),
            (End::TooSlow, "within 2 s"),
            (End::Unkillable { pid: 7 }, "process 7"),
        ];
        for (end, words) in table {
            let (_, why) = broken(trial(2, end));
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn a_guest_that_somebody_killed_says_nothing() {
        let verdict = decide(&Evidence::Tried(trial(2, End::Killed { signal: 9 })));
        assert!(
            matches!(&verdict, KvmVerdict::Untried { why } if why.contains("signal 9")),
            "{verdict:?}"
        );
    }

    proptest! {
        #[test]
        fn no_guest_that_says_less_than_all_works(done in 0u8..6, guest in any::<Option<u32>>()) {
            let guest = guest.map(|n| Duration::from_nanos(n.into()));
            let seen = Trial { guest, ..trial(done, End::Done) };
            prop_assert!(!decide(&Evidence::Tried(seen)).works());
        }
    }
}
