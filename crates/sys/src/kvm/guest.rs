//! The guest's memory: code and the tables that the processor reads.
//!
//! | page | holds | ring 3 may use it |
//! |---|---|---|
//! | 0 | nothing, and is not mapped | |
//! | 1 | GDT, IDT, TSS and the operands of `lgdt` and `lidt` | |
//! | 2 to 5 | the four levels of page tables | |
//! | 6 | code of ring 0 | |
//! | 7 | code of ring 3 | yes |
//! | 8 | stack of ring 0 | |
//! | 9 | data of ring 3 | yes |
//! | 10 | the number of the last step done | |

use super::verdict::Step;

/// Size of the guest's memory in bytes; address 0 is its first.
pub(super) const MEMORY: usize = 0x1_0000;
/// Where the guest writes the number of the last step done, in one byte.
pub(super) const MARK: usize = 0xa000;
/// Where the guest starts, in flat 32-bit mode without paging.
pub(super) const ENTRY: u64 = CODE as u64;
/// The port that the guest writes one byte to, to be stopped.
pub(super) const PORT: u16 = 0xf4;
/// On [`PORT`]: the loop is about to begin.
pub(super) const LOOP_BEGINS: u8 = 1;
/// On [`PORT`]: the loop has ended.
pub(super) const LOOP_ENDS: u8 = 2;
/// On [`PORT`]: everything is done.
pub(super) const DONE: u8 = 3;
/// How often the loop is run.
pub(super) const ROUNDS: u32 = 5;
/// Passes of the loop, of two instructions each.
const PASSES: u32 = 500_000;

const TABLES: usize = 0x1000;
const IDT: usize = TABLES + 0x100;
const TSS: usize = TABLES + 0x400;
const GDT_OPERAND: usize = TABLES + 0x500;
const IDT_OPERAND: usize = TABLES + 0x510;
const PAGING: usize = 0x2000;
const CODE: usize = 0x6000;
const USER_CODE: usize = 0x7000;
const STACK_TOP: usize = 0x9000;
const USER_DATA: usize = 0x9000;
const USER_STACK_TOP: usize = 0xa000;

/// Selectors: places in the GDT. `syscall` wants the two of ring 0 in this order.
const CODE_0: u16 = 0x08;
const DATA_0: u16 = 0x10;
const CODE_3: u16 = 0x18 | 3;
const DATA_3: u16 = 0x20 | 3;
const TASK: u16 = 0x28;
/// The interrupt by which ring 3 comes back: the first that is no exception.
const VECTOR: usize = 0x20;

// The code lies among the constants and is copied into the guest. Absolute
// addresses are differences of labels plus the page that the copy begins at.
core::arch::global_asm!(
    ".pushsection .rodata.hyperion_kvm_guest, \"a\", @progbits",
    ".globl hyperion_kvm_guest, hyperion_kvm_guest_interrupt",
    ".globl hyperion_kvm_guest_user, hyperion_kvm_guest_end",
    "hyperion_kvm_guest:",
    ".code32",
    "movb ${start}, {mark}",
    // Long mode, as each kernel enters it: PAE, tables, EFER.LME, paging. SCE is for `syscall`.
    "movl %cr4, %eax",
    "orl $0x20, %eax",
    "movl %eax, %cr4",
    "movl ${paging}, %eax",
    "movl %eax, %cr3",
    "movl $0xc0000080, %ecx",
    "rdmsr",
    "orl $0x101, %eax",
    "wrmsr",
    "movl %cr0, %eax",
    "orl $0x80000000, %eax",
    "movl %eax, %cr0",
    "lgdtl {gdt_operand}",
    "ljmpl ${code_0}, $(2f - hyperion_kvm_guest + {code})",
    ".code64",
    "2:",
    "movl ${data_0}, %eax",
    "movl %eax, %ss",
    "movl %eax, %ds",
    "movl %eax, %es",
    "lidt {idt_operand}",
    "movl ${task}, %eax",
    "ltr %ax",
    "movl ${stack_top}, %esp",
    "movb ${long_mode}, {mark}",
    // Memory holds 0:0, which is compared with rdx:rax and becomes rcx:rbx.
    "xorl %eax, %eax",
    "xorl %edx, %edx",
    "movl $1, %ebx",
    "movl $2, %ecx",
    "lock cmpxchg16b {user_data}",
    "jnz 9f",
    "movb ${cmpxchg16b}, {mark}",
    // The way back by `syscall`: selectors, entry, and no interrupts in it.
    "movl $0xc0000081, %ecx",
    "xorl %eax, %eax",
    "movl ${code_0}, %edx",
    "wrmsr",
    "movl $0xc0000082, %ecx",
    "movl $(4f - hyperion_kvm_guest + {code}), %eax",
    "xorl %edx, %edx",
    "wrmsr",
    "movl $0xc0000084, %ecx",
    "movl $0x200, %eax",
    "wrmsr",
    // To ring 3: stack segment, stack, flags, code segment, address.
    "pushq ${data_3}",
    "pushq ${user_stack_top}",
    "pushq $2",
    "pushq ${code_3}",
    "pushq ${user_code}",
    "iretq",
    // Back by the interrupt, on the stack that the TSS names; go to ring 3 again.
    ".balign 16",
    "hyperion_kvm_guest_interrupt:",
    "cmpl ${code_3}, 8(%rsp)",
    "jne 9f",
    "movb ${user_mode}, {mark}",
    "iretq",
    // Back by the system call, on the stack of ring 3.
    "4:",
    "movl ${stack_top}, %esp",
    "movb ${syscall}, {mark}",
    "movl ${rounds}, %esi",
    "5:",
    "movb ${loop_begins}, %al",
    "outb %al, ${port}",
    "movl ${passes}, %ecx",
    "6:",
    "decq %rcx",
    "jnz 6b",
    "movb ${loop_ends}, %al",
    "outb %al, ${port}",
    "decl %esi",
    "jnz 5b",
    "movb ${speed}, {mark}",
    "movb ${done}, %al",
    "outb %al, ${port}",
    "9:",
    "hlt",
    "jmp 9b",
    "hyperion_kvm_guest_user:",
    // Ring 3, copied to a page of its own. Memory holds 2:1 now.
    "movl $1, %eax",
    "movl $2, %edx",
    "lock cmpxchg16b {user_data}",
    "jnz 7f",
    "int ${vector}",
    "syscall",
    "7:",
    "hlt",
    "hyperion_kvm_guest_end:",
    ".popsection",
    start = const Step::Start as u8,
    long_mode = const Step::LongMode as u8,
    cmpxchg16b = const Step::Cmpxchg16b as u8,
    user_mode = const Step::UserMode as u8,
    syscall = const Step::Syscall as u8,
    speed = const Step::Speed as u8,
    mark = const MARK,
    code = const CODE,
    paging = const PAGING,
    gdt_operand = const GDT_OPERAND,
    idt_operand = const IDT_OPERAND,
    stack_top = const STACK_TOP,
    user_code = const USER_CODE,
    user_data = const USER_DATA,
    user_stack_top = const USER_STACK_TOP,
    code_0 = const CODE_0,
    data_0 = const DATA_0,
    code_3 = const CODE_3,
    data_3 = const DATA_3,
    task = const TASK,
    vector = const VECTOR,
    rounds = const ROUNDS,
    passes = const PASSES,
    port = const PORT,
    loop_begins = const LOOP_BEGINS,
    loop_ends = const LOOP_ENDS,
    done = const DONE,
    options(att_syntax)
);

unsafe extern "C" {
    safe static hyperion_kvm_guest: u8;
    safe static hyperion_kvm_guest_interrupt: u8;
    safe static hyperion_kvm_guest_user: u8;
    safe static hyperion_kvm_guest_end: u8;
}

/// The bytes between two labels of the code above.
fn between(from: &'static u8, to: &'static u8) -> &'static [u8] {
    let len = (to as *const u8).addr() - (from as *const u8).addr();
    // SAFETY: both labels are in one piece of one section of constants, `to` after `from`.
    unsafe { std::slice::from_raw_parts(from, len) }
}

/// Writes code and tables into memory that is all zero.
pub(super) fn load(memory: &mut [u8; MEMORY]) {
    let kernel = between(&hyperion_kvm_guest, &hyperion_kvm_guest_user);
    let user = between(&hyperion_kvm_guest_user, &hyperion_kvm_guest_end);
    let interrupt = between(&hyperion_kvm_guest, &hyperion_kvm_guest_interrupt).len();
    memory[CODE..][..kernel.len()].copy_from_slice(kernel);
    memory[USER_CODE..][..user.len()].copy_from_slice(user);

    let mut word = |at: usize, value: u64| {
        memory[at..][..8].copy_from_slice(&value.to_le_bytes());
    };
    // Present, writable, for ring 3; the last level decides about ring 3 page by page.
    const USER: u64 = 0b111;
    const KERNEL: u64 = 0b011;
    for level in 0..3 {
        let table = PAGING + level * 0x1000;
        word(table, (table + 0x1000) as u64 | USER);
    }
    for page in 1..MEMORY / 0x1000 {
        let address = page * 0x1000;
        let rights = match address {
            USER_CODE | USER_DATA => USER,
            _ => KERNEL,
        };
        word(PAGING + 3 * 0x1000 + page * 8, address as u64 | rights);
    }
    // Of 64-bit segments the processor heeds present, ring, kind and long.
    word(TABLES + usize::from(CODE_0), 0x00af_9b00_0000_ffff);
    word(TABLES + usize::from(DATA_0), 0x00cf_9300_0000_ffff);
    word(TABLES + usize::from(CODE_3 & !3), 0x00af_fb00_0000_ffff);
    word(TABLES + usize::from(DATA_3 & !3), 0x00cf_f300_0000_ffff);
    // A free 64-bit TSS of 104 bytes; it is below 64 KiB, so the upper half is 0.
    word(
        TABLES + usize::from(TASK),
        0x0000_8900_0000_0067 | (TSS as u64) << 16,
    );
    // An interrupt gate that ring 3 may take, to the segment of ring 0.
    let handler = (CODE + interrupt) as u64;
    word(
        IDT + VECTOR * 16,
        handler | u64::from(CODE_0) << 16 | 0xee00 << 32,
    );
    // The limit of a table is its last byte; the base follows, unaligned.
    word(GDT_OPERAND, 0x37 | (TABLES as u64) << 16);
    word(IDT_OPERAND, (VECTOR as u64 * 16 + 15) | (IDT as u64) << 16);
    // RSP0, and a bitmap of ports that begins where the TSS ends.
    word(TSS + 4, STACK_TOP as u64);
    word(TSS + 96, 104 << 48);
}

/// Runs the guest's loop on the host.
pub(super) fn same_loop() {
    // SAFETY: touches a register and the flags.
    unsafe {
        core::arch::asm!(
            "2:",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) u64::from(PASSES) => _,
            options(nomem, nostack)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_3_gets_its_two_pages_and_no_other() {
        let mut memory = Box::new([0; MEMORY]);
        load(&mut memory);
        let word =
            |at: usize| u64::from_le_bytes(memory[at..][..8].try_into().expect("eight bytes"));
        let pages: Vec<u64> = (0..16)
            .map(|page| word(PAGING + 0x3000 + page * 8))
            .collect();
        assert_eq!(pages[0], 0, "a null pointer faults");
        for (page, entry) in pages.iter().enumerate().skip(1) {
            assert_eq!(entry >> 12, page as u64);
            assert_eq!(entry & 4 != 0, [7, 9].contains(&page), "page {page}");
        }
        assert_eq!(memory[MARK], 0, "no step is done");
    }

    #[test]
    fn the_code_fits_its_pages() {
        let kernel = between(&hyperion_kvm_guest, &hyperion_kvm_guest_user);
        let user = between(&hyperion_kvm_guest_user, &hyperion_kvm_guest_end);
        assert!((100..0x1000).contains(&kernel.len()));
        assert!((10..0x1000).contains(&user.len()));
        // What ends the two: jmp to hlt, and hlt.
        assert_eq!(kernel[kernel.len() - 3], 0xf4);
        assert_eq!(user.last(), Some(&0xf4));
    }
}
