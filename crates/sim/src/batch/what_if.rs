use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyperion_model::job::Level;
use hyperion_sched::{
    Amounts, Arrangement, Backfill, CORES, Cluster, JobNumber, Node, NodeNumber, Order, Queued,
    Request, SetNumber, Standing, Time, has_room,
};

use super::after::{After, Held};
use super::run::run_on;
use super::{Job, Named, Ran, Stuck};

/// Thousandths of a processor, as the scheduler counts them.
const PROCESSOR: u64 = 1000;

/// What jobs ran on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Partitions: their names, and the places of their nodes among those.
    pub partitions: Vec<(String, BTreeSet<usize>)>,
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
    /// What it asks of its nodes.
    pub request: Request,
    /// Its partition, by place.
    pub partition: Option<usize>,
    /// How it was fenced, where that is known.
    pub level: Option<Level>,
    /// What must have happened before it can start.
    pub after: Option<After>,
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
    cluster: Cluster,
    order: Order,
    backfill: Backfill,
    jobs: Vec<(Job, Arc<Request>)>,
    /// For what those wait that do, by places.
    after: BTreeMap<usize, After>,
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
            nodes: vec![node],
            partitions: Vec::new(),
            pooled: of_node,
        }
    }

    /// Gives its processors; what is left of one is none.
    pub fn processors(&self) -> u64 {
        let cores = self.nodes.iter().map(|node| node.capacity.of(CORES));
        cores.fold(0, u64::saturating_add) / PROCESSOR
    }

    fn add(&mut self, like: usize, count: u32) {
        if let (Some(processors), [all]) = (self.pooled, &mut self.nodes[..]) {
            let more = processors.saturating_mul(PROCESSOR);
            all.capacity.add(&Amounts::cores(more), count.into());
            return;
        }
        for number in 1..=count {
            let Some(mut node) = self.nodes.get(like).cloned() else {
                return;
            };
            node.name = format!("{}+{number}", node.name);
            let place = self.nodes.len();
            self.nodes.push(node);
            let its = |partition: &&mut (String, BTreeSet<usize>)| partition.1.contains(&like);
            for (_, nodes) in self.partitions.iter_mut().filter(its) {
                nodes.insert(place);
            }
        }
    }

    /// Gives it as a cluster, and the sets of its partitions.
    fn cluster(&self) -> (Cluster, Vec<SetNumber>) {
        let mut cluster = Cluster::new(self.nodes.clone());
        let sets = self.partitions.iter().map(|(_, nodes)| {
            let nodes = nodes.iter().map(|at| NodeNumber(*at as u32));
            cluster.set(nodes.collect())
        });
        let sets = sets.collect();
        (cluster, sets)
    }
}

impl Past {
    /// Makes one that asks for processors, wherever they are.
    pub fn of(number: u64, job: Job, started: Option<Time>) -> Self {
        Self {
            number,
            request: Request {
                arrangement: Arrangement::Together,
                ..Request::one(Amounts::cores(job.processors.saturating_mul(PROCESSOR)))
            },
            job,
            partition: None,
            level: None,
            after: None,
            started,
        }
    }

    fn asked(&self, sets: &[SetNumber]) -> Request {
        let set = self.partition.and_then(|at| sets.get(at));
        Request {
            among: set.copied().unwrap_or(SetNumber::ALL),
            ..self.request.clone()
        }
    }

    fn fenced(&self, level: Level, factor: f64) -> Job {
        let longer = |span: Duration| span.mul_f64(factor).max(Duration::from_micros(1));
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
    let (cluster, sets) = site.cluster();
    let fits = |past: &mut Past| {
        let queued = Queued {
            job: JobNumber(0),
            submitted: past.job.submit,
            limit: past.job.estimate,
            least: None,
            request: past.asked(&sets).into(),
            standing: Standing::default(),
        };
        !has_room(&cluster, &queued)
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
        let (cluster, sets) = site.cluster();
        let places: BTreeMap<u64, u64> = jobs.iter().map(|past| past.number).zip(0..).collect();
        let after = jobs.iter().enumerate().filter_map(|(place, past)| {
            let after = past.after.as_ref()?;
            Some((place, after.among(&|number| places.get(&number).copied())?))
        });
        let after = after.collect();
        let jobs = jobs.iter().map(|past| {
            let job = fence.map_or(past.job, |(level, factor)| past.fenced(level, factor));
            (job, Arc::new(past.asked(&sets)))
        });
        Self {
            cluster,
            order,
            backfill,
            jobs: jobs.collect(),
            after,
            load,
        }
    }

    /// Gives its processors.
    pub fn processors(&self) -> u64 {
        self.cluster.cores() / PROCESSOR
    }

    /// Lets some of its jobs run, by their places, each submitted at a time, in order of
    /// those, and shows each when it starts. A job waits for those for which it waited, where
    /// they were submitted as long before it as they were.
    ///
    /// # Errors
    /// [`Stuck`], where they are not in order.
    pub fn run(
        &self,
        drawn: &[(usize, Time)],
        see: impl FnMut(Ran),
    ) -> Result<(), Stuck<Infallible>> {
        let first = drawn.first().map_or(Time(0), |(_, at)| *at);
        let jobs = drawn.iter().map(|(place, submit)| {
            let (job, request) = &self.jobs[*place];
            let job = Job {
                submit: *submit,
                ..*job
            };
            Ok((job.at_load(first, self.load), Arc::clone(request)))
        });
        let (cluster, held) = (self.cluster.clone(), self.held(drawn));
        run_on(cluster, self.order, self.backfill, jobs, held, see)
    }

    /// Says which of those that are drawn wait for which, by their places among these.
    fn held(&self, drawn: &[(usize, Time)]) -> Held {
        if self.after.is_empty() {
            return Held::default();
        }
        let was = |place: usize| self.jobs[place].0.submit;
        let mut before: BTreeMap<u64, (u64, Time)> = BTreeMap::new();
        let mut all = BTreeMap::new();
        for ((place, at), number) in drawn.iter().zip(0..) {
            let after = self.after.get(place).and_then(|after| {
                after.among(&|other| {
                    let (number, before) = before.get(&other)?;
                    let apart = was(*place).since(was(other as usize));
                    (at.since(*before) == apart).then_some(*number)
                })
            });
            all.extend(after.map(|after| (number, after)));
            before.insert(*place as u64, (number, *at));
        }
        Held::new(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let all: Vec<_> = jobs
            .iter()
            .map(|past| past.job.submit)
            .enumerate()
            .collect();
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
        Site {
            nodes: vec![node("a", 0), node("b", 1)],
            partitions: vec![("all".into(), [0, 1].into()), ("gpu".into(), [1].into())],
            pooled: None,
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
        let gpu = |submit| Past {
            request: Request::one(Amounts::new([PROCESSOR, 0, 1])),
            partition: Some(1),
            ..past(submit, 100, 1)
        };
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
        jobs.push(Past {
            request: Request::one(Amounts::new([0, 0, 2])),
            ..past(0, 1, 1)
        });
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
        let world = World::new(&site, &jobs, &"fifo".parse().expect("a policy"), &[]);
        let mut ran = Vec::new();
        let see = |its: Ran| ran.push(its.start.0 / 1_000_000);
        world
            .run(&drawn.collect::<Vec<_>>(), see)
            .expect("in order");
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
        let drawn = [(1, Time::seconds(3)), (1, Time::seconds(4))];
        let see = |its: Ran| ran.push((its.start.0 / 1_000_000, its.job.run.as_secs()));
        world.run(&drawn, see).expect("in order");
        assert_eq!(ran, [(3, 20), (23, 20)]);
    }
}
