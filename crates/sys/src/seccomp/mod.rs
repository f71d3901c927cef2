//! The filter of system calls that a container's processes run under.
//!
//! The program is made here and not by a library: the kernel runs a new
//! filter once for every system call number when it is installed, so a list
//! of comparisons costs a start of a container a millisecond, and the same
//! set as a binary search over ranges of numbers some 20 µs. The numbers are
//! in `docs/decisions`.

mod table;

use std::collections::BTreeSet;
use std::io;

use libc::{c_long, sock_filter, sock_fprog};

use crate::caps::CapSet;

// Offsets in `struct seccomp_data` (linux/seccomp.h); arguments are little-endian 64-bit.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARG0_LOW: u32 = 16;

#[cfg(target_arch = "x86_64")]
const NATIVE_ARCH: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const NATIVE_ARCH: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// The flags of `clone(2)` that make namespaces.
const CLONE_NEW_ANY: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u32;

/// What a call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    Deny,
    /// Programs probe for `clone3` and fall back on "no such call" only.
    NoSuchCall,
    /// `socket`: every family but AF_VSOCK, which reaches past the network namespace.
    SocketFamily,
    /// `personality`: the values that do not weaken address randomization.
    Personality,
    /// `clone`: no new namespaces.
    CloneFlags,
}

/// A compiled filter, ready to be installed.
#[derive(Clone)]
pub struct Filter(Vec<sock_filter>);

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} instructions)", self.0.len())
    }
}

impl Filter {
    /// Compiles docker's default profile for a process with these capabilities.
    pub fn docker_default(caps: CapSet) -> Self {
        let mut allowed: BTreeSet<u32> = BTreeSet::new();
        let lists = [table::COMMON, table::NEW, table::NATIVE];
        let granted = table::WITH_CAPABILITY
            .iter()
            .filter(|(cap, _)| caps.has_name(cap))
            .map(|(_, calls)| *calls);
        for call in lists.into_iter().chain(granted).flatten() {
            allowed.insert(number(*call));
        }
        let admin = caps.has_name("CAP_SYS_ADMIN");
        let special = |nr: u32| {
            if nr == number(libc::SYS_socket) {
                Some(Verdict::SocketFamily)
            } else if nr == number(libc::SYS_personality) {
                Some(Verdict::Personality)
            } else if nr == number(libc::SYS_clone) && !admin {
                Some(Verdict::CloneFlags)
            } else if nr == number(libc::SYS_clone3) && !admin {
                Some(Verdict::NoSuchCall)
            } else {
                None
            }
        };
        let verdict = |nr: u32| {
            special(nr).unwrap_or(if allowed.contains(&nr) {
                Verdict::Allow
            } else {
                Verdict::Deny
            })
        };
        Self(compile(&ranges(verdict)))
    }

    /// Installs the filter for this process and all it becomes.
    ///
    /// # Errors
    /// The kernel's, `EACCES` when neither `no_new_privs` is set nor
    /// `CAP_SYS_ADMIN` held; nothing is changed then.
    pub fn install(&self) -> io::Result<()> {
        let program = sock_fprog {
            len: u16::try_from(self.0.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: `program` points to a live array of the stated length, which the kernel copies.
        let done = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const program,
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

fn number(call: c_long) -> u32 {
    // The tables hold non-negative numbers below 1024.
    call as u32
}

/// Cuts the numbers from 0 on into ranges of one verdict each: (first, verdict).
fn ranges(verdict: impl Fn(u32) -> Verdict) -> Vec<(u32, Verdict)> {
    let mut cuts: Vec<(u32, Verdict)> = Vec::new();
    for nr in 0..1024 {
        let this = verdict(nr);
        if cuts.last().is_none_or(|&(_, last)| last != this) {
            cuts.push((nr, this));
        }
    }
    cuts
}

fn op(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Makes the program: architecture, then a binary search for the range.
fn compile(cuts: &[(u32, Verdict)]) -> Vec<sock_filter> {
    let mut program = vec![
        op(LOAD, ARCH, 0, 0),
        op(JUMP_IF_EQUAL, NATIVE_ARCH, 1, 0),
        op(RETURN, ENOSYS, 0, 0),
        op(LOAD, NR, 0, 0),
    ];
    search(cuts, &mut program);
    program
}

fn search(cuts: &[(u32, Verdict)], program: &mut Vec<sock_filter>) {
    if let [(_, verdict)] = cuts {
        return leaf(*verdict, program);
    }
    let (low, high) = cuts.split_at(cuts.len() / 2);
    let mut below = Vec::new();
    search(low, &mut below);
    // At least `high`'s first: jump over `below`; conditional jumps reach 255, so use a long one.
    program.push(op(JUMP_IF_AT_LEAST, high[0].0, 0, 1));
    program.push(op(JUMP, below.len() as u32, 0, 0));
    program.append(&mut below);
    search(high, program);
}

fn leaf(verdict: Verdict, program: &mut Vec<sock_filter>) {
    match verdict {
        Verdict::Allow => program.push(op(RETURN, ALLOW, 0, 0)),
        Verdict::Deny => program.push(op(RETURN, EPERM, 0, 0)),
        Verdict::NoSuchCall => program.push(op(RETURN, ENOSYS, 0, 0)),
        Verdict::SocketFamily => program.extend([
            op(LOAD, ARG0_LOW, 0, 0),
            op(JUMP_IF_EQUAL, libc::AF_VSOCK as u32, 0, 1),
            op(RETURN, EPERM, 0, 0),
            op(RETURN, ALLOW, 0, 0),
        ]),
        Verdict::Personality => {
            const PERMITTED: [u32; 5] = [0, 8, 0x20000, 0x20008, 0xffff_ffff];
            program.push(op(LOAD, ARG0_LOW, 0, 0));
            for (i, value) in PERMITTED.into_iter().enumerate() {
                program.push(op(JUMP_IF_EQUAL, value, (PERMITTED.len() - i) as u8, 0));
            }
            program.push(op(RETURN, EPERM, 0, 0));
            program.push(op(RETURN, ALLOW, 0, 0));
        }
        Verdict::CloneFlags => program.extend([
            op(LOAD, ARG0_LOW, 0, 0),
            op(JUMP_IF_ANY_BIT, CLONE_NEW_ANY, 0, 1),
            op(RETURN, EPERM, 0, 0),
            op(RETURN, ALLOW, 0, 0),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would and counts the steps.
    fn run(filter: &Filter, nr: c_long, arg0: u32, arch: u32) -> (u32, usize) {
        let (mut pc, mut acc, mut steps) = (0usize, 0u32, 0);
        loop {
            let i = filter.0[pc];
            steps += 1;
            pc += 1;
            let jump = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
            match i.code {
                LOAD => {
                    acc = match i.k {
                        NR => nr as u32,
                        ARCH => arch,
                        ARG0_LOW => arg0,
                        other => panic!("load of {other}"),
                    }
                }
                JUMP_IF_EQUAL => pc += jump(acc == i.k),
                JUMP_IF_AT_LEAST => pc += jump(acc >= i.k),
                JUMP_IF_ANY_BIT => pc += jump(acc & i.k != 0),
                JUMP => pc += i.k as usize,
                RETURN => return (i.k, steps),
                other => panic!("code {other}"),
            }
        }
    }

    fn verdict(caps: CapSet, nr: c_long, arg0: u32) -> u32 {
        run(&Filter::docker_default(caps), nr, arg0, NATIVE_ARCH).0
    }

    #[test]
    fn every_number_gets_the_verdict_of_the_table() {
        let filter = Filter::docker_default(CapSet::docker_default());
        for nr in 0..1100 {
            let listed = [table::COMMON, table::NEW, table::NATIVE]
                .into_iter()
                .flatten()
                .any(|&n| n == nr);
            let special = [
                libc::SYS_socket,
                libc::SYS_personality,
                libc::SYS_clone,
                libc::SYS_clone3,
            ];
            let granted = nr == libc::SYS_chroot;
            if special.contains(&nr) {
                continue;
            }
            let (got, steps) = run(&filter, nr, 0, NATIVE_ARCH);
            let expected = if listed || granted { ALLOW } else { EPERM };
            assert_eq!(got, expected, "call {nr}");
            assert!(steps < 30, "call {nr} took {steps} steps");
        }
    }

    #[test]
    fn another_architecture_has_no_calls_at_all() {
        let filter = Filter::docker_default(CapSet::all());
        assert_eq!(run(&filter, libc::SYS_read, 0, 0x4000_0003).0, ENOSYS);
    }

    #[test]
    fn new_namespaces_need_the_capability() {
        let few = CapSet::docker_default();
        assert_eq!(
            verdict(few, libc::SYS_clone, libc::CLONE_NEWUSER as u32),
            EPERM
        );
        assert_eq!(verdict(few, libc::SYS_clone, libc::SIGCHLD as u32), ALLOW);
        assert_eq!(verdict(few, libc::SYS_clone3, 0), ENOSYS);
        assert_eq!(verdict(few, libc::SYS_unshare, 0), EPERM);
        assert_eq!(verdict(few, libc::SYS_mount, 0), EPERM);
        assert_eq!(verdict(CapSet::all(), libc::SYS_unshare, 0), ALLOW);
        assert_eq!(verdict(CapSet::all(), libc::SYS_clone3, 0), ALLOW);
    }

    #[test]
    fn arguments_are_looked_at_where_the_profile_says_so() {
        let caps = CapSet::docker_default();
        assert_eq!(verdict(caps, libc::SYS_socket, libc::AF_INET as u32), ALLOW);
        assert_eq!(
            verdict(caps, libc::SYS_socket, libc::AF_VSOCK as u32),
            EPERM
        );
        assert_eq!(verdict(caps, libc::SYS_personality, 0x20000), ALLOW);
        assert_eq!(verdict(caps, libc::SYS_personality, 0xffff_ffff), ALLOW);
        assert_eq!(verdict(caps, libc::SYS_personality, 0x4_0000), EPERM);
    }
}
