//! What a request means to the ledger.

use hyperion_api::queue::{Refused, Target};
use hyperion_lifecycle::{Ledger, Refusal, TaskId, Time};
use hyperion_model::Class;
use hyperion_model::submission::{Moment, Submission};

/// Says why something was not done, and what to do about it.
pub(crate) fn refused(refusal: &Refusal) -> Refused {
    let (class, hint) = match refusal {
        Refusal::Unknown(_) | Refusal::NoTask(_) | Refusal::DependsOnUnknown(_) => {
            (Class::NotFound, "`hyperion queue --all` lists them")
        }
        Refusal::NotYours(_) => (Class::Denied, "ask its user, or an operator"),
        Refusal::HeldByOperator(_) => (Class::Denied, "ask an operator to release it"),
        Refusal::Not { .. } => (
            Class::Conflict,
            "`hyperion queue --all` tells how far each job is",
        ),
        Refusal::NotOperator => (Class::Denied, "ask an operator"),
        Refusal::OnlyWhole(_) | Refusal::NoArray(_) => (
            Class::Unsupported,
            "name the job, without an index; `hyperion queue` lists it",
        ),
        Refusal::DependsOnItself(_) => (Class::User, "let it wait for others alone"),
        Refusal::NoPriorities => (
            Class::Unsupported,
            "`order = \"multifactor\"` in site.toml has priorities",
        ),
        Refusal::TooLate => (
            Class::User,
            "give it less time, --time-min, or a later deadline",
        ),
        Refusal::Rules(_) => (Class::Denied, "the rules of the site say who may have what"),
        Refusal::Ask(_) | Refusal::NeverFits => (
            Class::Unsupported,
            "`hyperion nodes` lists what there is; words before the script count more than \
                 those in it",
        ),
    };
    Refused {
        class,
        causes: vec![refusal.to_string()],
        hint: hint.to_owned(),
    }
}

/// Gives the tasks that a target means; of an array without an index, those that have nodes.
pub(crate) fn tasks(ledger: &Ledger, target: Target) -> Vec<TaskId> {
    let job = target.job;
    let task = |index| TaskId { job, index };
    match (target.index, ledger.jobs().get(&job)) {
        (Some(index), _) => vec![task(index)],
        (None, Some(its)) if its.asked.submission.array.is_some() => {
            let active = its.tasks().iter().filter(|(_, t)| t.state.is_active());
            active.map(|(&index, _)| task(index)).collect()
        }
        (None, _) => vec![task(0)],
    }
}

/// The begin and the deadline of a job.
pub(crate) type Moments = (Option<Time>, Option<Time>);

/// Gives the moments of which a submission speaks.
pub(crate) fn moments(submission: &Submission, now: Time) -> Result<Moments, Refused> {
    Ok((
        settled(submission.begin, now)?,
        settled(submission.deadline, now)?,
    ))
}

/// Gives a moment as the client settled it: only spans are left, for what day it is
/// depends on where the client is.
fn settled(moment: Option<Moment>, now: Time) -> Result<Option<Time>, Refused> {
    match moment {
        None => Ok(None),
        Some(Moment::In(span)) => Ok(Some(now + span)),
        Some(Moment::At { .. }) => Err(Refused {
            class: Class::Internal,
            causes: vec!["the client has not said how long the job is to wait".into()],
            hint: "is the client of the same version? `hyperion version`".into(),
        }),
    }
}
