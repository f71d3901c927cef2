//! A ledger with a clock, and the journal that it wrote.

use std::time::Duration;

use hyperion_lifecycle::{
    Change, Event, Ledger, Reason, Record, Refusal, Rules, Site, State, TaskId, Who,
};
use hyperion_model::indices::Array;
use hyperion_model::submission::{Command, Dialect, Per, Submission};
use hyperion_sched::{Amounts, Backfill, Node, Order, Placement, Policy, Time};

pub(crate) const USER: Who = Who {
    user: 1000,
    operator: false,
};

pub(crate) const OPERATOR: Who = Who {
    user: 0,
    operator: true,
};

pub(crate) struct Case {
    pub(crate) ledger: Ledger,
    pub(crate) now: Time,
    pub(crate) begin: Option<Time>,
    pub(crate) deadline: Option<Time>,
    /// Who submits.
    pub(crate) who: Who,
    pub(crate) journal: Vec<Record>,
}

pub(crate) fn ledger(nodes: u32, cores: u64) -> Ledger {
    ledger_with(nodes, cores, Rules::default())
}

pub(crate) fn ledger_with(nodes: u32, cores: u64, rules: Rules) -> Ledger {
    ledger_of(nodes, cores, rules, Order::Fifo)
}

pub(crate) fn ledger_of(nodes: u32, cores: u64, rules: Rules, order: Order) -> Ledger {
    let node = |number: u32| Node {
        name: format!("n{number}"),
        capacity: Amounts::new([cores * 1000, 64 << 30]),
    };
    let site = Site {
        nodes: (0..nodes).map(node).collect(),
        usual_limit: Some(Duration::from_secs(3600)),
        ..Site::default()
    };
    let policy = Policy {
        backfill: Backfill::Easy { scan: order },
        placement: Placement::First,
    };
    Ledger::with_rules(site, rules, order, policy)
}

pub(crate) fn array(text: &str) -> Array {
    text.parse().expect("an array")
}

impl Case {
    /// One node of so many cores.
    pub(crate) fn new(cores: u64) -> Self {
        Self {
            ledger: ledger(1, cores),
            now: Time(0),
            begin: None,
            deadline: None,
            who: USER,
            journal: Vec::new(),
        }
    }

    /// Nodes `n0`, `n1` and so on, of so many cores, with rules.
    pub(crate) fn with_rules(nodes: u32, cores: u64, rules: Rules) -> Self {
        Self {
            ledger: ledger_with(nodes, cores, rules),
            ..Self::new(cores)
        }
    }

    /// Says why a task waits.
    pub(crate) fn why(&self, job: u64) -> Option<Reason> {
        self.ledger.reason(TaskId { job, index: 0 }, self.now)
    }

    pub(crate) fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = Time::seconds(seconds);
        self
    }

    pub(crate) fn try_submit(
        &mut self,
        tasks: u32,
        with: impl FnOnce(&mut Submission),
    ) -> Result<u64, Refusal> {
        let command = Command::Program(vec!["true".into()]);
        let mut submission = Submission::new(Dialect::Slurm, command);
        submission.parts[0].tasks.insert(Per::Job, tasks);
        with(&mut submission);
        let submit = Event::Submit {
            who: self.who,
            submission: Box::new(submission),
            begin: self.begin,
            deadline: self.deadline,
        };
        self.try_tell(submit)?;
        let last = self.ledger.jobs().last_key_value();
        Ok(*last.expect("a job").0)
    }

    pub(crate) fn submit(&mut self, tasks: u32, with: impl FnOnce(&mut Submission)) -> u64 {
        self.try_submit(tasks, with).expect("taken")
    }

    pub(crate) fn try_tell(&mut self, event: Event) -> Result<Vec<Change>, Refusal> {
        let records = self.ledger.step(self.now, event)?;
        Ok(self.keep(records))
    }

    pub(crate) fn tell(&mut self, event: Event) -> Vec<Change> {
        self.try_tell(event).expect("done")
    }

    /// Lets the scheduler do what it does, and tells what that is.
    pub(crate) fn schedule(&mut self) -> Vec<Change> {
        let records = self.ledger.schedule(self.now);
        self.keep(records)
    }

    /// Starts what can start, and tells what that is.
    pub(crate) fn started(&mut self) -> Vec<TaskId> {
        let records = self.ledger.schedule(self.now);
        let changes = self.keep(records).into_iter();
        let tasks = changes.filter_map(|change| match change {
            Change::Started { task, .. } | Change::Resumed { task, .. } => Some(task),
            Change::Suspended { .. } | Change::Leaving { .. } | Change::Stopping { .. } => None,
            other => panic!("not a start: {other:?}"),
        });
        tasks.collect()
    }

    pub(crate) fn state(&self, job: u64, index: u32) -> State {
        let state = self.ledger.state(TaskId { job, index });
        state.expect("such a task")
    }

    fn keep(&mut self, records: Vec<Record>) -> Vec<Change> {
        self.journal.extend(records.iter().cloned());
        records.into_iter().map(|record| record.change).collect()
    }
}
