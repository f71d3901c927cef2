use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyperion_lifecycle::{Booked, Change as Said, Ledger, Rules, Submitted};
use hyperion_model::job::Level;
use hyperion_sched::{
    Amounts, Arrangement, Backfill, CORES, Node, NodeNumber, Order, Placement, Policy, Queue,
    Request, Standing, Time, Yields, has_room, plan,
};

use super::after::{After, Held, Stops};
use super::resample::{Block, Workload};
use super::ruled::Ruled;
use super::run::{Asked, queued, run_on};
use super::trace::at_load;
use super::{Job, Named, Ran, Stuck};

/// Thousandths of a processor, as the scheduler counts them.
const PROCESSOR: u64 = 1000;

/// What jobs ran on, and by which rules.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// Its nodes, and what they have.
    pub has: hyperion_lifecycle::Site,
    /// What it allows to whom.
    pub rules: Rules,
    /// The times for which nodes were kept, in the order in which that was said.
    pub booked: Vec<Booked>,
    /// Where nothing is known of nodes, and the one that is there has all processors: how
    /// many of them a node has.
    pub pooled: Option<u64>,
}

/// A job of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Its number, by which others speak of it.
    pub number: u64,
    /// When it came, and how long it ran.
    pub job: Job,
    /// What was asked, as the rules of the site know it; processors, wherever they are,
    /// where that is absent.
    pub asked: Option<Box<Submitted>>,
    /// How it was fenced, where that is known.
    pub level: Option<Level>,
    /// What must have happened before it can start.
    pub after: Option<After>,
    /// From when on, and until when, somebody kept it from starting, after its submission;
    /// in that order.
    pub holds: Vec<(Duration, Duration)>,
    /// When it really started.
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
    /// Says what the rules make of jobs; nothing runs on it.
    ledger: Ledger,
    /// The same before it has heard of a job.
    fresh: Ledger,
    /// There are rules, and jobs of which is known what they ask.
    is_ruled: bool,
    order: Order,
    backfill: Backfill,
    jobs: Vec<(Job, Asked)>,
    /// For what those wait that do, by places.
    after: BTreeMap<usize, After>,
    /// When somebody kept them from starting, by places.
    stops: BTreeMap<usize, Stops>,
    /// What was asked where that means one thing now and another then: where who has used
    /// what counts, and else of nodes that are kept. By places.
    asked: BTreeMap<usize, Arc<Submitted>>,
    booked: Vec<Booked>,
    beyond: usize,
    load: f64,
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
        let (has, rules) = (self.has.clone(), self.rules.clone());
        Ledger::with_rules(has, rules, order, policy(backfill))
    }
}

const fn policy(backfill: Backfill) -> Policy {
    Policy {
        backfill,
        placement: Placement::First,
    }
}

impl Past {
    /// Makes one that asks for processors, wherever they are.
    pub fn of(number: u64, job: Job, started: Option<Time>) -> Self {
        Self {
            number,
            job,
            asked: None,
            level: None,
            after: None,
            holds: Vec::new(),
            started,
        }
    }

    /// Gives what it asks for, and what counts for it beside that.
    fn asked(&self, ledger: &mut Ledger) -> Asked {
        let Some(asked) = &self.asked else {
            let cores = Amounts::cores(self.job.processors.saturating_mul(PROCESSOR));
            let request = Request {
                arrangement: Arrangement::Together,
                ..Request::one(cores)
            };
            return Arc::new(request).into();
        };
        let standing = Standing {
            // Nobody makes room here.
            yields: Yields::No,
            ..ledger.standing(asked)
        };
        Asked {
            request: ledger.among(asked).into(),
            standing: Some(standing.into()),
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

/// Takes out the jobs for which the empty site has no room; gives them.
pub fn take_too_large(site: &Site, jobs: &mut Vec<Past>) -> Vec<Past> {
    let mut ledger = site.ledger(Order::Fifo, Backfill::None);
    let fits = |past: &mut Past| {
        let its = queued(0, past.job, past.asked(&mut ledger));
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
        let places: BTreeMap<u64, u64> = jobs.iter().map(|past| past.number).zip(0..).collect();
        let after = jobs.iter().enumerate().filter_map(|(place, past)| {
            let after = past.after.as_ref()?;
            Some((place, after.among(&|number| places.get(&number).copied())?))
        });
        let stops = jobs.iter().map(|past| past.holds.clone()).enumerate();
        let fresh = site.ledger(order, backfill);
        let charges = fresh.due(Time(0)).is_some();
        let asked = jobs.iter().enumerate().filter_map(|(place, past)| {
            let asked = past.asked.as_ref()?;
            let changes = charges || asked.submission.reservation.is_some();
            changes.then(|| (place, Arc::new(Submitted::clone(asked))))
        });
        let mut world = Self {
            ledger: fresh.clone(),
            fresh,
            is_ruled: jobs.iter().any(|past| past.asked.is_some()),
            order,
            backfill,
            jobs: Vec::with_capacity(jobs.len()),
            after: after.collect(),
            stops: stops.filter(|(_, stops)| !stops.is_empty()).collect(),
            asked: asked.collect(),
            booked: site.booked,
            beyond: 0,
            load,
        };
        for past in jobs {
            let job = fence.map_or(past.job, |(level, factor)| past.fenced(level, factor));
            let mut asked = past.asked(&mut world.ledger);
            if world.is_beyond(job, &asked) {
                world.beyond += 1;
                let standing = asked.standing.as_mut().map(Arc::make_mut);
                standing.into_iter().for_each(|its| its.quotas.clear());
            }
            world.jobs.push((job, asked));
        }
        world
    }

    /// Tells whether a job alone is more than the limits allow.
    fn is_beyond(&self, job: Job, asked: &Asked) -> bool {
        let standing = asked.standing.as_ref();
        if standing.is_none_or(|standing| standing.quotas.is_empty()) {
            return false;
        }
        let mut queue = Queue::new(self.order);
        queue.insert(queued(0, job, asked.clone()));
        let cluster = self.ledger.cluster();
        let made = plan(policy(self.backfill), cluster, &queue, job.submit);
        made.starts.is_empty()
    }

    /// Gives its processors.
    pub fn processors(&self) -> u64 {
        self.ledger.cluster().cores() / PROCESSOR
    }

    /// Tells how many jobs are each more than the limits allow: those were others once. They
    /// are under none.
    pub fn beyond(&self) -> usize {
        self.beyond
    }

    /// Lets some of its jobs run, and shows each when it starts. A job waits for those for
    /// which it waited, where they were submitted as long before it as they were. Nodes are
    /// kept as they were at the times of which the workload is made.
    ///
    /// # Errors
    /// [`Stuck`], where they are not in order.
    pub fn run(&self, drawn: &Workload, see: impl FnMut(Ran)) -> Result<(), Stuck<Infallible>> {
        let first = drawn.jobs.first().map_or(Time(0), |(_, at)| *at);
        let jobs = drawn.jobs.iter().map(|(place, submit)| {
            let (job, asked) = &self.jobs[*place];
            let job = Job {
                submit: *submit,
                ..*job
            };
            Ok((job.at_load(first, self.load), asked.clone()))
        });
        let held = self.held(&drawn.jobs);
        let ruled = self.is_ruled.then(|| self.ruled(drawn, first));
        let cluster = self.ledger.cluster().clone();
        run_on(cluster, self.order, self.backfill, jobs, (held, ruled), see)
    }

    /// Says which of those that are drawn wait for which, and when they are kept from
    /// starting, by their places among these.
    fn held(&self, drawn: &[(usize, Time)]) -> Held {
        if self.after.is_empty() && self.stops.is_empty() {
            return Held::default();
        }
        let was = |place: usize| self.jobs[place].0.submit;
        let mut before: BTreeMap<u64, (u64, Time)> = BTreeMap::new();
        let (mut all, mut stops) = (BTreeMap::new(), BTreeMap::new());
        for ((place, at), number) in drawn.iter().zip(0..) {
            let after = self.after.get(place).and_then(|after| {
                after.among(&|other| {
                    let (number, before) = before.get(&other)?;
                    let apart = was(*place).since(was(other as usize));
                    (at.since(*before) == apart).then_some(*number)
                })
            });
            all.extend(after.map(|after| (number, after)));
            stops.extend(self.stops.get(place).map(|its| (number, its.clone())));
            before.insert(*place as u64, (number, *at));
        }
        Held::new(all, stops)
    }

    /// Gives the rules for those that are drawn.
    fn ruled(&self, drawn: &Workload, first: Time) -> Ruled {
        let blocks = drawn.blocks.iter();
        let booked = blocks.flat_map(|block| {
            let its = self.booked.iter();
            let its = its.filter(|its| (block.from..block.until).contains(&its.booking.from));
            its.filter_map(|its| self.said(its, block, first)).flatten()
        });
        let mut asked = BTreeMap::new();
        if !self.asked.is_empty() {
            let its = drawn.jobs.iter().zip(0..);
            let its = its.filter_map(|((place, _), at)| Some((at, self.asked.get(place)?)));
            asked.extend(its.map(|(at, asked)| (at, Arc::clone(asked))));
        }
        Ruled::new(self.fresh.clone(), booked, asked)
    }

    /// Says of nodes that were kept when that is said, and when it is over, where the time at
    /// which that began is a time of a workload: it begins as much sooner as jobs come, and
    /// lasts as long.
    fn said(&self, its: &Booked, block: &Block, first: Time) -> Option<[(Time, Said); 2]> {
        let moved = |at: Time| {
            Time(
                (block.at + at.since(Time(0)))
                    .0
                    .saturating_sub(block.from.0),
            )
        };
        let sooner = |at: Time| at_load(moved(at), first, self.load);
        let begin = sooner(its.booking.from);
        let then = |at: Time| match at.0.checked_sub(its.booking.from.0) {
            Some(after) => Time(begin.0.saturating_add(after)),
            None => sooner(at),
        };
        let (mut booking, name) = (its.booking.clone(), its.name.clone());
        (booking.from, booking.until) = (begin, then(booking.until));
        let made = then(its.made);
        let gone = its.gone.map_or(booking.until, then).min(booking.until);
        let named = name.clone();
        (made < gone).then(|| {
            let made = (made, Said::Booked { name, booking });
            [made, (gone, Said::Unbooked { name: named })]
        })
    }
}

#[cfg(test)]
mod tests {
    use hyperion_lifecycle::Partition;
    use hyperion_model::submission::{Command, Dialect, Submission};

    use super::*;

    /// A job that asks for something in a partition.
    fn asks(past: Past, amounts: Amounts, partition: Option<&str>) -> Past {
        let command = Command::Room { kept: false };
        let asked = Submitted {
            job: past.number,
            user: 1000,
            submission: Submission::new(Dialect::Slurm, command),
            request: Request::one(amounts).into(),
            limit: past.job.estimate,
            begin: None,
            deadline: None,
            partition: partition.map(str::to_owned),
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
        Past::of(submit, job, None)
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
        let after = |past: Past, after| Past {
            after: Some(after),
            ..past
        };
        let ten = Duration::from_secs(10);
        let jobs = [
            past(0, 100, 1),
            past(1, 30, 1),
            after(past(2, 10, 1), After::Ended(0)),
            after(
                past(3, 10, 1),
                After::Any(vec![After::Ended(0), After::Ended(1)]),
            ),
            after(
                past(4, 10, 1),
                After::All(vec![After::Ended(1), After::Ended(2)]),
            ),
            after(past(5, 10, 1), After::Started(4, ten)),
            after(past(6, 10, 1), After::Submitted(ten)),
            // Nobody knows that job, which is as if it had ended.
            after(past(7, 10, 1), After::Ended(77)),
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
        assert_eq!(ran, [0, 100, 3602]);
    }

    #[test]
    fn who_waits_for_another_comes_before_those_that_came_later() {
        let site = Site::pool(1, None);
        let waits = Past {
            after: Some(After::Ended(0)),
            ..past(1, 10, 1)
        };
        let jobs = [past(0, 50, 1), waits, past(2, 10, 1), past(40, 10, 1)];
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
