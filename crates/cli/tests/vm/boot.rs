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

/// Makes a sector that a BIOS boots.
fn sector(content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 510, "{} bytes", content.len());
    let mut sector = content.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}
