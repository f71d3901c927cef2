//! Jobs that have ended: when they leave the server's mind, and how they are found again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hyperion_api::queue::{Filter, Refused, Reply};
use hyperion_lifecycle::{Change, Event, Job, Past, Record, Refusal, Time, Who};
use hyperion_model::Class;
use hyperion_model::submission::Submission;

use crate::history::{History, HistoryError, PAGE};
use crate::requests::refused;
use crate::turn::{Server, causes};
use crate::views::Sight;

/// Records of so many jobs that are forgotten are no burden.
const FEW: usize = 5_000;
/// How long what could not be written waits for another try.
const AGAIN: Duration = Duration::from_secs(10);

impl Server {
    /// Forgets jobs that have ended, when there are many; they are in the history before.
    pub(crate) fn forget(&mut self, now: Time) -> Vec<Record> {
        if self.forget_at > Instant::now() {
            return Vec::new();
        }
        let mut leaving = self.ledger.leaving();
        leaving.retain(|job| !self.is_awaited(*job));
        let jobs = leaving.iter().filter_map(|job| self.ledger.jobs().get(job));
        let jobs: Vec<Past> = jobs.map(|job| Past::from(&**job)).collect();
        if jobs.is_empty() {
            return Vec::new();
        }
        if let Err(error) = self.history.add(&jobs, now) {
            self.forget_at = Instant::now() + AGAIN;
            if error.is_broken() {
                self.renew_history();
            }
            return Vec::new();
        }
        (self.settings.reached)("server-history-written");
        let events = leaving.into_iter().map(Event::Forget);
        let records = events.flat_map(|event| self.ledger.step(now, event).unwrap_or_default());
        records.collect()
    }

    /// Puts a history that has become broken aside.
    fn renew_history(&mut self) {
        let path = self.settings.folder.join("history");
        if let Ok((history, _)) = History::open(&path, self.settings.keep) {
            self.history = history;
        }
    }

    /// Takes records away that are not needed any more, when they are as many as the others.
    pub(crate) fn compact(&mut self, now: Time) {
        if self.forgotten < FEW.max(self.ledger.jobs().len()) {
            return;
        }
        self.forgotten = 0;
        let jobs = self.ledger.jobs();
        let elsewhere = jobs.values().filter(|job| !job.is_over());
        let elsewhere = elsewhere.map(|job| &job.asked.submission.elsewhere);
        let texts = elsewhere.flat_map(|its| its.script.iter().chain(&its.variables));
        let texts: BTreeSet<&str> = texts.map(String::as_str).collect();
        let change = Change::Carried(self.ledger.carried(now));
        let carried = Record { at: now, change };
        // Where that fails all of them are there still.
        let known = |job: u64| jobs.contains_key(&job);
        let _ = self.journal.compact(known, &texts, &carried);
        (self.settings.reached)("server-compacted");
    }

    /// Brings the jobs back to mind for which a submission waits.
    pub(crate) fn recall(
        &mut self,
        who: Who,
        submission: &Submission,
        now: Time,
    ) -> Result<Vec<Record>, HistoryError> {
        let missing = self.ledger.missing(submission);
        let mut numbers: BTreeSet<u64> = missing.numbers.into_iter().collect();
        for name in missing.names {
            numbers.extend(self.history.named(who.user, &name)?);
        }
        let mut records = Vec::new();
        for number in numbers {
            if let Some(past) = self.history.get(number)? {
                let recalled = self.ledger.step(now, Event::Recall(Box::new(past)));
                records.extend(recalled.unwrap_or_default());
            }
        }
        Ok(records)
    }

    /// Gives a job that is in the history alone.
    pub(crate) fn past(&self, number: u64) -> Option<Job> {
        let known = self.ledger.jobs().contains_key(&number);
        let past = (!known).then(|| self.history.get(number).ok().flatten());
        past.flatten().map(Job::from)
    }

    /// Says why something was not done to a job, also where it is in the history alone.
    pub(crate) fn refused(&self, who: Who, refusal: &Refusal) -> Refused {
        let past = match refusal {
            Refusal::Unknown(job) => self.past(*job),
            _ => None,
        };
        let past = past.filter(|job| self.settings.audience.sight(who, job) == Sight::All);
        let last = past.as_ref().and_then(|job| job.tasks().last_key_value());
        match (past.as_ref(), last) {
            (Some(job), Some((_, task))) => refused(&Refusal::Not {
                job: job.asked.job,
                state: task.state,
            }),
            _ => refused(refusal),
        }
    }

    /// Lists jobs.
    pub(crate) fn list(&mut self, who: Who, filter: &Filter, now: Time) -> Reply {
        let (past, more) = match self.listed_past(filter) {
            Ok(listed) => listed,
            Err(error) => {
                return Reply::Refused(Refused {
                    class: Class::Internal,
                    causes: causes(&error),
                    hint: "`hyperion queue` lists the jobs that have not ended".into(),
                });
            }
        };
        let mut viewer = self.viewer(who, now);
        let mut views = viewer.jobs(filter, more.unwrap_or(u64::MAX));
        if !past.is_empty() {
            for job in past {
                viewer.job(job.asked.job, &job, filter, &mut views);
            }
            views.sort_by_key(|view| view.job);
        }
        match more {
            Some(from) => Reply::FirstJobs(views, from),
            None => Reply::Jobs(views),
        }
    }

    /// Gives jobs that are wanted and in the history alone; and from which number on there
    /// are more.
    fn listed_past(&self, filter: &Filter) -> Result<(Vec<Job>, Option<u64>), HistoryError> {
        if !filter.ended {
            return Ok((Vec::new(), None));
        }
        let named = BTreeSet::from_iter(&filter.jobs).into_iter();
        let named = named.filter_map(|number| self.past(*number));
        if !filter.jobs.is_empty() || !filter.past {
            return Ok((named.collect(), None));
        }
        let page = self.history.page(filter)?;
        let last = page.last().filter(|_| page.len() == PAGE);
        let more = last.map(|past| past.asked.job + 1);
        let known = self.ledger.jobs();
        let past = page
            .into_iter()
            .filter(|past| !known.contains_key(&past.asked.job));
        Ok((past.map(Job::from).collect(), more))
    }
}
