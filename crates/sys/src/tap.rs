//! Network interfaces for machines: taps that live as long as they are open.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;

use thiserror::Error;

use crate::net;

/// What goes wrong with a tap.
#[derive(Debug, Error)]
pub enum TapError {
    /// There is no such bridge.
    #[error("there is no network bridge {0} on this host")]
    NoBridge(String),
    /// It is something else.
    #[error("the network interface {0} is no bridge")]
    NotABridge(String),
    /// This user may not.
    #[error("to put an interface on the bridge {0} takes root")]
    Denied(String),
    /// The kernel has no taps.
    #[error("this host makes no network interfaces for machines")]
    NoDevice(#[source] io::Error),
    /// The kernel refuses.
    #[error("cannot {action} for the bridge {bridge}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The bridge.
        bridge: String,
        /// Its reason.
        source: io::Error,
    },
}

/// A tap on a bridge. The kernel removes it when the last copy of its
/// descriptor is closed, whoever is killed.
#[derive(Debug)]
pub struct Tap {
    /// What a machine reads and writes.
    pub fd: OwnedFd,
    /// What the kernel has called it: nobody else's name.
    pub name: String,
}

/// The kernel puts the first free number there.
const TEMPLATE: &str = "hyp%d";

/// Makes a tap on a bridge and starts it.
///
/// # Errors
/// [`TapError`]; nothing is left behind.
pub fn on_bridge(bridge: &str) -> Result<Tap, TapError> {
    let failed = |action| {
        move |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => TapError::Denied(bridge.to_owned()),
            _ => TapError::Io {
                action,
                bridge: bridge.to_owned(),
                source,
            },
        }
    };
    let socket = net::socket().map_err(failed("ask the kernel"))?;
    let ask = |order: libc::Ioctl, value: &mut libc::ifreq| net::ask(&socket, order, value);
    let named = |name: &str| net::request(name).map_err(failed("name the interface"));
    // A longer name than the kernel has is nobody's.
    let mut of_bridge = net::request(bridge).map_err(|_| TapError::NoBridge(bridge.to_owned()))?;
    ask(libc::SIOCGIFMTU, &mut of_bridge).map_err(|_| TapError::NoBridge(bridge.to_owned()))?;
    // SAFETY: the kernel has filled this part of the union.
    let mtu = unsafe { of_bridge.ifr_ifru.ifru_mtu };
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => TapError::Denied(bridge.to_owned()),
            _ => TapError::NoDevice(e),
        })?;
    let fd = OwnedFd::from(device);
    let mut tap = named(TEMPLATE)?;
    let kind = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    tap.ifr_ifru.ifru_flags = kind as libc::c_short;
    net::ask(&fd, libc::TUNSETIFF, &mut tap).map_err(failed("make a network interface"))?;
    let name = name_of(&tap);
    // It carries the guest's addresses and has none of the host's; no harm where it cannot be said.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
    // A bridge takes the least that its interfaces can: this one should not lower it.
    let mut request = named(&name)?;
    request.ifr_ifru.ifru_mtu = mtu;
    let _ = ask(libc::SIOCSIFMTU, &mut request);
    let mut request = named(&name)?;
    ask(libc::SIOCGIFINDEX, &mut request).map_err(failed("find the interface"))?;
    // SAFETY: as above.
    let index = unsafe { request.ifr_ifru.ifru_ifindex };
    let mut request = named(bridge)?;
    request.ifr_ifru.ifru_ifindex = index;
    ask(SIOCBRADDIF, &mut request).map_err(|e| match e.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::EINVAL) => TapError::NotABridge(bridge.to_owned()),
        _ => failed("add the interface")(e),
    })?;
    net::up(&socket, &name).map_err(failed("start the interface"))?;
    Ok(Tap { fd, name })
}

/// Of linux/sockios.h.
const SIOCBRADDIF: libc::Ioctl = 0x89a2;

fn name_of(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.iter().map(|c| *c as u8);
    let bytes: Vec<u8> = bytes.take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
