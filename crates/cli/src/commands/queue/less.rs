//! What a job could ask for instead, to start sooner.

use std::time::Duration;

use hyperion_api::queue::{Moment, Starts};
use hyperion_model::submission::{NodeCount, Part, Per, Submission, TimeLimit};

use super::list::{clock, local};

/// How far ahead still is now, in microseconds.
const NOW: Moment = 1_000_000;

/// Gives what asks for less than a submission: of that of which it asks for several, nodes
/// before tasks before processors, and of time; each with words for it, the most first.
pub(super) fn than(submission: &Submission) -> Vec<(String, Submission)> {
    let mut others = Vec::new();
    if let [part] = &submission.parts[..] {
        let asked = several(part);
        for (what, count) in asked
            .iter()
            .flat_map(|(what, count)| halves(*count).map(move |count| (*what, count)))
        {
            let mut other = submission.clone();
            shrink(&mut other.parts[0], what, count);
            let plural = if count == 1 { "" } else { "s" };
            others.push((format!("{count} {}{plural}", what.word()), other));
        }
    }
    if let Some(TimeLimit::Span(limit)) = submission.time_limit {
        for part in [2, 4] {
            // Limits are minutes to most.
            let minutes = limit.as_secs() / 60 / part;
            if minutes > 0 {
                let limit = Duration::from_secs(minutes * 60);
                let mut other = submission.clone();
                other.time_limit = Some(TimeLimit::Span(limit));
                others.push((format!("a limit of {}", clock(limit)), other));
            }
        }
    }
    others
}

/// Says when one starts that asks for less, where that is sooner than another.
pub(super) fn sooner(one: &Starts, other: &Starts, now: Moment) -> Option<String> {
    let Starts::At(at, _) = one else { return None };
    let is_sooner = match other {
        Starts::At(other, _) => at.saturating_add(NOW) < *other,
        Starts::NotBefore(_) | Starts::Never => true,
    };
    let when = match *at <= now.saturating_add(NOW) {
        true => "now".to_owned(),
        false => format!("about {}", local(*at)),
    };
    is_sooner.then_some(when)
}

/// Of what a job has several.
#[derive(Clone, Copy)]
enum What {
    Nodes,
    Tasks,
    Processors(Per),
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Nodes => "node",
            Self::Tasks => "task",
            Self::Processors(Per::Task) => "processor for each task",
            Self::Processors(_) => "processor",
        }
    }
}

fn several(part: &Part) -> Option<(What, u32)> {
    let nodes = part.nodes.map(|nodes| (What::Nodes, nodes.least));
    let tasks = part.tasks.get(&Per::Job).map(|tasks| (What::Tasks, *tasks));
    let cpus = part.cpus.iter().next();
    let cpus = cpus.map(|(per, cpus)| (What::Processors(*per), *cpus));
    let all = [nodes, tasks, cpus].into_iter().flatten();
    all.into_iter().find(|(_, count)| *count > 1)
}

/// Halves a number down to one, three times at most.
fn halves(count: u32) -> impl Iterator<Item = u32> {
    let half = |count: &u32| (*count > 1).then_some(count / 2);
    std::iter::successors(half(&count), half).take(3)
}

fn shrink(part: &mut Part, what: What, count: u32) {
    match what {
        What::Nodes => {
            let before = part.nodes.map_or(1, |nodes| nodes.least.max(1));
            if let Some(tasks) = part.tasks.get_mut(&Per::Job) {
                let share = u64::from(*tasks) * u64::from(count) / u64::from(before);
                *tasks = (share as u32).max(1);
            }
            let (least, most) = (count, count);
            part.nodes = Some(NodeCount { least, most });
        }
        What::Tasks => {
            part.tasks.insert(Per::Job, count);
        }
        What::Processors(per) => {
            part.cpus.insert(per, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use hyperion_model::submission::{Command, Dialect};

    use super::*;

    fn words(change: impl FnOnce(&mut Submission)) -> Vec<String> {
        let command = Command::Program(vec!["true".into()]);
        let mut submission = Submission::new(Dialect::Slurm, command);
        change(&mut submission);
        than(&submission)
            .into_iter()
            .map(|(with, _)| with)
            .collect()
    }

    #[test]
    fn less_is_asked_of_what_there_are_several() {
        assert_eq!(words(|_| {}), [""; 0]);
        let nodes = words(|asked| {
            let (least, most) = (4, 4);
            asked.parts[0].nodes = Some(NodeCount { least, most });
            asked.parts[0].tasks.insert(Per::Job, 8);
            asked.time_limit = Some(TimeLimit::Span(Duration::from_secs(7200)));
        });
        let right = [
            "2 nodes",
            "1 node",
            "a limit of 1:00:00",
            "a limit of 30:00",
        ];
        assert_eq!(nodes, right);
        let tasks = words(|asked| {
            asked.parts[0].tasks.insert(Per::Job, 48);
        });
        assert_eq!(tasks, ["24 tasks", "12 tasks", "6 tasks"]);
    }

    #[test]
    fn only_what_is_sooner_is_told() {
        let at = |seconds: u64| Starts::At(seconds * 1_000_000, Vec::new());
        let now = 100_000_000;
        assert_eq!(sooner(&at(100), &at(200), now).as_deref(), Some("now"));
        assert_eq!(
            sooner(&at(100), &Starts::Never, now).as_deref(),
            Some("now")
        );
        assert_eq!(sooner(&at(200), &at(200), now), None);
        assert_eq!(sooner(&Starts::Never, &at(200), now), None);
    }
}
