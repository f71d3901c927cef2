use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::allocation::{Allocation, Part};
use crate::amounts::{Amounts, CORES};
use crate::derived::Derived;
use crate::family::Family;
use crate::nodeset::NodeSet;
use crate::order::Standing;
use crate::queue::JobNumber;
use crate::quota::{Caps, QuotaNumber, Quotas, Used};
use crate::request::{Request, SetNumber};
use crate::shares::ShareNumber;
use crate::space::Space;
use crate::time::Time;
use crate::window::{Window, WindowNumber};
use serde::{Deserialize, Serialize};

/// The number of a node: its place in the list that the cluster was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeNumber(pub u32);

impl NodeNumber {
    /// No node: where licences are.
    pub const NONE: Self = Self(u32::MAX);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is called.
    pub name: String,
    /// What it has for jobs.
    pub capacity: Amounts,
}

/// A job that runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// What it has.
    pub allocation: Allocation,
    /// Since when.
    pub since: Time,
    /// When it ends at the latest.
    pub until: Time,
    /// What counts for it beside that.
    pub standing: Standing,
    /// It was told to end.
    pub ending: bool,
}

impl Running {
    fn used(&self) -> Used {
        Used::of(&self.allocation, self.since, self.until)
    }

    /// Counts what it has on nodes as had by its share.
    fn give(&self, had: &mut Vec<Amounts>) {
        let share = self.standing.share.0 as usize;
        if had.len() <= share {
            had.resize_with(share + 1, Amounts::default);
        }
        had[share].add(&self.allocation.total(), 1);
    }

    /// Gives its cores alone.
    pub(crate) fn cores(&self) -> Allocation {
        let on_nodes = |part: &Part| part.node != NodeNumber::NONE;
        let parts = self.allocation.iter().filter(on_nodes);
        let parts = parts.filter(|part| part.taken.of(CORES) > 0);
        let cores = |part: Part| Part {
            taken: Amounts::cores(part.taken.of(CORES)),
            ..part
        };
        parts.map(cores).collect()
    }
}

/// The nodes, and what runs on them.
#[derive(Debug, Clone)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// All that it has, in thousandths.
    cores: u64,
    space: Space,
    /// In boxes, as what waits.
    running: BTreeMap<JobNumber, Box<Running>>,
    /// By its latest end.
    ends: Derived<BTreeSet<(Time, JobNumber)>>,
    /// The cores of those that stand still, which are free meanwhile.
    resting: BTreeMap<JobNumber, Allocation>,
    /// The sets that requests speak of; the first is that of all nodes.
    sets: Vec<Arc<NodeSet>>,
    numbers: BTreeMap<NodeSet, SetNumber>,
    /// Nodes on which nothing starts.
    closed: NodeSet,
    windows: BTreeMap<WindowNumber, Window>,
    quotas: Quotas,
    families: Vec<Family>,
    /// What its nodes have in all.
    total: Amounts,
    /// What is had, by the number of the share of whoever has it.
    had: Derived<Vec<Amounts>>,
    /// Goes up whenever something is free earlier than was known.
    freed: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Cluster {
    /// Makes a cluster on which nothing runs.
    pub fn new(nodes: Vec<Node>) -> Self {
        Self::with_licences(nodes, Amounts::default())
    }

    /// Makes one that has something beside its nodes: licences, by kinds of their own.
    pub fn with_licences(nodes: Vec<Node>, licences: Amounts) -> Self {
        let space = Space::new(&nodes, licences);
        let all = NodeSet::first(nodes.len());
        let mut total = Amounts::default();
        nodes.iter().for_each(|node| total.add(&node.capacity, 1));
        Self {
            nodes,
            cores: space.cores(),
            space,
            running: BTreeMap::new(),
            ends: Derived::default(),
            resting: BTreeMap::new(),
            sets: vec![Arc::new(all.clone())],
            numbers: BTreeMap::from([(all, SetNumber::ALL)]),
            closed: NodeSet::default(),
            windows: BTreeMap::new(),
            quotas: Quotas::default(),
            families: Vec::new(),
            total,
            had: Derived::default(),
            freed: 0,
        }
    }

    /// Gives all cores of all nodes, in thousandths.
    pub fn cores(&self) -> u64 {
        self.cores
    }

    /// Gives what all nodes have together.
    pub(crate) fn total(&self) -> &Amounts {
        &self.total
    }

    /// Gives what is had by those of a share.
    pub(crate) fn had(&self, share: ShareNumber) -> Amounts {
        let had = self.had.get(|| {
            let all = self.running.iter();
            let busy = all.filter(|(job, _)| !self.resting.contains_key(job));
            busy.fold(Vec::new(), |mut had, (_, its)| {
                its.give(&mut had);
                had
            })
        });
        had.get(share.0 as usize).cloned().unwrap_or_default()
    }

    /// Gives the nodes, by number.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Gives what is free on a node, or of licences on [`NodeNumber::NONE`].
    pub fn free(&self, node: NodeNumber) -> &Amounts {
        self.space.free(node)
    }

    /// Gives what runs, by number.
    pub fn running(&self) -> &BTreeMap<JobNumber, Box<Running>> {
        &self.running
    }

    /// Gives the number by which requests can ask for nodes of a set.
    pub fn set(&mut self, nodes: NodeSet) -> SetNumber {
        if let Some(number) = self.numbers.get(&nodes) {
            return *number;
        }
        let number = SetNumber(self.sets.len() as u32);
        self.sets.push(Arc::new(nodes.clone()));
        self.numbers.insert(nodes, number);
        number
    }

    /// Gives the nodes of a set.
    ///
    /// # Panics
    /// When it is another cluster's number.
    pub fn nodes_of(&self, set: SetNumber) -> &NodeSet {
        self.shared_set(set)
    }

    /// Gives the nodes of a set, to be kept.
    pub(crate) fn shared_set(&self, set: SetNumber) -> &Arc<NodeSet> {
        &self.sets[set.0 as usize]
    }

    /// Lets nothing start on a node any more; what runs there goes on.
    pub fn close(&mut self, node: NodeNumber) {
        self.closed.insert(node);
    }

    /// Lets jobs start on a node again.
    pub fn open(&mut self, node: NodeNumber) {
        self.closed.remove(node);
        self.freed += 1;
    }

    /// Gives the nodes on which nothing starts.
    pub fn closed(&self) -> &NodeSet {
        &self.closed
    }

    /// Keeps nodes for a time, for those who have a right to the window.
    pub fn keep(&mut self, window: Window) -> WindowNumber {
        let last = self.windows.last_key_value();
        let number = WindowNumber(last.map_or(0, |(number, _)| number.0 + 1));
        self.windows.insert(number, window);
        number
    }

    /// Keeps nodes no longer.
    pub fn keep_no_more(&mut self, window: WindowNumber) {
        self.freed += u64::from(self.windows.remove(&window).is_some());
    }

    /// Gives the times for which nodes are kept.
    pub fn windows(&self) -> &BTreeMap<WindowNumber, Window> {
        &self.windows
    }

    /// Gives the next moment after one at which nodes begin or cease to be kept.
    pub(crate) fn next_window(&self, after: Time) -> Option<Time> {
        let windows = self.windows.values();
        let moments = windows.flat_map(|window| [window.from, window.until]);
        moments.filter(|at| *at > after).min()
    }

    /// Says which devices count under several numbers.
    pub fn set_families(&mut self, families: Vec<Family>) {
        self.families = families;
    }

    pub(crate) fn families(&self) -> &[Family] {
        &self.families
    }

    /// Makes a quota, for those who name it in their standing.
    pub fn quota(&mut self, caps: Caps) -> QuotaNumber {
        self.quotas.add(caps)
    }

    /// Changes a quota.
    ///
    /// # Panics
    /// When there is no such quota.
    pub fn set_quota(&mut self, quota: QuotaNumber, caps: Caps) {
        self.quotas.set(quota, caps);
    }

    /// Gives what is used of a quota.
    ///
    /// # Panics
    /// When there is no such quota.
    pub fn used(&self, quota: QuotaNumber) -> &Used {
        self.quotas.used(quota)
    }

    pub(crate) fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Gives what a job has to it, until a moment at the latest.
    ///
    /// # Panics
    /// When the job runs already, or something that it is given is not free:
    /// a plan is carried out on the cluster that it was made for.
    pub fn start(&mut self, job: JobNumber, allocation: Allocation, until: Time) {
        let running = Running {
            allocation,
            since: Time(0),
            until,
            standing: Standing::default(),
            ending: false,
        };
        self.start_as(job, running);
    }

    /// Lets a job run, or go on that stands still.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub fn start_as(&mut self, job: JobNumber, running: Running) {
        if let Some(cores) = self.resting.remove(&job) {
            return self.go_on(job, &cores, running.until);
        }
        self.take_free(&running.allocation);
        self.count(&running);
        self.move_end(job, None, Some(running.until));
        let before = self.running.insert(job, Box::new(running));
        assert!(before.is_none(), "job {} runs already", job.0);
    }

    /// Lets a job stand still: its cores are free meanwhile, and of quotas it uses
    /// nothing. Gives what it asks for to go on; `None` where it does not run.
    pub fn rest(&mut self, job: JobNumber) -> Option<Request> {
        if self.resting.contains_key(&job) {
            return None;
        }
        let its = self.running.get_mut(&job)?;
        let before = its.clone();
        let cores = its.cores();
        let without = its.allocation.iter().map(|mut part| {
            let cores = part.taken.of(CORES);
            part.taken.take(&Amounts::cores(cores));
            part
        });
        its.allocation = without.collect();
        its.until = Time::NEVER;
        self.move_end(job, Some(before.until), Some(Time::NEVER));
        self.uncount(&before);
        self.space.release(&cores);
        self.freed += 1;
        let mut members = cores.iter().map(|part| (part.node, part.taken));
        let mut request = Request::default();
        if let Some((node, taken)) = members.next() {
            request = Request::one(taken);
            request.among = self.set([node].into_iter().collect());
        }
        for (node, taken) in members {
            let among = self.set([node].into_iter().collect());
            request.others.push(Request {
                among,
                ..Request::one(taken)
            });
        }
        self.resting.insert(job, cores);
        Some(request)
    }

    /// Tells whether a job stands still.
    pub fn rests(&self, job: JobNumber) -> bool {
        self.resting.contains_key(&job)
    }

    fn go_on(&mut self, job: JobNumber, cores: &Allocation, until: Time) {
        self.take_free(cores);
        let Some(its) = self.running.get_mut(&job) else {
            return;
        };
        let mut parts: Vec<Part> = its.allocation.iter().collect();
        for part in cores.iter() {
            let mine = |own: &&mut Part| (own.node, own.member) == (part.node, part.member);
            if let Some(own) = parts.iter_mut().find(mine) {
                own.taken.add(&part.taken, 1);
            }
        }
        its.allocation = parts.into_iter().collect();
        let before = std::mem::replace(&mut its.until, until);
        let its = its.clone();
        self.move_end(job, Some(before), Some(until));
        self.count(&its);
    }

    /// Takes what is free.
    fn take_free(&mut self, allocation: &Allocation) {
        self.space.change(allocation, false, |nodes, free, taken| {
            assert!(taken.is_within(free), "node {} is not free", nodes.start);
            free.take(taken);
        });
    }

    /// Counts what a job has as used.
    fn count(&mut self, its: &Running) {
        if !its.standing.quotas.is_empty() {
            self.quotas.start(&its.standing.quotas, &its.used());
        }
        self.had.change(|had| its.give(had));
    }

    fn uncount(&mut self, its: &Running) {
        if !its.standing.quotas.is_empty() {
            self.quotas.end(&its.standing.quotas, &its.used());
        }
        self.had.change(|had| {
            had[its.standing.share.0 as usize].take(&its.allocation.total());
        });
    }

    /// Lets a job that runs end at another time at the latest.
    pub fn end_by(&mut self, job: JobNumber, until: Time) {
        if let Some(running) = self.running.get_mut(&job) {
            let used = running.used();
            let before = std::mem::replace(&mut running.until, until);
            self.freed += u64::from(until < before);
            if !self.resting.contains_key(&job) {
                self.quotas.end(&running.standing.quotas, &used);
                self.quotas.start(&running.standing.quotas, &running.used());
            }
            self.move_end(job, Some(before), Some(until));
        }
    }

    /// Says that a job that runs was told to end.
    pub fn set_ending(&mut self, job: JobNumber) {
        if let Some(running) = self.running.get_mut(&job) {
            running.ending = true;
        }
    }

    /// Takes what a job has back; tells whether it ran.
    pub fn end(&mut self, job: JobNumber) -> bool {
        let Some(running) = self.running.remove(&job) else {
            return false;
        };
        self.move_end(job, Some(running.until), None);
        self.space.release(&running.allocation);
        if self.resting.remove(&job).is_none() {
            self.uncount(&running);
        }
        self.freed += 1;
        true
    }

    /// Hears of another latest end of a job.
    fn move_end(&mut self, job: JobNumber, before: Option<Time>, after: Option<Time>) {
        self.ends.change(|ends| {
            if let Some(until) = before {
                ends.remove(&(until, job));
            }
            ends.extend(after.map(|until| (until, job)));
        });
    }

    /// Gives what runs, by its latest end.
    fn by_end(&self) -> &BTreeSet<(Time, JobNumber)> {
        let all = self.running.iter().map(|(job, its)| (its.until, *job));
        self.ends.get(|| all.collect())
    }

    /// Tells when what runs ends at the latest: the first of it, if it ends at all.
    pub(crate) fn next_end(&self) -> Option<Time> {
        let first = self.by_end().first().map(|(until, _)| *until);
        first.filter(|until| *until < Time::NEVER)
    }

    /// Ends what ends first.
    pub(crate) fn end_first(&mut self) {
        if let Some((_, job)) = self.by_end().first().copied() {
            self.end(job);
        }
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// Gives what is given back by what runs, in the order of the latest ends.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (Time, &Allocation)> {
        let of = |(until, job): &(Time, JobNumber)| (*until, &self.running[job].allocation);
        self.by_end().iter().map(of)
    }

    /// Tells how often something became free earlier than was known.
    pub(crate) fn freed(&self) -> u64 {
        self.freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_all_the_time_is_what_is_asked_for_once() {
        let node = Node {
            name: "n".into(),
            capacity: Amounts::new([64_000, 1 << 30]),
        };
        let (mut often, mut once) = (Cluster::new(vec![node.clone()]), Cluster::new(vec![node]));
        let told = |cluster: &Cluster| {
            let ends = cluster.ends().map(|(until, its)| (until, its.clone()));
            let had = [0, 1, 2].map(|share| cluster.had(ShareNumber(share)));
            (ends.collect::<Vec<_>>(), had)
        };
        for step in 0..2000_u64 {
            // Each job in its turn: it starts, ends at another time at the latest, stands
            // still, goes on, and ends; some leave parts of that out.
            let (turn, number) = (step / 40 % 5, step % 40);
            if step / 200 % (2 + number % 3) == 0 && turn != 0 && turn != 4 {
                continue;
            }
            let job = JobNumber(number);
            for cluster in [&mut often, &mut once] {
                match turn {
                    0 | 3 if turn == 0 || cluster.rests(job) => {
                        let taken = Amounts::new([1000, number]);
                        let running = Running {
                            allocation: [Part::of(NodeNumber(0), taken)].into_iter().collect(),
                            since: Time(step),
                            until: Time(step + number * 7 % 11),
                            standing: Standing {
                                share: ShareNumber(number as u32 % 3),
                                ..Standing::default()
                            },
                            ending: false,
                        };
                        cluster.start_as(job, running);
                    }
                    1 => cluster.end_by(job, Time(step * 3 % 17)),
                    2 => assert!(cluster.rest(job).is_some()),
                    4 => assert!(cluster.end(job)),
                    _ => {}
                }
            }
            let kept = told(&often);
            assert_eq!(kept, told(&once.clone()), "after step {step}");
        }
    }
}
