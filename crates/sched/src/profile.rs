use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::allocation::{Allocation, Part, Parts};
use crate::amounts::{Amounts, CORES, MEMORY};
use crate::cluster::{Cluster, NodeNumber};
use crate::epochs::Epochs;
use crate::failed::asks_no_less;
use crate::masks::Masks;
use crate::nodeset::{NodeSet, WORD, bits};
use crate::place::{Placement, place};
use crate::plan::span;
use crate::queue::{Queue, Queued};
use crate::request::{Arrangement, Request, SetNumber};
use crate::space::{Room, See, show};
use crate::time::Time;
use crate::totals::Totals;
use crate::window::WindowNumber;

/// What is free from now on, as far as it is known.
pub(crate) struct Profile<'a> {
    cluster: &'a Cluster,
    now: Time,
    /// What is free on each node from moments on.
    lines: Vec<Line>,
    /// The same of what lies on no node.
    shared: Line,
    /// The moments at which something is given back, and the nodes of which.
    releases: BTreeMap<Time, SmallVec<[NodeNumber; 4]>>,
    /// The most of each kind that a node has.
    most: Amounts,
    /// How much of a kind is free on the open nodes of a set: a job cannot start earlier
    /// than when there is enough of each.
    totals: BTreeMap<(SetNumber, usize), Totals>,
    epochs: Epochs,
    /// What is free in place of all that, where it says all.
    plain: Option<Totals>,
    /// When the earliest were that were found, for those who ask for as much or more.
    found: Vec<(Arc<Request>, Option<WindowNumber>, Duration, Time)>,
    steps: Cell<u64>,
}

/// What became of a search.
pub(crate) enum Found {
    /// There is room from then on.
    At(Time, Allocation),
    /// No moment is known at which there would be.
    Never,
    /// The effort was spent; before that moment there is none.
    Spent(Time),
}

/// What is free from moments on, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(Vec<(Time, Amounts)>);

impl Line {
    /// Gives the steps that overlap a span of time, each with its end.
    pub(crate) fn steps(
        &self,
        from: Time,
        until: Time,
    ) -> impl Iterator<Item = (Time, Time, &Amounts)> {
        let first = self
            .0
            .partition_point(|(at, _)| *at <= from)
            .saturating_sub(1);
        let ends = self.0[first + 1..].iter().map(|(at, _)| *at);
        let steps = self.0[first..].iter().zip(ends.chain([Time::NEVER]));
        let steps = steps.map(|((at, free), end)| (*at, end, free));
        steps.take_while(move |(at, ..)| *at < until)
    }

    /// Gives what is free during all of a span of time, if `each` is.
    fn room(&self, from: Time, until: Time, each: &Amounts) -> Option<Amounts> {
        let mut room: Option<Amounts> = None;
        for (_, _, free) in self.steps(from, until) {
            if !each.is_within(free) {
                return None;
            }
            match &mut room {
                Some(room) => room.limit(free),
                None => room = Some(free.clone()),
            }
        }
        room
    }

    /// Tells whether `each` is free during all of a span of time.
    fn has(&self, from: Time, until: Time, each: &Amounts) -> bool {
        self.steps(from, until)
            .all(|(_, _, free)| each.is_within(free))
    }

    fn release(&mut self, at: Time, taken: &Amounts) {
        let Some((last, free)) = self.0.last_mut() else {
            return;
        };
        if *last < at {
            let free = free.clone();
            self.0.push((at, free));
        }
        if let Some((_, free)) = self.0.last_mut() {
            free.add(taken, 1);
        }
    }

    fn change(&mut self, from: Time, until: Time, change: impl Fn(&mut Amounts)) {
        let first = self.split(from);
        let last = match until {
            Time::NEVER => self.0.len(),
            until => self.split(until),
        };
        let steps = self.0[first..last].iter_mut();
        steps.for_each(|(_, free)| change(free));
    }

    /// Makes a step begin at a moment that is not before the first; gives its number.
    fn split(&mut self, at: Time) -> usize {
        let next = self.0.partition_point(|(step, _)| *step < at);
        if self.0.get(next).is_none_or(|(step, _)| *step != at) {
            let before = self.0[next.saturating_sub(1)].1.clone();
            self.0.insert(next, (at, before));
        }
        next
    }
}

impl<'a> Profile<'a> {
    /// Reads it off what runs.
    pub(crate) fn new(cluster: &'a Cluster, now: Time, queue: &Queue) -> Self {
        let space = cluster.space();
        let line = |free: &Amounts| Line(vec![(now, free.clone())]);
        let nodes = space.stretches();
        let nodes = nodes.flat_map(|its| its.nodes().map(|_| line(&its.free)));
        let mut lines: Vec<Line> = nodes.collect();
        let mut shared = line(space.free(NodeNumber::NONE));
        let mut releases: BTreeMap<Time, SmallVec<_>> = BTreeMap::new();
        let mut most = Amounts::default();
        cluster
            .nodes()
            .iter()
            .for_each(|node| most.raise(&node.capacity));
        let mut last = now;
        for (until, allocation) in cluster.ends() {
            // One that is over its time ends at any moment.
            let until = until.max(Time(now.0 + 1));
            if until == Time::NEVER {
                break;
            }
            last = until;
            let given = releases.entry(until).or_default();
            for parts in allocation.parts() {
                let Some(nodes) = parts.nodes() else {
                    given.push(NodeNumber::NONE);
                    shared.release(until, &parts.taken);
                    continue;
                };
                given.extend(nodes.clone().map(NodeNumber));
                let lines = &mut lines[nodes.start as usize..nodes.end as usize];
                lines
                    .iter_mut()
                    .for_each(|line| line.release(until, &parts.taken));
            }
        }
        for window in cluster.windows().values() {
            for at in [window.from, window.until]
                .into_iter()
                .filter(|at| *at > now)
            {
                releases.entry(at).or_default().extend(window.nodes.iter());
            }
        }
        let plain = is_plain(cluster, queue).then(|| {
            let steps = lines[0].0.iter().map(|(at, free)| (*at, free.of(CORES)));
            Totals::new(&steps.collect::<Vec<_>>())
        });
        Self {
            plain,
            cluster,
            now,
            epochs: Epochs::new(cluster, &lines, (now, last), queue),
            lines,
            shared,
            releases,
            most,
            totals: BTreeMap::new(),
            found: Vec::new(),
            steps: Cell::new(0),
        }
    }

    /// Gives how much was looked at since it was asked last.
    pub(crate) fn take_steps(&self) -> u64 {
        self.steps.take()
    }

    /// Finds the earliest moment, from one on, at which a job has room for as long as it
    /// needs.
    pub(crate) fn earliest(
        &mut self,
        queued: &Queued,
        from: Option<Time>,
        masks: &mut Masks<'_>,
        placement: Placement,
        effort: u64,
    ) -> Found {
        let (request, span) = (&queued.request, span(queued));
        if let Some(totals) = &self.plain {
            let all = request.member_total();
            let found = totals.earliest(from.unwrap_or(self.now), all.of(CORES), span);
            let allocation = || Part::of(NodeNumber(0), all);
            self.steps.set(self.steps.get() + 1);
            return found.map_or(Found::Never, |at| {
                Found::At(at, [allocation()].into_iter().collect())
            });
        }
        let right = queued.standing.right;
        let found = self.found.iter().filter(|(found, its_right, its, _)| {
            *its <= span && *its_right == right && asks_no_less(found, request)
        });
        let found = found.map(|(.., at)| *at).chain(from).max();
        let mut from = found.unwrap_or(self.now).max(self.now);
        self.steps
            .set(self.steps.get() + self.found.len() as u64 / 8);
        loop {
            let Some(at) = self.by_totals(request, from, span) else {
                return Found::Never;
            };
            let among = masks.of(queued, at);
            let missing = Cell::new(0);
            let room = Window {
                profile: self,
                from: at,
                until: at + span,
                missing: &missing,
            };
            if let Some(allocation) = place(self.cluster, &room, &among, request, placement) {
                self.remember(Arc::clone(request), right, span, at);
                return Found::At(at, allocation);
            }
            // Of one member of several it says nothing about the others.
            let missing = if request.others.is_empty() {
                missing.get()
            } else {
                0
            };
            match self.after(at, queued, missing) {
                // One try is made in each round: it goes on.
                Some(next) if self.steps.get() > effort => return Found::Spent(next),
                Some(next) => from = next,
                None => return Found::Never,
            }
        }
    }

    /// Gives a moment before which there is no room, where so many chunks had none.
    ///
    /// A node that has no room at a moment has some again only when it is given
    /// something back; so as many as are missing must have been, and have room then.
    fn after(&self, at: Time, queued: &Queued, missing: u64) -> Option<Time> {
        let request = &queued.request;
        let each = match (&request.chunks[..], request.arrangement) {
            (_, Arrangement::Together) => request.member_total(),
            ([chunk], _) => chunk.each.clone(),
            _ => Amounts::default(),
        };
        let most = match request.arrangement {
            Arrangement::Free => self.most.times(&each).max(1),
            _ => 1,
        };
        let mut needed = missing.div_ceil(most);
        let among = self.cluster.nodes_of(request.among);
        for (&moment, nodes) in self.releases.range(Time(at.0.saturating_add(1))..) {
            self.steps.set(self.steps.get() + 1 + nodes.len() as u64);
            if missing == 0 {
                return Some(moment);
            }
            let until = moment + span(queued);
            for node in nodes {
                let has = among.contains(*node)
                    && self.epochs.may_have(*node, &each, moment)
                    && self.lines[node.index()].has(moment, until, &each);
                needed -= u64::from(has);
                if needed == 0 {
                    return Some(moment);
                }
            }
        }
        None
    }

    /// Finds when there is enough in all from a moment on.
    fn by_totals(&mut self, request: &Request, from: Time, span: Duration) -> Option<Time> {
        let mut at = from;
        loop {
            let before = at;
            for member in request.members() {
                for (kind, need) in member.member_total().kinds() {
                    // Memory seldom lacks where cores do not.
                    if kind == MEMORY {
                        continue;
                    }
                    let totals = self.totals(member.among, kind);
                    at = totals.earliest(at, need, span)?;
                }
            }
            self.steps.set(self.steps.get() + 1);
            if at == before {
                return Some(at);
            }
        }
    }

    fn totals(&mut self, set: SetNumber, kind: usize) -> &Totals {
        let (lines, cluster) = (&self.lines, self.cluster);
        let make = || {
            let mut changes = BTreeMap::from([(self.now, 0)]);
            let open = |node: &NodeNumber| !cluster.closed().contains(*node);
            for node in cluster.nodes_of(set).iter().filter(open) {
                let mut before = 0;
                for (at, free) in &lines[node.index()].0 {
                    let free = i128::from(free.of(kind));
                    *changes.entry(*at).or_default() += free - before;
                    before = free;
                }
            }
            let mut sum = 0;
            let slices = changes.into_iter().map(|(at, change)| {
                sum += change;
                (at, u64::try_from(sum).unwrap_or(u64::MAX))
            });
            Totals::new(&slices.collect::<Vec<_>>())
        };
        self.totals.entry((set, kind)).or_insert_with(make)
    }

    /// Keeps in mind when one was found: whoever comes after it finds no more room.
    fn remember(
        &mut self,
        request: Arc<Request>,
        right: Option<WindowNumber>,
        span: Duration,
        at: Time,
    ) {
        const MOST: usize = 128;
        if request.chunks.len() > 1 || !request.others.is_empty() || at == self.now {
            return;
        }
        self.found.retain(|(found, its_right, its, then)| {
            *then > at || *its < span || *its_right != right || !asks_no_less(&request, found)
        });
        if self.found.len() == MOST {
            let earliest = self
                .found
                .iter()
                .enumerate()
                .min_by_key(|(_, (.., at))| *at);
            if let Some((number, _)) = earliest {
                self.found.swap_remove(number);
            }
        }
        self.found.push((request, right, span, at));
    }

    /// Takes room from a moment on for a span.
    pub(crate) fn reserve(&mut self, at: Time, span: Duration, allocation: &Allocation) {
        self.change(at, at + span, allocation, Amounts::take, Totals::take);
    }

    /// Gives up room that was taken.
    pub(crate) fn give_up(&mut self, at: Time, span: Duration, allocation: &Allocation) {
        let add = |free: &mut Amounts, taken: &Amounts| free.add(taken, 1);
        self.change(at, at + span, allocation, add, Totals::give);
        // There is more room than when they were found.
        self.found.clear();
    }

    fn change(
        &mut self,
        at: Time,
        until: Time,
        allocation: &Allocation,
        change: impl Fn(&mut Amounts, &Amounts),
        change_total: impl Fn(&mut Totals, Time, Time, u64),
    ) {
        self.steps.set(self.steps.get() + allocation.len() as u64);
        if let Some(totals) = &mut self.plain {
            return change_total(totals, at, until, allocation.total().of(CORES));
        }
        if until < Time::NEVER {
            let given = self.releases.entry(until).or_default();
            given.extend(allocation.iter().map(|part| part.node));
        }
        for parts in allocation.parts() {
            let change = |free: &mut Amounts| change(free, &parts.taken);
            let Some(nodes) = parts.nodes() else {
                self.shared.change(at, until, change);
                continue;
            };
            for node in nodes.map(NodeNumber) {
                let line = &mut self.lines[node.index()];
                line.change(at, until, change);
                self.epochs.mark(node, line, at, until);
            }
        }
        for ((set, kind), totals) in &mut self.totals {
            let nodes = self.cluster.nodes_of(*set);
            let its = allocation.on_nodes();
            let taken = its.map(|(its, parts)| parts.taken.of(*kind) * nodes.count_in(its));
            let taken: u64 = taken.sum();
            if taken > 0 {
                change_total(totals, at, until, taken);
            }
        }
    }

    /// Tells whether what a job was given is free for it from a moment on.
    pub(crate) fn has(&self, at: Time, span: Duration, allocation: &Allocation) -> bool {
        if let Some(totals) = &self.plain {
            let cores = allocation.total().of(CORES);
            return totals.earliest(at, cores, span) == Some(at);
        }
        let has = |line: &Line, parts: &Parts| line.has(at, at + span, &parts.taken);
        allocation.parts().iter().all(|parts| match parts.nodes() {
            None => has(&self.shared, parts),
            Some(nodes) => {
                let lines = &self.lines[nodes.start as usize..nodes.end as usize];
                self.cluster.closed().count_in(nodes) == 0
                    && lines.iter().all(|line| has(line, parts))
            }
        })
    }
}

/// Tells whether how many processors are free is all that there is to know: one node has
/// them and nothing else, and nobody asks for more than some of them.
fn is_plain(cluster: &Cluster, queue: &Queue) -> bool {
    let [only] = cluster.nodes() else {
        return false;
    };
    let has_cores_alone = only.capacity.kinds().all(|(kind, _)| kind == CORES);
    let is_some = |queued: &Queued| {
        let request = &*queued.request;
        let pieces = request.chunks.iter().map(|chunk| chunk.count);
        let may_be_apart = || pieces.fold(0, u64::saturating_add) <= 1;
        (request.arrangement != Arrangement::Apart || may_be_apart())
            && request.others.is_empty()
            && !request.exclusive
            && request.shared.is_nothing()
            && request
                .member_total()
                .kinds()
                .all(|(kind, _)| kind == CORES)
            && queued.standing.right.is_none()
            && cluster.nodes_of(request.among).contains(NodeNumber(0))
    };
    let is_open = cluster.windows().is_empty() && cluster.closed().is_empty();
    has_cores_alone && is_open && queue.iter().all(is_some)
}

/// A span of time, all of which something is to be free.
struct Window<'a> {
    profile: &'a Profile<'a>,
    from: Time,
    until: Time,
    /// How many chunks found none.
    missing: &'a Cell<u64>,
}

impl Window<'_> {
    fn in_order(&self, each: &Amounts, among: &NodeSet, see: See<'_>) -> ControlFlow<()> {
        let profile = self.profile;
        let mut steps = 0;
        let words = among.words().iter().enumerate();
        for (number, &word) in words.filter(|(_, word)| **word > 0) {
            let open = profile.epochs.open(number, each, self.from, self.until);
            steps += 1;
            for bit in bits(word & open) {
                steps += 1;
                let at = number * WORD + bit;
                let room = profile.lines[at].room(self.from, self.until, each);
                let nodes = at as u32..at as u32 + 1;
                if room.is_some_and(|room| see(nodes, &room).is_break()) {
                    profile.steps.set(profile.steps.get() + steps);
                    return ControlFlow::Break(());
                }
            }
        }
        profile.steps.set(profile.steps.get() + steps);
        ControlFlow::Continue(())
    }
}

impl Room for Window<'_> {
    fn visit(&self, each: &Amounts, among: &NodeSet, placement: Placement, see: See<'_>) {
        if placement == Placement::First {
            let _ = self.in_order(each, among, see);
            return;
        }
        let mut seen = Vec::new();
        let _ = self.in_order(each, among, &mut |nodes, free| {
            seen.push((nodes, free.clone()));
            ControlFlow::Continue(())
        });
        show(seen, each, placement, see);
    }

    fn lacked(&self, chunks: u64) {
        self.missing.set(chunks);
    }

    fn shared(&self) -> Amounts {
        let nothing = Amounts::default();
        let shared = self.profile.shared.room(self.from, self.until, &nothing);
        shared.unwrap_or_default()
    }
}
