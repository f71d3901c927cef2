//! The network interfaces of this process's network namespace, by netdevice(7).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

/// Starts the loopback interface.
///
/// # Errors
/// The kernel's, `EPERM` when the namespace is not this user's.
pub fn loopback_up() -> io::Result<()> {
    up(&socket()?, "lo")
}

/// How long the kernel may take to see that an interface has its link: a worker of
/// its own looks, in some cases a second after the start.
const LINK_WITHIN: Duration = Duration::from_secs(30);

/// Gives an interface an address in a network of `prefix` bits, starts it, and
/// waits until it can carry something: a program that looks for interfaces takes
/// none before.
///
/// # Errors
/// The kernel's: `ENODEV` when there is none of that name, `EPERM` when the
/// namespace is not this user's. `ETIMEDOUT` when it has no link after half a minute.
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
        ask(&socket, order, &mut request)?;
    }
    up(&socket, interface)?;
    linked(&socket, interface)
}

/// Waits until an interface can carry something.
fn linked(socket: &OwnedFd, interface: &str) -> io::Result<()> {
    let started = Instant::now();
    while !is_running(socket, interface)? {
        if started.elapsed() > LINK_WITHIN {
            return Err(Errno::TIMEDOUT.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn is_running(socket: &OwnedFd, interface: &str) -> io::Result<bool> {
    let mut request = request(interface)?;
    ask(socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: the request that was just answered fills in the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(libc::c_int::from(flags) & libc::IFF_RUNNING != 0)
}

pub(crate) fn up(socket: &OwnedFd, interface: &str) -> io::Result<()> {
    let mut request = request(interface)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    ask(socket, libc::SIOCSIFFLAGS, &mut request)
}

/// Makes a socket on which the kernel can be asked.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    Ok(socket_with(family, SocketType::DGRAM, flags, None)?)
}

/// Names the interface that a request is about; a name that the kernel would cut
/// short is refused.
pub(crate) fn request(interface: &str) -> io::Result<libc::ifreq> {
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

/// Makes a request, whose answer is put into it.
pub(crate) fn ask(fd: &OwnedFd, order: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: `request` is live and as netdevice(7) and the kernel's tuntap.rst say for these requests.
    match unsafe { libc::ioctl(fd.as_raw_fd(), order, std::ptr::from_mut(request)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Starts an interface that may have no address yet, and waits until it has its link.
///
/// # Errors
/// As [`join`].
pub fn start(interface: &str) -> io::Result<()> {
    let socket = socket()?;
    up(&socket, interface)?;
    linked(&socket, interface)
}

/// Leads all that is for no network of this host's to a router.
///
/// # Errors
/// The kernel's: `ENETUNREACH` when the router is in no network of this host's.
pub fn default_route(router: Ipv4Addr) -> io::Result<()> {
    let address = |value: Ipv4Addr| {
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr {
                s_addr: value.to_bits().to_be(),
            },
            sin_zero: [0; 8],
        };
        // SAFETY: both are plain data, and of one size.
        unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) }
    };
    // SAFETY: all-zero is a valid `rtentry`.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = address(router);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    let socket = socket()?;
    // SAFETY: `route` is live and as route(7) of netdevice says for this request.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) } {
        -1 => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            e => Err(e),
        },
        _ => Ok(()),
    }
}

/// Packets of IPv4 on one interface, which needs no address for it (packet(7)).
#[derive(Debug)]
pub struct Packets {
    socket: OwnedFd,
    index: i32,
}

impl Packets {
    /// Listens on an interface.
    ///
    /// # Errors
    /// The kernel's: `ENODEV`, `EAFNOSUPPORT` without the driver `af_packet`.
    pub fn on(interface: &str) -> io::Result<Self> {
        let index = rustix::net::netdevice::name_to_index(&socket()?, interface)?.cast_signed();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
        let packets = Self { socket, index };
        let (address, size) = packets.address([0; 6]);
        // SAFETY: `address` is live and of this size.
        match unsafe {
            libc::bind(
                packets.socket.as_raw_fd(),
                (&raw const address).cast(),
                size,
            )
        } {
            0 => Ok(packets),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn address(&self, hardware: [u8; 6]) -> (libc::sockaddr_ll, libc::socklen_t) {
        // SAFETY: all-zero is a valid `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        address.sll_ifindex = self.index;
        address.sll_halen = 6;
        address.sll_addr[..6].copy_from_slice(&hardware);
        (address, size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    }

    /// Sends a packet to all that hear.
    ///
    /// # Errors
    /// The kernel's.
    pub fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        let (address, size) = self.address([0xff; 6]);
        // SAFETY: `packet` and `address` are live and of the sizes that are given.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                size,
            )
        };
        match sent {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Takes the next packet; `None` when none comes within `limit`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn receive(&self, buffer: &mut [u8], limit: Duration) -> io::Result<Option<usize>> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let limit = Timespec {
            tv_sec: limit.as_secs().cast_signed(),
            tv_nsec: limit.subsec_nanos().into(),
        };
        poll(
            &mut [PollFd::new(&self.socket, PollFlags::IN)],
            Some(&limit),
        )?;
        match rustix::io::read(&self.socket, buffer) {
            Ok(got) => Ok(Some(got)),
            Err(Errno::AGAIN) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

/// Makes an Ethernet interface in the network namespace of a process, gives it
/// its addresses and starts it. Its other end is the file that is returned: one
/// read or write is one frame. It goes with that file.
///
/// This process ends up in that namespace (and in the user namespace, with
/// `user`), so it is meant for a copy that ends afterwards.
///
/// # Errors
/// The kernel's: `ENOENT` and `EACCES` where `/dev/net/tun` is missing or another's.
pub fn tap_inside(
    process: Pid,
    user: bool,
    interface: &str,
    hardware: [u8; 6],
    address: Ipv4Addr,
    prefix: u8,
) -> io::Result<OwnedFd> {
    let mut spaces = ThreadNameSpaceType::NETWORK;
    spaces.set(ThreadNameSpaceType::USER, user);
    let process = pidfd_open(process, PidfdFlags::empty())?;
    move_into_thread_name_spaces(process.as_fd(), spaces)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let tap = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    let mut make = request(interface)?;
    make.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    ask(&tap, libc::TUNSETIFF, &mut make)?;
    let mut change = request(interface)?;
    let mut address_of_card = libc::sockaddr {
        sa_family: libc::ARPHRD_ETHER,
        sa_data: [0; 14],
    };
    for (to, from) in address_of_card.sa_data.iter_mut().zip(hardware) {
        *to = from.cast_signed();
    }
    change.ifr_ifru.ifru_hwaddr = address_of_card;
    ask(&socket()?, libc::SIOCSIFHWADDR, &mut change)?;
    join(interface, address, prefix)?;
    Ok(tap)
}
