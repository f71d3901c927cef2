//! The kernel, made safe: processes, namespaces, mounts, cgroups, seccomp,
//! capabilities, terminals, and what a host can do.
//!
//! **Architecture invariant:** this is the only crate that says `unsafe`. It
//! decides nothing: it offers what the kernel does under names from the manual
//! pages, and returns the kernel's errors.

pub mod caps;
pub mod cgroup;
pub mod entry;
pub mod failpoint;
pub mod host;
pub mod kernel_file;
pub mod kvm;
pub mod mount;
pub mod net;
pub mod process;
pub mod pty;
pub mod random;
pub mod rlimit;
pub mod seccomp;
pub mod signals;
pub mod tap;
pub mod tsc;
pub mod userns;
