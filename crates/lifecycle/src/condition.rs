//! Whether what a job waits for has happened.

use hyperion_model::submission::{Comparison, Condition, Event, JobRef, JobWord, TaskState};
use hyperion_sched::Time;

use crate::job::Job;
use crate::ledger::Jobs;
use crate::state::{End, State};

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It does.
    Yes,
    /// Not yet; it does at a time, where that is known.
    Wait(Option<Time>),
    /// It never will.
    Never,
}

impl Verdict {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::Yes, verdict) | (verdict, Self::Yes) => verdict,
            // The later of both, if both are known.
            (Self::Wait(a), Self::Wait(b)) => Self::Wait(a.zip(b).map(|(a, b)| a.max(b))),
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::Never, verdict) | (verdict, Self::Never) => verdict,
            (Self::Wait(a), Self::Wait(b)) => Self::Wait(a.into_iter().chain(b).min()),
        }
    }
}

/// Who asks: the task of a job.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) job: &'a Job,
    pub(crate) index: u32,
    pub(crate) now: Time,
}

/// Tells whether a condition holds for a task.
pub(crate) fn holds(jobs: &Jobs, condition: &Condition, asker: Asker<'_>) -> Verdict {
    match condition {
        Condition::All(parts) => {
            let parts = parts.iter().map(|part| holds(jobs, part, asker));
            parts.fold(Verdict::Yes, Verdict::and)
        }
        Condition::Any(parts) => {
            let parts = parts.iter().map(|part| holds(jobs, part, asker));
            parts.fold(Verdict::Never, Verdict::or)
        }
        // Most of what holds does so for ever, but not the number of tasks that run.
        Condition::Not(part) => match holds(jobs, part, asker) {
            Verdict::Yes => Verdict::Wait(None),
            Verdict::Wait(_) | Verdict::Never => Verdict::Yes,
        },
        Condition::Singleton => {
            let asked = &asker.job.asked;
            let mut before = jobs.range(..asked.job).map(|(_, job)| job);
            let is_other = |job: &Job| {
                job.asked.user == asked.user && job.asked.submission.name == asked.submission.name
            };
            match before.any(|job| is_other(job) && !job.is_over()) {
                true => Verdict::Wait(None),
                false => Verdict::Yes,
            }
        }
        Condition::Job(on, event) => meant(jobs, on, asker)
            .map(|job| happened(job, on, *event, asker))
            .fold(Verdict::Yes, Verdict::and),
    }
}

/// Gives the jobs that are meant: by a name, all that were submitted before.
fn meant<'a>(
    jobs: &'a Jobs,
    on: &'a JobRef,
    asker: Asker<'a>,
) -> Box<dyn Iterator<Item = &'a Job> + 'a> {
    match &on.job {
        JobWord::Number(number) => Box::new(jobs.get(number).map(Box::as_ref).into_iter()),
        JobWord::Name(pattern) => {
            let asked = &asker.job.asked;
            let before = jobs.range(..asked.job).map(|(_, job)| job.as_ref());
            let its = before.filter(|job| job.asked.user == asked.user);
            Box::new(its.filter(|job| {
                let name = job.asked.submission.name.as_deref();
                name.is_some_and(|name| matches(pattern, name))
            }))
        }
    }
}

/// Tells whether a name is that of a pattern, in which `*` stands for anything.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, mut rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(first) else {
        return false;
    };
    while let Some((part, more)) = rest.split_once('*') {
        let Some(at) = name.find(part) else {
            return false;
        };
        (name, rest) = (&name[at + part.len()..], more);
    }
    name.ends_with(rest)
}

/// Tells whether it happened to a job, or to those of its tasks that are meant.
fn happened(job: &Job, on: &JobRef, event: Event, asker: Asker<'_>) -> Verdict {
    let not_yet = Verdict::Wait(None);
    let when = |yes: bool| if yes { Verdict::Yes } else { not_yet };
    match event {
        Event::SameEnded | Event::SameSucceeded => {
            let state = match &job.asked.submission.array {
                Some(_) => job.state(asker.index),
                None => job.state(0),
            };
            match state {
                Some(State::Completed) => Verdict::Yes,
                Some(state) if !state.is_end() => not_yet,
                Some(_) if event == Event::SameEnded => Verdict::Yes,
                _ => Verdict::Never,
            }
        }
        Event::Tasks(state, comparison, number) => {
            when(compares(count(job, state), comparison, number))
        }
        Event::Started(after) => {
            let Some(last) = of(job, on, |task| task.started.or(task.ended)) else {
                return not_yet;
            };
            let Some(last) = last.into_iter().max() else {
                return Verdict::Yes;
            };
            match last + after {
                then if then <= asker.now => Verdict::Yes,
                then => Verdict::Wait(Some(then)),
            }
        }
        Event::Ended => when(ended(job, on).is_some()),
        Event::Succeeded => match ended(job, on) {
            Some(states) if states.iter().all(|s| *s == State::Completed) => Verdict::Yes,
            Some(_) => Verdict::Never,
            None if has_failed(job, on) => Verdict::Never,
            None => not_yet,
        },
        Event::Failed => match ended(job, on) {
            Some(states) if states.iter().all(|s| *s == State::Completed) => Verdict::Never,
            Some(_) => Verdict::Yes,
            None => not_yet,
        },
        Event::Exited(comparison, number) => {
            let Some(ends) = of(job, on, |task| task.ended.and(Some(task.end))) else {
                return not_yet;
            };
            let code = |end: &Option<End>| match end {
                Some(End::Exit(exit)) => Some(exit.shell_code()),
                _ => None,
            };
            let fits = |end| code(end).is_some_and(|c| compares(c.into(), comparison, number));
            match ends.iter().all(fits) {
                true => Verdict::Yes,
                false => Verdict::Never,
            }
        }
    }
}

/// Gives something of all tasks that are meant; `None` while one has it not.
fn of<T>(job: &Job, on: &JobRef, get: impl Fn(&crate::Task) -> Option<T>) -> Option<Vec<T>> {
    let is_meant = |index: u32| on.tasks.as_ref().is_none_or(|tasks| tasks.contains(index));
    // Most often not all have started, which is quickly told.
    if on.tasks.is_none() && job.tasks.len() < job.size() as usize {
        return None;
    }
    if job.waiting().any(is_meant) {
        return None;
    }
    let tasks = job.tasks.iter().filter(|(index, _)| is_meant(**index));
    tasks.map(|(_, task)| get(task)).collect()
}

fn ended(job: &Job, on: &JobRef) -> Option<Vec<State>> {
    of(job, on, |task| task.state.is_end().then_some(task.state))
}

/// Tells whether one of the tasks that are meant has ended in another way than well.
fn has_failed(job: &Job, on: &JobRef) -> bool {
    job.ended > job.succeeded
        && job.tasks.iter().any(|(index, task)| {
            let meant = on.tasks.as_ref().is_none_or(|tasks| tasks.contains(*index));
            meant && task.state.is_end() && task.state != State::Completed
        })
}

fn count(job: &Job, what: TaskState) -> u64 {
    let waiting = || job.waiting().count() as u64;
    let held = job.held.is_some();
    match what {
        TaskState::Pending if held => 0,
        TaskState::Pending => waiting(),
        TaskState::Held if held => waiting(),
        TaskState::Held => 0,
        TaskState::Running => job.active.into(),
        TaskState::Started => u64::from(job.active) + u64::from(job.ended),
        TaskState::Succeeded => job.succeeded.into(),
        TaskState::Failed => u64::from(job.ended - job.succeeded),
        TaskState::Ended => job.ended.into(),
    }
}

fn compares(a: u64, comparison: Comparison, b: u64) -> bool {
    match comparison {
        Comparison::Less => a < b,
        Comparison::AtMost => a <= b,
        Comparison::Equal => a == b,
        Comparison::NotEqual => a != b,
        Comparison::AtLeast => a >= b,
        Comparison::More => a > b,
    }
}

/// Gives the jobs that a condition names.
pub(crate) fn words(condition: &Condition) -> Vec<&JobWord> {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().flat_map(words).collect(),
        Condition::Not(part) => words(part),
        Condition::Singleton => Vec::new(),
        Condition::Job(on, _) => vec![&on.job],
    }
}

/// Gives the numbers of the jobs that a condition names, and whether it also speaks
/// of jobs by name.
pub(crate) fn named(condition: &Condition) -> (Vec<u64>, bool) {
    let words = words(condition);
    let number = |word: &&JobWord| match word {
        JobWord::Number(number) => Some(*number),
        JobWord::Name(_) => None,
    };
    let numbers: Vec<u64> = words.iter().filter_map(number).collect();
    let by_name = numbers.len() < words.len() || is_singleton(condition);
    (numbers, by_name)
}

fn is_singleton(condition: &Condition) -> bool {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().any(is_singleton),
        Condition::Not(part) => is_singleton(part),
        Condition::Singleton => true,
        Condition::Job(..) => false,
    }
}

/// Tells whether a condition is another for each task.
pub(crate) fn is_by_index(condition: &Condition) -> bool {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().any(is_by_index),
        Condition::Not(part) => is_by_index(part),
        Condition::Singleton => false,
        Condition::Job(_, event) => matches!(event, Event::SameEnded | Event::SameSucceeded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, yes) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("*", "", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, name), yes, "{pattern} {name}");
        }
    }
}
