//! What becomes of jobs: told as a user would see it.

use std::time::Duration;

use crate::case::{Case, USER, array};
use hyperion_lifecycle::{
    Change, End, Event, Forecast, Hold, Holder, Lack, Past, Reason, Refusal, State, TaskId, Who,
    Why,
};
use hyperion_model::report::Exit;
use hyperion_model::submission::{
    Arrangement, Command, Condition, Dialect, Event as Happened, JobRef, JobWord, Per, Submission,
    TimeLimit, Warning, WarningTo,
};
use hyperion_sched::Time;

const DONE: End = End::Exit(Exit::Code(0));
const WRONG: End = End::Exit(Exit::Code(3));

fn after(job: u64, event: Happened) -> Condition {
    let job = JobWord::Number(job);
    Condition::Job(JobRef { job, tasks: None }, event)
}

fn task(job: u64, index: u32) -> TaskId {
    TaskId { job, index }
}

#[test]
fn a_job_waits_runs_and_ends() {
    let mut case = Case::new(2);
    let job = case.submit(2, |_| {});
    let second = case.submit(1, |_| {});
    assert_eq!(case.started(), [task(job, 0)]);
    assert_eq!(case.state(job, 0), State::Configuring);
    assert_eq!(
        case.ledger.reason(task(second, 0), case.now),
        Some(Reason::Resources(Time::seconds(3600)))
    );
    case.tell(Event::Up(task(job, 0)));
    assert_eq!(case.state(job, 0), State::Running);
    case.at(5).tell(Event::Over(task(job, 0), DONE));
    assert_eq!(case.state(job, 0), State::Completed);
    let its = case.ledger.jobs()[&job].task(0).expect("it ran");
    assert_eq!(
        (its.started, its.ended),
        (Some(Time(0)), Some(Time::seconds(5)))
    );
    assert_eq!(case.started(), [task(second, 0)]);
    case.tell(Event::Over(task(second, 0), WRONG));
    assert_eq!(case.state(second, 0), State::Failed);
    // What is told twice, or of what is not there, changes nothing.
    for event in [
        Event::Over(task(second, 0), DONE),
        Event::Up(task(second, 0)),
        Event::Over(task(9, 0), DONE),
        Event::Over(task(job, 7), DONE),
    ] {
        assert_eq!(case.tell(event), []);
    }
}

#[test]
fn an_array_runs_as_many_at_once_as_it_may() {
    let mut case = Case::new(8);
    let job = case.submit(1, |asked| {
        asked.array = Some(array("1-5%2"));
    });
    assert_eq!(case.started(), [task(job, 1), task(job, 2)]);
    assert_eq!(case.started(), []);
    assert_eq!(
        case.ledger.reason(task(job, 3), case.now),
        Some(Reason::AtOnce)
    );
    case.tell(Event::Over(task(job, 2), DONE));
    assert_eq!(case.started(), [task(job, 3)]);
    // One that waits, one that runs.
    case.tell(Event::Cancel(USER, job, Some(5)));
    case.tell(Event::Cancel(USER, job, Some(1)));
    assert_eq!(case.state(job, 5), State::Cancelled);
    assert_eq!(case.state(job, 1), State::Completing);
    case.tell(Event::Over(task(job, 1), End::Exit(Exit::Signal(15))));
    assert_eq!(case.state(job, 1), State::Cancelled);
    assert_eq!(case.started(), [task(job, 4)]);
    case.tell(Event::Over(task(job, 3), DONE));
    case.tell(Event::Over(task(job, 4), DONE));
    assert!(case.ledger.jobs()[&job].is_over());
}

#[test]
fn an_array_of_a_hundred_thousand_is_not_in_the_queue_all_at_once() {
    let mut case = Case::new(2);
    let job = case.submit(1, |asked| asked.array = Some(array("0-99999")));
    assert_eq!(case.started(), [task(job, 0), task(job, 1)]);
    case.tell(Event::Over(task(job, 0), DONE));
    assert_eq!(case.started(), [task(job, 2)]);
    case.tell(Event::Cancel(USER, job, None));
    assert_eq!(case.state(job, 99_999), State::Cancelled);
}

#[test]
fn dependencies_hold_back_and_let_go() {
    for (event, end, expected) in [
        (Happened::Succeeded, DONE, None),
        (Happened::Succeeded, WRONG, Some(Reason::DependsInVain)),
        (Happened::Failed, WRONG, None),
        (Happened::Failed, DONE, Some(Reason::DependsInVain)),
        (Happened::Ended, WRONG, None),
    ] {
        let mut case = Case::new(4);
        let first = case.submit(1, |_| {});
        let second = case.submit(1, |asked| asked.after = Some(after(first, event)));
        assert_eq!(case.started(), [task(first, 0)], "{event:?}");
        assert_eq!(
            case.ledger.reason(task(second, 0), case.now),
            Some(Reason::Depends)
        );
        case.tell(Event::Over(task(first, 0), end));
        let started = case.started();
        match expected {
            None => assert_eq!(started, [task(second, 0)], "{event:?} {end:?}"),
            Some(_) => assert_eq!(case.ledger.reason(task(second, 0), case.now), expected),
        }
    }
    // PBS removes what can never start, and what waits for that.
    let mut case = Case::new(4);
    let first = case.submit(1, |_| {});
    let pbs = |on| {
        move |asked: &mut Submission| {
            asked.dialect = Dialect::Pbs;
            asked.after = Some(after(on, Happened::Succeeded));
        }
    };
    let second = case.submit(1, pbs(first));
    let third = case.submit(1, pbs(second));
    case.started();
    case.tell(Event::Over(task(first, 0), WRONG));
    assert_eq!(case.state(second, 0), State::Cancelled);
    assert_eq!(case.state(third, 0), State::Cancelled);
    let unknown = case.try_submit(1, |asked| asked.after = Some(after(99, Happened::Ended)));
    assert_eq!(unknown, Err(Refusal::DependsOnUnknown(99)));
}

#[test]
fn a_task_waits_for_its_like_and_a_job_for_a_time_after_a_start() {
    let mut case = Case::new(8);
    let first = case.submit(1, |asked| asked.array = Some(array("1-2")));
    let second = case.submit(1, |asked| {
        asked.array = Some(array("1-2"));
        asked.after = Some(after(first, Happened::SameSucceeded));
    });
    let third = case.submit(1, |asked| {
        let minutes = Duration::from_secs(120);
        asked.after = Some(after(first, Happened::Started(minutes)));
    });
    assert_eq!(case.started(), [task(first, 1), task(first, 2)]);
    case.at(1).tell(Event::Over(task(first, 2), DONE));
    assert_eq!(case.started(), [task(second, 2)]);
    assert_eq!(case.ledger.wake_at(), Some(Time::seconds(120)));
    case.at(120).tell(Event::Tick);
    assert_eq!(case.started(), [task(third, 0)]);
    case.tell(Event::Over(task(first, 1), WRONG));
    assert_eq!(
        case.ledger.reason(task(second, 1), case.now),
        Some(Reason::DependsInVain)
    );
}

#[test]
fn of_jobs_of_one_name_one_runs_at_a_time_if_they_ask_for_that() {
    let mut case = Case::new(8);
    let named = |asked: &mut Submission| {
        asked.name = Some("nightly".into());
        asked.after = Some(Condition::Singleton);
    };
    let first = case.submit(1, named);
    let second = case.submit(1, named);
    assert_eq!(case.started(), [task(first, 0)]);
    case.tell(Event::Over(task(first, 0), WRONG));
    assert_eq!(case.started(), [task(second, 0)]);
}

#[test]
fn held_jobs_wait_for_who_may_release_them() {
    let operator = Who {
        user: 0,
        operator: true,
    };
    let mut case = Case::new(4);
    let job = case.submit(1, |asked| asked.hold = true);
    assert_eq!(case.started(), []);
    assert_eq!(case.state(job, 0), State::Held);
    case.tell(Event::Release(USER, job));
    case.tell(Event::Hold(operator, job));
    assert_eq!(case.started(), []);
    assert_eq!(
        case.ledger.reason(task(job, 0), case.now),
        Some(Reason::Held(Holder::Operator))
    );
    let refused = case.try_tell(Event::Release(USER, job));
    assert_eq!(refused, Err(Refusal::HeldByOperator(job)));
    case.tell(Event::Release(operator, job));
    assert_eq!(case.started(), [task(job, 0)]);
    let stranger = Who {
        user: 7,
        operator: false,
    };
    for event in [
        Event::Cancel(stranger, job, None),
        Event::Hold(stranger, job),
        Event::Suspend(stranger, task(job, 0)),
        Event::Requeue(stranger, task(job, 0)),
    ] {
        assert_eq!(case.try_tell(event), Err(Refusal::NotYours(job)));
    }
    assert_eq!(
        case.try_tell(Event::Cancel(USER, 99, None)),
        Err(Refusal::Unknown(99))
    );
}

#[test]
fn a_job_is_warned_and_ended_at_its_limit() {
    let mut case = Case::new(4);
    let job = case.submit(1, |asked| {
        asked.time_limit = Some(TimeLimit::Span(Duration::from_secs(100)));
        asked.warning = Some(Warning {
            signal: 10,
            before: Duration::from_secs(30),
            to: WarningTo::Steps,
        });
    });
    let its = task(job, 0);
    assert_eq!(case.started(), [its]);
    case.tell(Event::Up(its));
    assert_eq!(case.ledger.wake_at(), Some(Time::seconds(70)));
    assert_eq!(
        case.at(70).tell(Event::Tick),
        [Change::Warned { task: its }]
    );
    // While it stands still its time does, too.
    case.at(80).tell(Event::Suspend(USER, its));
    assert_eq!(case.at(500).tell(Event::Tick), []);
    case.tell(Event::Resume(USER, its));
    assert_eq!(case.started(), [its]);
    case.at(519).tell(Event::Tick);
    assert_eq!(case.state(job, 0), State::Running);
    case.at(520).tell(Event::Tick);
    assert_eq!(case.state(job, 0), State::Completing);
    case.tell(Event::Over(its, End::Exit(Exit::Signal(9))));
    assert_eq!(case.state(job, 0), State::TimedOut);
    assert_eq!(case.ledger.wake_at(), None);
}

#[test]
fn a_job_does_not_begin_before_its_time() {
    let mut case = Case::new(4);
    case.begin = Some(Time::seconds(60));
    let job = case.submit(1, |_| {});
    assert_eq!(case.started(), []);
    assert_eq!(
        case.ledger.reason(task(job, 0), case.now),
        Some(Reason::Begins(Time::seconds(60)))
    );
    assert_eq!(case.ledger.wake_at(), case.begin);
    case.at(60).tell(Event::Tick);
    assert_eq!(case.started(), [task(job, 0)]);
}

#[test]
fn what_ends_for_no_fault_of_its_own_waits_again_if_it_may() {
    for (dialect, requeue, again) in [
        (Dialect::Slurm, None, true),
        (Dialect::Slurm, Some(false), false),
        (Dialect::Lsf, None, false),
        (Dialect::Lsf, Some(true), true),
    ] {
        let mut case = Case::new(4);
        let job = case.submit(1, |asked| {
            (asked.dialect, asked.requeue) = (dialect, requeue)
        });
        let its = task(job, 0);
        case.started();
        case.tell(Event::Over(its, End::Lost));
        match again {
            true => assert_eq!(case.started(), [its]),
            false => assert_eq!(case.state(job, 0), State::NodeFailed),
        }
        let starts = case.ledger.jobs()[&job].task(0).map(|task| task.starts);
        assert_eq!(starts, Some(1 + u32::from(again)));
    }
    // Not for ever: a script may kill what looks after it, each time.
    let mut case = Case::new(4);
    let job = case.submit(1, |_| {});
    let its = task(job, 0);
    for _ in 0..6 {
        assert_eq!(case.started(), [its]);
        case.tell(Event::Over(its, End::Lost));
    }
    assert_eq!(case.state(job, 0), State::NodeFailed);
    // Somebody may ask for it.
    let mut case = Case::new(4);
    let job = case.submit(1, |_| {});
    let its = task(job, 0);
    case.started();
    let why = Why::Requeued;
    assert_eq!(
        case.tell(Event::Requeue(USER, its)),
        [Change::Stopping { task: its, why }]
    );
    case.tell(Event::Over(its, End::Exit(Exit::Signal(15))));
    assert_eq!(case.state(job, 0), State::Pending);
    assert_eq!(case.started(), [its]);
    // And that it does not start before it is released.
    case.tell(Event::RequeueHold(USER, job));
    case.tell(Event::Over(its, DONE));
    assert_eq!(case.state(job, 0), State::Held);
    assert_eq!(case.started(), []);
    case.try_tell(Event::RequeueHold(USER, job))
        .expect_err("nothing of it runs");
    case.tell(Event::Release(USER, job));
    assert_eq!(case.started(), [its]);
    // But not once it is not wanted any more.
    case.tell(Event::Cancel(USER, job, None));
    case.tell(Event::Over(its, End::Lost));
    assert_eq!(case.state(job, 0), State::Cancelled);
}

#[test]
fn what_no_node_ever_has_is_refused() {
    let mut case = Case::new(4);
    assert_eq!(case.try_submit(5, |_| {}), Err(Refusal::NeverFits));
    let refused = case.try_submit(1, |asked| {
        asked.parts[0].licences.insert("solver".into(), 1);
    });
    assert!(matches!(refused, Err(Refusal::Ask(_))), "{refused:?}");
}

#[test]
fn what_has_ended_is_forgotten_when_nobody_waits_for_it() {
    let mut case = Case::new(1);
    let first = case.submit(1, |_| {});
    let second = case.submit(1, |asked| asked.after = Some(after(first, Happened::Ended)));
    case.started();
    assert_eq!(case.tell(Event::Forget(first)), []);
    case.tell(Event::Over(task(first, 0), DONE));
    case.tell(Event::Forget(first));
    assert!(
        case.ledger.jobs().contains_key(&first),
        "the second waits for it"
    );
    assert_eq!(case.started(), [task(second, 0)]);
    case.tell(Event::Over(task(second, 0), DONE));
    case.tell(Event::Forget(first));
    case.tell(Event::Forget(second));
    assert!(case.ledger.jobs().is_empty());
    // Numbers are not given twice.
    assert!(case.submit(1, |_| {}) > second);
}

#[test]
fn of_many_that_have_ended_the_first_leave_but_none_that_another_waits_for() {
    let mut case = Case::new(4);
    let named = |asked: &mut Submission, name: &str| asked.name = Some(name.into());
    let first = case.submit(1, |asked| named(asked, "first"));
    let other = case.submit(1, |asked| named(asked, "other"));
    let by_number = case.submit(1, |asked| {
        asked.hold = true;
        asked.after = Some(after(first, Happened::Ended));
    });
    let by_name = case.submit(1, |asked| {
        asked.hold = true;
        let job = JobWord::Name("ot*".into());
        let on = JobRef { job, tasks: None };
        asked.after = Some(Condition::Job(on, Happened::Failed));
    });
    for _ in 0..3 {
        let many = case.submit(1, |asked| asked.array = Some(array("1-2000")));
        case.tell(Event::Cancel(USER, many, None));
    }
    case.started();
    for job in [first, other] {
        case.tell(Event::Over(task(job, 0), DONE));
    }
    let many = by_name + 1;
    assert_eq!(case.ledger.leaving(), [many]);
    case.tell(Event::Forget(many));
    assert_eq!(case.ledger.leaving(), [0; 0]);
    let more = case.submit(1, |asked| asked.array = Some(array("1-6000")));
    case.tell(Event::Cancel(USER, more, None));
    assert_eq!(case.ledger.leaving(), [many + 1, many + 2, more]);
    for job in [by_number, by_name] {
        case.tell(Event::Cancel(USER, job, None));
    }
    assert_eq!(
        case.ledger.leaving().len(),
        7,
        "nobody waits for them any more"
    );
}

#[test]
fn when_a_job_was_held_is_kept_also_when_it_is_forgotten() {
    let operator = Who {
        user: 0,
        operator: true,
    };
    let mut case = Case::new(4);
    let job = case.submit(1, |asked| asked.hold = true);
    case.at(10).tell(Event::Release(USER, job));
    case.at(20).tell(Event::Hold(USER, job));
    // It goes on, and is the operator's now.
    case.at(30).tell(Event::Hold(operator, job));
    case.at(40).tell(Event::Release(operator, job));
    case.started();
    case.tell(Event::Over(task(job, 0), DONE));
    let past = Past::from(&*case.ledger.jobs()[&job]);
    let hold = |from, until| Hold {
        from: Time::seconds(from),
        until: Some(Time::seconds(until)),
    };
    assert_eq!(past.holds, [hold(0, 10), hold(20, 40)]);
    let mut line = serde_json::to_value(&past).expect("a line");
    let read: Past = serde_json::from_value(line.clone()).expect("a job");
    assert_eq!(read, past);
    // As it was written before holds were.
    line.as_object_mut().expect("a job").remove("holds");
    let read: Past = serde_json::from_value(line).expect("a job");
    assert_eq!(read.holds, []);
}

#[test]
fn what_was_forgotten_is_recalled_for_one_that_waits_for_it() {
    let mut case = Case::new(4);
    let first = case.submit(1, |_| {});
    case.started();
    case.tell(Event::Over(task(first, 0), End::Exit(Exit::Code(3))));
    let past = Past::from(&*case.ledger.jobs()[&first]);
    case.tell(Event::Forget(first));
    let wants = |event| move |asked: &mut Submission| asked.after = Some(after(first, event));
    let refused = case.try_submit(1, wants(Happened::Failed));
    assert_eq!(refused, Err(Refusal::DependsOnUnknown(first)));
    let line = serde_json::to_string(&past).expect("a line");
    let past: Past = serde_json::from_str(&line).expect("a job");
    case.tell(Event::Recall(Box::new(past.clone())));
    assert_eq!(Past::from(&*case.ledger.jobs()[&first]), past);
    let second = case.submit(1, wants(Happened::Failed));
    let third = case.submit(1, wants(Happened::Succeeded));
    assert_eq!(case.started(), [task(second, 0)]);
    assert_eq!(case.why(third), Some(Reason::DependsInVain));
}

#[test]
fn a_job_that_waits_says_for_what_and_until_when() {
    let mut case = Case::new(4);
    let first = case.submit(3, |_| {});
    case.started();
    let second = case.submit(2, |_| {});
    let third = case.submit(4, |asked| asked.hold = true);
    case.at(10).started();
    let ledger = &case.ledger;
    assert_eq!(ledger.explain(task(first, 0), case.now), None);
    let waits = ledger.explain(task(second, 0), case.now).expect("it waits");
    let end = Time::seconds(3600);
    assert_eq!(waits.reason, Reason::Resources(end));
    let why = waits.explanation.expect("for nodes");
    let [
        Lack::Kind {
            kind: 0,
            amount: 1000,
        },
    ] = why.lacks[..]
    else {
        panic!("{:?}", why.lacks);
    };
    assert!(matches!(why.forecast, Forecast::At { at, .. } if at == end));
    assert_eq!(TaskId::of(why.until[0].job), task(first, 0));
    assert_eq!(ledger.site().kind_name(0), "cores");
    let waits = ledger.explain(task(third, 0), case.now).expect("it waits");
    assert_eq!(waits.reason, Reason::Held(Holder::User));
    assert_eq!(waits.explanation, None);
}

#[test]
fn a_job_is_told_when_it_would_start_before_it_is_submitted() {
    let mut case = Case::new(4);
    case.submit(3, |_| {});
    case.started();
    let mut ledger = case.ledger.clone();
    for (tasks, seconds) in [(1, 0), (2, 3600), (4, 3600)] {
        let mut submission = Submission::new(Dialect::Slurm, Command::Program(vec!["a".into()]));
        submission.parts[0].tasks.insert(Per::Job, tasks);
        let when = ledger.what_if(case.now, USER, submission, None);
        let right = Time::seconds(seconds);
        assert!(
            matches!(when, Ok((_, Forecast::At { at, .. })) if at == right),
            "{when:?}"
        );
    }
    let mut submission = Submission::new(Dialect::Slurm, Command::Program(vec!["a".into()]));
    submission.parts[0].tasks.insert(Per::Job, 5);
    let when = ledger.what_if(case.now, USER, submission, None);
    assert_eq!(when.err(), Some(Refusal::NeverFits));
}

#[test]
fn a_job_that_cannot_end_by_its_deadline_is_given_up_or_not_taken() {
    let span = |seconds| Some(TimeLimit::Span(Duration::from_secs(seconds)));
    let mut case = Case::new(4);
    case.at(10);
    let first = case.submit(4, |asked| asked.time_limit = span(300));
    assert_eq!(case.started(), [task(first, 0)]);
    case.deadline = Some(Time::seconds(200));
    let late = case.try_submit(1, |asked| asked.time_limit = span(201));
    assert_eq!(late, Err(Refusal::TooLate));
    // It waits as long as there is time for it, or for the least with which it makes do.
    let job = case.submit(1, |asked| asked.time_limit = span(150));
    let least = case.submit(1, |asked| {
        asked.time_limit = span(150);
        asked.least_time = Some(Duration::from_secs(100));
    });
    assert_eq!(case.ledger.wake_at(), Some(Time::seconds(50)));
    case.at(51).tell(Event::Tick);
    assert_eq!(case.state(job, 0), State::Cancelled);
    let its = case.ledger.jobs()[&job].task(0).expect("it ended");
    let why = "it could not end by its deadline any more";
    assert_eq!(its.why.as_deref(), Some(why));
    // The other is given what there is until then.
    case.at(90)
        .tell(Event::Over(task(first, 0), End::Exit(Exit::Code(0))));
    assert_eq!(case.started(), [task(least, 0)]);
    let its = case.ledger.jobs()[&least].task(0).expect("it runs");
    assert_eq!(its.until, Time::seconds(200));
    case.at(200).tell(Event::Tick);
    assert_eq!(case.state(least, 0), State::Completing);
    assert_eq!(case.ledger.wake_at(), None);
}

#[test]
fn a_job_that_makes_do_with_less_time_starts_in_front_of_those_that_wait() {
    let span = |seconds| Some(TimeLimit::Span(Duration::from_secs(seconds)));
    let mut case = Case::new(4);
    let first = case.submit(3, |asked| asked.time_limit = span(100));
    let wide = case.submit(4, |asked| asked.time_limit = span(100));
    let long = case.submit(1, |asked| asked.time_limit = span(300));
    let elastic = case.submit(1, |asked| {
        asked.time_limit = span(300);
        asked.least_time = Some(Duration::from_secs(80));
    });
    assert_eq!(case.started(), [task(first, 0), task(elastic, 0)]);
    // As much as there is until the one before it starts.
    let its = case.ledger.jobs()[&elastic].task(0).expect("it runs");
    assert_eq!(its.until, Time::seconds(100));
    for job in [wide, long] {
        assert_eq!(case.state(job, 0), State::Pending);
    }
}

#[test]
fn more_tasks_than_processors_take_those_of_one_and_tasks_are_spread_as_far_as_there_are_nodes() {
    let mut case = Case::new(4);
    let many = case.submit(16, |asked| {
        asked.overcommit = true;
        asked.parts[0].cpus.insert(Per::Task, 2);
    });
    let spread = case.submit(2, |asked| asked.parts[0].arrangement = Arrangement::Apart);
    assert_eq!(case.started(), [task(many, 0), task(spread, 0)]);
    let free = case.ledger.cluster().free(hyperion_sched::NodeNumber(0));
    assert_eq!(free.of(hyperion_sched::CORES), 0);
    let mut case = Case::with_rules(3, 4, hyperion_lifecycle::Rules::default());
    let spread = case.submit(3, |asked| asked.parts[0].arrangement = Arrangement::Apart);
    case.started();
    let its = case.ledger.allocation(task(spread, 0)).expect("it runs");
    assert_eq!(its.allocation.len(), 3);
}
