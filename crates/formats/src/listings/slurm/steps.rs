//! Steps: `squeue --steps`, `scontrol show step`

use std::time::Duration;

use hyperion_model::errand::Step;
use hyperion_model::task::State;
use hyperion_model::view::JobView;

use super::{Piece, hosts, id, pieces, short_clock, write};
use crate::listings::Site;
use crate::listings::words::Words;

const USUAL: &str = "%.15i %.8j %.9P %.8u %.9M %N";

const HEADINGS: &[(char, &str)] = &[
    ('A', "NTASKS"),
    ('b', "TRES_PER_NODE"),
    ('i', "STEPID"),
    ('j', "NAME"),
    ('l', "TIME_LIMIT"),
    ('M', "TIME"),
    ('N', "NODELIST"),
    ('P', "PARTITION"),
    ('S', "START_TIME"),
    ('u', "USER"),
    ('U', "UID"),
];

/// A step that runs: one of a launcher, or the script itself.
struct Running<'a> {
    job: &'a JobView,
    step: Option<&'a Step>,
}

impl Running<'_> {
    fn id(&self) -> String {
        match self.step {
            Some(step) => format!("{}.{}", id(self.job, true), step.number),
            None => format!("{}.batch", id(self.job, true)),
        }
    }

    fn from(&self) -> Option<u64> {
        let begun = self.step.map_or(Duration::ZERO, |step| step.begun);
        let micros = u64::try_from(begun.as_micros()).unwrap_or(u64::MAX);
        self.job.started.map(|from| from.saturating_add(micros))
    }

    fn value(&self, letter: char, site: &Site<'_>) -> String {
        let job = self.job;
        let from = self.from();
        match letter {
            'A' => self.step.map_or(1, |step| step.tasks).to_string(),
            'i' => self.id(),
            'j' => self.step.map_or("batch", |step| &step.name).to_owned(),
            'l' => job.limit.map_or("UNLIMITED".into(), short_clock),
            'M' => {
                let ran = site.now.saturating_sub(from.unwrap_or(site.now));
                short_clock(Duration::from_micros(ran))
            }
            'N' => hosts(job),
            'P' => job.queue.clone(),
            'S' => from.map_or("N/A".into(), |at| (site.local)(at).iso()),
            'u' => job.user.clone(),
            'U' => job.uid.to_string(),
            _ => "(null)".into(),
        }
    }
}

/// Gives the steps of tasks that run.
fn running(job: &JobView) -> impl Iterator<Item = Running<'_>> {
    let runs = matches!(
        job.state,
        State::Running | State::Suspended | State::Completing
    );
    let steps = job.steps().iter().filter(|step| step.over.is_none());
    let steps = steps.map(move |step| Running {
        job,
        step: Some(step),
    });
    let script = job.script.then_some(Running { job, step: None });
    steps.chain(script).filter(move |_| runs)
}

/// How steps are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps {
    head: bool,
    pieces: Vec<Piece>,
}

impl Steps {
    /// Reads how steps are to be listed.
    ///
    /// # Errors
    /// What squeue would say.
    pub fn read(words: &Words) -> Result<Self, String> {
        let known = |letter| HEADINGS.iter().any(|(known, _)| *known == letter);
        let format = words.value("--format").unwrap_or(USUAL);
        let pieces = pieces(format, known)
            .map_err(|letter| format!("Invalid job step format specification: {letter}"))?;
        Ok(Self {
            head: !words.has("--noheader"),
            pieces,
        })
    }

    /// Writes the steps that run, of these jobs, or those of them that are named.
    pub fn write(&self, jobs: &[JobView], named: &[String], site: &Site<'_>) -> String {
        let mut out = String::new();
        let mut line = |text: String| out = std::mem::take(&mut out) + &text + "\n";
        if self.head {
            line(write(&self.pieces, |letter| {
                let found = HEADINGS.iter().find(|(known, _)| *known == letter);
                found.map_or_else(String::new, |(_, heading)| (*heading).to_owned())
            }));
        }
        for running in jobs.iter().flat_map(running) {
            let own = running.id();
            if named.is_empty() || named.contains(&own) {
                line(write(&self.pieces, |letter| running.value(letter, site)));
            }
        }
        out
    }
}

/// Writes `scontrol show step`; nothing where the job has no such step that runs.
pub fn step(job: &JobView, number: Option<u32>, site: &Site<'_>) -> String {
    let wanted = |running: &Running<'_>| match (number, running.step) {
        (None, _) => true,
        (Some(number), step) => step.is_some_and(|step| step.number == number),
    };
    let text = |running: Running<'_>| {
        let tasks = running.value('A', site);
        let value = |letter| running.value(letter, site);
        format!(
            "StepId={} UserId={} StartTime={} TimeLimit=UNLIMITED\n   \
               State=RUNNING Partition={} NodeList={}\n   \
               Nodes=1 CPUs={tasks} Tasks={tasks} Name={} Network=(null)\n   \
               TRES=cpu={tasks},node=1\n   \
               ResvPorts=(null)\n   \
               CPUFreqReq=Default Dist=Cyclic\n\n",
            value('i'),
            value('U'),
            value('S'),
            value('P'),
            value('N'),
            value('j'),
        )
    };
    running(job).filter(wanted).map(text).collect()
}
