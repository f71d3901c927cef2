//! What jobs of a history waited for beside room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyperion_model::submission::{Condition, Event, JobRef, JobWord};
use hyperion_model::view::JobView;
use hyperion_sim::batch::After;

/// The jobs of a history, as others speak of them.
pub(super) struct Known<'a> {
    /// The tasks of each: their indices, and their places.
    tasks: BTreeMap<u64, Vec<(Option<u32>, u64)>>,
    /// The jobs of each user by their names.
    named: BTreeMap<(u32, &'a str), BTreeSet<u64>>,
}

impl<'a> Known<'a> {
    pub(super) fn of(views: &'a [JobView]) -> Self {
        let mut tasks: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut named: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
        for (view, place) in views.iter().zip(0..) {
            tasks
                .entry(view.job)
                .or_default()
                .push((index(view), place));
            let its = named.entry((view.uid, view.name.as_str())).or_default();
            its.insert(view.job);
        }
        Self { tasks, named }
    }

    /// Says what a job waited for, by the places of others, as far as it can be told.
    pub(super) fn after(&self, view: &JobView) -> After {
        let begin = view.terms.begin.map(|begin| {
            let span = begin.saturating_sub(view.submitted);
            After::Submitted(Duration::from_micros(span))
        });
        let condition = view.terms.after.as_ref();
        let condition = condition.and_then(|condition| self.condition(view, condition));
        After::All(begin.into_iter().chain(condition).collect())
    }

    fn condition(&self, view: &JobView, condition: &Condition) -> Option<After> {
        let parts = |parts: &[Condition]| {
            let parts = parts.iter().map(|part| self.condition(view, part));
            parts.collect::<Vec<_>>()
        };
        match condition {
            Condition::All(all) => Some(After::All(parts(all).into_iter().flatten().collect())),
            // One that cannot be told may be the one that let it start.
            Condition::Any(any) => Some(After::Any(parts(any).into_iter().collect::<Option<_>>()?)),
            Condition::Not(_) => None,
            Condition::Singleton => {
                let named = self.named.get(&(view.uid, view.name.as_str()))?;
                let before = named.range(..view.job).next_back()?;
                let tasks = self.tasks.get(before)?.iter();
                Some(After::All(
                    tasks.map(|(_, place)| After::Ended(*place)).collect(),
                ))
            }
            Condition::Job(on, event) => self.job(view, on, *event),
        }
    }

    fn job(&self, view: &JobView, on: &JobRef, event: Event) -> Option<After> {
        let JobWord::Number(number) = &on.job else {
            return None;
        };
        let happened = |place: u64| match event {
            Event::Started(span) => Some(After::Started(place, span)),
            Event::Tasks(..) => None,
            // It did start, so it ended as it was to.
            _ => Some(After::Ended(place)),
        };
        let is_meant = |its: Option<u32>| match (its, event, &on.tasks) {
            (Some(its), Event::SameEnded | Event::SameSucceeded, _) => index(view) == Some(its),
            (Some(its), _, Some(tasks)) => tasks.contains(its),
            _ => true,
        };
        let tasks = self.tasks.get(number)?.iter();
        let meant = tasks.filter(|(its, _)| is_meant(*its));
        Some(After::All(
            meant.filter_map(|(_, place)| happened(*place)).collect(),
        ))
    }
}

/// Gives the index of a task of an array.
fn index(view: &JobView) -> Option<u32> {
    view.index.as_ref()?.parse().ok()
}
