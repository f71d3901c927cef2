//! What is changed of jobs that were submitted: `scontrol update`, and what it has in
//! common with `qalter` and `bmod`

use std::time::Duration;

use hyperion_api::queue::{JobView, NodeChange, Request, Target};
use hyperion_formats::jobs;
use hyperion_model::submission::TimeLimit;
use hyperion_model::task::State;
use hyperion_model::{Class, Edit};
use hyperion_sys::entry::ExitCode;

use super::{Call, Outcome, Stop, is_meant, numbers, targets, told};
use crate::commands::queue::Server;
use crate::commands::queue::update::settled;
use crate::errors;

/// `scontrol update`, behind that word.
pub(super) fn update(call: &Call, words: &[&str]) -> Outcome {
    let is_node = |word: &&str| word.to_ascii_lowercase().starts_with("nodename=");
    if words.iter().any(is_node) {
        return node(call, words);
    }
    let wrong = |text| Stop::new(1, text);
    let update = jobs::update(words).map_err(wrong)?;
    if update.jobs.is_empty() {
        return Err(Stop::new(
            1,
            "No valid entity in update command\n\
             Input line must include \"JobId\" or \"NodeName\"",
        ));
    }
    let hold = update.altered.hold;
    let edits = settled(update.altered)?;
    if edits.is_empty() && !hold && update.longer.or(update.shorter).is_none() {
        return Err(Stop::new(1, "No changes specified"));
    }
    let mut code = ExitCode::SUCCESS;
    for word in &update.jobs {
        let change = || -> Result<(), Stop> {
            let unknown = |_| Stop::new(1, "Invalid job id specified");
            let meant = targets(std::slice::from_ref(word)).map_err(unknown)?;
            let mut views = call.jobs(numbers(&meant), true)?;
            views.retain(|job| is_meant(job, &meant));
            let first = views.first().ok_or_else(|| unknown(String::new()))?;
            let mut edits = edits.clone();
            edits.extend(other_limit(first, update.longer, update.shorter)?);
            let held = first.state == State::Held;
            if held && edits.iter().any(|edit| matches!(edit, Edit::Priority(_))) {
                let text = "Job is in held state, pending scheduler release";
                return Err(Stop::new(1, text));
            }
            if !edits.is_empty() {
                let done = alter(call, meant.clone(), edits.clone());
                done.map_err(|error| in_slurms_words(error, &edits, &views))?;
            }
            if hold {
                call.ask(&Request::Hold(numbers(&meant)))?;
            }
            Ok(())
        };
        if let Err(stop) = change() {
            eprintln!("{} for job {word}", stop.text);
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Gives the limit of a job that is to run so much longer, or less.
fn other_limit(
    job: &JobView,
    longer: Option<Duration>,
    shorter: Option<Duration>,
) -> Result<Option<Edit>, Stop> {
    let limit = match (job.limit, longer, shorter) {
        (_, None, None) => return Ok(None),
        (None, ..) => {
            return Err(Stop::new(
                1,
                "Invalid TimeLimit increment (it is unlimited)",
            ));
        }
        (Some(limit), longer, shorter) => limit
            .saturating_add(longer.unwrap_or_default())
            .checked_sub(shorter.unwrap_or_default()),
    };
    let limit = limit.ok_or_else(|| {
        let minutes = |span: Option<Duration>| span.unwrap_or_default().as_secs() / 60;
        let (less, now) = (minutes(shorter), minutes(job.limit));
        let text = "TimeLimit decrement larger than current time limit";
        Stop::new(1, format!("{text} ({less} > {now})"))
    })?;
    Ok(Some(Edit::Limit(TimeLimit::Span(limit))))
}

/// Changes jobs, or tasks of arrays.
pub(super) fn alter(call: &Call, meant: Vec<Target>, edits: Vec<Edit>) -> anyhow::Result<()> {
    Server::reach(&call.ctx, true)?.ask(&Request::Edit(meant, edits))?;
    Ok(())
}

/// Says why jobs were not changed.
fn in_slurms_words(error: anyhow::Error, edits: &[Edit], jobs: &[JobView]) -> Stop {
    let depends = edits.iter().any(|edit| matches!(edit, Edit::After(_)));
    let words = match errors::class_of(&error) {
        Class::Conflict if jobs.iter().all(|job| job.state.is_end()) => {
            return Stop::new(1, "Job has already finished");
        }
        Class::Conflict => return Stop::new(1, "Job is no longer pending execution"),
        Class::Denied => "Access/permission denied",
        Class::User | Class::NotFound if depends => "Job dependency problem",
        _ => return error.into(),
    };
    Stop::new(1, format!("{words} ({})", told(&error)))
}

/// Opens or closes nodes: `NodeName=n1 State=DRAIN Reason=disk`.
fn node(call: &Call, words: &[&str]) -> Outcome {
    let (mut names, mut state, mut reason) = (Vec::new(), None, None);
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name.to_ascii_lowercase().as_str() {
            "nodename" => {
                let all = hyperion_formats::jobs::hosts::expand(value);
                names = all.ok_or_else(|| Stop::new(1, format!("Invalid hostlist: {value}")))?;
            }
            "state" => state = Some(value.to_ascii_uppercase()),
            "reason" => reason = Some(value.to_owned()),
            _ => {
                let text = "Update of this parameter is not supported";
                return Err(Stop::new(1, format!("{text}: {word}\nRequest aborted")));
            }
        }
    }
    let why = || {
        let text = "You must specify a reason when DOWNING or DRAINING a node. Request denied";
        reason.clone().ok_or_else(|| Stop::new(1, text))
    };
    let change = match state.as_deref() {
        Some("DRAIN") => NodeChange::Drain(why()?),
        Some("DOWN") => NodeChange::Down(why()?),
        Some("RESUME" | "UNDRAIN" | "IDLE") => NodeChange::Up,
        other => {
            let other = other.unwrap_or_default();
            let text = format!("Invalid input: State={other}\nRequest aborted");
            return Err(Stop::new(
                1,
                text + "\nValid states are: DOWN DRAIN RESUME UNDRAIN IDLE",
            ));
        }
    };
    let done = call.ask(&Request::SetNodes(names, change));
    done.map_err(|stop| Stop::new(1, format!("slurm_update error: {}", stop.text)))?;
    Ok(ExitCode::SUCCESS)
}
