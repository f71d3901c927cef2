use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyperion_lifecycle::{
    Booked, Closure, Event, Ledger, NodeState, PartitionState, Rules, Shut, Submitted, Who,
};
use hyperion_model::job::Level;
use hyperion_model::submission::{Command, Dialect, Submission};
use hyperion_sched::{
    Amounts, Arrangement, Backfill, CORES, Node, NodeNumber, Order, Placement, Policy, Request,
    Time, has_room,
};

use super::resample::{Block, Workload};
use super::ruled::Ruled;
use super::run::{queued, run_on};
use super::trace::at_load;
use super::{Job, Named, Ran, Stuck};
use crate::site::Told;

/// Thousandths of a processor, as the scheduler counts them.
const PROCESSOR: u64 = 1000;

/// Who says what is said of nodes.
const OPERATOR: Who = Who {
    user: 0,
    operator: true,
};

/// What jobs ran on, and by which rules.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// Its nodes, and what they have.
    pub has: hyperion_lifecycle::Site,
    /// What it allows to whom.
    pub rules: Rules,
    /// The times for which nodes were kept, in the order in which that was said.
    pub booked: Vec<Booked>,
    /// When nodes and partitions were closed to jobs, in the order in which that was said.
    pub closed: Vec<Closure>,
    /// Where nothing is known of nodes, and the one that is there has all processors: how
    /// many of them a node has.
    pub pooled: Option<u64>,
}

/// A job of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// When it came, and how long it ran when it was started last.
    pub job: Job,
    /// What was asked, as the rules of the site know it; processors, wherever they are,
    /// where that is absent. A task of an array has that with its own index alone; what it
    /// waits for is to come true, whatever others do.
    pub asked: Option<Box<Submitted>>,
    /// How it was fenced, where that is known.
    pub level: Option<Level>,
    /// From when on, and until when, somebody kept it from starting, after its submission;
    /// in that order.
    pub holds: Vec<(Duration, Duration)>,
    /// When it really started last; later by what it stood still.
    pub started: Option<Time>,
}

/// Something that could be otherwise.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Who comes first, and who may pass.
    Policy(Named),
    /// So many nodes more, each like one that is there, by its place.
    Nodes(usize, u32),
    /// All jobs are fenced so, and those that were not take so many times as long.
    Isolation(Level, f64),
    /// Jobs come so many times as fast.
    Load(f64),
}

/// A history as it could have been.
#[derive(Debug, Clone)]
pub struct World {
    site: Site,
    /// It has heard of no job.
    ledger: Ledger,
    order: Order,
    backfill: Backfill,
    jobs: Vec<Job>,
    runs: Runs,
    load: f64,
}

/// By what jobs start.
#[derive(Debug, Clone)]
enum Runs {
    /// By the policy alone, each with what it asks for.
    Plainly(Vec<Arc<Request>>),
    /// By the rules of the site, too.
    Ruled(Ruled),
}

impl Site {
    /// Makes a machine of which nothing is known but its processors, and how many of those
    /// its nodes have.
    pub fn pool(processors: u64, of_node: Option<u64>) -> Self {
        let node = Node {
            name: "machine".into(),
            capacity: Amounts::cores(processors.saturating_mul(PROCESSOR)),
        };
        Self {
            has: hyperion_lifecycle::Site {
                nodes: vec![node],
                ..Default::default()
            },
            pooled: of_node,
            ..Self::default()
        }
    }

    /// Gives its processors; what is left of one is none.
    pub fn processors(&self) -> u64 {
        let cores = self.has.nodes.iter().map(|node| node.capacity.of(CORES));
        cores.fold(0, u64::saturating_add) / PROCESSOR
    }

    /// Adds nodes; they are in the partitions of the one that they are like.
    fn add(&mut self, like: usize, count: u32) {
        if let (Some(processors), [all]) = (self.pooled, &mut self.has.nodes[..]) {
            let more = processors.saturating_mul(PROCESSOR);
            all.capacity.add(&Amounts::cores(more), count.into());
            return;
        }
        let Some(node) = self.has.nodes.get(like).cloned() else {
            return;
        };
        let of_node = |partition: &BTreeSet<String>| {
            let nodes = self.has.set(partition);
            nodes.iter().any(|its| its == NodeNumber(like as u32))
        };
        let partitions = self.rules.partitions.values_mut();
        let its: Vec<_> = partitions.filter(|its| of_node(&its.nodes)).collect();
        let names = (1..=count).map(|number| format!("{}+{number}", node.name));
        let names: Vec<String> = names.collect();
        for partition in its {
            partition.nodes.extend(names.iter().cloned());
        }
        let features = self.has.features.get(like).cloned().unwrap_or_default();
        self.has
            .features
            .resize(self.has.nodes.len(), BTreeSet::new());
        for name in names {
            self.has.features.push(features.clone());
            self.has.nodes.push(Node {
                name,
                ..node.clone()
            });
        }
    }

    fn ledger(&self, order: Order, backfill: Backfill) -> Ledger {
        let (has, mut rules) = (self.has.clone(), self.rules.clone());
        for partition in rules.partitions.values_mut() {
            // That one is closed today says nothing of then.
            partition.state = PartitionState::Up;
        }
        let policy = Policy {
            backfill,
            placement: Placement::First,
        };
        Ledger::with_rules(has, rules, order, policy)
    }
}

impl Past {
    /// Makes one that asks for processors, wherever they are.
    pub fn of(job: Job, started: Option<Time>) -> Self {
        Self {
            job,
            asked: None,
            level: None,
            holds: Vec::new(),
            started,
        }
    }

    /// Gives how long a job ran, by when it was started last, how long it stood still since,
    /// and when it ended. One that ended to make room would have gone on, for a moment at
    /// least: nobody knows for how long.
    pub fn run(started: Time, still: Duration, ended: Time, made_room: bool) -> Duration {
        let run = ended.since(started).saturating_sub(still);
        run + Duration::from_micros(u64::from(made_room))
    }

    /// Gives what was asked.
    pub(super) fn submitted(&self) -> Submitted {
        if let Some(asked) = &self.asked {
            return Submitted::clone(asked);
        }
        let command = Command::Room { kept: false };
        Submitted {
            job: 0,
            user: 0,
            submission: Submission::new(Dialect::Slurm, command),
            request: self.plainly().into(),
            limit: self.job.estimate,
            begin: None,
            deadline: None,
            partition: None,
        }
    }

    /// Gives its index, where it is a task of an array.
    pub(super) fn index(&self) -> Option<u32> {
        let array = self.asked.as_ref()?.submission.array.as_ref()?;
        Some(array.indices.first())
    }

    /// Tells whether both are tasks of one array.
    pub(super) fn is_of_array_with(&self, other: &Self) -> bool {
        let job = |its: &Self| its.asked.as_ref().map(|asked| asked.job);
        let came = |its: &Self| (job(its), its.job.submit);
        self.index().is_some() && came(self) == came(other)
    }

    /// Gives what it asks for where nothing but its processors is known.
    fn plainly(&self) -> Request {
        let cores = Amounts::cores(self.job.processors.saturating_mul(PROCESSOR));
        Request {
            arrangement: Arrangement::Together,
            ..Request::one(cores)
        }
    }

    fn fenced(&self, level: Level, factor: f64) -> Job {
        let longer = |span: Duration| match span == Duration::MAX {
            true => span,
            false => span.mul_f64(factor).max(Duration::from_micros(1)),
        };
        match self.level == Some(level) {
            true => self.job,
            // Who knows that it takes longer says so.
            false => Job {
                run: longer(self.job.run),
                estimate: longer(self.job.estimate),
                ..self.job
            },
        }
    }
}

/// Tells whether something ends that was said of nodes or of a partition.
fn ends(said: &Event) -> bool {
    match said {
        Event::Node(_, _, state) => *state == NodeState::Up,
        Event::Partition(_, _, state) => state.starts(),
        said => matches!(said, Event::Unbook(..)),
    }
}

/// Takes out the jobs for which the empty site has no room; gives them.
pub fn take_too_large(site: &Site, jobs: &mut Vec<Past>) -> Vec<Past> {
    let mut ledger = site.ledger(Order::Fifo, Backfill::None);
    let fits = |past: &mut Past| {
        let request = ledger.among(&past.submitted());
        let its = queued(0, past.job, request.into());
        !has_room(ledger.cluster(), &its)
    };
    jobs.extract_if(.., fits).collect()
}

impl World {
    /// Makes a world of jobs, by their submission, on a site, under a policy, that is
    /// otherwise in some ways.
    pub fn new(site: &Site, jobs: &[Past], policy: &Named, changes: &[Change]) -> Self {
        let mut site = site.clone();
        let (mut order, mut backfill) = (policy.order, policy.backfill);
        let (mut load, mut fence) = (1.0, None);
        for change in changes {
            match change {
                Change::Policy(policy) => (order, backfill) = (policy.order, policy.backfill),
                Change::Nodes(like, count) => site.add(*like, *count),
                Change::Isolation(level, factor) => fence = Some((*level, *factor)),
                Change::Load(factor) => load = *factor,
            }
        }
        let ledger = site.ledger(order, backfill);
        let fenced = |past: &Past| match fence {
            Some((level, factor)) => past.fenced(level, factor),
            None => past.job,
        };
        let now: Vec<Job> = jobs.iter().map(fenced).collect();
        let is_ruled = jobs.iter().any(|past| past.asked.is_some());
        let runs = match is_ruled {
            true => Runs::Ruled(Ruled::new(&ledger, jobs, &now)),
            false => Runs::Plainly(jobs.iter().map(|past| past.plainly().into()).collect()),
        };
        Self {
            site,
            ledger,
            order,
            backfill,
            jobs: now,
            runs,
            load,
        }
    }

    /// Gives its processors.
    pub fn processors(&self) -> u64 {
        self.ledger.cluster().cores() / PROCESSOR
    }

    /// Tells how many jobs are each more than the limits allow: those were others once. They
    /// are under none.
    pub fn beyond(&self) -> usize {
        match &self.runs {
            Runs::Plainly(_) => 0,
            Runs::Ruled(ruled) => ruled.beyond(),
        }
    }

    /// Lets some of its jobs run, and shows each with its last start; what it stood still
    /// counts as waiting. A job waits for those for which it waited, where they were submitted
    /// as long before it as they were. Nodes are kept and closed, and partitions closed, as they
    /// were at the times of which the workload is made.
    ///
    /// # Errors
    /// [`Stuck`], where they are not in order.
    pub fn run(&self, drawn: &Workload, see: impl FnMut(Ran)) -> Result<(), Stuck<Infallible>> {
        let first = drawn.jobs.first().map_or(Time(0), |(_, at)| *at);
        let requests = match &self.runs {
            Runs::Plainly(requests) => requests,
            Runs::Ruled(ruled) => {
                let said = self.said(drawn, first);
                let ledger = self.ledger.clone();
                ruled.run(ledger, (&self.jobs, drawn), said, self.load, see);
                return Ok(());
            }
        };
        let jobs = drawn.jobs.iter().map(|(place, submit)| {
            let job = Job {
                submit: *submit,
                ..self.jobs[*place]
            };
            Ok((job.at_load(first, self.load), Arc::clone(&requests[*place])))
        });
        let cluster = self.ledger.cluster().clone();
        run_on(cluster, self.order, self.backfill, jobs, see)
    }

    /// Says what was said of nodes and partitions in the times of which a workload is made;
    /// what ends makes room for what begins, also where both have the same name.
    fn said(&self, drawn: &Workload, first: Time) -> Vec<(Time, Told)> {
        let mut said: Vec<(Time, Event)> = Vec::new();
        for block in &drawn.blocks {
            let is_of = |began: Time| (block.from..block.until).contains(&began);
            let booked = self.site.booked.iter();
            for its in booked.filter(|its| is_of(its.booking.from)) {
                said.extend(self.booked(its, self.moved(its.booking.from, block, first)));
            }
            let closed = self.site.closed.iter();
            for its in closed.filter(|its| is_of(its.from)) {
                said.extend(self.closed(its, self.moved(its.from, block, first)));
            }
        }
        said.sort_by_key(|(at, event)| (*at, !ends(event)));
        let said = said.into_iter();
        said.map(|(at, event)| (at, event.into())).collect()
    }

    /// Says of what was closed when that is said, and when it is opened.
    fn closed(&self, its: &Closure, moved: impl Fn(Time) -> Time) -> Vec<(Time, Event)> {
        let [closes, opens] = match its.of.clone() {
            Shut::Node(name, state) => {
                [state, NodeState::Up].map(|state| Event::Node(OPERATOR, name.clone(), state))
            }
            Shut::Partition(name, state) => [state, PartitionState::Up]
                .map(|state| Event::Partition(OPERATOR, name.clone(), state)),
        };
        let opens = its.until.map(|until| (moved(until), opens));
        [(moved(its.from), closes)]
            .into_iter()
            .chain(opens)
            .collect()
    }

    /// Says of nodes that were kept when that is said, and when it is taken back.
    fn booked(&self, its: &Booked, moved: impl Fn(Time) -> Time) -> Vec<(Time, Event)> {
        let (name, mut booking) = (its.name.clone(), its.booking.clone());
        (booking.from, booking.until) = (moved(booking.from), moved(booking.until));
        let gone = its.gone.map(&moved);
        let gone = gone.map(|at| (at, Event::Unbook(OPERATOR, name.clone())));
        let made = Event::Book(OPERATOR, name.clone(), booking);
        let made = [(moved(its.made), made)].into_iter();
        made.chain(gone).collect()
    }

    /// Moves what was said with the time of a workload in which something began: that begins
    /// as much sooner as jobs come, and lasts as long.
    fn moved(&self, began: Time, block: &Block, first: Time) -> impl Fn(Time) -> Time {
        let (block, load) = (*block, self.load);
        let sooner = move |at: Time| {
            let moved = (block.at + at.since(Time(0))).0;
            at_load(Time(moved.saturating_sub(block.from.0)), first, load)
        };
        move |at| match at.0.checked_sub(began.0) {
            Some(after) => Time(sooner(began).0.saturating_add(after)),
            None => sooner(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use hyperion_lifecycle::Partition;
    use hyperion_model::submission::{Condition, Event as Happened, JobRef, JobWord};

    use super::*;

    /// A job that asks for something in a partition, by the second of its submission.
    fn asks(past: Past, amounts: Amounts, partition: Option<&str>) -> Past {
        let asked = Submitted {
            job: past.job.submit.0 / 1_000_000,
            request: Request::one(amounts).into(),
            partition: partition.map(str::to_owned),
            ..past.submitted()
        };
        Past {
            asked: Some(asked.into()),
            ..past
        }
    }

    fn past(submit: u64, run: u64, cores: u64) -> Past {
        let job = Job {
            submit: Time::seconds(submit),
            run: Duration::from_secs(run),
            estimate: Duration::from_secs(run),
            processors: cores,
        };
        Past::of(job, None)
    }

    fn starts(site: &Site, jobs: &[Past], changes: &[Change]) -> Vec<u64> {
        let fifo = "fifo".parse().expect("a policy");
        let world = World::new(site, jobs, &fifo, changes);
        let submitted: Vec<_> = jobs.iter().map(|past| past.job.submit).collect();
        let all = Workload::of(&submitted);
        let mut starts = vec![0; jobs.len()];
        let seen = |ran: Ran| starts[ran.number as usize] = ran.start.0 / 1_000_000;
        world.run(&all, seen).expect("in order");
        starts
    }

    /// Two nodes of two cores, the second with a GPU and alone in its partition.
    fn site() -> Site {
        let node = |name: &str, gpus| Node {
            name: name.into(),
            capacity: Amounts::new([2 * PROCESSOR, 0, gpus]),
        };
        let partition = |nodes: &[&str]| Partition {
            nodes: nodes.iter().map(|name| (*name).to_owned()).collect(),
            ..Partition::default()
        };
        let partitions = [("all", partition(&[])), ("gpu", partition(&["b"]))];
        let named = |(name, its): (&str, Partition)| (name.to_owned(), its);
        Site {
            has: hyperion_lifecycle::Site {
                nodes: vec![node("a", 0), node("b", 1)],
                kinds: vec!["gpu".into()],
                ..Default::default()
            },
            rules: Rules {
                partitions: partitions.into_iter().map(named).collect(),
                ..Rules::default()
            },
            ..Site::default()
        }
    }

    #[test]
    fn each_change_changes_what_it_says() {
        let site = Site::pool(4, Some(2));
        let jobs = [past(0, 100, 4), past(10, 100, 4), past(20, 50, 2)];
        assert_eq!(starts(&site, &jobs, &[]), [0, 100, 200]);
        let easy = Change::Policy("sjf".parse().expect("a policy"));
        assert_eq!(starts(&site, &jobs, &[easy]), [0, 150, 100]);
        assert_eq!(starts(&site, &jobs, &[Change::Nodes(0, 1)]), [0, 100, 100]);
        assert_eq!(starts(&site, &jobs, &[Change::Nodes(0, 2)]), [0, 10, 100]);
        let vm = |factor| Change::Isolation(Level::Vm, factor);
        assert_eq!(starts(&site, &jobs, &[vm(1.2)]), [0, 120, 240]);
        assert_eq!(starts(&site, &jobs, &[Change::Load(0.1)]), [0, 100, 200]);
        let two = [Change::Nodes(0, 2), vm(2.0)];
        assert_eq!(starts(&site, &jobs, &two), [0, 10, 200]);
        let mut fenced = jobs.clone();
        fenced[0].level = Some(Level::Vm);
        assert_eq!(starts(&site, &fenced, &[vm(1.2)]), [0, 100, 220]);
    }

    #[test]
    fn nodes_are_added_to_the_partitions_of_the_one_that_they_are_like() {
        let one = Amounts::new([PROCESSOR, 0, 1]);
        let gpu = |submit| asks(past(submit, 100, 1), one.clone(), Some("gpu"));
        let jobs = [gpu(0), gpu(1), past(2, 10, 2)];
        assert_eq!(starts(&site(), &jobs, &[]), [0, 100, 100]);
        assert_eq!(
            starts(&site(), &jobs, &[Change::Nodes(0, 1)]),
            [0, 100, 100]
        );
        assert_eq!(starts(&site(), &jobs, &[Change::Nodes(1, 1)]), [0, 1, 2]);
    }

    #[test]
    fn what_has_no_room_on_an_empty_site_is_taken_out() {
        let mut jobs = vec![past(0, 1, 2), past(0, 1, 3)];
        jobs.push(asks(past(0, 1, 1), Amounts::new([0, 0, 2]), None));
        let out = take_too_large(&site(), &mut jobs);
        assert_eq!((jobs.len(), out.len()), (1, 2));
    }

    #[test]
    fn jobs_wait_for_others_that_were_drawn_with_them() {
        let site = Site::pool(4, None);
        let one = |past: Past| asks(past, Amounts::cores(PROCESSOR), None);
        let after = |past: Past, after| {
            let mut past = one(past);
            let asked = past.asked.as_mut().expect("it asks");
            asked.submission.after = Some(after);
            past
        };
        let happened = |job, event| {
            let job = JobWord::Number(job);
            Condition::Job(JobRef { job, tasks: None }, event)
        };
        let ended = |job| happened(job, Happened::Ended);
        let ten = Duration::from_secs(10);
        let mut late = one(past(6, 10, 1));
        let asked = late.asked.as_mut().expect("it asks");
        asked.begin = Some(Time::seconds(16));
        let jobs = [
            one(past(0, 100, 1)),
            one(past(1, 30, 1)),
            after(past(2, 10, 1), ended(0)),
            after(past(3, 10, 1), Condition::Any(vec![ended(0), ended(1)])),
            after(past(4, 10, 1), Condition::All(vec![ended(1), ended(2)])),
            after(past(5, 10, 1), happened(4, Happened::Started(ten))),
            late,
            // Nobody knows that job, which is as if it had ended.
            after(past(7, 10, 1), ended(77)),
        ];
        let right = [0, 1, 100, 31, 110, 120, 16, 7];
        for policy in ["fifo", "easy", "conservative"] {
            let change = Change::Policy(policy.parse().expect("a policy"));
            assert_eq!(starts(&site, &jobs, &[change]), right, "{policy}");
        }
        // The first is longer, and so those behind it come later.
        let vm = Change::Isolation(Level::Vm, 2.0);
        assert_eq!(
            starts(&site, &jobs, &[vm]),
            [0, 1, 200, 61, 220, 230, 16, 7]
        );
        // Twice, an hour apart; the second time the job that another waits for is not there.
        let drawn = [0, 2, 2].into_iter().zip([0, 2, 3602].map(Time::seconds));
        let drawn = Workload {
            jobs: drawn.collect(),
            blocks: Vec::new(),
        };
        let world = World::new(&site, &jobs, &"fifo".parse().expect("a policy"), &[]);
        let mut ran = Vec::new();
        let see = |its: Ran| ran.push(its.start.0 / 1_000_000);
        world.run(&drawn, see).expect("in order");
        ran.sort_unstable();
        assert_eq!(ran, [0, 100, 3602]);
    }

    #[test]
    fn who_waits_for_another_comes_before_those_that_came_later() {
        let site = Site::pool(1, None);
        let mut jobs = [(0, 50), (1, 10), (2, 10), (40, 10)].map(|(submit, run)| {
            let cores = Amounts::cores(PROCESSOR);
            asks(past(submit, run, 1), cores, None)
        });
        let waits = jobs[1].asked.as_mut().expect("it asks");
        let (job, tasks) = (JobWord::Number(0), None);
        let ended = Condition::Job(JobRef { job, tasks }, Happened::Ended);
        waits.submission.after = Some(ended);
        assert_eq!(starts(&site, &jobs, &[]), [0, 50, 60, 70]);
    }

    #[test]
    fn jobs_may_come_twice_and_at_other_times() {
        let site = Site::pool(1, None);
        let jobs = [past(0, 10, 1), past(5, 20, 1)];
        let easy = "easy".parse().expect("a policy");
        let world = World::new(&site, &jobs, &easy, &[]);
        let mut ran = Vec::new();
        let drawn = Workload {
            jobs: vec![(1, Time::seconds(3)), (1, Time::seconds(4))],
            blocks: Vec::new(),
        };
        let see = |its: Ran| ran.push((its.start.0 / 1_000_000, its.job.run.as_secs()));
        world.run(&drawn, see).expect("in order");
        assert_eq!(ran, [(3, 20), (23, 20)]);
    }
}
