//! An ext4 of ours takes the room of a disk that has become larger.
//!
//! Nobody may have it mounted. Whole groups are added behind the others, and count
//! with the last write, that of one sector of the superblock: whoever is killed
//! before has changed nothing that is looked at.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::BLOCK;
use super::ext4::{
    self, DESCRIPTOR, FRONT, GROUP, INCOMPATIBLE, INODE, INODES_PER_BLOCK, JOURNALED, KEEPS_FRONT,
    MOST_GROUPS, READ_ONLY,
};

/// Where the superblock begins, in bytes.
const SUPERBLOCK: u64 = 1024;
/// It was not unmounted: its journal holds what is not in its place yet.
const UNFINISHED: u32 = 0x4;

/// What became of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// It has all of the disk already, but for less than a group of 128 MiB.
    Fits,
    /// It has grown to so many bytes.
    Grown(u64),
    /// It was not unmounted; once it was, it can grow.
    Unfinished,
    /// It is none of ours any more: tools have changed what it can, or its shape.
    Foreign,
}

/// Lets the ext4 on a disk of `size` bytes take all of it. What lies behind it on
/// the disk was never written to.
///
/// # Errors
/// The kernel's; the file system is as before.
pub fn grow(disk: &File, size: u64) -> io::Result<Growth> {
    let mut sector = [0; 512];
    disk.read_exact_at(&mut sector, SUPERBLOCK)?;
    let number = |at: usize| {
        let bytes = sector[at..].first_chunk();
        u64::from(bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes)))
    };
    let (blocks, each) = (number(0x04), number(0x28));
    let features = [number(0x5c), number(0x60), number(0x64)];
    let ours = [JOURNALED, INCOMPATIBLE, READ_ONLY].map(u64::from);
    let unfinished = features[1] & u64::from(UNFINISHED) != 0;
    let is_ours = sector[0x38..0x3a] == 0xef53u16.to_le_bytes()
        && features[0] == ours[0]
        && features[1] & !u64::from(UNFINISHED) == ours[1]
        && features[2] == ours[2]
        && number(0x18) == u64::from(BLOCK.trailing_zeros() - 10)
        && number(0x20) == GROUP
        && blocks % GROUP == 0
        && (INODES_PER_BLOCK..=GROUP).contains(&each)
        && each % INODES_PER_BLOCK == 0
        && number(0x00) == blocks / GROUP * each;
    if !is_ours {
        return Ok(Growth::Foreign);
    }
    let (old, new) = (blocks / GROUP, (size / BLOCK / GROUP).min(MOST_GROUPS));
    if new <= old {
        return Ok(Growth::Fits);
    }
    if unfinished {
        return Ok(Growth::Unfinished);
    }
    let taken = 2 + each / INODES_PER_BLOCK;
    let maps = [ext4::first_used(taken), ext4::none_used(each)].concat();
    let mut descriptors = Vec::new();
    for group in old..new {
        let first = group * GROUP;
        disk.write_all_at(&maps, first * BLOCK)?;
        for block in [first, first + 1, first + 2] {
            descriptors.extend((block as u32).to_le_bytes());
        }
        for count in [GROUP - taken, each, 0] {
            descriptors.extend((count as u16).to_le_bytes());
        }
        let end = descriptors.len().next_multiple_of(DESCRIPTOR as usize);
        descriptors.resize(end, 0);
    }
    let kept = 1 + ext4::descriptor_blocks(new);
    if kept > 1 + ext4::descriptor_blocks(old) {
        let mut table = [0; 4];
        disk.read_exact_at(&mut table, BLOCK + 8)?;
        let table = u64::from(u32::from_le_bytes(table)) * BLOCK;
        let inode = ext4::own_inode((kept, FRONT - kept));
        disk.write_all_at(&inode, table + (KEEPS_FRONT - 1) * INODE)?;
    }
    disk.write_all_at(&descriptors, BLOCK + old * DESCRIPTOR)?;
    disk.sync_data()?;
    let added = new - old;
    let free = [
        number(0x0c) + added * (GROUP - taken),
        number(0x10) + added * each,
    ];
    for (at, count) in [
        (0x00, new * each),
        (0x04, new * GROUP),
        (0x0c, free[0]),
        (0x10, free[1]),
    ] {
        sector[at..at + 4].copy_from_slice(&(count as u32).to_le_bytes());
    }
    disk.write_all_at(&sector, SUPERBLOCK)?;
    disk.sync_data()?;
    Ok(Growth::Grown(new * GROUP * BLOCK))
}
