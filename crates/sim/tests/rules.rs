//! Histories of queues with rules, made by the ledger of a server, and what the simulator
//! makes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use hyperion_lifecycle::{
    Account, Booking, Event, Ledger, Limits, NodeState, Partition, PartitionState, Preempted, Qos,
    Rules, Site as Has, State, Task, TaskId, Time, Who,
};
use hyperion_model::submission::{
    Command, Condition, Dialect, Event as Happened, JobRef, JobWord, Per, Submission, TimeLimit,
};
use hyperion_sched::{Amounts, Backfill, Node, Order, Placement, Policy, Weights};
use hyperion_sim::batch::{Block, Blocks, Change, Job, Named, Past, Ran, Site, Workload, World};
use hyperion_sim::{Seed, site};
use rand_chacha::rand_core::Rng as _;

const OPERATOR: Who = Who {
    user: 0,
    operator: true,
};
const HOUR: u64 = 3600;

/// What happens to a queue, in seconds.
struct Story {
    /// How long a job goes on that is told to end and takes longer than it may.
    ends_in: Duration,
    nodes: &'static [&'static str],
    rules: Rules,
    order: Order,
    backfill: Backfill,
    told: Vec<(Time, Event)>,
    /// How long each job runs, and may; tasks of an array run by their index longer.
    runs: BTreeMap<u64, (u64, Option<TimeLimit>)>,
}

/// What became of it: as it was written down, and when its jobs started, in seconds.
struct Told {
    site: Site,
    policy: Named,
    jobs: Vec<Past>,
}

impl Story {
    /// Begins one on two nodes of four cores.
    fn new(order: Order, rules: Rules) -> Self {
        Self {
            ends_in: Duration::ZERO,
            nodes: &["a", "b"],
            rules,
            order,
            backfill: Backfill::Easy { scan: order },
            told: Vec::new(),
            runs: BTreeMap::new(),
        }
    }

    /// Has a user submit a job of so many cores and seconds; gives its number.
    fn submit(
        &mut self,
        at: u64,
        user: u32,
        (cores, run): (u32, u64),
        change: impl FnOnce(&mut Submission),
    ) -> u64 {
        let command = Command::Program(vec!["true".into()]);
        let mut submission = Submission::new(Dialect::Slurm, command);
        submission.parts[0].tasks.insert(Per::Job, cores);
        submission.time_limit = Some(TimeLimit::Span(Duration::from_secs(run)));
        change(&mut submission);
        let limit = submission.time_limit;
        let event = Event::Submit {
            who: Who {
                user,
                operator: submission.pushes(),
            },
            submission: submission.into(),
            begin: None,
            deadline: None,
        };
        self.tell(at, event);
        let job = self.runs.len() as u64 + 1;
        self.runs.insert(job, (run, limit));
        job
    }

    fn tell(&mut self, at: u64, event: Event) {
        self.told.push((Time::seconds(at), event));
    }

    /// Has the ledger of a server carry it out.
    fn happens(self) -> Told {
        let node = |name: &str| Node {
            name: name.into(),
            capacity: Amounts::cores(4000),
        };
        let has = Has {
            nodes: self.nodes.iter().map(|name| node(name)).collect(),
            ..Has::default()
        };
        let policy = Policy {
            backfill: self.backfill,
            placement: Placement::First,
        };
        let rules = self.rules.clone();
        let mut ledger = Ledger::with_rules(has.clone(), rules, self.order, policy);
        let lasts = |task: TaskId, _| {
            let (run, limit) = &self.runs[&task.job];
            let run = Duration::from_secs(run + u64::from(task.index));
            let is_over = matches!(limit, Some(TimeLimit::Span(limit)) if *limit < run);
            site::Lasting {
                ends_in: if is_over {
                    self.ends_in
                } else {
                    Duration::ZERO
                },
                ..site::Lasting::of(run)
            }
        };
        let mut told = self.told;
        told.sort_by_key(|(at, _)| *at);
        site::run(&mut ledger, told, lasts, |shown| {
            if let Err((at, refusal)) = shown {
                panic!("at {at:?}: {refusal}");
            }
        });
        let jobs = ledger.jobs().values();
        let mut jobs: Vec<Past> = jobs.flat_map(|job| pasts(job)).collect();
        jobs.sort_by_key(|past| past.job.submit);
        Told {
            site: Site {
                has,
                rules: self.rules,
                booked: ledger.booked().to_vec(),
                closed: ledger.closures().to_vec(),
                pooled: None,
            },
            policy: Named {
                name: "as ruled".into(),
                order: self.order,
                backfill: self.backfill,
            },
            jobs,
        }
    }
}

/// Gives the tasks of a job as a history has them.
fn pasts(job: &hyperion_lifecycle::Job) -> Vec<Past> {
    let past = |(index, task): (&u32, &Task)| {
        let (started, ended) = task.started.zip(task.ended).expect("it ended");
        let since = |at: Time| at.since(job.submitted);
        let mut asked = (*job.asked).clone();
        if let Some(array) = &mut asked.submission.array {
            array.indices = index.to_string().parse().expect("an index");
        }
        let holds = job.holds.iter();
        let still = task.stood_still();
        let its = Job {
            submit: job.submitted,
            run: Past::run(started, still, ended, task.state == State::Preempted),
            estimate: asked.limit,
            processors: 1,
        };
        Past {
            asked: Some(Box::new(asked)),
            holds: holds
                .filter_map(|hold| Some((since(hold.from), since(hold.until?))))
                .collect(),
            ..Past::of(its, Some(started + still))
        }
    };
    job.tasks().iter().map(past).collect()
}

/// Gives the number of a job.
fn number(past: &Past) -> u64 {
    past.asked.as_ref().expect("it is known").job
}

impl Told {
    /// Gives when jobs started, by number, in seconds.
    fn was(&self) -> Vec<(u64, u64)> {
        let started = |past: &Past| (number(past), past.started.map_or(0, |at| at.0 / 1_000_000));
        self.jobs.iter().map(started).collect()
    }

    /// Gives when they start in a simulation.
    fn simulated(&self) -> Vec<(u64, u64)> {
        let submitted: Vec<Time> = self.jobs.iter().map(|past| past.job.submit).collect();
        let ran = self.ran(&Workload::of(&submitted));
        let start = |ran: &Ran| {
            (
                number(&self.jobs[ran.number as usize]),
                ran.start.0 / 1_000_000,
            )
        };
        ran.iter().map(start).collect()
    }

    /// Gives what runs of a workload, in its order.
    fn ran(&self, workload: &Workload) -> Vec<Ran> {
        let world = World::new(&self.site, &self.jobs, &self.policy, &[]);
        let mut ran = Vec::new();
        world.run(workload, |its| ran.push(its)).expect("in order");
        ran.sort_by_key(|its| its.number);
        ran
    }

    /// Looks whether a simulation tells how it was, and gives when jobs started.
    fn starts(&self) -> Vec<u64> {
        assert_eq!(self.simulated(), self.was());
        self.was().into_iter().map(|(_, start)| start).collect()
    }
}

fn running(most: u64) -> Limits {
    Limits {
        running: Some(most),
        ..Limits::default()
    }
}

#[test]
fn jobs_wait_for_those_with_whom_they_share_a_limit() {
    let cores = |most: u64| Limits {
        cores: Some(most),
        ..Limits::default()
    };
    let small = Partition {
        each_user: running(1),
        ..Partition::default()
    };
    let scarce = Qos {
        limits: Limits {
            core_minutes: Some(6),
            ..Limits::default()
        },
        ..Qos::default()
    };
    let rules = Rules {
        each_user: cores(4),
        each_project: running(3),
        partitions: [
            ("small".into(), small),
            ("all".into(), Partition::default()),
        ]
        .into(),
        qos: [("scarce".into(), scarce)].into(),
        ..Rules::default()
    };
    let mut story = Story::new(Order::Fifo, rules);
    let into =
        |name: &'static str| move |its: &mut Submission| its.parts[0].queues = vec![name.into()];
    // Four cores of eight are a user's.
    story.submit(0, 1, (4, 100), into("all"));
    story.submit(0, 1, (2, 100), into("all"));
    story.submit(1, 2, (1, 50), into("small"));
    story.submit(2, 2, (1, 50), into("small"));
    let paid = |its: &mut Submission| {
        its.parts[0].queues = vec!["all".into()];
        its.project = Some("p".into());
    };
    for user in 3..7 {
        story.submit(3, user, (1, 10), paid);
    }
    // Six minutes of a core, by the limits: one of four is at once, and the other is next.
    for user in 7..9 {
        story.submit(200, user, (1, 240), |its| {
            its.parts[0].queues = vec!["all".into()];
            its.qos = Some("scarce".into());
        });
    }
    let told = story.happens();
    assert_eq!(told.starts(), [0, 100, 1, 51, 3, 3, 3, 13, 200, 440]);
}

#[test]
fn what_is_more_than_the_limits_of_today_is_under_none() {
    let mut story = Story::new(Order::Fifo, Rules::default());
    story.submit(0, 1, (4, 100), |_| {});
    story.submit(0, 1, (1, 100), |_| {});
    story.submit(0, 1, (1, 100), |_| {});
    let mut told = story.happens();
    told.site.rules.each_user.cores = Some(1);
    let world = World::new(&told.site, &told.jobs, &told.policy, &[]);
    assert_eq!(world.beyond(), 1);
    assert_eq!(told.simulated(), [(1, 0), (2, 0), (3, 100)]);
}

#[test]
fn who_has_used_less_or_has_less_comes_first_where_that_counts() {
    let shared = Order::Multifactor(Weights {
        fair_share: 1000,
        ..Weights::default()
    });
    let of = |order: Order| {
        let accounts = [("rich", 3), ("poor", 1)].map(|(name, shares)| {
            let account = Account {
                shares,
                ..Account::default()
            };
            (name.to_owned(), account)
        });
        let rules = Rules {
            accounts: accounts.into(),
            ..Rules::default()
        };
        let mut story = Story::new(order, rules);
        let of = |name: &'static str| move |its: &mut Submission| its.account = Some(name.into());
        // The rich has used more, and yet less of what is its own.
        story.submit(0, 1, (8, 300), of("rich"));
        story.submit(0, 2, (8, 200), of("poor"));
        story.submit(510, 1, (4, 100), of("rich"));
        story.submit(510, 1, (4, 200), of("rich"));
        story.submit(511, 2, (4, 30), of("poor"));
        story.submit(512, 1, (4, 30), of("rich"));
        story.submit(513, 2, (4, 30), of("poor"));
        story.happens().starts()
    };
    assert_eq!(of(Order::Fifo), [0, 300, 510, 510, 610, 640, 670]);
    assert_eq!(of(shared), [0, 300, 510, 510, 640, 610, 670]);
    assert_eq!(of(Order::Fairest), [0, 300, 510, 510, 610, 670, 640]);
}

#[test]
fn each_part_of_a_priority_counts() {
    let weights = Weights {
        age: 1000,
        oldest: Duration::from_secs(1000),
        size: 1000,
        partition: 1000,
        qos: 1000,
        ..Weights::default()
    };
    let of = |priority: u16| Partition {
        priority,
        default: priority == 1,
        ..Partition::default()
    };
    let qos = |priority: u16, rank: u16| Qos {
        priority,
        rank,
        ..Qos::default()
    };
    let rules = Rules {
        partitions: [("low".into(), of(1)), ("high".into(), of(2))].into(),
        qos: [
            ("good".into(), qos(2, 0)),
            ("plain".into(), qos(1, 0)),
            ("first".into(), qos(0, 1)),
        ]
        .into(),
        ..Rules::default()
    };
    let mut story = Story::new(Order::Multifactor(weights), rules);
    story.backfill = Backfill::None;
    let all = |cores: u32| {
        move |its: &mut Submission| {
            its.parts[0].tasks.insert(Per::Job, cores);
        }
    };
    story.submit(0, 1, (8, 100), |_| {});
    let plain = story.submit(1, 1, (8, 10), all(8));
    let nice = story.submit(1, 1, (8, 10), |its| its.nice = 100);
    let small = story.submit(1, 1, (5, 10), |_| {});
    let high = story.submit(2, 1, (8, 10), |its| {
        its.parts[0].queues = vec!["high".into()]
    });
    let good = story.submit(3, 1, (8, 10), |its| its.qos = Some("good".into()));
    let fixed = story.submit(4, 1, (8, 10), |its| its.priority = Some(100_000));
    let first = story.submit(5, 1, (8, 10), |its| its.qos = Some("first".into()));
    // By age alone it comes before who came earlier and is nice.
    let late = story.submit(50, 1, (8, 10), |_| {});
    let told = story.happens();
    told.starts();
    let mut order = told.was();
    order.sort_by_key(|(_, start)| *start);
    let order: Vec<u64> = order.into_iter().map(|(job, _)| job).collect();
    assert_eq!(
        order,
        [1, first, fixed, good, high, plain, late, nice, small]
    );
}

#[test]
fn no_more_tasks_of_an_array_run_at_once_than_may() {
    let mut story = Story::new(Order::Fifo, Rules::default());
    let array = |text: &'static str| {
        move |its: &mut Submission| {
            its.array = Some(text.parse().expect("an array"));
            its.time_limit = Some(TimeLimit::Span(Duration::from_secs(200)));
        }
    };
    let first = story.submit(0, 1, (1, 100), array("0-4%2"));
    story.submit(0, 2, (2, 100), array("7,9"));
    story.submit(1, 3, (4, 50), |_| {});
    // One waits for the task of its own number, and one for some.
    let after = |tasks: Option<&str>, event| {
        let (job, tasks) = (JobWord::Number(first), tasks);
        let tasks = tasks.map(|tasks| tasks.parse().expect("indices"));
        Some(Condition::Job(JobRef { job, tasks }, event))
    };
    story.submit(2, 1, (1, 10), |its| {
        array("3-4%1")(its);
        its.after = after(None, Happened::SameEnded);
    });
    story.submit(2, 1, (1, 10), |its| {
        its.after = after(Some("0-1"), Happened::Ended)
    });
    let mut told = story.happens();
    let first = [0, 0, 100, 101, 202];
    assert_eq!(
        told.starts(),
        [&first[..], &[0, 0, 109, 204, 306, 101]].concat()
    );
    for past in &mut told.jobs {
        let asked = past.asked.as_mut().expect("it is known");
        let array = asked.submission.array.as_mut();
        array.into_iter().for_each(|array| array.at_once = None);
    }
    let free: Vec<u64> = told.simulated().into_iter().map(|its| its.1).collect();
    assert_eq!(free, [0, 0, 0, 0, 0, 0, 100, 107, 107, 111, 101]);
}

fn kept(nodes: &[&str], from: u64, until: u64, users: &[u32]) -> Booking {
    Booking {
        nodes: nodes.iter().map(|name| (*name).to_owned()).collect(),
        from: Time::seconds(from),
        until: Time::seconds(until),
        users: users.iter().copied().collect(),
        accounts: Default::default(),
    }
}

/// Nodes that are maintained, others that are kept for a user, and some that were, until
/// somebody said otherwise.
fn reservations() -> Told {
    let mut story = Story::new(Order::Fifo, Rules::default());
    let book = |name: &str, booking| Event::Book(OPERATOR, name.into(), booking);
    // It was said too late for the first.
    story.submit(0, 1, (4, 150), |_| {});
    story.tell(10, book("repair", kept(&["a"], 100, 300, &[])));
    story.tell(10, book("ada", kept(&["b"], 200, 400, &[2])));
    story.submit(20, 1, (4, 180), |_| {});
    story.submit(30, 1, (4, 100), |_| {});
    story.submit(40, 2, (2, 100), |its| its.reservation = Some("ada".into()));
    story.submit(500, 1, (8, 100), |_| {});
    story.tell(510, book("never", kept(&[], 700, 5000, &[])));
    story.submit(520, 1, (8, 200), |_| {});
    story.tell(650, Event::Unbook(OPERATOR, "never".into()));
    story.happens()
}

#[test]
fn nodes_are_kept_as_they_were() {
    let mut told = reservations();
    assert_eq!(told.starts(), [0, 20, 300, 200, 500, 650]);
    told.site.booked.clear();
    let free = [(1, 0), (2, 20), (3, 150), (4, 200), (5, 500), (6, 600)];
    assert_eq!(told.simulated(), free);
}

#[test]
fn nodes_are_kept_in_a_workload_when_they_were_kept_in_its_blocks() {
    let told = reservations();
    let submitted: Vec<Time> = told.jobs.iter().map(|past| past.job.submit).collect();
    // What was until 500 comes twice, the second time an hour later.
    let whole = Workload::of(&submitted);
    let block = |from, until, at| Block {
        from: Time::seconds(from),
        until: Time::seconds(until),
        at: Time::seconds(at),
    };
    let twice = |at: u64| {
        whole.jobs[..4]
            .iter()
            .map(move |(job, its)| (*job, Time(its.0 + at * 1_000_000)))
    };
    let workload = Workload {
        jobs: twice(0).chain(twice(HOUR)).collect(),
        blocks: vec![block(0, 500, 0), block(0, 500, HOUR)],
    };
    let starts =
        |ran: Vec<Ran>| -> Vec<u64> { ran.iter().map(|its| its.start.0 / 1_000_000).collect() };
    let once = [0, 20, 300, 200];
    let both: Vec<u64> = once.into_iter().chain(once.map(|at| at + HOUR)).collect();
    assert_eq!(starts(told.ran(&workload)), both);
    // At twice the load the repair begins after 50 seconds, the other after 100, and each lasts
    // as long: the second job has no time before either.
    let load = [Change::Load(2.0)];
    let world = World::new(&told.site, &told.jobs, &told.policy, &load);
    let workload = Workload {
        jobs: whole.jobs[..4].to_vec(),
        blocks: vec![block(0, 500, 0)],
    };
    let mut ran = Vec::new();
    world.run(&workload, |its| ran.push(its)).expect("in order");
    ran.sort_by_key(|its| its.number);
    assert_eq!(starts(ran), [0, 250, 300, 100]);
}

/// Nodes that were drained and down, and a partition that was closed, for a while.
fn closings() -> Told {
    let partition = |default| Partition {
        default,
        ..Partition::default()
    };
    let rules = Rules {
        partitions: [
            ("main".into(), partition(true)),
            ("small".into(), partition(false)),
        ]
        .into(),
        ..Rules::default()
    };
    let mut story = Story::new(Order::Fifo, rules);
    let node = |name: &str, state| Event::Node(OPERATOR, name.into(), state);
    let small = |state| Event::Partition(OPERATOR, "small".into(), state);
    story.submit(0, 1, (4, 100), |_| {});
    story.tell(10, node("a", NodeState::Drain("dust".into())));
    story.submit(20, 1, (4, 100), |_| {});
    story.submit(30, 1, (4, 50), |_| {});
    story.tell(200, node("a", NodeState::Up));
    story.submit(290, 1, (4, 100), |_| {});
    // It is sent away, and begins again when the node is back.
    story.submit(295, 1, (4, 100), |_| {});
    story.tell(300, node("b", NodeState::Down("smoke".into())));
    story.tell(350, node("b", NodeState::Up));
    story.tell(400, small(PartitionState::Down));
    story.submit(410, 1, (1, 10), |its| {
        its.parts[0].queues = vec!["small".into()]
    });
    story.tell(450, small(PartitionState::Up));
    story.happens()
}

#[test]
fn nodes_and_partitions_are_closed_as_they_were() {
    let mut told = closings();
    assert_eq!(told.starts(), [0, 20, 120, 290, 350, 450]);
    // As long as it was closed in the midst of what is drawn.
    let jobs = told.jobs[..3]
        .iter()
        .map(|past| past.job.submit)
        .enumerate();
    let (from, until) = (Time(0), Time::seconds(250));
    let block = |at| Block { from, until, at };
    let hour = Time::seconds(HOUR);
    let later = jobs.clone().map(|(job, at)| (job, Time(at.0 + hour.0)));
    let workload = Workload {
        jobs: jobs.chain(later).collect(),
        blocks: vec![block(Time(0)), block(hour)],
    };
    let ran = told.ran(&workload).into_iter();
    let starts: Vec<u64> = ran.map(|its| its.start.0 / 1_000_000).collect();
    assert_eq!(starts, [0, 20, 120, HOUR, HOUR + 20, HOUR + 120]);
    told.site.closed.clear();
    // That it is closed today says nothing of then.
    let small = told.site.rules.partitions.get_mut("small");
    small.expect("it is there").state = PartitionState::Inactive;
    let free: Vec<u64> = told.simulated().into_iter().map(|its| its.1).collect();
    assert_eq!(free, [0, 20, 100, 290, 295, 410]);
}

#[test]
fn jobs_that_were_held_are_held() {
    let mut story = Story::new(Order::Fifo, Rules::default());
    let who = |user| Who {
        user,
        operator: false,
    };
    story.submit(0, 1, (8, 100), |_| {});
    // Held from its submission; while it waits, twice; when it runs already.
    let first = story.submit(1, 1, (8, 10), |its| its.hold = true);
    let second = story.submit(2, 1, (8, 10), |_| {});
    let third = story.submit(3, 1, (8, 50), |_| {});
    story.submit(4, 1, (8, 10), |_| {});
    story.tell(150, Event::Release(who(1), first));
    story.tell(10, Event::Hold(who(1), second));
    story.tell(20, Event::Release(who(1), second));
    story.tell(90, Event::Hold(OPERATOR, second));
    story.tell(300, Event::Release(OPERATOR, second));
    story.tell(500, Event::Tick);
    let mut told = story.happens();
    assert_eq!(told.starts(), [0, 150, 300, 100, 160]);
    let third = told.jobs.iter().position(|past| number(past) == third);
    let past = &mut told.jobs[third.expect("it is there")];
    past.holds = vec![(Duration::from_secs(120), Duration::from_secs(900))];
    assert_eq!(told.simulated(), told.was(), "it runs by then");
    told.jobs.iter_mut().for_each(|past| past.holds.clear());
    let starts: Vec<u64> = told.simulated().into_iter().map(|its| its.1).collect();
    assert_eq!(starts, [0, 100, 110, 120, 170]);
}

#[test]
fn jobs_make_room_for_others_as_they_did() {
    for (preempted, starts, otherwise) in [
        (Preempted::Requeue, [90, 40], [0, 100]),
        (Preempted::Suspend, [50, 40], [0, 100]),
        // Nobody knows how long it would have run.
        (Preempted::Cancel, [0, 40], [0, 40]),
    ] {
        let qos = |rank, preempted| Qos {
            rank,
            preempted,
            ..Qos::default()
        };
        let low = ("low".to_owned(), qos(0, Some(preempted)));
        let high = ("high".to_owned(), qos(1, None));
        let rules = Rules {
            qos: [low, high].into(),
            ..Rules::default()
        };
        let mut story = Story::new(Order::Fifo, rules);
        story.submit(0, 1, (8, 100), |its| its.qos = Some("low".into()));
        story.submit(40, 1, (8, 50), |its| its.qos = Some("high".into()));
        let mut told = story.happens();
        assert_eq!(told.starts(), starts, "{preempted:?}");
        let low = told.site.rules.qos.get_mut("low");
        low.expect("it is there").preempted = None;
        let free: Vec<u64> = told.simulated().into_iter().map(|its| its.1).collect();
        assert_eq!(free, otherwise, "{preempted:?}");
    }
}

/// What becomes of jobs that make room, by the seed of a queue.
const PREEMPTED: [Option<Preempted>; 4] = [
    None,
    Some(Preempted::Requeue),
    Some(Preempted::Suspend),
    Some(Preempted::Cancel),
];

/// A queue with everything, by chance.
fn any(seed: u64, order: Order, backfill: Backfill) -> Story {
    let preempted = PREEMPTED[seed as usize % 4];
    let mut chance = Seed(seed).stream(0);
    let mut below = |most: u64| chance.next_u64() % most;
    let partition = |priority: u16, nodes: &[&str]| Partition {
        nodes: nodes.iter().map(|name| (*name).to_owned()).collect(),
        priority,
        default: priority == 1,
        exclusive: priority == 3,
        limits: running(3 + u64::from(priority)),
        ..Partition::default()
    };
    let rules = Rules {
        partitions: [
            ("main".into(), partition(1, &[])),
            ("b".into(), partition(2, &["b"])),
            ("alone".into(), partition(3, &[])),
        ]
        .into(),
        qos: [
            (
                "urgent".into(),
                Qos {
                    priority: 10,
                    rank: 1,
                    each_user: running(2),
                    ..Qos::default()
                },
            ),
            (
                "normal".into(),
                Qos {
                    preempted,
                    grace_seconds: seed / 4 * 30,
                    ..Qos::default()
                },
            ),
        ]
        .into(),
        each_user: Limits {
            cores: Some(8),
            ..Limits::default()
        },
        users: [(3, running(1))].into(),
        projects: [(
            "p".into(),
            Limits {
                core_minutes: Some(300),
                ..Limits::default()
            },
        )]
        .into(),
        ..Rules::default()
    };
    let mut story = Story::new(order, rules);
    story.ends_in = Duration::from_secs(7);
    (story.backfill, story.nodes) = (backfill, &["a", "b", "c", "d"]);
    let long_after = Duration::from_secs(1000);
    let mut at = 0;
    for number in 0..120 {
        at += below(200);
        let user = 1 + below(4) as u32;
        let size = (1 + below(4) as u32, 1 + below(2500));
        let (word, nice, hold) = (below(12), below(200) as i64, below(10) == 0);
        let (project, queue, stays) = (below(3), below(6), below(5000));
        let job = story.submit(at, user, size, |its| {
            its.qos = Some(if word == 0 { "urgent" } else { "normal" }.into());
            its.nice = nice;
            its.hold = hold;
            its.priority = (word == 1).then_some(-1);
            its.project = (project == 0).then(|| "p".into());
            let named = ["b", "alone"].get(queue as usize);
            let named = named.filter(|_| word != 2);
            its.parts[0].queues = named.map(|name| (*name).into()).into_iter().collect();
            // Less than is said, mostly; who is not done by then is ended, and that takes a while.
            its.time_limit = Some(TimeLimit::Span(Duration::from_secs(2000)));
            if word == 2 && number > 20 {
                its.reservation = Some("ada".into());
                its.time_limit = Some(TimeLimit::Span(Duration::from_secs(size.1)));
            }
            if word == 3 {
                its.time_limit = Some(TimeLimit::Span(Duration::from_secs(size.1 / 2 + 1)));
            }
            // Of one that does not run again nobody knows how long it took to end.
            let is_over = size.1 > 1980 || word == 3;
            if is_over && preempted == Some(Preempted::Cancel) {
                its.qos = None;
            }
            if word == 5 && number > 0 {
                let (job, tasks) = (JobWord::Number(1 + stays % number as u64), None);
                let event = [Happened::Ended, Happened::Started(long_after)][(stays % 2) as usize];
                its.after = Some(Condition::Job(JobRef { job, tasks }, event));
            }
            if word == 4 {
                its.array = Some("1-9:2,20%2".parse().expect("an array"));
            }
        });
        if hold {
            let who = Who {
                user,
                operator: false,
            };
            story.tell(at + stays, Event::Release(who, job));
        }
        if number % 30 == 10 {
            let (node, long) = (["a", "b", "c", "d"][number / 30], 500 + below(4000));
            let state = match below(2) {
                0 => NodeState::Drain("dust".into()),
                _ => NodeState::Down("smoke".into()),
            };
            let tell = |state| Event::Node(OPERATOR, node.into(), state);
            story.tell(at, tell(state));
            story.tell(at + long, tell(NodeState::Up));
            let tell = |state| Event::Partition(OPERATOR, "b".into(), state);
            if node == "c" {
                story.tell(at, tell(PartitionState::Down));
                story.tell(at + long, tell(PartitionState::Up));
            }
        }
        if number % 30 == 20 {
            let (from, long) = (at + below(4000), 2000 + below(4000));
            let (name, until, nodes, users): (_, _, &[&str], &[u32]) = match number {
                20 => ("ada", 1_000_000, &["c"], &[1, 2, 3, 4]),
                _ if below(2) == 0 => ("repair", from + long, &["a", "d"], &[]),
                _ => ("repair", from + long, &["b"], &[]),
            };
            let booking = kept(nodes, from, until, users);
            story.tell(at, Event::Book(OPERATOR, name.into(), booking));
        }
    }
    story
}

#[test]
fn what_a_server_made_of_jobs_is_what_is_simulated() {
    let weights = Weights {
        age: 500,
        oldest: Duration::from_secs(7200),
        fair_share: 1000,
        size: 300,
        partition: 400,
        qos: 500,
        favor_small: false,
    };
    for order in [
        Order::Fifo,
        Order::Shortest,
        Order::Fairest,
        Order::Multifactor(weights),
    ] {
        for backfill in [
            Backfill::None,
            Backfill::Easy { scan: order },
            Backfill::Conservative,
        ] {
            for seed in [0, 1, 2, 3, 5, 7] {
                let told = any(seed, order, backfill).happens();

                assert_eq!(
                    told.simulated(),
                    told.was(),
                    "{order:?} {backfill:?} {seed}"
                );
                let waits = told
                    .jobs
                    .iter()
                    .filter(|past| past.started > Some(past.job.submit));
                assert!(waits.count() > 60, "nobody waits");
            }
        }
    }
}

#[test]
fn every_job_of_a_drawn_workload_starts() {
    let told = any(9, Order::Fairest, Backfill::Conservative).happens();
    let submitted: Vec<Time> = told.jobs.iter().map(|past| past.job.submit).collect();
    let blocks = Blocks::of(&submitted);
    for seed in 0..5 {
        let drawn = blocks.draw(&submitted, &mut Seed(seed).stream(0));
        let ran = told.ran(&drawn);
        assert_eq!(ran.len(), drawn.jobs.len(), "{seed}");
        assert!(ran.iter().all(|its| its.start >= its.job.submit));
        assert_eq!(ran, told.ran(&drawn), "the same again");
    }
}
