//! A machine's way out beside QEMU: `passt`, which translates the guest's packets
//! into sockets of the host as QEMU's own code does, in a process and fence of its
//! own, and faster.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use hyperion_model::machine::{PortForward, Protocol};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};

/// How long it may take to leave.
const LEAVING: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// Starts `passt` for one network card; gives the card's end of the socket. It
/// ends by itself when that is closed, whoever is killed. None where it cannot
/// do what is asked, on a host without a way out for one.
pub fn passt(program: &Path, forwards: &[PortForward]) -> Option<OwnedFd> {
    // It takes no free port.
    if forwards.iter().any(|forward| forward.host == 0) {
        return None;
    }
    let (unix, stream) = (AddressFamily::UNIX, SocketType::STREAM);
    let (ours, its) = socketpair(unix, stream, SocketFlags::CLOEXEC, None).ok()?;
    fcntl_setfd(&its, FdFlags::empty()).ok()?;
    let mut command = Command::new(program);
    command
        .args(["--quiet", "--fd"])
        .arg(its.as_raw_fd().to_string());
    for PortForward {
        address,
        host,
        guest,
        protocol,
    } in forwards
    {
        let flag = match protocol {
            Protocol::Tcp => "--tcp-ports",
            Protocol::Udp => "--udp-ports",
        };
        command.arg(flag).arg(match address {
            IpAddr::V4(v4) => format!("{v4}/{host}:{guest}"),
            IpAddr::V6(v6) => format!("{v6}/{host}:{guest}"),
        });
    }
    for stream in [Command::stdin, Command::stdout, Command::stderr] {
        stream(&mut command, Stdio::null());
    }
    // It goes on in the background once all is set up, and else says no.
    let ready = command.status().ok()?.success();
    drop(its);
    ready.then_some(ours)
}

/// Waits until `passt` has left, with the ports that it had, after QEMU has: a
/// start that follows at once finds them free.
pub(super) fn wait_gone(network: OwnedFd) {
    // It hears the end only when nobody else can write.
    let _ = shutdown(&network, Shutdown::Write);
    let mut network = File::from(network);
    let mut piece = [0; 16384];
    loop {
        let mut fds = [PollFd::new(&network, PollFlags::IN)];
        if !matches!(poll(&mut fds, Some(&LEAVING)), Ok(1..)) {
            return;
        }
        // What it had for the guest is nobody's now.
        if !matches!(network.read(&mut piece), Ok(1..)) {
            return;
        }
    }
}
