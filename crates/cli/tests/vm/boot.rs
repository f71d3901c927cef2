//! Boot sectors, in bytes: guests that need no system.

/// Says these words on the first serial line, and halts.
pub(crate) fn speaking(words: &str) -> Vec<u8> {
    let code = [
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xfc, // cld
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xbe, 0x16, 0x7c, // mov si, words
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x03, // jz end
        0xee, // out dx, al
        0xeb, 0xf8, // jmp next
        0xf4, // end: hlt
        0xeb, 0xfd, // jmp end
    ];
    sector(&[&code, words.as_bytes()].concat())
}

/// An optical disk (ISO 9660, El Torito without emulation) that says these words.
pub(crate) fn speaking_disc(words: &str) -> Vec<u8> {
    const SECTOR: usize = 2048;
    let mut disc = vec![0; 32 * SECTOR];
    let mut put = |at: usize, bytes: &[u8]| disc[at..at + bytes.len()].copy_from_slice(bytes);
    put(16 * SECTOR, b"\x01CD001\x01");
    put(17 * SECTOR, b"\x00CD001\x01EL TORITO SPECIFICATION");
    put(17 * SECTOR + 0x47, &19u32.to_le_bytes());
    put(18 * SECTOR, b"\xffCD001\x01");
    // The catalog: what it is for, with a sum of 0 over all its words; then what is booted.
    let sum = 0u16.wrapping_sub(1).wrapping_sub(0xaa55);
    put(19 * SECTOR, &[1]);
    put(19 * SECTOR + 28, &sum.to_le_bytes());
    put(19 * SECTOR + 30, &[0x55, 0xaa, 0x88]);
    put(19 * SECTOR + 38, &4u16.to_le_bytes());
    put(19 * SECTOR + 40, &20u32.to_le_bytes());
    put(20 * SECTOR, &speaking(words));
    disc
}

/// Writes to its own disk from the second MiB to this one, and says that it is done,
/// or that it failed.
pub(crate) fn writing(mib: u32) -> Vec<u8> {
    going_through(0x43, mib)
}

/// Reads likewise.
pub(crate) fn reading(mib: u32) -> Vec<u8> {
    going_through(0x42, mib)
}

fn going_through(function: u8, mib: u32) -> Vec<u8> {
    const ORIGIN: u16 = 0x7c00;
    let [packet, block] = [63, 63 + 8].map(|at: u16| (ORIGIN + at).to_le_bytes());
    let [done, failed] = [79, 84].map(|at: u16| (ORIGIN + at).to_le_bytes());
    let end = (mib * 2048).to_le_bytes();
    let code = [
        &[0x31, 0xc0][..],                     // xor ax, ax
        &[0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0], // mov ds, es, ss
        &[0xbc, 0x00, 0x7c, 0xfc],             // mov sp, 0x7c00; cld
        &[0xb8, 0x00, function],               // next: mov ax, function (extended read or write)
        &[0xb2, 0x80],                         // mov dl, 0x80
        &[0xbe],
        &packet,       // mov si, packet
        &[0xcd, 0x13], // int 0x13
        &[0x72, 0x16], // jc failed
        &[0x66, 0x83, 0x06],
        &block,
        &[0x40], // add dword [block], 64
        &[0x66, 0x81, 0x3e],
        &block,
        &end,          // cmp dword [block], end
        &[0x72, 0xe3], // jb next
        &[0xbe],
        &done,         // mov si, done
        &[0xeb, 0x03], // jmp say
        &[0xbe],
        &failed,                                           // failed: mov si, failed
        &[0xba, 0xf8, 0x03],                               // say: mov dx, 0x3f8
        &[0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8], // each byte to the line
        &[0xf4, 0xeb, 0xfd],                               // hlt, for ever
        // packet: 64 sectors from 0:0x7e00 to the block that is counted
        &[0x10, 0, 64, 0, 0x00, 0x7e, 0, 0],
        &[0, 8, 0, 0, 0, 0, 0, 0],
        b"done\0failed\0",
    ];
    sector(&code.concat())
}

/// Makes a sector that a BIOS boots.
fn sector(content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 510, "{} bytes", content.len());
    let mut sector = content.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}
