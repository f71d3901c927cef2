//! What a site allows to whom, and the state of its nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyperion_lifecycle::{
    Booking, Change, Closure, End, Event, Limits, NodeState, Partition, PartitionState, Preempted,
    Qos, Reason, Refusal, Rules, RulesError, Scope, Shut, State, TaskId, Why,
};
use hyperion_model::report::Exit;
use hyperion_model::submission::{NodeCount, Part, Per, Submission, TimeLimit};
use hyperion_sched::{NodeNumber, Time};

use crate::case::{Case, OPERATOR, USER};

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Three nodes of four cores: two for `short`, which is usual, one for `long`.
fn rules() -> Rules {
    let short = Partition {
        nodes: names(&["n0", "n1"]),
        default: true,
        max_minutes: Some(60),
        default_minutes: Some(10),
        max_nodes: Some(1),
        ..Partition::default()
    };
    let long = Partition {
        nodes: names(&["n2"]),
        accounts: names(&["physics"]),
        priority: 10,
        ..Partition::default()
    };
    Rules {
        partitions: BTreeMap::from([("short".into(), short), ("long".into(), long)]),
        licences: BTreeMap::from([("mesher".into(), 1), ("solver".into(), 2)]),
        ..Rules::default()
    }
}

fn case() -> Case {
    Case::with_rules(3, 4, rules())
}

fn minutes(minutes: u64) -> Option<TimeLimit> {
    Some(TimeLimit::Span(Duration::from_secs(60 * minutes)))
}

fn queues(queues: &[&str]) -> Vec<String> {
    queues.iter().map(|name| (*name).to_owned()).collect()
}

fn in_long(asked: &mut Submission) {
    asked.parts[0].queues = queues(&["long"]);
    asked.account = Some("physics".into());
}

fn task(job: u64) -> TaskId {
    TaskId { job, index: 0 }
}

fn nodes_of(case: &Case, job: u64) -> Vec<u32> {
    let its = case.ledger.allocation(task(job)).expect("it runs");
    its.allocation.iter().map(|part| part.node.0).collect()
}

#[test]
fn a_job_goes_to_the_nodes_of_its_partition_for_as_long_as_that_allows() {
    let mut case = case();
    let usual = case.submit(4, |_| {});
    let long = case.submit(4, in_long);
    let second = case.submit(4, |_| {});
    let third = case.submit(4, |_| {});
    assert_eq!(case.started(), [task(usual), task(long), task(second)]);
    assert_eq!(
        [
            nodes_of(&case, usual),
            nodes_of(&case, long),
            nodes_of(&case, second)
        ],
        [[0], [2], [1]]
    );
    // It waits for one of its own nodes.
    assert_eq!(case.why(third), Some(Reason::Resources(Time::seconds(600))));
    let asked = &case.ledger.jobs()[&usual].asked;
    assert_eq!(
        (asked.limit.as_secs(), asked.partition.as_deref()),
        (600, Some("short"))
    );
}

#[test]
fn what_a_partition_does_not_allow_is_refused() {
    let mut case = case();
    let refused = |result: Result<u64, Refusal>| match result {
        Err(Refusal::Rules(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let asked = case.try_submit(1, |asked| asked.time_limit = minutes(61));
    assert_eq!(refused(asked), "partition short allows 60 minutes");
    let asked = case.try_submit(1, |asked| asked.parts[0].queues = queues(&["big"]));
    assert_eq!(refused(asked), "there is no partition big");
    let asked = case.try_submit(1, |asked| asked.parts[0].queues = queues(&["long"]));
    assert_eq!(
        refused(asked),
        "partition long is not for this user and account"
    );
    let (least, most) = (2, 2);
    let asked = case.try_submit(2, |asked| {
        asked.parts[0].nodes = Some(NodeCount { least, most })
    });
    assert_eq!(refused(asked), "partition short allows 1 nodes");
    // Any of several will do.
    let job = case.submit(1, |asked| {
        in_long(asked);
        asked.parts[0].queues = queues(&["short", "long"]);
        asked.time_limit = minutes(100);
    });
    assert_eq!(
        case.ledger.jobs()[&job].asked.partition.as_deref(),
        Some("long")
    );
    // More than the partition has is more than there is.
    assert_eq!(case.try_submit(5, |_| {}), Err(Refusal::NeverFits));
}

#[test]
fn a_partition_that_is_down_takes_jobs_and_starts_none() {
    let mut case = case();
    let job = case.submit(1, |_| {});
    let tell = |state| Event::Partition(OPERATOR, "short".into(), state);
    case.tell(tell(PartitionState::Down));
    let second = case.submit(1, |_| {});
    assert_eq!(case.started(), []);
    assert_eq!(case.why(job), Some(Reason::PartitionClosed("short".into())));
    case.tell(tell(PartitionState::Drain));
    assert_eq!(case.started(), [task(job), task(second)]);
    let refused = case.try_submit(1, |_| {});
    assert_eq!(refused, Err(RulesError::TakesNone("short".into()).into()));
    case.tell(tell(PartitionState::Up));
    case.submit(1, |_| {});
    let mine = Event::Partition(USER, "short".into(), PartitionState::Down);
    assert_eq!(case.try_tell(mine), Err(Refusal::NotOperator));
}

#[test]
fn nothing_starts_on_a_node_that_is_drained_and_nothing_goes_on_where_one_is_down() {
    let mut case = Case::with_rules(2, 4, Rules::default());
    let (first, second) = (case.submit(4, |_| {}), case.submit(4, |_| {}));
    assert_eq!(case.started().len(), 2);
    let tell = |node: &str, state| Event::Node(OPERATOR, node.into(), state);
    case.tell(tell("n0", NodeState::Drain("fan".into())));
    assert_eq!(
        case.ledger.node_state("n0"),
        &NodeState::Drain("fan".into())
    );
    case.tell(Event::Over(task(first), End::Exit(Exit::Code(0))));
    let third = case.submit(4, |_| {});
    assert_eq!(case.started(), []);
    // What runs on one that goes down is told to end, and waits again.
    let changes = case.tell(tell("n1", NodeState::Down("fire".into())));
    assert!(
        matches!(changes[..], [Change::Node { .. }, Change::Stopping { task, .. }] if task.job == second)
    );
    case.tell(Event::Over(task(second), End::Lost));
    assert_eq!(case.state(second, 0), State::Pending);
    assert_eq!(case.started(), []);
    assert_eq!(case.why(second), Some(Reason::NodesClosed));
    case.tell(tell("n0", NodeState::Up));
    assert_eq!(case.started(), [task(second)]);
    assert_eq!(
        case.why(third),
        Some(Reason::Resources(Time::seconds(3600)))
    );
    let unknown = case.try_tell(tell("n7", NodeState::Up));
    assert_eq!(unknown, Err(RulesError::NoNode("n7".into()).into()));
}

#[test]
fn when_something_was_closed_is_kept_in_mind() {
    let rules = Rules {
        partitions: BTreeMap::from([("main".into(), Partition::default())]),
        ..Rules::default()
    };
    let mut case = Case::with_rules(2, 4, rules);
    let node = |name: &str, state| Event::Node(OPERATOR, name.into(), state);
    let drain = || NodeState::Drain("fan".into());
    let down = || NodeState::Down("fire".into());
    let main = |state| Event::Partition(OPERATOR, "main".into(), state);
    case.tell(node("n0", drain()));
    case.at(1).tell(main(PartitionState::Down));
    case.at(2).tell(node("n1", drain()));
    case.at(3).tell(node("n0", down()));
    case.at(4).tell(main(PartitionState::Drain));
    case.at(5).tell(node("n0", NodeState::Up));
    let of_node = |name: &str, state| Shut::Node(name.into(), state);
    let closed = |of, from, until: Option<u64>| Closure {
        of,
        from: Time::seconds(from),
        until: until.map(Time::seconds),
    };
    let main = Shut::Partition("main".into(), PartitionState::Down);
    let all = [
        closed(of_node("n0", drain()), 0, Some(3)),
        closed(main, 1, Some(4)),
        closed(of_node("n1", drain()), 2, None),
        closed(of_node("n0", down()), 3, Some(5)),
    ];
    assert_eq!(case.ledger.closures(), all);
    for _ in 0..10_000 {
        case.tell(node("n0", drain()));
        case.tell(node("n0", NodeState::Up));
    }
    assert_eq!(case.ledger.closures().len(), 10_000, "but not all for ever");
}

#[test]
fn no_job_is_started_that_would_run_into_a_time_to_which_it_has_no_right() {
    let mut case = Case::with_rules(2, 4, Rules::default());
    let booking = Booking {
        nodes: names(&["n0"]),
        from: Time::seconds(600),
        until: Time::seconds(1200),
        users: BTreeSet::from([USER.user]),
        accounts: BTreeSet::new(),
    };
    case.tell(Event::Book(OPERATOR, "course".into(), booking));
    let before = case.submit(4, |asked| asked.time_limit = minutes(10));
    let long = case.submit(4, |asked| asked.time_limit = minutes(11));
    let longer = case.submit(4, |asked| asked.time_limit = minutes(30));
    let inside = case.submit(4, |asked| {
        asked.reservation = Some("course".into());
        asked.time_limit = minutes(10);
    });
    assert_eq!(case.started(), [task(before), task(long)]);
    assert_eq!(
        (nodes_of(&case, before), nodes_of(&case, long)),
        (vec![0], vec![1])
    );
    case.tell(Event::Over(task(before), End::Exit(Exit::Code(0))));
    case.at(100);
    assert_eq!(case.started(), []);
    assert_eq!(case.ledger.wake_at(), Some(Time::seconds(600)));
    case.at(600);
    assert_eq!(case.started(), [task(inside)]);
    assert_eq!(nodes_of(&case, inside), [0]);
    let other = case.try_submit(1, |asked| asked.reservation = Some("none".into()));
    assert_eq!(other, Err(RulesError::NoReservation("none".into()).into()));
    case.tell(Event::Unbook(OPERATOR, "course".into()));
    let booked = case.ledger.booked().iter();
    let known: Vec<_> = booked
        .map(|its| (&its.name[..], its.made, its.gone))
        .collect();
    assert_eq!(known, [("course", Time(0), Some(Time::seconds(600)))]);
    assert_eq!(case.ledger.bookings().count(), 0);
    assert_eq!(case.started(), []);
    case.tell(Event::Over(task(inside), End::Exit(Exit::Code(0))));
    assert_eq!(case.started(), [task(longer)]);
}

#[test]
fn a_user_runs_as_many_and_submits_as_many_as_the_limits_allow() {
    let rules = Rules {
        each_user: Limits {
            running: Some(2),
            submitted: Some(4),
            ..Limits::default()
        },
        projects: BTreeMap::from([(
            "physics".into(),
            Limits {
                cores: Some(3),
                ..Limits::default()
            },
        )]),
        ..Rules::default()
    };
    let mut case = Case::with_rules(1, 8, rules);
    let physics = |asked: &mut Submission| asked.project = Some("physics".into());
    let (first, second) = (case.submit(2, physics), case.submit(2, physics));
    let (third, fourth) = (case.submit(1, |_| {}), case.submit(1, |_| {}));
    let most = RulesError::TooMany {
        scope: Scope::User(1000),
        most: 4,
    };
    assert_eq!(case.try_submit(1, |_| {}), Err(most.into()));
    // The second would be too much for the project, the fourth for the user.
    assert_eq!(case.started(), [task(first), task(third)]);
    assert_eq!(case.why(fourth), Some(Reason::Limit(Scope::User(1000))));
    case.tell(Event::Over(task(third), End::Exit(Exit::Code(0))));
    assert_eq!(case.started(), [task(fourth)]);
    case.tell(Event::Over(task(fourth), End::Exit(Exit::Code(0))));
    assert_eq!(case.started(), []);
    assert_eq!(
        case.why(second),
        Some(Reason::Limit(Scope::Project("physics".into())))
    );
    case.tell(Event::Over(task(first), End::Exit(Exit::Code(0))));
    assert_eq!(case.started(), [task(second)]);
    case.submit(1, |_| {});
}

#[test]
fn a_quality_of_service_has_limits_of_its_own() {
    let urgent = Qos {
        priority: 100,
        max_minutes: Some(30),
        each_user: Limits {
            core_minutes: Some(60),
            ..Limits::default()
        },
        ..Qos::default()
    };
    let rules = Rules {
        qos: BTreeMap::from([("urgent".into(), urgent)]),
        ..Rules::default()
    };
    let mut case = Case::with_rules(1, 8, rules);
    let urgent = |length| {
        move |asked: &mut Submission| {
            asked.qos = Some("urgent".into());
            asked.time_limit = minutes(length);
        }
    };
    let error = RulesError::TooLong {
        scope: Scope::Qos("urgent".into()),
        most: 30,
    };
    assert_eq!(case.try_submit(1, urgent(31)), Err(error.into()));
    let unknown = case.try_submit(1, |asked| asked.qos = Some("slow".into()));
    assert_eq!(unknown, Err(RulesError::NoQos("slow".into()).into()));
    let (first, second) = (case.submit(2, urgent(20)), case.submit(1, urgent(30)));
    assert_eq!(case.started(), [task(first)]);
    assert_eq!(
        case.why(second),
        Some(Reason::Limit(Scope::QosUser("urgent".into(), 1000)))
    );
}

#[test]
fn a_job_of_a_higher_rank_has_those_that_yield_out_of_its_way() {
    for (preempted, state) in [
        (Preempted::Requeue, State::Pending),
        (Preempted::Cancel, State::Preempted),
    ] {
        let idle = Qos {
            preempted: Some(preempted),
            ..Qos::default()
        };
        let urgent = Qos {
            rank: 1,
            ..Qos::default()
        };
        let rules = Rules {
            qos: BTreeMap::from([("idle".into(), idle), ("urgent".into(), urgent)]),
            ..Rules::default()
        };
        let mut case = Case::with_rules(2, 4, rules);
        let of = |qos: &'static str| move |asked: &mut Submission| asked.qos = Some(qos.into());
        let (stays, yields) = (case.submit(4, |_| {}), case.submit(4, of("idle")));
        assert_eq!(case.started(), [task(stays), task(yields)]);
        let waits = case.submit(4, of("idle"));
        let urgent = case.submit(4, of("urgent"));
        let changes = case.schedule();
        let why = Why::Preempted;
        assert_eq!(
            changes,
            [Change::Stopping {
                task: task(yields),
                why
            }]
        );
        // Once is enough.
        case.at(1);
        assert_eq!(case.schedule(), []);
        case.tell(Event::Over(task(yields), End::Exit(Exit::Signal(15))));
        assert_eq!(case.state(yields, 0), state);
        assert_eq!(case.started(), [task(urgent)]);
        assert_eq!(case.state(waits, 0), State::Pending);
    }
}

#[test]
fn licences_are_counted_over_all_nodes() {
    let mut case = case();
    let with = |count| {
        move |asked: &mut Submission| {
            asked.parts[0].licences.insert("solver".into(), count);
        }
    };
    let (first, second) = (case.submit(1, with(1)), case.submit(1, with(2)));
    // Longer than the first: it would take from the second what that waits for.
    let third = case.submit(1, |asked| {
        with(1)(asked);
        asked.time_limit = minutes(20);
    });
    assert_eq!(case.started(), [task(first)]);
    assert_eq!(
        case.why(second),
        Some(Reason::Resources(Time::seconds(600)))
    );
    let waits = case
        .ledger
        .explain(task(second), case.now)
        .expect("it waits");
    let why = waits.explanation.expect("for a licence");
    assert_eq!(
        why.lacks,
        [hyperion_lifecycle::Lack::Licence { kind: 1, amount: 1 }]
    );
    assert_eq!(why.until[0].node, NodeNumber::NONE);
    case.tell(Event::Over(task(first), End::Exit(Exit::Code(0))));
    assert_eq!(case.started(), [task(second)]);
    case.tell(Event::Over(task(second), End::Exit(Exit::Code(0))));
    assert_eq!(case.started(), [task(third)]);
    assert_eq!(case.try_submit(1, with(3)), Err(Refusal::NeverFits));
    let unknown = case.try_submit(1, |asked| {
        asked.parts[0].licences.insert("reader".into(), 1);
    });
    assert!(matches!(unknown, Err(Refusal::Ask(_))));
}

#[test]
fn the_members_of_a_heterogeneous_job_start_together_or_not_at_all() {
    let mut case = Case::with_rules(2, 4, Rules::default());
    let other = case.submit(3, |_| {});
    assert_eq!(case.started(), [task(other)]);
    let both = case.submit(4, |asked| {
        let mut second = Part::default();
        second.tasks.insert(Per::Job, 2);
        asked.parts.push(second);
    });
    // The first member has room, the second has none beside it.
    assert_eq!(case.started(), []);
    assert_eq!(case.why(both), Some(Reason::Resources(Time::seconds(3600))));
    case.tell(Event::Over(task(other), End::Exit(Exit::Code(0))));
    assert_eq!(case.started(), [task(both)]);
    let its = case.ledger.allocation(task(both)).expect("it runs");
    let parts = its.allocation.iter();
    let parts: Vec<_> = parts
        .map(|p| (p.member, p.node.0, p.taken.of(0) / 1000))
        .collect();
    assert_eq!(parts, [(0, 0, 4), (1, 1, 2)]);
}

#[test]
fn rules_are_plain_data_and_refuse_words_that_they_do_not_know() {
    let text = serde_json::to_string(&rules()).expect("data");
    let read: Rules = serde_json::from_str(&text).expect("rules");
    assert_eq!(read, rules());
    let error = serde_json::from_str::<Rules>(r#"{"partitions": {"a": {"max_hours": 3}}}"#);
    let error = error.expect_err("no such word").to_string();
    assert!(error.contains("max_hours"), "{error}");
}

/// Two kinds of jobs: those that come first, and those that make room in some way.
fn ranked(preempted: Preempted, grace_seconds: u64) -> Case {
    let low = Qos {
        preempted: Some(preempted),
        grace_seconds,
        ..Qos::default()
    };
    let high = Qos {
        rank: 1,
        ..Qos::default()
    };
    let qos = BTreeMap::from([("low".into(), low), ("high".into(), high)]);
    let rules = Rules {
        qos,
        ..Rules::default()
    };
    Case::with_rules(1, 4, rules)
}

fn of_qos(name: &str) -> impl FnOnce(&mut Submission) {
    let name = name.to_owned();
    move |asked| {
        asked.qos = Some(name);
        asked.time_limit = minutes(10);
    }
}

#[test]
fn one_that_makes_room_stands_still_and_goes_on_before_those_behind_it() {
    let mut case = ranked(Preempted::Suspend, 0);
    let low = case.submit(4, of_qos("low"));
    let behind = case.submit(4, of_qos("low"));
    assert_eq!(case.started(), [task(low)]);
    let high = case.submit(3, of_qos("high"));
    // It is on its way up, and would not hear it.
    assert_eq!(case.schedule(), []);
    case.at(60).tell(Event::Up(task(low)));
    let (its, by) = (task(low), Some(high));
    let changes = case.schedule();
    assert_eq!(changes[0], Change::Suspended { task: its, by });
    assert!(matches!(&changes[1..], [Change::Started { task: other, .. }] if *other == task(high)));
    assert_eq!(case.state(low, 0), State::Suspended);
    assert_eq!(case.why(low), Some(Reason::MadeRoom(high)));
    // Nobody can have it go on before, not its user either.
    case.tell(Event::Resume(USER, its));
    assert_eq!(case.schedule(), []);
    case.at(90);
    case.tell(Event::Over(task(high), End::Exit(Exit::Code(0))));
    assert_eq!(
        case.schedule(),
        [Change::Resumed {
            task: its,
            pins: Vec::new()
        }]
    );
    assert_eq!(case.state(low, 0), State::Running);
    // Half a minute did not count.
    assert_eq!(case.ledger.wake_at(), Some(Time::seconds(630)));
    case.tell(Event::Over(its, End::Exit(Exit::Code(0))));
    assert_eq!(case.started(), [task(behind)]);
}

#[test]
fn one_that_stands_still_can_be_ended_and_its_memory_is_held_as_long() {
    let mut case = ranked(Preempted::Suspend, 0);
    let with_memory = |gib: u64| {
        let memory = move |asked: &mut Submission| {
            let bytes = hyperion_model::Bytes(gib << 30);
            asked.parts[0].memory.insert(Per::Node, bytes);
        };
        move |asked: &mut Submission| {
            of_qos(if gib > 30 { "low" } else { "high" })(asked);
            memory(asked);
        }
    };
    let low = case.submit(4, with_memory(40));
    case.started();
    case.tell(Event::Up(task(low)));
    // Of 64 GiB: the memory of the one that stands still is not to be had.
    let large = case.submit(4, with_memory(30));
    assert_eq!(case.schedule(), []);
    case.tell(Event::Cancel(USER, large, None));
    let small = case.submit(4, with_memory(24));
    assert_eq!(case.started(), [task(small)]);
    assert_eq!(case.state(low, 0), State::Suspended);
    case.tell(Event::Cancel(USER, low, None));
    case.tell(Event::Over(task(low), End::Exit(Exit::Signal(15))));
    assert_eq!(case.state(low, 0), State::Cancelled);
    case.tell(Event::Over(task(small), End::Exit(Exit::Code(0))));
    assert_eq!(case.schedule(), []);
    let free = case.ledger.cluster().free(hyperion_sched::NodeNumber(0));
    assert_eq!(free, &hyperion_sched::Amounts::new([4000, 64 << 30]));
}

#[test]
fn one_that_is_to_end_has_its_grace_before() {
    let mut case = ranked(Preempted::Requeue, 30);
    let low = case.submit(4, of_qos("low"));
    case.started();
    case.tell(Event::Up(task(low)));
    let high = case.submit(4, of_qos("high"));
    let its = task(low);
    let until = Time::seconds(130);
    assert_eq!(
        case.at(100).schedule(),
        [Change::Leaving { task: its, until }]
    );
    // It is told once, and nobody else for it.
    assert_eq!(case.at(110).schedule(), []);
    assert_eq!(case.ledger.wake_at(), Some(until));
    let why = Why::Preempted;
    assert_eq!(
        case.at(130).tell(Event::Tick),
        [Change::Stopping { task: its, why }]
    );
    case.tell(Event::Over(its, End::Exit(Exit::Signal(9))));
    assert_eq!(case.started(), [task(high)]);
    assert_eq!(case.state(low, 0), State::Pending);
    // What it waited to be started again is no time for which it ran.
    case.at(200).tell(Event::Cancel(USER, low, None));
    let its = case.ledger.jobs()[&low].task(0).expect("it was started");
    let ran = (its.started, its.stood_still(), its.ended);
    let waited = Duration::from_secs(70);
    assert_eq!(ran, (Some(Time(0)), waited, Some(Time::seconds(200))));
    // One that ends by itself in its grace has ended well.
    let mut case = ranked(Preempted::Cancel, 30);
    let low = case.submit(4, of_qos("low"));
    case.started();
    case.submit(4, of_qos("high"));
    case.schedule();
    case.tell(Event::Over(task(low), End::Exit(Exit::Code(0))));
    assert_eq!(case.state(low, 0), State::Completed);
}

#[test]
fn a_job_goes_where_its_features_are_or_is_refused_with_what_there_is() {
    let node = |name: &str| hyperion_sched::Node {
        name: name.into(),
        capacity: hyperion_sched::Amounts::new([4000, 64 << 30]),
    };
    let features = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let site = hyperion_lifecycle::Site {
        nodes: vec![node("a"), node("b")],
        features: vec![features(&["haswell"]), features(&["skylake", "ib"])],
        ..hyperion_lifecycle::Site::default()
    };
    let policy = hyperion_sched::Policy::default();
    let mut case = Case {
        ledger: hyperion_lifecycle::Ledger::new(site, hyperion_sched::Order::Fifo, policy),
        ..Case::new(4)
    };
    let mut ask = |wish: &str, nodes: u32| {
        case.try_submit(1, |asked| {
            asked.parts[0].features = Some(wish.into());
            asked.parts[0].nodes = Some(NodeCount {
                least: nodes,
                most: nodes,
            });
        })
        .map_err(|refusal| refusal.to_string())
    };
    let there = "there is haswell, ib, skylake";
    let first = ask("skylake&ib", 1).expect("taken");
    assert_eq!(
        ask("haswell", 2),
        Err(format!("too few nodes have haswell; {there}"))
    );
    assert_eq!(
        ask("haswell&ib", 1),
        Err(format!("too few nodes have haswell&ib; {there}"))
    );
    assert_eq!(
        ask("[haswell*2]", 1),
        Err(format!("too few nodes have [haswell*2]; {there}"))
    );
    let wrong = "\"a&\" does not say what a node must have";
    assert_eq!(ask("a&", 1), Err(wrong.into()));
    let counted = ask("[haswell*1&skylake*1]", 1).expect("taken");
    assert_eq!(case.started(), [task(first), task(counted)]);
    assert_eq!(nodes_of(&case, first), [1]);
}

/// As Grid Engine names hosts: `-l h=rack1-*&!rack1-b`.
#[test]
fn hosts_may_be_patterns() {
    let node = |name: &str| hyperion_sched::Node {
        name: name.into(),
        capacity: hyperion_sched::Amounts::new([4000, 64 << 30]),
    };
    let site = hyperion_lifecycle::Site {
        nodes: ["rack1-a", "rack1-b", "rack1-c", "rack2-a"]
            .map(node)
            .to_vec(),
        ..hyperion_lifecycle::Site::default()
    };
    let policy = hyperion_sched::Policy::default();
    let mut case = Case {
        ledger: hyperion_lifecycle::Ledger::new(site, hyperion_sched::Order::Fifo, policy),
        ..Case::new(4)
    };
    let submitted = case.submit(1, |asked| {
        asked.parts[0].hosts = vec!["rack1-*".into()];
        asked.parts[0].without = vec!["*1-b".into()];
        asked.parts[0].nodes = Some(NodeCount { least: 2, most: 2 });
    });
    assert_eq!(case.started(), [task(submitted)]);
    assert_eq!(nodes_of(&case, submitted), [0, 2]);
}
