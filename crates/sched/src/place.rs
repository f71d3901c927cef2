use std::cmp::Reverse;

use smallvec::SmallVec;

use crate::amounts::{Amounts, CORES};
use crate::cluster::{Allocation, Node, NodeNumber, Part, Space};
use crate::request::{Arrangement, Chunk, Request};

/// Which of the nodes that could take a job are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Placement {
    /// The first in the list.
    #[default]
    First,
    /// The fullest: whole nodes stay free for those who need them.
    Pack,
    /// The emptiest: jobs are in each other's way as little as can be.
    Spread,
}

/// Finds room for a request in what is free, and within a second space where
/// one is given; `None` where there is not room for all of it.
///
/// Chunks of different kinds are laid one kind after the other, never anew: to
/// find room for them whenever there is some is a problem without a fast answer.
pub(crate) fn place(
    nodes: &[Node],
    space: &Space,
    within: Option<&Space>,
    request: &Request,
    placement: Placement,
) -> Option<Allocation> {
    let room = Room {
        nodes,
        space,
        within,
        exclusive: request.exclusive,
    };
    if request.arrangement == Arrangement::Together {
        return room.together(request, placement);
    }
    let mut kinds = room.hardest_first(&request.chunks);
    let found = room.spread_out(request, &kinds, placement);
    if found.is_some() || kinds.len() < 2 {
        return found;
    }
    // What one kind takes another may need: a few other ways are tried.
    for _ in 0..2 {
        for placement in [Placement::First, Placement::Pack, Placement::Spread] {
            let found = room.spread_out(request, &kinds, placement);
            if found.is_some() {
                return found;
            }
        }
        kinds.reverse();
    }
    None
}

fn number(at: usize) -> NodeNumber {
    NodeNumber(at as u32)
}

struct Room<'a> {
    nodes: &'a [Node],
    space: &'a Space,
    within: Option<&'a Space>,
    exclusive: bool,
}

impl Room<'_> {
    /// Gives the nodes in the order in which they are tried.
    fn order(&self, placement: Placement) -> SmallVec<[usize; 4]> {
        let free = self.space.free();
        let mut order: SmallVec<[usize; 4]> = (0..self.nodes.len()).collect();
        match placement {
            Placement::First => {}
            Placement::Pack => order.sort_by_key(|&at| free[at].of(CORES)),
            Placement::Spread => order.sort_by_key(|&at| Reverse(free[at].of(CORES))),
        }
        order
    }

    /// Gives different chunks in an order in which the one that has the fewest nodes
    /// to go to is not left without one by another.
    fn hardest_first<'c>(&self, chunks: &'c [Chunk]) -> SmallVec<[&'c Chunk; 1]> {
        let mut sorted: SmallVec<[&Chunk; 1]> = chunks.iter().collect();
        if sorted.len() > 1 {
            let could = |chunk: &Chunk| {
                let nodes =
                    (0..self.nodes.len()).filter(|&at| self.times(at, &chunk.each, None) > 0);
                (nodes.count(), Reverse(chunk.each.of(CORES)))
            };
            sorted.sort_by_cached_key(|chunk| could(chunk));
        }
        sorted
    }

    /// Finds one node for all.
    fn together(&self, request: &Request, placement: Placement) -> Option<Allocation> {
        let mut all = Amounts::default();
        for chunk in &request.chunks {
            all.add(&chunk.each, chunk.count);
        }
        let mut order = self.order(placement).into_iter();
        let at = order.find(|&at| self.times(at, &all, None) > 0)?;
        Some([self.part(at, all)].into_iter().collect())
    }

    /// Finds nodes for one kind of chunk after the other.
    fn spread_out(
        &self,
        request: &Request,
        kinds: &[&Chunk],
        placement: Placement,
    ) -> Option<Allocation> {
        let order = self.order(placement);
        let mut parts = Allocation::new();
        for chunk in kinds {
            let mut missing = chunk.count;
            for &at in &order {
                if missing == 0 {
                    break;
                }
                let mine = parts.iter_mut().find(|part| part.node == number(at));
                let most = match (request.arrangement, &mine) {
                    (Arrangement::Apart, Some(_)) => 0,
                    (Arrangement::Apart, None) => 1,
                    _ => missing,
                };
                let taken = mine.as_ref().map(|part| &part.taken);
                let count = self.times(at, &chunk.each, taken).min(most);
                if count == 0 {
                    continue;
                }
                missing -= count;
                match mine {
                    Some(part) => part.taken.add(&chunk.each, count),
                    None => {
                        let mut taken = Amounts::default();
                        taken.add(&chunk.each, count);
                        let node = number(at);
                        parts.push(Part { node, taken });
                    }
                }
            }
            if missing > 0 {
                return None;
            }
        }
        let parts = parts.into_iter();
        Some(
            parts
                .map(|part| self.part(part.node.0 as usize, part.taken))
                .collect(),
        )
    }

    /// Tells how many times `each` has room on a node, of which some is taken already.
    fn times(&self, at: usize, each: &Amounts, taken: Option<&Amounts>) -> u64 {
        let spaces = [Some(self.space), self.within];
        let times = spaces.into_iter().flatten().map(|space| {
            let free = &space.free()[at];
            if self.exclusive && *free != self.nodes[at].capacity {
                return 0;
            }
            match taken {
                None => free.times(each),
                Some(taken) => {
                    let mut left = free.clone();
                    left.take(taken);
                    left.times(each)
                }
            }
        });
        times.min().unwrap_or(0)
    }

    /// Gives what a job takes of a node where it needs so much.
    fn part(&self, at: usize, taken: Amounts) -> Part {
        let taken = match self.exclusive {
            true => self.nodes[at].capacity.clone(),
            false => taken,
        };
        Part {
            node: number(at),
            taken,
        }
    }
}
