//! Per-process limits.

use std::io;

use hyperion_model::Rlimit;

/// Applies a limit to this process, capped at the hard limit where it may not be raised.
///
/// # Errors
/// The kernel's.
pub fn apply(limit: &Rlimit) -> io::Result<()> {
    let resource = resource(&limit.name)?;
    let value = |v: Option<u64>| v.unwrap_or(libc::RLIM_INFINITY);
    let mut wanted = libc::rlimit {
        rlim_cur: value(limit.soft),
        rlim_max: value(limit.hard),
    };
    if set(resource, &wanted).is_ok() {
        return Ok(());
    }
    wanted.rlim_max = wanted.rlim_max.min(now(resource)?.rlim_max);
    wanted.rlim_cur = wanted.rlim_cur.min(wanted.rlim_max);
    set(resource, &wanted)
}

/// Gives the hard limit of this process where a limit asks for more.
pub fn cap_of(limit: &Rlimit) -> Option<u64> {
    let most = now(resource(&limit.name).ok()?).ok()?.rlim_max;
    let above = limit.hard.unwrap_or(libc::RLIM_INFINITY) > most;
    above.then_some(most)
}

fn resource(name: &str) -> io::Result<libc::__rlimit_resource_t> {
    let number = Rlimit::NAMES.iter().position(|n| *n == name);
    let number = number.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(number as libc::__rlimit_resource_t)
}

fn now(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `now` is live and of the right type.
    if unsafe { libc::getrlimit(resource, &raw mut now) } == 0 {
        Ok(now)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn set(resource: libc::__rlimit_resource_t, limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: `limit` is live and of the right type.
    if unsafe { libc::setrlimit(resource, limit) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
