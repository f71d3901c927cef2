//! The nodes of a job that has several on this host: which ranks they hold, what
//! they are called, and where they stand in the network between them.

use core::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::job::Level;

/// The most nodes of a job on one host.
pub const MOST_NODES: u32 = 64;

/// A node's card in the network between the nodes.
pub const INTERFACE: &str = "eth0";

/// How many bits of an address all nodes of a job have in common.
pub const PREFIX: u8 = 24;

/// Gives the host names of several nodes.
pub fn node_names(base: &str, count: u32) -> Vec<String> {
    (0..count)
        .map(|number| format!("{base}-{number}"))
        .collect()
}

/// One node of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// How it is fenced.
    pub level: Level,
    /// How many ranks it holds.
    pub ranks: u32,
}

impl FromStr for Member {
    type Err = String;

    /// Reads `LEVEL:RANKS`, such as `vm:1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not LEVEL:RANKS, such as vm:1 or container:3");
        let (level, ranks) = text.split_once(':').ok_or_else(wrong)?;
        let level = match level {
            "vm" => Level::Vm,
            "container" => Level::Container,
            _ => return Err(wrong()),
        };
        match ranks.parse() {
            Ok(ranks @ 1..) => Ok(Self { level, ranks }),
            _ => Err(wrong()),
        }
    }
}

/// A node's place among those of its job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlace {
    /// Its number, from 0 on.
    pub number: u32,
    /// The host names of all nodes of the job, its own included.
    pub names: Vec<String>,
}

impl NodePlace {
    /// Gives its host name.
    pub fn name(&self) -> &str {
        let name = self.names.get(self.number as usize);
        name.map_or("", String::as_str)
    }

    /// Gives its address in the network between the nodes.
    pub fn address(&self) -> Ipv4Addr {
        address(self.number)
    }

    /// Gives the lines of `/etc/hosts` for all nodes.
    pub fn hosts(&self) -> String {
        let line = |(number, name): (u32, &String)| format!("{} {name}\n", address(number));
        (0..).zip(&self.names).map(line).collect()
    }
}

/// Gives the address of a node: private, and in a network that nothing else is in.
pub fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(192, 168, 217, 0).to_bits() + 1 + number)
}

/// Gives the hardware address of a node: locally administered, and unlike those
/// of machines that stay.
pub fn hardware_address(number: u32) -> [u8; 6] {
    let [.., high, low] = number.to_be_bytes();
    [0x02, b'H', b'y', b'p', high, low]
}

/// Where a rank is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The number of its node.
    pub node: u32,
    /// Its number among the ranks of that node.
    pub local_rank: u32,
    /// How many ranks that node holds.
    pub local_size: u32,
}

/// Gives where a rank is: nodes are filled one after the other. Without members
/// there is one node, for all `ranks`.
pub fn seat(members: &[Member], ranks: u32, rank: u32) -> Seat {
    let mut first = 0;
    for (node, member) in (0..).zip(members) {
        if rank < first + member.ranks {
            return Seat {
                node,
                local_rank: rank - first,
                local_size: member.ranks,
            };
        }
        first += member.ranks;
    }
    Seat {
        node: 0,
        local_rank: rank,
        local_size: ranks,
    }
}

/// Spreads ranks over nodes in blocks; where they do not come out even, the
/// first nodes hold one more.
pub fn spread(ranks: u32, nodes: u32) -> Vec<u32> {
    let nodes = nodes.max(1);
    let (each, more) = (ranks / nodes, ranks % nodes);
    (0..nodes).map(|i| each + u32::from(i < more)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nodes_know_each_other_by_name_and_address() {
        let place = NodePlace {
            number: 1,
            names: vec!["a-0".into(), "a-1".into()],
        };
        assert_eq!(place.name(), "a-1");
        assert_eq!(place.hosts(), "192.168.217.1 a-0\n192.168.217.2 a-1\n");
        assert_eq!(place.address(), Ipv4Addr::new(192, 168, 217, 2));
        assert_ne!(hardware_address(0), hardware_address(1));
        assert_eq!(
            hardware_address(0)[0] & 3,
            2,
            "of one node, and locally made"
        );
    }

    #[test]
    fn ranks_are_spread_in_blocks() {
        assert_eq!(spread(4, 2), [2, 2]);
        assert_eq!(spread(5, 2), [3, 2]);
        assert_eq!(spread(7, 3), [3, 2, 2]);
    }

    #[test]
    fn members_are_read_and_what_is_none_is_refused() {
        let member = "container:3".parse::<Member>();
        assert_eq!(
            member.map(|m| (m.level, m.ranks)),
            Ok((Level::Container, 3))
        );
        for wrong in [
            "vm",
            "vm:",
            "vm:0",
            "process:1",
            ":2",
            "vm:-1",
            "vm:99999999999",
        ] {
            let error = wrong.parse::<Member>().expect_err(wrong);
            assert!(error.contains("such as vm:1"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn each_rank_has_a_seat_of_its_own(ranks in 1u32..200, nodes in 1u32..20) {
            let members: Vec<Member> = spread(ranks, nodes)
                .into_iter()
                .map(|ranks| Member { level: Level::Vm, ranks })
                .collect();
            let mut seats = std::collections::BTreeSet::new();
            for rank in 0..ranks {
                let seat = seat(&members, ranks, rank);
                prop_assert!(seat.local_rank < seat.local_size);
                prop_assert_eq!(seat.local_size, members[seat.node as usize].ranks);
                prop_assert!(seats.insert((seat.node, seat.local_rank)));
            }
        }
    }
}
