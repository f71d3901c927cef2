//! Where on the host a machine's processors run, and which NUMA nodes its guest
//! sees for that.

use std::io;

use hyperion_model::{Bytes, CpuSet};
use hyperion_sys::process;
use rustix::process::Pid;
use thiserror::Error;

use super::qmp::{Qmp, QmpError};

/// Why processors of a machine are not where they should be.
#[derive(Debug, Error)]
pub enum TieError {
    /// QEMU does not name their threads.
    #[error("QEMU does not name the threads of its processors")]
    Unnamed(#[from] QmpError),
    /// The kernel refuses it.
    #[error("processor {processor} of the machine cannot run on {to} of this host")]
    Refused {
        /// The guest's number.
        processor: u32,
        /// Those of the host.
        to: CpuSet,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
}

/// Ties the threads of a machine's processors to the host's, where they have any.
///
/// # Errors
/// [`TieError`]; some may be tied.
pub fn tie(
    monitor: &mut Qmp,
    qemu: Pid,
    seat: impl Fn(u32) -> Option<CpuSet>,
) -> Result<(), TieError> {
    for cpu in monitor.cpus()? {
        if let Some(to) = seat(cpu.index) {
            let tied = process::bind(Some((qemu, cpu.thread)), &to);
            tied.map_err(|source| TieError::Refused {
                processor: cpu.index,
                to,
                source,
            })?;
        }
    }
    Ok(())
}

/// Processors of the host, and the memory that is near them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNode {
    /// The kernel's number.
    pub id: u32,
    /// Those of its processors that the job may use.
    pub cpus: CpuSet,
    /// It has memory of its own.
    pub has_memory: bool,
}

/// A NUMA node of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Its processors, by the guest's numbers: neighbours.
    pub cpus: CpuSet,
    /// Its memory.
    pub memory: Bytes,
    /// The host's node that the memory comes from; `None` leaves that to the host.
    pub from: Option<u32>,
}

/// Where one machine is put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seats {
    /// The host's processor of each of the guest's, in their order; none where they
    /// are not tied.
    pub cpus: Vec<u32>,
    /// The guest's NUMA nodes; none where the host has one only, which then has
    /// all there is.
    pub cells: Vec<Cell>,
}

impl Seats {
    /// Puts one of several machines of the same size on a host's processors, one
    /// beside the other, and again from the first where there are not enough.
    /// Memory is shared out in whole `pages`, as processors are.
    pub fn new(
        host: &[HostNode],
        number: u32,
        processors: u32,
        memory: Bytes,
        page: Bytes,
    ) -> Self {
        let all = (0..).zip(host).flat_map(|(at, node)| {
            let cpus = node.cpus.0.iter();
            cpus.map(move |&cpu| (at, cpu))
        });
        let all: Vec<(usize, u32)> = all.collect();
        if all.is_empty() {
            return Self::default();
        }
        let first = number as usize * processors as usize % all.len();
        let turns = all.iter().cycle().skip(first);
        let mut taken: Vec<(usize, u32)> = turns.take(processors as usize).copied().collect();
        // Neighbours in the guest are neighbours on the host.
        taken.sort_by_key(|(node, _)| *node);
        let cpus = taken.iter().map(|(_, cpu)| *cpu).collect();
        let mut homes: Vec<usize> = taken.iter().map(|(node, _)| *node).collect();
        homes.dedup();
        let pages = memory.0 / page.0.max(1);
        if host.len() < 2 || pages < homes.len() as u64 {
            let cells = Vec::new();
            return Self { cpus, cells };
        }
        let mut cells = Vec::new();
        let (mut next, mut left) = (0, memory.0);
        for &home in &homes {
            let count = taken.iter().filter(|(node, _)| *node == home).count() as u32;
            let share = match homes.last() == Some(&home) {
                true => left,
                false => (pages * u64::from(count) / u64::from(processors)).max(1) * page.0,
            };
            left -= share;
            cells.push(Cell {
                cpus: CpuSet((next..next + count).collect()),
                memory: Bytes(share),
                from: host[home].has_memory.then_some(host[home].id),
            });
            next += count;
        }
        Self { cpus, cells }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32, cpus: &str) -> HostNode {
        HostNode {
            id,
            cpus: cpus.parse().expect("a list"),
            has_memory: id < 4,
        }
    }

    const MIB: Bytes = Bytes(1 << 20);

    fn seats(host: &[HostNode], number: u32, processors: u32) -> Seats {
        Seats::new(host, number, processors, Bytes(1000 << 20), MIB)
    }

    fn cell(cpus: &str, mib: u64, from: Option<u32>) -> Cell {
        Cell {
            cpus: cpus.parse().expect("a list"),
            memory: Bytes(mib << 20),
            from,
        }
    }

    #[test]
    fn a_machine_sees_the_nodes_that_its_processors_lie_in() {
        let host = [node(0, "0-2,6-8"), node(1, "3-5,9-11")];
        let both = seats(&host, 0, 8);
        assert_eq!(both.cpus, [0, 1, 2, 6, 7, 8, 3, 4]);
        let cells = [cell("0-5", 750, Some(0)), cell("6-7", 250, Some(1))];
        assert_eq!(both.cells, cells);
        // All in one: its memory is to come from there.
        let one = seats(&host, 0, 4);
        assert_eq!(one.cpus, [0, 1, 2, 6]);
        assert_eq!(one.cells, [cell("0-3", 1000, Some(0))]);
        // A host of one node has nothing to show.
        let plain = seats(&[node(0, "0-3")], 0, 2);
        assert_eq!((plain.cpus, plain.cells.len()), (vec![0, 1], 0));
        // Memory cannot come from where there is none.
        let without = seats(&[node(0, "0"), node(4, "1")], 0, 2);
        assert_eq!(without.cells[1], cell("1", 500, None));
        assert_eq!(seats(&[], 0, 2), Seats::default());
    }

    #[test]
    fn machines_of_a_job_sit_beside_each_other() {
        let host = [node(0, "0-3"), node(1, "4-7")];
        assert_eq!(seats(&host, 1, 3).cpus, [3, 4, 5]);
        // Where there are not enough, some are used twice.
        assert_eq!(seats(&host, 2, 3).cpus, [0, 6, 7]);
        let cells = [cell("0", 333, Some(0)), cell("1-2", 667, Some(1))];
        assert_eq!(seats(&host, 2, 3).cells, cells);
    }

    #[test]
    fn memory_is_shared_out_in_whole_pages() {
        let host = [node(0, "0"), node(1, "1-2")];
        let of = |mib: u64, page: u64| -> Vec<u64> {
            let seats = Seats::new(&host, 0, 3, Bytes(mib << 20), Bytes(page << 20));
            let sizes = seats.cells.iter().map(|cell| cell.memory.0 >> 20);
            sizes.collect()
        };
        assert_eq!(of(100, 2), [32, 68]);
        assert_eq!(of(4096, 1024), [1024, 3072]);
        // One page cannot be in two nodes.
        assert_eq!(of(1024, 1024), [0; 0]);
    }
}
