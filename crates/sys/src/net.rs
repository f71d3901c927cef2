//! The network interfaces of this process's network namespace, by netdevice(7).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Starts the loopback interface.
///
/// # Errors
/// The kernel's, `EPERM` when the namespace is not this user's.
pub fn loopback_up() -> io::Result<()> {
    up(&socket()?, "lo")
}

/// Gives an interface an address in a network of `prefix` bits, and starts it.
///
/// # Errors
/// The kernel's: `ENODEV` when there is none of that name, `EPERM` when the
/// namespace is not this user's.
pub fn join(interface: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let socket = socket()?;
    let mask = u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0);
    for (order, value) in [
        (libc::SIOCSIFADDR, address),
        (libc::SIOCSIFNETMASK, Ipv4Addr::from_bits(mask)),
    ] {
        let mut request = request(interface)?;
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr {
                s_addr: value.to_bits().to_be(),
            },
            sin_zero: [0; 8],
        };
        // SAFETY: both are plain data, and an address of IPv4 is not larger than the room for one.
        request.ifr_ifru.ifru_addr =
            unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) };
        carry_out(&socket, order, &request)?;
    }
    up(&socket, interface)
}

fn up(socket: &OwnedFd, interface: &str) -> io::Result<()> {
    let mut request = request(interface)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    carry_out(socket, libc::SIOCSIFFLAGS, &request)
}

fn socket() -> io::Result<OwnedFd> {
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    Ok(socket_with(family, SocketType::DGRAM, flags, None)?)
}

fn request(interface: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays the zero that ends it.
    if interface.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

fn carry_out(socket: &OwnedFd, order: libc::Ioctl, request: &libc::ifreq) -> io::Result<()> {
    // SAFETY: `request` is live and initialized as netdevice(7) says.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), order, &raw const *request) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
