//! What becomes of a job that is changed after it was submitted.

use std::collections::BTreeMap;
use std::time::Duration;

use hyperion_lifecycle::{
    Change, End, Event, Limits, Partition, Reason, Refusal, Rules, RulesError, State, TaskId, Who,
    Why,
};
use hyperion_model::Edit;
use hyperion_model::report::Exit;
use hyperion_model::submission::{
    Condition, Dialect, Event as Happened, JobRef, JobWord, NodeCount, TimeLimit, Warning,
    WarningTo,
};
use hyperion_sched::{Order, Time, Weights};

use crate::case::{Case, OPERATOR, USER, array, ledger_of, ledger_with};

fn minutes(minutes: u64) -> Edit {
    Edit::Limit(TimeLimit::Span(Duration::from_secs(60 * minutes)))
}

fn after(job: u64) -> Edit {
    let job = JobWord::Number(job);
    let on = JobRef { job, tasks: None };
    Edit::After(Some(Condition::Job(on, Happened::Ended)))
}

fn task(job: u64, index: u32) -> TaskId {
    TaskId { job, index }
}

impl Case {
    fn edit(&mut self, who: Who, job: u64, edits: &[Edit]) -> Result<Vec<Change>, Refusal> {
        self.try_tell(Event::Edit(who, job, None, edits.to_vec()))
    }

    /// Reads the journal into another ledger, which must say the same.
    #[track_caller]
    fn replays(&self, rules: Rules) {
        let mut replayed = ledger_with(1, 4, rules);
        self.journal
            .iter()
            .for_each(|record| replayed.apply(record));
        assert_eq!(replayed.jobs(), self.ledger.jobs());
        assert_eq!(replayed.wake_at(), self.ledger.wake_at());
    }
}

#[test]
fn what_waits_is_changed_and_starts_as_it_is_then() {
    let mut case = Case::new(4);
    let first = case.submit(4, |_| {});
    let job = case.submit(2, |_| {});
    case.started();
    let edits = [
        minutes(5),
        Edit::Name("other".into()),
        Edit::Nice(7),
        after(first),
    ];
    case.edit(USER, job, &edits).expect("changed");
    let asked = &case.ledger.jobs()[&job].asked;
    assert_eq!(asked.limit, Duration::from_secs(300));
    assert_eq!(asked.submission.name.as_deref(), Some("other"));
    assert_eq!(case.why(job), Some(Reason::Depends));
    case.edit(USER, job, &[Edit::After(None)]).expect("changed");
    assert_eq!(case.why(job), Some(Reason::Resources(Time::seconds(3600))));
    case.tell(Event::Over(task(first, 0), End::Exit(Exit::Code(0))));
    assert_eq!(case.started(), [task(job, 0)]);
    // It runs as long as it was given last.
    let ends = case.ledger.jobs()[&job].task(0).map(|its| its.until);
    assert_eq!(ends, Some(Time::seconds(300)));
    case.replays(Rules::default());
}

#[test]
fn the_begin_of_what_waits_is_put_off_and_brought_forward() {
    let mut case = Case::new(4);
    let job = case.submit(1, |_| {});
    let hour = Duration::from_secs(3600);
    case.at(10)
        .edit(USER, job, &[Edit::Begin(hour)])
        .expect("changed");
    assert_eq!(case.why(job), Some(Reason::Begins(Time::seconds(3610))));
    assert_eq!(case.started(), []);
    assert_eq!(case.ledger.wake_at(), Some(Time::seconds(3610)));
    case.replays(Rules::default());
    case.edit(USER, job, &[Edit::Begin(Duration::ZERO)])
        .expect("changed");
    assert_eq!(case.started(), [task(job, 0)]);
}

#[test]
fn the_limit_of_what_runs_is_lowered_by_its_user_and_raised_by_operators() {
    let mut case = Case::new(4);
    let job = case.submit(1, |asked| {
        asked.warning = Some(Warning {
            signal: 10,
            before: Duration::from_secs(60),
            to: WarningTo::Everything,
        });
    });
    case.started();
    case.tell(Event::Up(task(job, 0)));
    let refused = case.edit(USER, job, &[minutes(61)]);
    assert_eq!(refused, Err(Refusal::NotOperator));
    let until = |case: &Case| case.ledger.jobs()[&job].task(0).expect("it runs").until;
    case.edit(USER, job, &[minutes(10)]).expect("lowered");
    assert_eq!(until(&case), Time::seconds(600));
    case.edit(OPERATOR, job, &[minutes(20)]).expect("raised");
    assert_eq!(until(&case), Time::seconds(1200));
    // It is warned and ends by the limit that it has, and not before.
    assert_eq!(case.at(600).tell(Event::Tick), []);
    let warned = case.at(1140).tell(Event::Tick);
    assert_eq!(warned, [Change::Warned { task: task(job, 0) }]);
    case.replays(Rules::default());
    let stopped = case.at(1200).tell(Event::Tick);
    let (task, why) = (task(job, 0), Why::TimeLimit);
    assert_eq!(stopped, [Change::Stopping { task, why }]);
    // What is on its way out is left alone.
    let changes = case.edit(OPERATOR, job, &[minutes(90)]).expect("taken");
    assert!(matches!(changes[..], [Change::Edited(_)]), "{changes:?}");
}

#[test]
fn a_limit_that_is_over_ends_what_runs_and_one_that_stands_still_has_the_rest_of_its_own() {
    let mut case = Case::new(4);
    let job = case.submit(1, |_| {});
    let still = case.submit(1, |_| {});
    case.started();
    for job in [job, still] {
        case.tell(Event::Up(task(job, 0)));
    }
    case.at(100).tell(Event::Suspend(USER, task(still, 0)));
    case.at(300)
        .edit(USER, job, &[minutes(4)])
        .expect("lowered");
    assert!(case.ledger.wake_at() <= Some(case.now));
    let stopped = case.tell(Event::Tick);
    assert!(
        matches!(
            stopped[..],
            [Change::Stopping {
                why: Why::TimeLimit,
                ..
            }]
        ),
        "{stopped:?}"
    );
    case.edit(USER, still, &[minutes(5)]).expect("lowered");
    case.at(1000).tell(Event::Resume(USER, task(still, 0)));
    assert_eq!(case.started(), [task(still, 0)]);
    let until = case.ledger.jobs()[&still].task(0).map(|its| its.until);
    assert_eq!(until, Some(Time::seconds(900 + 300)));
    case.replays(Rules::default());
}

#[test]
fn an_array_is_changed_as_a_whole_and_its_running_tasks_by_their_limit() {
    let mut case = Case::new(4);
    let job = case.submit(2, |asked| asked.array = Some(array("1-4")));
    assert_eq!(case.started(), [task(job, 1), task(job, 2)]);
    let one = |edits: &[Edit]| Event::Edit(USER, job, Some(1), edits.to_vec());
    let refused = case.try_tell(one(&[Edit::Name("one".into())]));
    assert_eq!(refused, Err(Refusal::OnlyWhole(job)));
    let (at, until) = (task(job, 1), Time::seconds(60));
    assert_eq!(
        case.tell(one(&[minutes(1)])),
        [Change::Limited { task: at, until }]
    );
    case.edit(USER, job, &[Edit::AtOnce(Some(1))])
        .expect("changed");
    let over = |index| Event::Over(task(job, index), End::Exit(Exit::Code(0)));
    case.tell(over(1));
    assert_eq!(case.started(), []);
    assert_eq!(
        case.ledger.reason(task(job, 3), case.now),
        Some(Reason::AtOnce)
    );
    case.edit(USER, job, &[Edit::AtOnce(None)])
        .expect("changed");
    assert_eq!(case.started(), [task(job, 3)]);
    let alone = case.submit(1, |_| {});
    let refused = case.edit(USER, alone, &[Edit::AtOnce(Some(1))]);
    assert_eq!(refused, Err(Refusal::NoArray(alone)));
    case.replays(Rules::default());
}

#[test]
fn what_is_not_to_be_changed_is_refused_and_nothing_of_it_is() {
    let mut case = Case::new(4);
    let runs = case.submit(4, |_| {});
    let job = case.submit(1, |_| {});
    case.started();
    let other = Who {
        user: 7,
        operator: false,
    };
    let state = State::Configuring;
    for (who, job, edit, refusal) in [
        (other, job, Edit::Nice(1), Refusal::NotYours(job)),
        (USER, 99, Edit::Nice(1), Refusal::Unknown(99)),
        (USER, job, Edit::Nice(-1), Refusal::NotOperator),
        (USER, job, Edit::Priority(Some(1)), Refusal::NoPriorities),
        (USER, job, after(99), Refusal::DependsOnUnknown(99)),
        (USER, job, after(job), Refusal::DependsOnItself(job)),
        (USER, runs, after(job), Refusal::Not { job: runs, state }),
    ] {
        let edits = [Edit::Name("no".into()), edit];
        assert_eq!(case.edit(who, job, &edits), Err(refusal));
    }
    // By way of another, too.
    let third = case.submit(1, |_| {});
    case.edit(USER, third, &[after(job)]).expect("changed");
    let refused = case.edit(USER, job, &[after(third)]);
    assert_eq!(refused, Err(Refusal::DependsOnItself(job)));
    assert_eq!(case.ledger.jobs()[&job].asked.submission.name, None);
    let (least, most) = (2, 2);
    let two = Edit::Nodes(NodeCount { least, most });
    assert_eq!(case.edit(USER, job, &[two]), Err(Refusal::NeverFits));
    // Of what runs there is something to say all the same.
    let name = Edit::Name("yes".into());
    case.edit(USER, runs, &[name, Edit::Requeue(false)])
        .expect("changed");
    case.tell(Event::Over(task(runs, 0), End::Lost));
    assert_eq!(case.state(runs, 0), State::NodeFailed);
    let refused = case.edit(USER, runs, &[Edit::Name("late".into())]);
    assert!(matches!(refused, Err(Refusal::Not { .. })), "{refused:?}");
}

#[test]
fn a_job_moves_to_where_it_may_be_and_is_counted_there() {
    let partition = |max_minutes, submitted| Partition {
        max_minutes: Some(max_minutes),
        limits: Limits {
            submitted: Some(submitted),
            ..Limits::default()
        },
        ..Partition::default()
    };
    let usual = Partition {
        default: true,
        ..partition(60, 2)
    };
    let rules = Rules {
        partitions: BTreeMap::from([("usual".into(), usual), ("long".into(), partition(600, 1))]),
        ..Rules::default()
    };
    let mut case = Case::with_rules(1, 4, rules.clone());
    let job = case.submit(4, |_| {});
    let second = case.submit(4, |_| {});
    assert!(case.try_submit(1, |_| {}).is_err());
    let to = |name: &str| Edit::Queues(vec![name.to_owned()]);
    let refused = case.edit(USER, job, &[minutes(61)]);
    assert!(
        matches!(refused, Err(Refusal::Rules(RulesError::TooLong { .. }))),
        "{refused:?}"
    );
    case.edit(USER, job, &[to("long"), minutes(61)])
        .expect("moved");
    assert_eq!(
        case.ledger.jobs()[&job].asked.partition.as_deref(),
        Some("long")
    );
    let refused = case.edit(USER, second, &[to("long")]);
    assert!(
        matches!(refused, Err(Refusal::Rules(RulesError::TooMany { .. }))),
        "{refused:?}"
    );
    // There is room where it was, and none where it is.
    case.edit(USER, job, &[minutes(62)]).expect("changed");
    case.submit(1, |_| {});
    let refused = case.edit(USER, second, &[to("none")]);
    assert!(
        matches!(refused, Err(Refusal::Rules(RulesError::NoPartition(_)))),
        "{refused:?}"
    );
    case.replays(rules);
}

#[test]
fn a_priority_is_lowered_by_its_user_and_raised_by_operators() {
    let weights = Weights {
        age: 1000,
        ..Weights::default()
    };
    let ledger = ledger_of(1, 4, Rules::default(), Order::Multifactor(weights));
    let mut case = Case {
        ledger,
        ..Case::new(4)
    };
    case.submit(4, |_| {});
    case.started();
    let job = case.submit(4, |_| {});
    let second = case.submit(4, |asked| asked.dialect = Dialect::Pbs);
    let refused = case
        .at(60)
        .edit(USER, second, &[Edit::Priority(Some(5000))]);
    assert_eq!(refused, Err(Refusal::NotOperator));
    case.edit(OPERATOR, second, &[Edit::Priority(Some(5000))])
        .expect("raised");
    let first = case
        .ledger
        .jobs()
        .keys()
        .next()
        .copied()
        .unwrap_or_default();
    case.tell(Event::Over(task(first, 0), End::Exit(Exit::Code(0))));
    assert_eq!(case.started(), [task(second, 0)]);
    case.edit(USER, job, &[Edit::Priority(Some(0))])
        .expect("lowered");
}

#[test]
fn only_operators_submit_jobs_that_come_before_others() {
    for (who, before) in [(USER, (None, 0)), (OPERATOR, (Some(9), -5))] {
        let mut case = Case {
            who,
            ..Case::new(4)
        };
        for (asked, taken) in [((Some(-7), 3), (Some(-7), 3)), ((Some(9), -5), before)] {
            let job = case.submit(1, |job| (job.priority, job.nice) = asked);
            let its = &case.ledger.jobs()[&job].asked.submission;
            assert_eq!((its.priority, its.nice), taken);
        }
    }
}
