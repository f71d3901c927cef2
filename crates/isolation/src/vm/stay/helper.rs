//! The process beside the init that keeps the network up and answers the host.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyperion_sys::process::{self, Fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::drivers::{self, Devices};
use super::service::HEARD;
use super::{agent, network};

/// How long the first start waits for a network.
const NETWORK: Duration = Duration::from_secs(12);

/// Starts it, and waits until the network is up or known to be late.
pub(super) fn start(own_init: bool, first: bool) -> io::Result<()> {
    let (heard, said) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match process::fork()? {
        Fork::Child => {
            drop(heard);
            let _ = hyperion_sys::signals::unblock(&HEARD);
            process::rename(c"hyperion-agent");
            let _ = rustix::process::setsid();
            // Whatever takes all memory, who can end that stays.
            let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
            drivers::offer();
            let devices = Devices::found();
            let cards = network::cards();
            // All who say that they are up; the last one lets the first process go on.
            let up = Arc::new(Mutex::new((cards.len(), Some(File::from(said)))));
            for card in cards {
                let up = Arc::clone(&up);
                std::thread::spawn(move || network::keep(&card, first, move || tell(&up)));
            }
            drop(up);
            std::thread::spawn(move || devices.follow(own_init));
            agent::serve(own_init);
            process::exit_now(0)
        }
        Fork::Parent(_) => {
            drop(said);
            let limit = Timespec {
                tv_sec: NETWORK.as_secs().cast_signed(),
                tv_nsec: 0,
            };
            let _ = poll(
                &mut [PollFd::from_borrowed_fd(heard.as_fd(), PollFlags::IN)],
                Some(&limit),
            );
            Ok(())
        }
    }
}

fn tell(up: &Mutex<(usize, Option<File>)>) {
    if let Ok(mut up) = up.lock() {
        up.0 = up.0.saturating_sub(1);
        if up.0 == 0
            && let Some(mut said) = up.1.take()
        {
            let _ = said.write_all(b"u");
        }
    }
}

/// Reads all of a stream up to so many bytes, and passes over the rest.
pub(super) fn all_of(mut from: impl Read, most: usize) -> (Vec<u8>, bool) {
    let mut kept = Vec::new();
    let mut piece = [0; 16384];
    let mut more = false;
    loop {
        match from.read(&mut piece) {
            Ok(0) => return (kept, more),
            Ok(got) => {
                let room = most.saturating_sub(kept.len()).min(got);
                kept.extend_from_slice(&piece[..room]);
                more |= room < got;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return (kept, more),
        }
    }
}
