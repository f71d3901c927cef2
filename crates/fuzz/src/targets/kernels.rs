//! Kernels of virtual machines, their modules, and the packages of both.

use hyperion_isolation::fuzz;

use crate::Target;

pub(super) const KERNEL: Target = Target {
    name: "kernel",
    about: "a bzImage and the vmlinux inside, or a vmlinux",
    run: fuzz::kernel,
    seeds: || {
        let mut seeds = vec![vmlinux()];
        seeds.extend(packed(&vmlinux()).iter().map(|packed| bzimage(packed)));
        seeds
    },
    words: &["HdrS", "\x7fELF\x02\x01\x01", "Xen\0", "\x12\0\0\0"],
};

pub(super) const MODULE: Target = Target {
    name: "module",
    about: "a module, packed or not: what it needs; and lists of modules",
    run: fuzz::module,
    seeds: || {
        let mut seeds = packed(&module());
        seeds.push(b"kernel/fs/ext4/ext4.ko\nkernel/lib/libcrc32c.ko.xz\n".to_vec());
        seeds
    },
    words: &[
        "depends=",
        "softdep=pre: ",
        "post: ",
        "vermagic=6.1.0 ",
        ",",
        ".modinfo\0",
        ".ko",
    ],
};

pub(super) const PACKAGE: Target = Target {
    name: "package",
    about: "a package of Debian: ar, and the packed tar archive in it",
    run: fuzz::package,
    seeds: || {
        let mut tar = tar::Builder::new(Vec::new());
        for path in ["./boot/vmlinuz-6.1", &format!("./lib/{}", "d/".repeat(60))] {
            let mut header = tar::Header::new_gnu();
            header.set_size(5);
            let added = tar.append_data(&mut header, path, &b"hello"[..]);
            added.expect("an entry");
        }
        let tar = tar.into_inner().expect("an archive");
        packed(&tar).iter().map(|data| package(data)).collect()
    },
    words: &[
        "!<arch>\n",
        "data.tar",
        "`\n",
        "././@LongLink",
        "ustar",
        "L",
    ],
};

/// Some bytes as they are, and small files of every form of compression.
fn packed(bytes: &[u8]) -> Vec<Vec<u8>> {
    vec![bytes.to_vec(), XZ.to_vec(), ZSTD.to_vec(), LZ4.to_vec()]
}

/// Words of `hello`, by `xz --check=crc32 --x86 --lzma2=dict=4KiB`, `zstd` and `lz4 -l`.
const XZ: &[u8] = b"\xfd7zXZ\0\0\x01i\x22\xde6\x02\x01\x04\0!\x01\0\0\xda3\xad\x03\xe0\0\x22\0\x0c]\x004\x19I\xee\x8d\xe9Wo+\xaf\0\0\0W7b\x85\0\x01$#\xff%\x09s\x90B\x99\x0d\x01\0\0\0\0\x01YZ";
const ZSTD: &[u8] = b"(\xb5/\xfd\0Xe\0\x000hello \x01\0\xb9K\x11";
const LZ4: &[u8] = b"\x02!L\x18\x10\0\0\0ohello \x06\0\x05Phello";

/// A header, one segment of notes, and the note with PVH's address.
fn vmlinux() -> Vec<u8> {
    let mut elf = vec![0; 120];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (elf[18], elf[32], elf[54], elf[56]) = (62, 64, 56, 1);
    (elf[64], elf[72], elf[96]) = (4, 120, 20);
    elf.extend(b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\0\0\0\x01");
    elf
}

fn bzimage(packed: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1024];
    image[0x1f1] = 1;
    image[0x202..0x210].copy_from_slice(b"HdrS\x0f\x02\0\0\0\0\0\0\0\x01");
    image[0x24c] = u8::try_from(packed.len()).unwrap_or(u8::MAX);
    image[0x300..0x306].copy_from_slice(b"6.1.0 ");
    image.extend(packed);
    image
}

/// Two sections: what the module says of itself, and the names of both.
fn module() -> Vec<u8> {
    let names = b".modinfo\0.names\0";
    let info = b"depends=virtio,virtio_ring\0softdep=pre: crc32c\0vermagic=6.1.0 SMP\0";
    let mut elf = vec![0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf.extend(names);
    elf.extend(info);
    let headers = elf.len();
    elf.resize(headers + 128, 0);
    for (at, number) in [
        (40, headers),
        (58, 64),
        (60, 2),
        (62, 1),
        (headers + 24, 64 + names.len()),
        (headers + 32, info.len()),
        (headers + 64, 9),
        (headers + 88, 64),
        (headers + 96, names.len()),
    ] {
        elf[at] = u8::try_from(number).expect("small");
    }
    elf
}

fn package(data: &[u8]) -> Vec<u8> {
    let mut all = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("data.tar", data)] {
        let size = content.len();
        let header = format!("{name:<16}0           0     0     100644  {size:<10}`\n");
        all.extend(header.bytes());
        all.extend(content);
        all.resize(all.len().next_multiple_of(2), b'\n');
    }
    all
}
