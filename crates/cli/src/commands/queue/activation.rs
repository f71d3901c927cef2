//! What systemd hands to a server that it starts, and is told by it: sd_listen_fds(3) and
//! sd_notify(3).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process::Command;

use hyperion_model::Class;
use hyperion_sys::process;
use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_acceptconn, socket_domain};

use crate::errors;

/// The number of the first socket that is handed over.
const FIRST: i32 = 3;

/// The variables by which systemd speaks: they are for one process.
const VARIABLES: [&str; 4] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
];

/// Keeps from a program what is meant for this one.
pub(super) fn hide(command: &mut Command) {
    for name in VARIABLES {
        command.env_remove(name);
    }
}

/// Takes the socket on which systemd listens for this process; `None` where it does not.
pub(super) fn socket() -> anyhow::Result<Option<UnixListener>> {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    let wrong = |what: String| {
        let hint = "one socket with ListenStream= and a path is handed over, and Accept=no";
        errors::advised(Class::User, what, hint)
    };
    match number("LISTEN_FDS") {
        Some(1) => {}
        None | Some(0) => return Ok(None),
        Some(count) => return Err(wrong(format!("{count} sockets were handed over"))),
    }
    let fd = process::inherited(FIRST)?;
    let listens = socket_acceptconn(&fd).unwrap_or(false);
    if !listens || socket_domain(&fd) != Ok(AddressFamily::UNIX) {
        return Err(wrong(
            "what was handed over is no Unix socket that listens".into(),
        ));
    }
    Ok(Some(UnixListener::from(fd)))
}

/// Tells systemd, where it has started this process, that clients are heard.
pub(super) fn tell_ready() -> io::Result<()> {
    let Some(place) = env::var_os("NOTIFY_SOCKET").filter(|place| !place.is_empty()) else {
        return Ok(());
    };
    let address = match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(OsStr::new(&place))?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}
