//! The ioctls of KVM that the guest needs, by `linux/kvm.h` and
//! `Documentation/virt/kvm/api.rst`. Nothing here allocates: it runs in a child
//! of a process that may have threads.

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, Instant};

use super::guest;
use super::verdict::End;

const fn io(nr: u64) -> u64 {
    0xae00 | nr
}
const fn iow<T>(nr: u64) -> u64 {
    1 << 30 | (size_of::<T>() as u64) << 16 | io(nr)
}
const fn ior<T>(nr: u64) -> u64 {
    2 << 30 | (size_of::<T>() as u64) << 16 | io(nr)
}

/// `struct kvm_userspace_memory_region`
#[repr(C)]
struct MemoryRegion {
    slot: u32,
    flags: u32,
    guest_address: u64,
    size: u64,
    address: u64,
}

/// `struct kvm_regs`
#[repr(C)]
#[derive(Default)]
struct Regs {
    general: [u64; 16],
    rip: u64,
    rflags: u64,
}

/// `struct kvm_segment`
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Segment {
    base: u64,
    limit: u32,
    selector: u16,
    kind: u8,
    present: u8,
    dpl: u8,
    db: u8,
    s: u8,
    l: u8,
    g: u8,
    avl: u8,
    unusable: u8,
    padding: u8,
}

/// `struct kvm_sregs`
#[repr(C)]
#[derive(Default)]
struct Sregs {
    /// cs, ds, es, fs, gs, ss
    segments: [Segment; 6],
    tr: Segment,
    ldt: Segment,
    gdt: [u64; 2],
    idt: [u64; 2],
    cr0: u64,
    /// cr2, cr3, cr4, cr8, efer, apic_base, interrupt_bitmap
    rest: [u64; 10],
}

/// `KVM_MAX_CPUID_ENTRIES`
const CPUID_ENTRIES: usize = 256;

/// `struct kvm_cpuid2` with room
#[repr(C)]
struct Cpuid {
    count: u32,
    padding: u32,
    entries: [[u32; 10]; CPUID_ENTRIES],
}

/// The head of `struct kvm_run`, up to what its exits say.
#[repr(C)]
struct Run {
    request: [u8; 8],
    exit_reason: u32,
    flags: [u8; 4],
    cr8: u64,
    apic_base: u64,
    exit: Exit,
}

/// The exits that are looked into.
#[repr(C)]
#[derive(Clone, Copy)]
union Exit {
    io: IoExit,
    first: u64,
    suberror: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct IoExit {
    direction: u8,
    size: u8,
    port: u16,
    count: u32,
    data_offset: u64,
}

const KVM_EXIT_IO: u32 = 2;
const KVM_EXIT_INTERNAL_ERROR: u32 = 17;
const IO_OUT: u8 = 1;

// The size is part of an ioctl's number: a wrong one is an unknown ioctl.
const _: () = {
    assert!(size_of::<MemoryRegion>() == 32);
    assert!(size_of::<Regs>() == 144);
    assert!(size_of::<Sregs>() == 312);
    assert!(std::mem::offset_of!(Run, exit) == 32);
};

/// Makes a machine of this memory, runs it, and says how it ended; `best` is
/// told the best time of the guest's loop as it goes.
pub(super) fn run(kvm: BorrowedFd<'_>, memory: *mut u8, best: impl FnMut(Duration)) -> End {
    match machine(kvm, memory, best) {
        Ok(end) | Err(end) => end,
    }
}

fn machine(kvm: BorrowedFd<'_>, memory: *mut u8, best: impl FnMut(Duration)) -> Result<End, End> {
    let kvm = kvm.as_raw_fd();
    let version = call("KVM_GET_API_VERSION", kvm, io(0x00), 0)?;
    if version != 12 {
        // The only one since 2007.
        return Err(End::Refused {
            call: "KVM_GET_API_VERSION",
            errno: libc::EPROTONOSUPPORT,
        });
    }
    let vm = owned(call("KVM_CREATE_VM", kvm, io(0x01), 0)?);
    let vm = vm.as_raw_fd();
    // Intel's processors before 2010 keep a TSS and tables of KVM's own below 4 GiB.
    call("KVM_SET_TSS_ADDR", vm, io(0x47), 0xfffb_d000)?;
    let mut region = MemoryRegion {
        slot: 0,
        flags: 0,
        guest_address: 0,
        size: guest::MEMORY as u64,
        address: memory.addr() as u64,
    };
    pass(
        "KVM_SET_USER_MEMORY_REGION",
        vm,
        iow::<MemoryRegion>(0x46),
        &mut region,
    )?;
    let vcpu = owned(call("KVM_CREATE_VCPU", vm, io(0x41), 0)?);
    let vcpu = vcpu.as_raw_fd();

    let mut cpuid = Cpuid {
        count: CPUID_ENTRIES as u32,
        padding: 0,
        entries: [[0; 10]; CPUID_ENTRIES],
    };
    // The number has the size of the head alone.
    let head = 8 << 16;
    pass(
        "KVM_GET_SUPPORTED_CPUID",
        kvm,
        3 << 30 | head | io(0x05),
        &mut cpuid,
    )?;
    pass(
        "KVM_SET_CPUID2",
        vcpu,
        1 << 30 | head | io(0x90),
        &mut cpuid,
    )?;

    let mut sregs = Sregs::default();
    pass("KVM_GET_SREGS", vcpu, ior::<Sregs>(0x83), &mut sregs)?;
    flat(&mut sregs);
    pass("KVM_SET_SREGS", vcpu, iow::<Sregs>(0x84), &mut sregs)?;
    let mut regs = Regs {
        rip: guest::ENTRY,
        rflags: 2,
        ..Regs::default()
    };
    pass("KVM_SET_REGS", vcpu, iow::<Regs>(0x82), &mut regs)?;

    let size = call("KVM_GET_VCPU_MMAP_SIZE", kvm, io(0x04), 0)? as usize;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let shared = unsafe { libc::mmap(ptr::null_mut(), size, rights, libc::MAP_SHARED, vcpu, 0) };
    if shared == libc::MAP_FAILED {
        return Err(refused("mmap"));
    }
    attend(vcpu, shared.cast(), best)
}

/// Segments of 4 GiB from 0 in protected mode, as the PVH boot protocol has it.
fn flat(sregs: &mut Sregs) {
    const CODE: u8 = 0xb;
    const DATA: u8 = 0x3;
    for (at, segment) in sregs.segments.iter_mut().enumerate() {
        *segment = Segment {
            limit: u32::MAX,
            selector: if at == 0 { 0x08 } else { 0x10 },
            kind: if at == 0 { CODE } else { DATA },
            present: 1,
            db: 1,
            s: 1,
            g: 1,
            ..Segment::default()
        };
    }
    // Protection, extension type, native errors of the x87.
    sregs.cr0 = 0x31;
}

/// Lets the processor run and listens to what the guest says.
fn attend(vcpu: RawFd, run: *const Run, mut best: impl FnMut(Duration)) -> Result<End, End> {
    let (mut least, mut since) = (Duration::MAX, Instant::now());
    loop {
        match call("KVM_RUN", vcpu, io(0x80), 0) {
            Ok(_) => {}
            Err(End::Refused { errno, .. }) if errno == libc::EINTR => continue,
            Err(end) => return Err(end),
        }
        let now = Instant::now();
        // SAFETY: the mapping is larger than this head; the kernel writes it only in KVM_RUN.
        let Run {
            exit_reason, exit, ..
        } = unsafe { run.read_volatile() };
        if exit_reason != KVM_EXIT_IO {
            let detail = match exit_reason {
                // SAFETY: any bytes are a number.
                KVM_EXIT_INTERNAL_ERROR => u64::from(unsafe { exit.suberror }),
                // SAFETY: likewise.
                _ => unsafe { exit.first },
            };
            return Ok(End::Exit {
                reason: exit_reason,
                detail,
            });
        }
        // SAFETY: the reason says that this is what lies there.
        let io = unsafe { exit.io };
        let ours = io.direction == IO_OUT && io.size == 1 && io.port == guest::PORT;
        // SAFETY: the kernel put the byte into the same mapping, at this offset.
        let byte =
            ours.then(|| unsafe { run.byte_add(io.data_offset as usize).cast::<u8>().read() });
        match byte {
            Some(guest::LOOP_BEGINS) => since = Instant::now(),
            Some(guest::LOOP_ENDS) => {
                least = least.min(now - since);
                best(least);
            }
            Some(guest::DONE) => return Ok(End::Done),
            _ => {
                let detail = io.port.into();
                return Ok(End::Exit {
                    reason: exit_reason,
                    detail,
                });
            }
        }
    }
}

/// Takes the best time of the loop on the host.
pub(super) fn native() -> Duration {
    let times = (0..guest::ROUNDS).map(|_| {
        let since = Instant::now();
        guest::same_loop();
        since.elapsed()
    });
    times.min().unwrap_or_default()
}

fn owned(fd: libc::c_int) -> OwnedFd {
    // SAFETY: the kernel has just made it for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn refused(call: &'static str) -> End {
    // SAFETY: the address of this thread's errno is always valid.
    let errno = unsafe { *libc::__errno_location() };
    End::Refused { call, errno }
}

/// Makes an ioctl that takes a number.
fn call(name: &'static str, fd: RawFd, request: u64, argument: u64) -> Result<libc::c_int, End> {
    // SAFETY: the ioctls above that come here take no pointer.
    match unsafe { libc::ioctl(fd, request, argument) } {
        -1 => Err(refused(name)),
        value => Ok(value),
    }
}

/// Makes an ioctl that reads or writes one structure.
fn pass<T>(name: &'static str, fd: RawFd, request: u64, argument: &mut T) -> Result<(), End> {
    // SAFETY: the structure is the one that the kernel has for this request, and is ours alone.
    match unsafe { libc::ioctl(fd, request, ptr::from_mut(argument)) } {
        -1 => Err(refused(name)),
        _ => Ok(()),
    }
}
