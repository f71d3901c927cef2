//! What holds whatever happens, in whatever order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::case::{Case, USER};
use hyperion_lifecycle::{
    Booking, Change, End, Event, Ledger, Limits, NodeState, Partition, PartitionState, Preempted,
    Qos, Reason, Record, Rules, Site, TaskId, Who,
};
use hyperion_model::Edit;
use hyperion_model::report::Exit;
use hyperion_model::submission::{
    Condition, Event as Happened, JobRef, JobWord, NodeCount, Per, Resource, TimeLimit,
};
use hyperion_sched::{Amounts, Backfill, Node, NodeNumber, Numa, Order, Placement, Policy};
use proptest::prelude::*;

/// Something that may happen; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Act {
    Submit {
        cores: u32,
        array: Option<(u32, Option<u32>)>,
        after: Option<(u64, u8)>,
        seconds: u64,
        hold: bool,
        qos: u8,
    },
    Hold(u64),
    Release(u64),
    Edit(u64, Option<u32>, u8, u64),
    Cancel(u64, Option<u32>),
    Requeue(usize),
    Suspend(usize),
    Resume(usize),
    Node(u8),
    Book(u8),
    Partition(u8),
    Up(usize),
    Over(usize, u8),
    Forget(u64),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let array = prop::option::of((1u32..6, prop::option::of(1u32..4)));
    let after = prop::option::of((any::<u64>(), any::<u8>()));
    let hold = prop::bool::weighted(0.1);
    let submit = (1u32..5, array, after, 1u64..100, hold, any::<u8>());
    prop_oneof![
        4 => submit.prop_map(|(cores, array, after, seconds, hold, qos)| {
            Act::Submit { cores, array, after, seconds, hold, qos }
        }),
        1 => any::<u64>().prop_map(Act::Hold),
        1 => any::<u64>().prop_map(Act::Release),
        1 => (any::<u64>(), prop::option::of(0u32..6)).prop_map(|(j, i)| Act::Cancel(j, i)),
        3 => (any::<u64>(), prop::option::weighted(0.2, 0u32..6), any::<u8>(), any::<u64>())
            .prop_map(|(j, i, kind, value)| Act::Edit(j, i, kind, value)),
        1 => any::<usize>().prop_map(Act::Requeue),
        1 => any::<usize>().prop_map(Act::Suspend),
        1 => any::<usize>().prop_map(Act::Resume),
        1 => any::<u8>().prop_map(Act::Node),
        1 => any::<u8>().prop_map(Act::Book),
        1 => any::<u8>().prop_map(Act::Partition),
        4 => any::<usize>().prop_map(Act::Up),
        8 => (any::<usize>(), any::<u8>()).prop_map(|(t, e)| Act::Over(t, e)),
        2 => any::<u64>().prop_map(Act::Forget),
        3 => (0u64..50).prop_map(Act::Pass),
    ]
}

fn end(kind: u8) -> End {
    match kind % 5 {
        0..=2 => End::Exit(Exit::Code(kind % 3)),
        3 => End::Lost,
        _ => End::OutOfMemory,
    }
}

fn active(ledger: &Ledger) -> Vec<TaskId> {
    let running = ledger.cluster().running().keys();
    running.map(|number| TaskId::of(*number)).collect()
}

fn perform(case: &mut Case, act: &Act) {
    let jobs: Vec<u64> = case.ledger.jobs().keys().copied().collect();
    let job = |number: u64| jobs.get(number as usize % jobs.len().max(1)).copied();
    let tasks = active(&case.ledger);
    let task = |number: usize| tasks.get(number % tasks.len().max(1)).copied();
    let operator = Who {
        user: 0,
        operator: true,
    };
    let event = match act.clone() {
        Act::Submit {
            cores,
            array,
            after,
            seconds,
            hold,
            qos,
        } => {
            let on = after.and_then(|(on, kind)| Some((job(on)?, kind)));
            let submitted = case.try_submit(cores, |asked| {
                asked.time_limit = Some(TimeLimit::Span(Duration::from_secs(seconds)));
                asked.hold = hold;
                let names = ["usual", "still", "short", "first"];
                asked.qos = Some(names[usize::from(qos % 4)].into());
                let kind = ["", "", "", "a", "b"].get(usize::from(qos / 4 % 8));
                if let Some(kind) = kind {
                    asked.parts[0].resources.push(Resource {
                        family: "gpu".into(),
                        kind: (!kind.is_empty()).then(|| (*kind).to_owned()),
                        count: 1,
                        per: Per::Job,
                    });
                    asked.parts[0].nodes = Some(NodeCount { least: 1, most: 1 });
                }
                asked.array = array.map(|(count, at_once)| {
                    let mut array = crate::case::array(&format!("0-{}", count - 1));
                    array.at_once = at_once;
                    array
                });
                asked.after = on.map(|(on, kind)| {
                    let event = match kind % 4 {
                        0 => Happened::Ended,
                        1 => Happened::Succeeded,
                        2 => Happened::Failed,
                        _ => Happened::SameEnded,
                    };
                    let job = JobWord::Number(on);
                    Condition::Job(JobRef { job, tasks: None }, event)
                });
            });
            // Or it is refused, which changes nothing.
            let _ = submitted;
            None
        }
        Act::Hold(number) => job(number).map(|job| Event::Hold(operator, job)),
        Act::Release(number) => job(number).map(|job| Event::Release(operator, job)),
        Act::Edit(number, index, kind, value) => {
            let edit = match kind % 6 {
                0 | 1 => Edit::Limit(TimeLimit::Span(Duration::from_secs(value % 100))),
                2 => Edit::After(job(value).map(|on| {
                    let job = JobWord::Number(on);
                    Condition::Job(JobRef { job, tasks: None }, Happened::Ended)
                })),
                3 => Edit::Qos(Some(
                    ["usual", "still", "short", "first"][value as usize % 4].into(),
                )),
                4 => Edit::Requeue(value % 2 == 0),
                _ => Edit::Queues(vec!["all".into()]),
            };
            let who = if kind % 2 == 0 { USER } else { operator };
            job(number).map(|job| Event::Edit(who, job, index, vec![edit]))
        }
        Act::Cancel(number, index) => job(number).map(|job| Event::Cancel(USER, job, index)),
        Act::Requeue(number) => task(number).map(|task| match number % 3 {
            0 => Event::RequeueHold(USER, task.job),
            _ => Event::Requeue(USER, task),
        }),
        Act::Suspend(number) => task(number).map(|task| Event::Suspend(USER, task)),
        Act::Resume(number) => task(number).map(|task| Event::Resume(USER, task)),
        Act::Node(kind) => Some(Event::Node(
            operator,
            "n0".into(),
            match kind % 4 {
                0 => NodeState::Drain("dust".into()),
                1 => NodeState::Down("fire".into()),
                _ => NodeState::Up,
            },
        )),
        Act::Book(kind) if kind % 3 == 0 => Some(Event::Unbook(operator, "b".into())),
        Act::Book(kind) => {
            let from = case.now + Duration::from_secs(u64::from(kind % 16));
            let booking = Booking {
                nodes: BTreeSet::new(),
                from,
                until: from + Duration::from_secs(20),
                users: BTreeSet::new(),
                accounts: BTreeSet::new(),
            };
            Some(Event::Book(operator, "b".into(), booking))
        }
        Act::Partition(kind) => Some(Event::Partition(
            operator,
            "all".into(),
            match kind % 3 {
                0 => PartitionState::Down,
                1 => PartitionState::Drain,
                _ => PartitionState::Up,
            },
        )),
        Act::Up(number) => task(number).map(Event::Up),
        Act::Over(number, kind) => task(number).map(|task| Event::Over(task, end(kind))),
        Act::Forget(number) => job(number).map(Event::Forget),
        Act::Pass(seconds) => {
            case.now = case.now + Duration::from_secs(seconds);
            Some(Event::Tick)
        }
    };
    if let Some(event) = event {
        // A refusal changes nothing, which the replay shows.
        let _ = case.try_tell(event);
    }
    case.started();
}

/// A partition, and limits that are reached now and then.
fn rules() -> Rules {
    let all = Partition {
        default: true,
        ..Partition::default()
    };
    let qos = |rank, preempted, grace_seconds| Qos {
        rank,
        preempted,
        grace_seconds,
        ..Qos::default()
    };
    Rules {
        partitions: BTreeMap::from([("all".into(), all)]),
        qos: BTreeMap::from([
            ("usual".into(), qos(0, None, 0)),
            ("still".into(), qos(0, Some(Preempted::Suspend), 0)),
            ("short".into(), qos(1, Some(Preempted::Requeue), 5)),
            ("first".into(), qos(2, None, 0)),
        ]),
        each_user: Limits {
            running: Some(3),
            submitted: Some(20),
            ..Limits::default()
        },
        ..Rules::default()
    }
}

/// A node of 4 cores, two threads each, and two kinds of GPU.
fn with_slots() -> Ledger {
    let site = Site {
        nodes: vec![Node {
            name: "n0".into(),
            capacity: Amounts::new([4000, 64 << 30, 3, 2, 1]),
        }],
        kinds: vec!["gpu".into(), "gpu:a".into(), "gpu:b".into()],
        slots: vec![vec![Numa {
            cores: (0..4).collect(),
            siblings: vec![[0, 2].into(), [1, 3].into()],
            devices: BTreeMap::from([(3, [0, 1].into()), (4, [2].into())]),
        }]],
        usual_limit: Some(Duration::from_secs(3600)),
        ..Site::default()
    };
    let policy = Policy {
        backfill: Backfill::Easy { scan: Order::Fifo },
        placement: Placement::First,
    };
    Ledger::with_rules(site, rules(), Order::Fifo, policy)
}

/// What the ledger says of itself, without what was planned last.
fn told(ledger: &Ledger) -> String {
    let text = format!("{ledger:#?}");
    let end = text.find("    planned: ").unwrap_or(text.len());
    text[..end].to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_given_twice_or_forgotten(acts in prop::collection::vec(act(), 1..80)) {
        let mut case = Case { ledger: with_slots(), ..Case::new(4) };
        for act in &acts {
            perform(&mut case, act);
            // No core and no device is two tasks' at once, and each has as many as it asked for.
            let mut given = BTreeSet::new();
            for (number, its) in case.ledger.cluster().running() {
                let pins = case.ledger.pins(TaskId::of(*number), NodeNumber(0));
                let pins = pins.cloned().unwrap_or_default();
                let taken = its.allocation.first().expect("it has some").taken;
                prop_assert_eq!(pins.cores.len() as u64, taken.of(0) / 1000);
                let devices: Vec<u32> = pins.devices.values().flatten().copied().collect();
                prop_assert_eq!(devices.len() as u64, taken.of(2));
                let cores = pins.cores.iter().map(|core| (true, *core));
                for one in cores.chain(devices.iter().map(|device| (false, *device))) {
                    prop_assert!(given.insert(one), "{one:?} is given twice");
                }
            }
            // Cores: `Cluster::start` panics where one is given twice; here, that what
            // runs is what has nodes.
            let running: BTreeSet<TaskId> = active(&case.ledger).into_iter().collect();
            let mut said = BTreeSet::new();
            for (&job, its) in case.ledger.jobs() {
                let at_once = its.asked.submission.array.as_ref().and_then(|array| array.at_once);
                let active = its.tasks().iter().filter(|(_, task)| task.state.is_active());
                let active: Vec<u32> = active.map(|(index, _)| *index).collect();
                prop_assert!(active.len() <= at_once.unwrap_or(u32::MAX) as usize);
                said.extend(active.iter().map(|&index| TaskId { job, index }));
                // Each task is in one state, and none is gone.
                let size = its.asked.submission.array.as_ref().map_or(1, |a| a.indices.count());
                let ended = its.tasks().iter().filter(|(index, task)| {
                    task.state.is_end() && !its.waiting().any(|w| w == **index)
                });
                let all = its.waiting().count() + active.len() + ended.count();
                prop_assert_eq!(all as u64, size);
            }
            prop_assert_eq!(running, said);
        }
        // A journal that is read gives the ledger that wrote it, also through JSON.
        let mut replayed = with_slots();
        for record in &case.journal {
            let line = serde_json::to_string(record).expect("a line");
            let read: Record = serde_json::from_str(&line).expect("a record");
            prop_assert_eq!(&read, record);
            replayed.apply(&read);
        }
        prop_assert_eq!(told(&replayed), told(&case.ledger));
        // Without the records of jobs that are forgotten it says the same of the others.
        let jobs = case.ledger.jobs().clone();
        let known = |record: &&Record| record.change.job().is_none_or(|job| jobs.contains_key(&job));
        let mut smaller = with_slots();
        case.journal.iter().filter(known).for_each(|record| smaller.apply(record));
        let carried = Change::Carried(case.ledger.carried(case.now));
        smaller.apply(&Record { at: case.now, change: carried });
        prop_assert_eq!(smaller.jobs(), &jobs);
        prop_assert_eq!(smaller.cluster().running(), case.ledger.cluster().running());
        prop_assert_eq!(smaller.began().unwrap_or_default(), case.ledger.began().unwrap_or_default());
        let mut same = Case { ledger: smaller, now: case.now, ..Case::new(4) };
        prop_assert_eq!(same.try_submit(1, |_| {}), case.try_submit(1, |_| {}));
        prop_assert_eq!(same.schedule(), case.schedule());
        // The same acts give the same journal.
        let mut again = Case { ledger: with_slots(), ..Case::new(4) };
        acts.iter().for_each(|act| perform(&mut again, act));
        let first = &case.journal[..again.journal.len()];
        prop_assert_eq!(&again.journal[..], first);
    }

    #[test]
    fn each_task_that_nobody_holds_back_comes_to_an_end(acts in prop::collection::vec(act(), 1..60)) {
        let mut case = Case::new(4);
        acts.iter().for_each(|act| perform(&mut case, act));
        let operator = Who { user: 0, operator: true };
        let jobs: Vec<u64> = case.ledger.jobs().keys().copied().collect();
        for job in jobs {
            let _ = case.try_tell(Event::Release(operator, job));
        }
        let _ = case.try_tell(Event::Node(operator, "n0".into(), NodeState::Up));
        let _ = case.try_tell(Event::Unbook(operator, "b".into()));
        let mut starts: BTreeMap<TaskId, u32> = BTreeMap::new();
        for _ in 0..2000 {
            case.started();
            let running = active(&case.ledger);
            let Some(&task) = running.first() else { break };
            *starts.entry(task).or_default() += 1;
            case.tell(Event::Over(task, End::Exit(Exit::Code(0))));
        }
        for (&job, its) in case.ledger.jobs() {
            for index in its.waiting() {
                let why = case.ledger.reason(TaskId { job, index }, case.now);
                // In vain, or for one that waits in vain.
                let in_vain = matches!(why, Some(Reason::DependsInVain | Reason::Depends));
                prop_assert!(in_vain, "{job}[{index}] waits: {why:?}");
            }
        }
        prop_assert_eq!(active(&case.ledger), []);
        // What was told to end and waits again was started again; nothing else was.
        let told_again = case.journal.iter().filter(|record| {
            matches!(record.change, Change::Ended { again: true, .. })
        });
        let again = told_again.count();
        let more: u32 = case.ledger.jobs().values().flat_map(|job| job.tasks().values())
            .map(|task| task.starts.saturating_sub(1)).sum();
        prop_assert!(more as usize <= again, "{more} of {again}");
    }
}
