//! Whether KVM boots a guest here, found by booting one.
//!
//! # Why files are no evidence
//! The processor's flag says what the processor could do, `/dev/kvm` that a
//! module is there, `KVM_CREATE_VM` that it answers. There are hosts on which
//! all of that is fine, a guest of two instructions (`out; hlt`) ends well, and
//! yet no kernel boots: a hypervisor above that lets nested guests fail, or a
//! KVM without help from the processor that runs ring 0 by emulation, a few
//! thousand times slower and not whole. So a guest is run that does what each
//! kernel does on its way up, and it has to be done in time.
//!
//! # The guest
//! 64 KiB of memory, one processor, no devices. It starts as a PVH kernel does,
//! in flat 32-bit mode without paging, and takes the [`Step`]s one by one:
//!
//! | step | what it does |
//! |---|---|
//! | `machine` | the host makes a machine, memory and a processor |
//! | `start` | the first instruction |
//! | `long-mode` | PAE, page tables, `EFER.LME`, paging on, far jump to 64-bit code; segments, IDT and TSS of its own |
//! | `cmpxchg16b` | `lock cmpxchg16b` in ring 0: what hypervisors that emulate ring 0 are known to lack |
//! | `user-mode` | `iretq` to ring 3, on pages with the U bit; `lock cmpxchg16b` there; `int 0x20` back to ring 0 by way of the TSS's stack |
//! | `syscall` | `iretq` to ring 3 once more and `syscall` back, by `STAR`, `LSTAR` and `FMASK` |
//! | `speed` | a million instructions in ring 0, five times; the best counts, against the same loop on the host |
//!
//! After each step it writes the step's number into its memory, which the host
//! shares: how far it came is known even of a guest that never comes back.
//!
//! # The host
//! The guest runs in a child process, which is killed when its time is over. A
//! processor that spins in the kernel may not heed that: then it is waited
//! for a while longer, and left to its fate. What was found is kept
//! ([`probe`]), so that it happens once and not at each start; and what was
//! begun is written down first, so that a host which the guest takes down is
//! not taken down at each boot.

mod cache;
#[cfg(target_arch = "x86_64")]
mod guest;
#[cfg(target_arch = "x86_64")]
mod machine;
#[cfg(target_arch = "x86_64")]
mod trial;
mod verdict;

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use verdict::{Evidence, decide};
pub use verdict::{KvmVerdict, Step};

/// What is known of KVM on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct Probed {
    /// What came of it.
    pub verdict: KvmVerdict,
    /// Whether it was found earlier in the life of this host and not just now.
    pub cached: bool,
}

/// Tells whether KVM boots a guest for the calling user. It is tried once for
/// each boot of the host and each `/dev/kvm`, in at most about two
/// seconds (twice that if the guest resists being killed), and
/// the result is kept in the file `probe/kvm.json` of the folder `root`; where
/// that cannot be written it is tried each time.
///
/// Who may open `/dev/kvm` is never taken from the file.
pub fn probe(root: &Path) -> Probed {
    look(root, false)
}

/// As [`probe`], whatever was found earlier.
pub fn probe_anew(root: &Path) -> Probed {
    look(root, true)
}

fn look(root: &Path, anew: bool) -> Probed {
    let now = |evidence: &Evidence| Probed {
        verdict: decide(evidence),
        cached: false,
    };
    let options = OpenOptions::new().read(true).write(true).to_owned();
    let device = match options.open("/dev/kvm") {
        Ok(device) => device,
        Err(error) => return now(&Evidence::NotOpened(errno(&error))),
    };
    let cache = cache::Cache::of(root, &device);
    if let Some(verdict) = cache.read().filter(|_| !anew) {
        return Probed {
            verdict,
            cached: true,
        };
    }
    // Two at once would disturb each other's measurement.
    let lock = cache.lock();
    if let Some(verdict) = cache.read().filter(|_| !anew) {
        return Probed {
            verdict,
            cached: true,
        };
    }
    cache.begin();
    let probed = now(&tried(&device));
    cache.keep(&probed.verdict);
    drop(lock);
    probed
}

#[cfg(target_arch = "x86_64")]
fn tried(device: &std::fs::File) -> Evidence {
    use std::os::fd::AsFd as _;
    match trial::run(device.as_fd()) {
        Ok(trial) => Evidence::Tried(trial),
        Err(error) => Evidence::NotTried(errno(&error)),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn tried(_: &std::fs::File) -> Evidence {
    Evidence::NoGuest
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
