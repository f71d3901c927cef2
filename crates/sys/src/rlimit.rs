//! Per-process limits.

use std::io;

use hyperion_model::Rlimit;

/// Applies a limit to this process, capped at the hard limit where it may not be raised.
///
/// # Errors
/// The kernel's.
pub fn apply(limit: &Rlimit) -> io::Result<()> {
    let Some(number) = Rlimit::NAMES.iter().position(|n| *n == limit.name) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let resource = number as libc::__rlimit_resource_t;
    let value = |v: Option<u64>| v.unwrap_or(libc::RLIM_INFINITY);
    let mut wanted = libc::rlimit {
        rlim_cur: value(limit.soft),
        rlim_max: value(limit.hard),
    };
    if set(resource, &wanted).is_ok() {
        return Ok(());
    }
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `now` is live and of the right type.
    if unsafe { libc::getrlimit(resource, &raw mut now) } != 0 {
        return Err(io::Error::last_os_error());
    }
    wanted.rlim_max = wanted.rlim_max.min(now.rlim_max);
    wanted.rlim_cur = wanted.rlim_cur.min(wanted.rlim_max);
    set(resource, &wanted)
}

fn set(resource: libc::__rlimit_resource_t, limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: `limit` is live and of the right type.
    if unsafe { libc::setrlimit(resource, limit) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
