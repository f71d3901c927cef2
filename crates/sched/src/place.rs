use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

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

/// Finds room for a request in what is free on these nodes, and within a second
/// space where one is given; `None` where there is not room for all of it.
///
/// Chunks of different kinds are laid one kind after the other, never anew: to
/// find room for them whenever there is some is a problem without a fast answer.
pub(crate) fn place(
    nodes: &[Node],
    open: &[usize],
    space: &Space,
    within: Option<&Space>,
    request: &Request,
    placement: Placement,
) -> Option<Allocation> {
    let room = Room {
        nodes,
        open,
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

/// Counts how much of a request has room while nodes become free, without
/// looking at all of them each time.
pub(crate) struct Tally<'a> {
    nodes: &'a [Node],
    request: &'a Request,
    /// What lies on a node whole, how many of them must, and how many could.
    kinds: SmallVec<[(Amounts, u64, u64); 1]>,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(nodes: &'a [Node], space: &Space, request: &'a Request) -> Self {
        let kinds = match request.arrangement {
            Arrangement::Together => [(request.total(), 1, 0)].into_iter().collect(),
            _ => {
                let kinds = request.chunks.iter();
                kinds
                    .map(|chunk| (chunk.each.clone(), chunk.count, 0))
                    .collect()
            }
        };
        let mut tally = Self {
            nodes,
            request,
            kinds,
        };
        for at in 0..nodes.len() {
            tally.count(space, at, u64::saturating_add);
        }
        tally
    }

    fn count(&mut self, space: &Space, at: usize, change: fn(u64, u64) -> u64) {
        let room = Room {
            nodes: self.nodes,
            open: &[],
            space,
            within: None,
            exclusive: self.request.exclusive,
        };
        for (each, most, could) in &mut self.kinds {
            let most = match self.request.arrangement {
                Arrangement::Free => *most,
                _ => 1,
            };
            *could = change(*could, room.times(at, each, None).min(most));
        }
    }

    /// Gives back what a job has.
    pub(crate) fn release(&mut self, space: &mut Space, allocation: &Allocation) {
        let nodes = || allocation.iter().map(|part| part.node.0 as usize);
        for at in nodes() {
            self.count(space, at, u64::saturating_sub);
        }
        space.release(allocation);
        for at in nodes() {
            self.count(space, at, u64::saturating_add);
        }
    }

    /// Tells whether each kind by itself would have room.
    pub(crate) fn might(&self) -> bool {
        self.kinds.iter().all(|(_, needed, could)| could >= needed)
    }
}

/// Requests that found no room, for as long as room becomes only less: whoever
/// asks for as much or more need not look.
#[derive(Default)]
pub(crate) struct Failed<'a>(Vec<&'a Request>);

impl<'a> Failed<'a> {
    /// More are not kept: to look at them would take longer than to look for room.
    const MOST: usize = 16;

    /// Keeps a request that is covered by none, in place of those that it covers.
    pub(crate) fn add(&mut self, request: &'a Request) {
        if request.chunks.len() > 1 {
            return;
        }
        self.0.retain(|failed| !covers(request, failed));
        if self.0.len() == Self::MOST {
            // The smallest are the likeliest to cover another.
            self.0.sort_by_key(|failed| failed.cores());
            self.0.pop();
        }
        self.0.push(request);
    }

    /// Tells whether one of them asked for no more.
    pub(crate) fn covers(&self, request: &Request) -> bool {
        self.0.iter().any(|failed| covers(failed, request))
    }
}

/// Tells whether there is no room for one where there is none for the other.
fn covers(failed: &Request, request: &Request) -> bool {
    let ([less], [more]) = (&failed.chunks[..], &request.chunks[..]) else {
        return false;
    };
    failed.arrangement == request.arrangement
        && failed.exclusive == request.exclusive
        && less.count <= more.count
        && less.each.is_within(&more.each)
}

fn number(at: usize) -> NodeNumber {
    NodeNumber(at as u32)
}

struct Room<'a> {
    nodes: &'a [Node],
    open: &'a [usize],
    space: &'a Space,
    within: Option<&'a Space>,
    exclusive: bool,
}

impl Room<'_> {
    /// Gives the nodes in the order in which they are tried.
    fn order(&self, placement: Placement) -> Cow<'_, [usize]> {
        let free = self.space.free();
        let mut order = Cow::Borrowed(self.open);
        match placement {
            Placement::First => {}
            Placement::Pack => order.to_mut().sort_by_key(|&at| free[at].of(CORES)),
            Placement::Spread => {
                let emptiest = |&at: &usize| Reverse(free[at].of(CORES));
                order.to_mut().sort_by_key(emptiest);
            }
        }
        order
    }

    /// Gives different chunks in an order in which the one that has the fewest nodes
    /// to go to is not left without one by another.
    fn hardest_first<'c>(&self, chunks: &'c [Chunk]) -> SmallVec<[&'c Chunk; 1]> {
        let mut sorted: SmallVec<[&Chunk; 1]> = chunks.iter().collect();
        if sorted.len() > 1 {
            let could = |chunk: &Chunk| {
                let nodes = self.open.iter();
                let nodes = nodes.filter(|&&at| self.times(at, &chunk.each, None) > 0);
                (nodes.count(), Reverse(chunk.each.of(CORES)))
            };
            sorted.sort_by_cached_key(|chunk| could(chunk));
        }
        sorted
    }

    /// Finds one node for all.
    fn together(&self, request: &Request, placement: Placement) -> Option<Allocation> {
        let all = request.total();
        let order = self.order(placement);
        let mut order = order.iter().copied();
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
        // Where the part of a node is, for the kinds that come after the first.
        let mut index: BTreeMap<usize, usize> = BTreeMap::new();
        for (kind, chunk) in kinds.iter().enumerate() {
            let mut missing = chunk.count;
            for &at in order.iter() {
                if missing == 0 {
                    break;
                }
                let mine = index.get(&at).copied();
                let most = match (request.arrangement, mine) {
                    (Arrangement::Apart, Some(_)) => 0,
                    (Arrangement::Apart, None) => 1,
                    _ => missing,
                };
                let taken = mine.map(|mine| &parts[mine].taken);
                let count = self.times(at, &chunk.each, taken).min(most).min(missing);
                if count == 0 {
                    continue;
                }
                missing -= count;
                match mine {
                    Some(mine) => parts[mine].taken.add(&chunk.each, count),
                    None => {
                        if kind + 1 < kinds.len() {
                            index.insert(at, parts.len());
                        }
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
        let here = self.times_in(self.space, at, each, taken);
        match self.within {
            Some(within) if here > 0 => here.min(self.times_in(within, at, each, taken)),
            _ => here,
        }
    }

    fn times_in(&self, space: &Space, at: usize, each: &Amounts, taken: Option<&Amounts>) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::queue::JobNumber;
    use crate::time::Time;

    /// Three nodes of 8 cores, of which 2, 6 and 0 are taken.
    fn cluster() -> Cluster {
        let node = |name: &str| Node {
            name: name.into(),
            capacity: Amounts::new([8000, 16 << 30]),
        };
        let mut cluster = Cluster::new(vec![node("a"), node("b"), node("c")]);
        for (number, cores) in [(0, 2), (1, 6)] {
            let taken = Amounts::cores(cores * 1000);
            let node = NodeNumber(number);
            let allocation = [Part { node, taken }].into_iter().collect();
            cluster.start(JobNumber(number.into()), allocation, Time::NEVER);
        }
        cluster
    }

    /// Which nodes a request gets, and how many cores of each.
    fn given(request: &Request, placement: Placement) -> Option<Vec<(u32, u64)>> {
        let cluster = cluster();
        let found = place(
            cluster.nodes(),
            &[0, 1, 2],
            cluster.space(),
            None,
            request,
            placement,
        );
        let cores = |part: &Part| (part.node.0, part.taken.of(CORES) / 1000);
        found.map(|parts| parts.iter().map(cores).collect())
    }

    #[test]
    fn the_first_the_fullest_or_the_emptiest_nodes_are_taken() {
        let request = Request::of(2, Amounts::cores(1000));
        assert_eq!(given(&request, Placement::First), Some(vec![(0, 2)]));
        assert_eq!(given(&request, Placement::Pack), Some(vec![(1, 2)]));
        assert_eq!(given(&request, Placement::Spread), Some(vec![(2, 2)]));
    }

    #[test]
    fn chunks_lie_together_apart_or_as_it_comes() {
        let seven = Request::of(7, Amounts::cores(1000));
        assert_eq!(given(&seven, Placement::First), Some(vec![(0, 6), (1, 1)]));
        let arrange = |arrangement| Request {
            arrangement,
            ..seven.clone()
        };
        let together = arrange(Arrangement::Together);
        assert_eq!(given(&together, Placement::First), Some(vec![(2, 7)]));
        // There are no seven nodes.
        assert_eq!(given(&arrange(Arrangement::Apart), Placement::First), None);
        let three = Request {
            arrangement: Arrangement::Apart,
            ..Request::of(3, Amounts::cores(2000))
        };
        let each = Some(vec![(0, 2), (1, 2), (2, 2)]);
        assert_eq!(given(&three, Placement::First), each);
    }

    #[test]
    fn who_will_be_alone_gets_whole_empty_nodes() {
        let alone = Request {
            exclusive: true,
            ..Request::of(2, Amounts::cores(1000))
        };
        assert_eq!(given(&alone, Placement::First), Some(vec![(2, 8)]));
    }

    #[test]
    fn a_kind_that_has_one_node_to_go_to_is_not_left_without_it() {
        let chunk = |count, cores| Chunk {
            count,
            each: Amounts::cores(cores),
        };
        let mixed = Request {
            chunks: vec![chunk(1, 1000), chunk(1, 8000)],
            arrangement: Arrangement::Free,
            exclusive: false,
        };
        // By itself the first kind would go to the emptiest.
        assert_eq!(given(&mixed, Placement::Spread), Some(vec![(2, 8), (0, 1)]));
    }

    #[test]
    fn memory_counts_as_cores_do() {
        let large = Request::of(3, Amounts::new([1000, 9 << 30]));
        let each = Some(vec![(0, 1), (1, 1), (2, 1)]);
        assert_eq!(given(&large, Placement::First), each);
        let larger = Request::one(Amounts::new([1000, 17 << 30]));
        assert_eq!(given(&larger, Placement::First), None);
    }
}
