use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::allocation::{Allocation, Part, Parts};
use crate::amounts::{Amounts, CORES};
use crate::cluster::{Cluster, NodeNumber};
use crate::nodeset::NodeSet;
use crate::request::{Arrangement, Chunk, Request};
use crate::space::{Room, See, Space, show};

/// Which of the nodes that could take a job are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// The first in the list.
    #[default]
    First,
    /// The fullest: whole nodes stay free for those who need them.
    Pack,
    /// The emptiest: jobs are in each other's way as little as can be.
    Spread,
    /// The fullest; those with free devices last, where a job asks for none.
    BestFit,
}

/// Finds room for a request on the nodes that each of its members may have; `None`
/// where there is not room for all of it.
///
/// Chunks of different kinds are laid one kind after the other, and so are members,
/// in a few orders: to find room for them whenever there is some is a problem
/// without a fast answer.
pub(crate) fn place(
    cluster: &Cluster,
    room: &dyn Room,
    among: &[Arc<NodeSet>],
    request: &Request,
    placement: Placement,
) -> Option<Allocation> {
    if request.others.is_empty() {
        return place_member(cluster, room, &among[0], request, placement);
    }
    let members: Vec<&Request> = request.members().collect();
    let mut numbers: Vec<usize> = (0..members.len()).collect();
    for _ in 0..2 {
        let mut less = Less::new(room);
        let all = numbers.iter().try_for_each(|&number| {
            let found = place_member(cluster, &less, &among[number], members[number], placement)?;
            less.take(found, number as u32);
            Some(())
        });
        if all.is_some() {
            return Some(less.allocation);
        }
        numbers.reverse();
    }
    None
}

fn place_member(
    cluster: &Cluster,
    room: &dyn Room,
    among: &NodeSet,
    request: &Request,
    placement: Placement,
) -> Option<Allocation> {
    let asks_shared = !request.shared.is_nothing();
    if asks_shared && !request.shared.is_within(&room.shared()) {
        return None;
    }
    let lay = Lay { cluster, request };
    let mut found = match (&request.chunks[..], request.arrangement) {
        (_, Arrangement::Together) => {
            let all = request.member_total();
            lay.alike(
                room,
                among,
                placement,
                &Chunk {
                    count: 1,
                    each: all,
                },
            )
        }
        ([chunk], _) => lay.alike(room, among, placement, chunk),
        (chunks, _) => lay.different(room, among, placement, chunks),
    }?;
    if asks_shared {
        found.push(Part::of(NodeNumber::NONE, request.shared.clone()));
    }
    Some(found)
}

/// How a member of a request is laid on nodes.
struct Lay<'a> {
    cluster: &'a Cluster,
    request: &'a Request,
}

impl Lay<'_> {
    /// Tells how many times `each` has room where that much is free.
    fn times(&self, at: usize, free: &Amounts, each: &Amounts) -> u64 {
        let capacity = &self.cluster.nodes()[at].capacity;
        if self.request.exclusive && free != capacity {
            return 0;
        }
        let times = free.times(each);
        // Whoever takes any kind of device takes one of some kind.
        let families = self.cluster.families().iter();
        let asked = families.filter(|family| each.of(family.any) > 0 && family.is_told(capacity));
        let most = asked.map(|family| family.kinds_of(free) / each.of(family.any));
        most.fold(times, u64::min)
    }

    /// Says of what kind the devices are of which a job has any; tells whether there are
    /// enough.
    fn settle(&self, at: usize, free: &Amounts, taken: &mut Amounts) -> bool {
        let capacity = &self.cluster.nodes()[at].capacity;
        let mut families = self.cluster.families().iter();
        families.all(|family| !family.is_told(capacity) || family.settle(free, taken))
    }

    /// Gives what a member takes of alike nodes where it needs so much of each.
    fn part(&self, nodes: Range<u32>, taken: Amounts) -> Parts {
        let taken = match self.request.exclusive {
            true => self.cluster.nodes()[nodes.start as usize].capacity.clone(),
            false => taken,
        };
        Parts::of(nodes, taken)
    }

    /// Finds nodes for chunks of one kind.
    fn alike(
        &self,
        room: &dyn Room,
        among: &NodeSet,
        placement: Placement,
        chunk: &Chunk,
    ) -> Option<Allocation> {
        let mut missing = chunk.count;
        let mut parts = Allocation::new();
        if missing == 0 {
            return Some(parts);
        }
        let most = match self.request.arrangement {
            Arrangement::Apart => 1,
            _ => u64::MAX,
        };
        room.visit(&chunk.each, among, placement, &mut |mut nodes, free| {
            let at = nodes.start as usize;
            let times = self.times(at, free, &chunk.each).min(most);
            // As many on each as it can take, and what is left on one more.
            while times > 0 && missing > 0 && !nodes.is_empty() {
                let count = times.min(missing);
                let mut taken = Amounts::default();
                taken.add(&chunk.each, count);
                if !self.settle(at, free, &mut taken) {
                    break;
                }
                let wanted = u32::try_from(missing / count).unwrap_or(u32::MAX);
                let end = nodes.end.min(nodes.start.saturating_add(wanted));
                let some = nodes.start..end;
                missing -= count * some.len() as u64;
                nodes.start = end;
                parts.add(self.part(some, taken));
            }
            match missing {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        if missing > 0 {
            room.lacked(missing);
            return None;
        }
        Some(parts)
    }

    /// Finds nodes for chunks of several kinds.
    fn different(
        &self,
        room: &dyn Room,
        among: &NodeSet,
        placement: Placement,
        chunks: &[Chunk],
    ) -> Option<Allocation> {
        let mut least = chunks.first()?.each.clone();
        chunks.iter().for_each(|chunk| least.limit(&chunk.each));
        let mut seen = Vec::new();
        room.visit(&least, among, Placement::First, &mut |nodes, free| {
            seen.extend(nodes.map(|at| (at..at + 1, free.clone())));
            ControlFlow::Continue(())
        });
        let mut kinds = self.hardest_first(&seen, chunks);
        let found = self.kind_by_kind(&seen, &least, &kinds, placement);
        if found.is_some() {
            return found;
        }
        // What one kind takes another may need: a few other ways are tried.
        for _ in 0..2 {
            for placement in [Placement::First, Placement::Pack, Placement::Spread] {
                let found = self.kind_by_kind(&seen, &least, &kinds, placement);
                if found.is_some() {
                    return found;
                }
            }
            kinds.reverse();
        }
        None
    }

    /// Gives different chunks in an order in which the one that has the fewest nodes
    /// to go to is not left without one by another.
    fn hardest_first<'c>(
        &self,
        seen: &[(Range<u32>, Amounts)],
        chunks: &'c [Chunk],
    ) -> SmallVec<[&'c Chunk; 1]> {
        let mut sorted: SmallVec<[&Chunk; 1]> = chunks.iter().collect();
        let could = |chunk: &Chunk| {
            let nodes = seen.iter();
            let nodes =
                nodes.filter(|(at, free)| self.times(at.start as usize, free, &chunk.each) > 0);
            (nodes.count(), Reverse(chunk.each.of(CORES)))
        };
        sorted.sort_by_cached_key(|chunk| could(chunk));
        sorted
    }

    fn kind_by_kind(
        &self,
        seen: &[(Range<u32>, Amounts)],
        least: &Amounts,
        kinds: &[&Chunk],
        placement: Placement,
    ) -> Option<Allocation> {
        let mut order = Vec::new();
        show(seen.to_vec(), least, placement, &mut |nodes, free| {
            order.push((nodes.start, free.clone()));
            ControlFlow::Continue(())
        });
        let mut parts: Vec<Part> = Vec::new();
        // Where the part of a node is, for the kinds that come after the first.
        let mut index: BTreeMap<u32, usize> = BTreeMap::new();
        for chunk in kinds {
            let mut missing = chunk.count;
            for (at, free) in &mut order {
                if missing == 0 {
                    break;
                }
                let mine = index.get(at).copied();
                let most = match (self.request.arrangement, mine) {
                    (Arrangement::Apart, Some(_)) => 0,
                    (Arrangement::Apart, None) => 1,
                    _ => missing,
                };
                // Whoever is alone on a node was so before its first kind.
                let times = match mine {
                    Some(_) => free.times(&chunk.each),
                    None => self.times(*at as usize, free, &chunk.each),
                };
                let count = times.min(most).min(missing);
                if count == 0 {
                    continue;
                }
                missing -= count;
                let mut taken = Amounts::default();
                taken.add(&chunk.each, count);
                free.take(&taken);
                match mine {
                    Some(mine) => parts[mine].taken.add(&taken, 1),
                    None => {
                        index.insert(*at, parts.len());
                        parts.push(Part::of(NodeNumber(*at), taken));
                    }
                }
            }
            if missing > 0 {
                return None;
            }
        }
        for part in &mut parts {
            let its = |(nodes, _): &&(Range<u32>, Amounts)| nodes.start == part.node.0;
            let (_, free) = seen.iter().find(its)?;
            if !self.settle(part.node.index(), free, &mut part.taken) {
                return None;
            }
        }
        let parts = parts.into_iter();
        Some(
            parts
                .map(|Part { node, taken, .. }| self.part(node.0..node.0 + 1, taken))
                .collect(),
        )
    }
}

/// What is left beside what other members take.
struct Less<'a> {
    room: &'a dyn Room,
    taken: BTreeMap<u32, Amounts>,
    shared: Amounts,
    allocation: Allocation,
}

impl<'a> Less<'a> {
    fn new(room: &'a dyn Room) -> Self {
        Self {
            room,
            taken: BTreeMap::new(),
            shared: room.shared(),
            allocation: Allocation::new(),
        }
    }

    fn take(&mut self, parts: Allocation, member: u32) {
        for part in parts.iter() {
            match part.node {
                NodeNumber::NONE => self.shared.take(&part.taken),
                node => self.taken.entry(node.0).or_default().add(&part.taken, 1),
            }
            self.allocation.push(Part { member, ..part });
        }
    }
}

impl Room for Less<'_> {
    fn visit(&self, each: &Amounts, among: &NodeSet, placement: Placement, see: See<'_>) {
        self.room.visit(each, among, placement, &mut |nodes, free| {
            let mut from = nodes.start;
            for (&at, taken) in self.taken.range(nodes.clone()) {
                if from < at {
                    see(from..at, free)?;
                }
                from = at + 1;
                let mut left = free.clone();
                left.take(taken);
                if each.is_within(&left) {
                    see(at..from, &left)?;
                }
            }
            match from < nodes.end {
                true => see(from..nodes.end, free),
                false => ControlFlow::Continue(()),
            }
        });
    }

    fn shared(&self) -> Amounts {
        self.shared.clone()
    }
}

/// Counts how much of a request has room while nodes become free, without
/// looking at all of them each time.
pub(crate) struct Tally<'a> {
    cluster: &'a Cluster,
    /// What lies on a node whole, how many of them must, and how many could.
    kinds: SmallVec<[Counted<'a>; 1]>,
}

struct Counted<'a> {
    member: &'a Request,
    among: Arc<NodeSet>,
    each: Amounts,
    needed: u64,
    could: u64,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(
        cluster: &'a Cluster,
        space: &Space,
        request: &'a Request,
        among: &[Arc<NodeSet>],
    ) -> Self {
        let mut tally = Self {
            cluster,
            kinds: SmallVec::new(),
        };
        for (member, among) in request.members().zip(among) {
            let mut count = |each, needed| {
                tally.kinds.push(Counted {
                    member,
                    among: Arc::clone(among),
                    each,
                    needed,
                    could: 0,
                });
            };
            match member.arrangement {
                Arrangement::Together => count(member.member_total(), 1),
                _ => {
                    let chunks = member.chunks.iter();
                    chunks.for_each(|chunk| count(chunk.each.clone(), chunk.count));
                }
            }
        }
        for stretch in space.stretches() {
            tally.count(stretch.nodes(), &stretch.free, u64::saturating_add);
        }
        tally
    }

    fn count(&mut self, nodes: Range<u32>, free: &Amounts, change: fn(u64, u64) -> u64) {
        let first = nodes.start as usize;
        for kind in self.kinds.iter_mut().filter(|_| !nodes.is_empty()) {
            let most = match kind.member.arrangement {
                Arrangement::Free => kind.needed,
                _ => 1,
            };
            let lay = Lay {
                cluster: self.cluster,
                request: kind.member,
            };
            let times = lay.times(first, free, &kind.each).min(most);
            if times > 0 {
                let count = kind.among.count_in(nodes.clone());
                kind.could = change(kind.could, times.saturating_mul(count));
            }
        }
    }

    /// Gives back what a job has.
    pub(crate) fn release(&mut self, space: &mut Space, allocation: &Allocation) {
        space.change(allocation, true, |nodes, free, taken| {
            self.count(nodes.clone(), free, u64::saturating_sub);
            free.add(taken, 1);
            self.count(nodes, free, u64::saturating_add);
        });
    }

    /// Tells whether each kind by itself would have room.
    pub(crate) fn might(&self) -> bool {
        self.kinds.iter().all(|kind| kind.could >= kind.needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Cluster, Node};
    use crate::family::Family;
    use crate::queue::JobNumber;
    use crate::space::Now;
    use crate::time::Time;
    use std::cell::Cell;

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
            let allocation = [Part::of(node, taken)].into_iter().collect();
            cluster.start(JobNumber(number.into()), allocation, Time::NEVER);
        }
        cluster
    }

    /// Which nodes a request gets, and how many cores of each.
    fn given(request: &Request, placement: Placement) -> Option<Vec<(u32, u64)>> {
        let cluster = cluster();
        let (steps, all) = (Cell::new(0), [Arc::new(NodeSet::first(3))]);
        let room = Now {
            space: cluster.space(),
            within: None,
            steps: &steps,
        };
        let found = place(&cluster, &room, &all, request, placement);
        // The same with the nodes kept in that order.
        let ranked = cluster.space().clone().ranked(placement);
        let room = Now {
            space: &ranked,
            ..room
        };
        let again = place(&cluster, &room, &all, request, placement);
        assert_eq!(found, again);
        let cores = |part: Part| (part.node.0, part.taken.of(CORES) / 1000);
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
            ..Request::default()
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

    /// A node of 8 cores with four devices of one kind and two of another, and one with
    /// two of which nobody says the kind; kind 2 is any of them.
    fn with_devices() -> Cluster {
        let node = |amounts: [u64; 5]| Node {
            name: "n".into(),
            capacity: Amounts::new(amounts),
        };
        let mut cluster = Cluster::new(vec![node([8000, 0, 6, 4, 2]), node([8000, 0, 2, 0, 0])]);
        cluster.set_families(vec![Family {
            any: 2,
            kinds: vec![3, 4],
        }]);
        cluster
    }

    /// Starts jobs that ask for so many devices of any, the first and the second kind;
    /// gives on which node each is, and what it has.
    fn devices(asked: &[[u64; 3]]) -> Vec<Option<(u32, [u64; 3])>> {
        let mut cluster = with_devices();
        let (steps, all) = (Cell::new(0), [Arc::new(NodeSet::first(2))]);
        let mut given = Vec::new();
        for (number, [any, first, second]) in asked.iter().enumerate() {
            let request = Request::one(Amounts::new([1000, 0, *any, *first, *second]));
            let room = Now {
                space: cluster.space(),
                within: None,
                steps: &steps,
            };
            let found = place(&cluster, &room, &all, &request, Placement::First);
            given.push(found.as_ref().map(|parts| {
                let Part { node, taken, .. } = parts.first().expect("it has some");
                (node.0, [taken.of(2), taken.of(3), taken.of(4)])
            }));
            if let Some(allocation) = found {
                cluster.start(JobNumber(number as u64), allocation, Time::NEVER);
            }
        }
        given
    }

    #[test]
    fn any_device_is_one_of_some_kind_and_no_kind_is_given_out_twice() {
        // Any three are of the kind of which there are most.
        let given = devices(&[[3, 0, 0], [2, 2, 0], [1, 1, 0], [2, 0, 2]]);
        let right = [
            Some((0, [3, 3, 0])),
            None,
            Some((0, [1, 1, 0])),
            Some((0, [2, 0, 2])),
        ];
        assert_eq!(given, right);
        // Five of any take some of both; of the rest there is one of the second kind.
        let given = devices(&[[5, 0, 0], [1, 1, 0], [1, 0, 1], [2, 0, 0]]);
        let right = [
            Some((0, [5, 4, 1])),
            None,
            Some((0, [1, 0, 1])),
            // Nobody knows of what kind those are.
            Some((1, [2, 0, 0])),
        ];
        assert_eq!(given, right);
        // One of the first kind, and one of any beside it.
        assert_eq!(devices(&[[2, 1, 0]]), [Some((0, [2, 2, 0]))]);
    }
}
