//! What `sbatch`, `qsub` and `bsub` have in common.

use hyperion_api::queue::{Foreseen, Reply, Request};
use hyperion_formats::jobs::{self, Kind, Origin, Source};
use hyperion_model::submission::{Dialect, Submission};

use super::{Call, Stop, told};
use crate::commands::queue::Server;
use crate::commands::queue::submit::{call, fence, foresee, load, send, variables};
use crate::commands::run::Isolate;

/// A job that was handed in.
pub(super) struct Submitted {
    pub(super) number: u64,
    pub(super) submission: Submission,
    pub(super) reply: jobs::Reply,
    pub(super) server: Server,
}

/// Why one was not.
pub(super) enum Refusal {
    /// The first option that is not known.
    Option(String),
    /// What is wrong, told in as many lines as that needs.
    Script(String),
    /// Whatever else went wrong.
    Other(String),
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(told(&error))
    }
}

/// Reads words, and the script that they name.
pub(super) fn read(
    words: &[String],
    dialect: Dialect,
) -> Result<(Submission, jobs::Reply), Refusal> {
    let (name, script) = load(&jobs::wanted(dialect, words))?;
    let variables: Vec<(String, String)> = variables().into_iter().collect();
    let source = Source {
        script: script.as_deref(),
        words,
        variables: &variables,
    };
    let text = script.as_deref().unwrap_or_default();
    let notes =
        |notes: &[jobs::Remark]| eprint!("{}", jobs::tell(notes, Kind::Note, &name, text, words));
    match jobs::read(dialect, &source) {
        Ok(mut parsed) => {
            notes(&parsed.notes);
            let file = script.as_ref().map(|_| name.as_str());
            call(&mut parsed.submission, file);
            Ok((parsed.submission, parsed.reply))
        }
        Err(refused) => {
            let unknown = refused.mistakes.iter().find(|mistake| {
                mistake.span.origin == Origin::Words
                    && mistake.what.starts_with("there is no option")
            });
            if let Some(unknown) = unknown {
                let word = words.get(unknown.span.place.line.saturating_sub(1) as usize);
                return Err(Refusal::Option(word.cloned().unwrap_or_default()));
            }
            notes(&refused.notes);
            let text = jobs::tell(&refused.mistakes, Kind::Error, &name, text, words);
            Err(Refusal::Script(text))
        }
    }
}

/// What became of words that submit.
pub(super) enum Handed {
    In(Box<Submitted>),
    /// It was only asked what would become of it.
    Tested(Foreseen),
}

/// Hands in a job, or asks what would become of it.
pub(super) fn submit(call: &Call, dialect: Dialect) -> Result<Handed, Refusal> {
    let (submission, reply) = read(&call.words, dialect)?;
    match reply.test_only {
        true => Ok(Handed::Tested(foresee(submission, &call.ctx)?)),
        false => Ok(Handed::In(Box::new(hand_in(call, submission, reply)?))),
    }
}

/// Hands in a job that was read. At which level it runs, and in which image, is in
/// variables: the words are those of a system that knows nothing of it.
pub(super) fn hand_in(
    call: &Call,
    mut submission: Submission,
    reply: jobs::Reply,
) -> Result<Submitted, Refusal> {
    let variable = |name| {
        std::env::var(name)
            .ok()
            .filter(|text: &String| !text.is_empty())
    };
    let isolation = match variable("HYPERION_ISOLATION").as_deref() {
        None => None,
        Some("process") => Some(Isolate::Process),
        Some("container") => Some(Isolate::Container),
        Some("vm") => Some(Isolate::Vm),
        Some(_) => {
            let text = "HYPERION_ISOLATION is one of process, container and vm";
            return Err(Refusal::Other(text.into()));
        }
    };
    let flags = variable("HYPERION_RUN_FLAGS").unwrap_or_default();
    let flags = flags.split_whitespace().map(str::to_owned).collect();
    *submission.fence = fence(isolation, variable("HYPERION_IMAGE"), flags)?;
    let (number, server) = send(submission.clone(), &call.ctx, true)?;
    Ok(Submitted {
        number,
        submission,
        reply,
        server,
    })
}

impl Submitted {
    /// Waits for the end; gives the code.
    pub(super) fn wait(mut self) -> Result<u8, Stop> {
        match self.server.ask(&Request::Wait(vec![self.number]))? {
            Reply::Ended(code) => Ok(code),
            _ => Ok(0),
        }
    }
}
