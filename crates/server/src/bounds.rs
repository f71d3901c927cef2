//! What is too much: whoever asks may mean harm, and others are not to be held up.

use std::io::{self, Write};

use hyperion_api::queue::Request;
use hyperion_model::submission::{Command, Submission};

/// As many jobs, or tasks, are named in one question.
const NAMED: usize = 100_000;
/// As many jobs are listed by their names: those that have ended are read from the disk.
const LISTED: usize = 10_000;
/// As many are waited for, by one who asks or by a job: they are looked at again and again.
pub(crate) const AWAITED: usize = 1000;
/// As many tasks are in one array.
const ARRAY: u64 = 1_000_000;
/// The longest script, and the most of variables, in bytes.
const LONG: usize = 4 << 20;
/// All else that a submission says, in bytes.
const REST: usize = 1 << 20;

/// Tells how much a question is, beside others; nothing where it is too much.
pub(crate) fn weight(request: &Request) -> Option<usize> {
    /// So many count as one.
    const FEW: usize = 64;
    /// As many as this counts one to which much is answered, or whose answer takes long.
    const DEAR: usize = 16;
    let (weight, named) = match request {
        Request::Jobs(filter) if filter.jobs.len() > LISTED => return None,
        Request::Jobs(filter) => (DEAR, filter.jobs.len()),
        Request::Explain(_) | Request::WhatIf(_) | Request::Metrics => (DEAR, 0),
        Request::Wait(jobs) if jobs.len() > AWAITED => return None,
        Request::Hold(jobs)
        | Request::Release(jobs)
        | Request::RequeueHold(jobs)
        | Request::Wait(jobs) => (1, jobs.len()),
        Request::Cancel(tasks)
        | Request::Requeue(tasks)
        | Request::Suspend(tasks)
        | Request::Resume(tasks)
        | Request::Edit(tasks, _) => (1, tasks.len()),
        Request::SetNodes(names, _) => (1, names.len()),
        _ => (1, 0),
    };
    (named <= NAMED).then_some(weight + named / FEW)
}

/// Says what of a submission is too much.
pub(crate) fn excess(submission: &mut Submission) -> Option<&'static str> {
    if let Some(array) = &submission.array
        && array.indices.count() > ARRAY
    {
        return Some("an array of a queue has a million tasks at most");
    }
    let script = match &mut submission.command {
        Command::Script { text, .. } => std::mem::take(text),
        Command::Program(_) | Command::Room { .. } => Vec::new(),
    };
    let variables = std::mem::take(&mut submission.origin.variables);
    let mut rest = Counter(0);
    let written = serde_json::to_writer(&mut rest, submission);
    let size = |(name, value): (&String, &String)| name.len() + value.len();
    let sum: usize = variables.iter().map(size).sum();
    let excess = if script.len() > LONG {
        Some("a script has 4 MiB at most")
    } else if sum > LONG {
        Some("the variables of a job have 4 MiB at most")
    } else if written.is_err() || rest.0 > REST {
        Some("what a submission says beside its script and its variables has 1 MiB at most")
    } else {
        None
    };
    if let Command::Script { text, .. } = &mut submission.command {
        *text = script;
    }
    submission.origin.variables = variables;
    excess
}

/// Counts what is written.
struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hyperion_api::queue::{Filter, Target};
    use hyperion_model::submission::Dialect;

    use super::*;

    fn script(text: Vec<u8>) -> Submission {
        Submission::new(
            Dialect::Slurm,
            Command::Script {
                interpreter: None,
                text,
                arguments: Vec::new(),
            },
        )
    }

    #[test]
    fn what_is_too_much_is_told_and_what_is_not_is_left_as_it_was() {
        let mut fine = script(b"#!/bin/sh\n".to_vec());
        fine.origin.variables.insert("A".into(), "b".into());
        let before = fine.clone();
        assert_eq!(excess(&mut fine), None);
        assert_eq!(fine, before);
        assert!(excess(&mut script(vec![b'x'; LONG + 1])).is_some());
        let mut array = script(Vec::new());
        array.array = "1-2000000".parse().ok();
        assert!(array.array.is_some());
        assert!(excess(&mut array).is_some());
        let mut long = script(Vec::new());
        long.comment = Some("x".repeat(REST));
        assert!(excess(&mut long).is_some());
        long.comment = None;
        long.origin.variables.insert("A".into(), "x".repeat(LONG));
        assert!(excess(&mut long).is_some());
    }

    #[test]
    fn a_question_weighs_what_its_answer_costs() {
        let task = Target {
            job: 1,
            index: None,
        };
        assert_eq!(weight(&Request::Cancel(vec![task])), Some(1));
        assert_eq!(weight(&Request::Cancel(vec![task; NAMED + 1])), None);
        let jobs = vec![1; LISTED];
        let listed = weight(&Request::Jobs(Filter {
            jobs,
            ..Filter::default()
        }));
        assert!(listed > weight(&Request::Jobs(Filter::default())));
    }
}
