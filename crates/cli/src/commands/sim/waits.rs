//! What jobs of a history waited for beside room.

use std::collections::{BTreeMap, BTreeSet};

use hyperion_model::submission::{Condition, Event, JobRef, JobWord};
use hyperion_model::view::JobView;

/// The jobs of a history, as others speak of them.
pub(super) struct Known<'a> {
    numbers: BTreeSet<u64>,
    /// The jobs of each user by their names.
    named: BTreeMap<(u32, &'a str), BTreeSet<u64>>,
}

impl<'a> Known<'a> {
    pub(super) fn of(views: &'a [JobView]) -> Self {
        let mut named: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
        for view in views {
            let its = named.entry((view.uid, view.name.as_str())).or_default();
            its.insert(view.job);
        }
        Self {
            numbers: views.iter().map(|view| view.job).collect(),
            named,
        }
    }

    /// Says what a job waited for, as far as it can be told: what comes true by itself.
    pub(super) fn after(&self, view: &JobView) -> Option<Condition> {
        self.condition(view, view.terms.after.as_ref()?)
    }

    fn condition(&self, view: &JobView, condition: &Condition) -> Option<Condition> {
        let parts = |parts: &[Condition]| {
            let parts = parts.iter().map(|part| self.condition(view, part));
            parts.collect::<Vec<_>>()
        };
        match condition {
            Condition::All(all) => Some(Condition::All(parts(all).into_iter().flatten().collect())),
            // One that cannot be told may be the one that let it start.
            Condition::Any(any) => {
                let parts = parts(any).into_iter().collect::<Option<_>>()?;
                Some(Condition::Any(parts))
            }
            Condition::Not(_) => None,
            Condition::Singleton => {
                let named = self.named.get(&(view.uid, view.name.as_str()))?;
                let before = named.range(..view.job).next_back()?;
                let (job, tasks) = (JobWord::Number(*before), None);
                Some(Condition::Job(JobRef { job, tasks }, Event::Ended))
            }
            Condition::Job(on, event) => self.job(on, *event),
        }
    }

    fn job(&self, on: &JobRef, event: Event) -> Option<Condition> {
        let JobWord::Number(number) = &on.job else {
            return None;
        };
        let happened = |event| Condition::Job(on.clone(), event);
        let known = self.numbers.contains(number);
        known.then_some(match event {
            Event::Started(_) => happened(event),
            Event::Tasks(..) => return None,
            // Where there was none of the same number, all that there were ended.
            Event::SameEnded | Event::SameSucceeded => {
                Condition::Any(vec![happened(Event::SameEnded), happened(Event::Ended)])
            }
            // It did start, so it ended as it was to.
            _ => happened(Event::Ended),
        })
    }
}
