//! Why jobs wait, as clients are told.

use hyperion_api::queue::{Explained, Foreseen, Lack, Priority, Starts, Target, Until};
use hyperion_lifecycle::{Ledger, State, Submitted, TaskId};
use hyperion_model::{Bytes, Cores};
use hyperion_sched::{Blocker, CORES, Forecast, Lack as Lacks, MEMORY};

use crate::dispatch::queue_of;
use crate::views::{Viewer, sum, waits};

impl Viewer<'_> {
    /// Says why a task waits, or the first of a job's; `None` where none does.
    pub(crate) fn explain(&self, target: Target) -> Option<Explained> {
        let job = self.ledger.jobs().get(&target.job)?;
        let still = || {
            let mut tasks = job.tasks().iter();
            let still = tasks.find(|(_, task)| task.state == State::Suspended);
            still.map(|(index, _)| *index)
        };
        let index = target
            .index
            .or_else(|| job.waiting().next())
            .or_else(still)?;
        let task = TaskId {
            job: target.job,
            index,
        };
        let waited = self.ledger.explain(task, self.now)?;
        let mut explained = Explained {
            reason: waits(waited.reason),
            ahead: 0,
            lacks: Vec::new(),
            starts: Starts::Never,
            until: Vec::new(),
            priority: waited.priority.map(|its| Priority {
                total: its.total(),
                age: its.age,
                fair_share: its.fair_share,
                size: its.size,
                partition: its.partition,
                qos: its.qos,
                nice: its.nice,
                fixed: its.fixed,
            }),
        };
        if let Some(more) = waited.explanation {
            explained.ahead = more.ahead as u64;
            explained.lacks = more.lacks.iter().map(|lack| self.lack(lack)).collect();
            explained.starts = starts(self.ledger, &more.forecast);
            let until = more.until.iter();
            let seen = |until: &&Blocker| self.sees(TaskId::of(until.job).job);
            explained.until = until.filter(seen).map(|until| self.until(until)).collect();
        }
        Some(explained)
    }

    fn lack(&self, lack: &Lacks) -> Lack {
        match *lack {
            Lacks::Kind {
                kind: CORES,
                amount,
            } => Lack::Cores(Cores(amount)),
            Lacks::Kind {
                kind: MEMORY,
                amount,
            } => Lack::Memory(Bytes(amount)),
            Lacks::Kind { kind, amount } => {
                Lack::Kind(self.ledger.site().kind_name(kind).to_owned(), amount)
            }
            Lacks::Licence { amount, .. } => Lack::Kind("licence".into(), amount),
            Lacks::Nodes(count) => Lack::Nodes(count),
            Lacks::Chunks(count) => Lack::Pieces(count),
        }
    }

    fn until(&self, until: &Blocker) -> Until {
        let task = TaskId::of(until.job);
        let job = self.ledger.jobs().get(&task.job);
        let of_array = job.is_some_and(|job| job.asked.submission.array.is_some());
        let nodes = self.ledger.cluster().nodes();
        let node = nodes.get(until.node.0 as usize);
        Until {
            at: until.until.0,
            job: task.job,
            index: of_array.then_some(task.index),
            node: node.map_or_else(String::new, |node| node.name.clone()),
        }
    }
}

/// Says what would become of a job.
pub(crate) fn foreseen(ledger: &Ledger, asked: &Submitted, forecast: &Forecast) -> Foreseen {
    let cores = match forecast {
        Forecast::At { allocation, .. } => allocation.iter().map(|part| part.taken.of(CORES)).sum(),
        Forecast::NotBefore(_) | Forecast::Never => sum(asked, CORES),
    };
    Foreseen {
        job: asked.job,
        queue: queue_of(asked),
        cores: Cores(cores),
        starts: starts(ledger, forecast),
    }
}

/// Says when a task starts.
fn starts(ledger: &Ledger, forecast: &Forecast) -> Starts {
    match forecast {
        Forecast::At { at, allocation } => {
            let nodes = ledger.cluster().nodes();
            let parts = allocation.iter();
            let named = parts.filter_map(|part| nodes.get(part.node.0 as usize));
            Starts::At(at.0, named.map(|node| node.name.clone()).collect())
        }
        Forecast::NotBefore(at) => Starts::NotBefore(at.0),
        Forecast::Never => Starts::Never,
    }
}
