//! The kernel's source of random numbers.

use std::io;
use std::os::fd::AsRawFd as _;

/// `struct rand_pool_info` of `linux/random.h`, with room for this much.
#[repr(C)]
struct Pool {
    /// How much of it cannot be known, in bits.
    entropy: libc::c_int,
    /// How much there is, in bytes.
    size: libc::c_int,
    bytes: [u64; 8],
}

/// `RNDADDENTROPY` and `RNDRESEEDCRNG` of `linux/random.h`.
const ADD: libc::Ioctl = 0x4008_5203_u32 as libc::Ioctl;
const RESEED: libc::Ioctl = 0x5207;

/// Lets all random numbers that come follow from these, too: those of a machine that goes
/// on from another's memory would be the same as of all that do.
///
/// # Errors
/// The kernel's; `EPERM` for who is not root.
pub fn stir(seed: &[u64; 8]) -> io::Result<()> {
    let source = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/urandom")?;
    let pool = Pool {
        entropy: 512,
        size: 64,
        bytes: *seed,
    };
    // SAFETY: the kernel reads the structure, as long as its second field says, which is its
    // length behind the first two; the second call has no argument.
    let done = unsafe {
        match libc::ioctl(source.as_raw_fd(), ADD, &raw const pool) {
            0 => libc::ioctl(source.as_raw_fd(), RESEED, 0),
            failed => failed,
        }
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn root_may_stir_and_others_may_not() {
        let stirred = super::stir(&[7; 8]);
        let root = rustix::process::geteuid().is_root();
        assert_eq!(stirred.is_ok(), root, "{stirred:?}");
    }
}
