//! What clients are answered.

use hyperion_api::queue::{NodeChange, Refused, Reply, Request, ServerView, Target};
use hyperion_lifecycle::{Booking, Change, Event, NodeState, Record, Refusal, TaskId, Time, Who};
use hyperion_model::submission::{Elsewhere, Submission};
use hyperion_model::{Class, Edit};

use crate::bounds::{AWAITED, excess};
use crate::explain::foreseen;
use crate::history::HistoryError;
use crate::metrics::text;
use crate::requests::{Moments, moments, refused, tasks};
use crate::texts::take_texts;
use crate::turn::{Server, Turn, causes};
use crate::views::{Sight, Viewer};

/// The server itself, where it looks at its queue.
const SERVER: Who = Who {
    user: 0,
    operator: true,
};

/// What a question comes to.
pub(crate) enum Answer {
    /// Now.
    Now(Box<Reply>),
    /// When these have ended.
    Ends(Vec<u64>),
}

impl Server {
    /// Answers a question; what changes by it is added to the turn.
    pub(crate) fn answer(
        &mut self,
        who: Who,
        request: Request,
        now: Time,
        turn: &mut Turn,
    ) -> Answer {
        let records = &mut turn.records;
        let reply = match request {
            Request::Submit(mut submission) => match self.receive(who, &mut submission, now) {
                Err(refused) => Reply::Refused(refused),
                Ok((begin, deadline)) => {
                    match self.recall(who, &submission, now) {
                        Ok(recalled) => turn.records.extend(recalled),
                        Err(error) => return Answer::Now(Box::new(no_history(&error))),
                    }
                    let records = &mut turn.records;
                    turn.texts.extend(take_texts(&mut submission));
                    let event = Event::Submit {
                        who,
                        submission,
                        begin,
                        deadline,
                    };
                    match self.ledger.step(now, event) {
                        Err(refusal) => Reply::Refused(refused(&refusal)),
                        Ok(new) => {
                            let number = new.iter().find_map(|record| match &record.change {
                                Change::Submitted(asked) => Some(asked.job),
                                _ => None,
                            });
                            records.extend(new);
                            Reply::Submitted(number.unwrap_or_default())
                        }
                    }
                }
            },
            Request::Jobs(filter) => self.list(who, &filter, now),
            Request::Nodes => Reply::Nodes(self.viewer(who, now).nodes()),
            Request::Partitions => Reply::Partitions(self.viewer(who, now).partitions()),
            Request::Reservations => Reply::Reservations(self.viewer(who, now).reservations()),
            Request::Closures => {
                let mut viewer = self.viewer(who, now);
                Reply::Closures(viewer.past_reservations(), viewer.closures())
            }
            Request::Shares => Reply::Shares(self.viewer(who, now).shares()),
            Request::Rules => Reply::Rules(self.viewer(who, now).rules()),
            Request::Explain(target) => match self.sight(who, target.job) {
                Sight::All => {
                    let explained = self.viewer(who, now).explain(target);
                    Reply::Explained(explained.map(Box::new))
                }
                Sight::Line => Reply::Refused(refused(&Refusal::NotYours(target.job))),
                Sight::Nothing => Reply::Refused(refused(&Refusal::Unknown(target.job))),
            },
            Request::WhatIf(mut submission) => match self.receive(who, &mut submission, now) {
                Err(refused) => Reply::Refused(refused),
                Ok((begin, _)) => {
                    take_texts(&mut submission);
                    match self.ledger.what_if(now, who, *submission, begin) {
                        Ok((asked, forecast)) => {
                            Reply::Foreseen(foreseen(&self.ledger, &asked, &forecast))
                        }
                        Err(refusal) => Reply::Refused(refused(&refusal)),
                    }
                }
            },
            Request::SetNodes(names, change) => {
                let state = match change {
                    NodeChange::Up => NodeState::Up,
                    NodeChange::Drain(why) => NodeState::Drain(why),
                    NodeChange::Down(why) => NodeState::Down(why),
                };
                let event = |name| Event::Node(who, name, state.clone());
                self.steps(who, now, names.into_iter().map(event).collect(), records)
            }
            Request::Reserve(asked) => {
                let from = now + asked.starts_in;
                let booking = Booking {
                    nodes: asked.nodes.into_iter().collect(),
                    from,
                    until: from + asked.lasts,
                    users: asked.users.into_iter().collect(),
                    accounts: asked.accounts.into_iter().collect(),
                };
                self.steps(
                    who,
                    now,
                    vec![Event::Book(who, asked.name, booking)],
                    records,
                )
            }
            Request::Unreserve(name) => {
                self.steps(who, now, vec![Event::Unbook(who, name)], records)
            }
            Request::Hold(jobs) => {
                let events = jobs.into_iter().map(|job| Event::Hold(who, job));
                self.steps(who, now, events.collect(), records)
            }
            Request::Release(jobs) => {
                let events = jobs.into_iter().map(|job| Event::Release(who, job));
                self.steps(who, now, events.collect(), records)
            }
            Request::Edit(targets, edits) => {
                for target in &targets {
                    match self.recall_for(who, *target, &edits, now) {
                        Ok(recalled) => turn.records.extend(recalled),
                        Err(reply) => return Answer::Now(Box::new(reply)),
                    }
                }
                let edit = |Target { job, index }| Event::Edit(who, job, index, edits.clone());
                let events = targets.into_iter().map(edit).collect();
                self.steps(who, now, events, &mut turn.records)
            }
            Request::Cancel(targets) => {
                let cancel = |Target { job, index }| Event::Cancel(who, job, index);
                self.steps(who, now, targets.into_iter().map(cancel).collect(), records)
            }
            Request::Requeue(targets) => {
                let event = |task| Event::Requeue(who, task);
                self.steps(who, now, self.of_tasks(targets, event), records)
            }
            Request::RequeueHold(jobs) => {
                let events = jobs.into_iter().map(|job| Event::RequeueHold(who, job));
                self.steps(who, now, events.collect(), records)
            }
            Request::Suspend(targets) => {
                let event = |task| Event::Suspend(who, task);
                self.steps(who, now, self.of_tasks(targets, event), records)
            }
            Request::Resume(targets) => {
                let event = |task| Event::Resume(who, task);
                self.steps(who, now, self.of_tasks(targets, event), records)
            }
            Request::Wait(jobs) => {
                let unknown = jobs
                    .iter()
                    .find(|job| self.sight(who, **job) == Sight::Nothing);
                match unknown {
                    Some(&job) => Reply::Refused(refused(&Refusal::Unknown(job))),
                    None => return Answer::Ends(jobs),
                }
            }
            Request::Metrics => Reply::Metrics(self.metrics()),
            Request::Who => Reply::Server(ServerView {
                version: env!("CARGO_PKG_VERSION").into(),
                process: std::process::id(),
                started: self.started.0,
                operator: who.operator,
            }),
            Request::Stop if who.operator => {
                self.stopping = true;
                Reply::Done
            }
            Request::Stop => Reply::Refused(Refused {
                class: Class::Denied,
                causes: vec!["only operators stop the server".into()],
                hint: "ask one".into(),
            }),
        };
        Answer::Now(Box::new(reply))
    }

    pub(crate) fn metrics(&mut self) -> String {
        let now = self.clock.now();
        let nodes = self.viewer(SERVER, now).nodes();
        text(&self.ledger, &nodes, &self.counts, (self.started, now))
    }

    /// Settles what a client cannot say: who it is. Gives when the job begins.
    fn receive(
        &self,
        who: Who,
        submission: &mut Submission,
        now: Time,
    ) -> Result<Moments, Refused> {
        submission.elsewhere = Elsewhere::default().into();
        self.is_bounded(submission)?;
        if self.own != 0 && who.user != self.own {
            return Err(Refused {
                class: Class::Denied,
                causes: vec!["the jobs of this queue run as its user, who is another".into()],
                hint: "submit them as that user".into(),
            });
        }
        if self.settings.audience.everybody.is_some() {
            let account = (self.settings.account)(who.user).ok_or_else(|| Refused {
                class: Class::Denied,
                causes: vec![format!(
                    "user {} is neither in /etc/passwd nor known to getent",
                    who.user
                )],
                hint: "the jobs of this queue run as users that the host's own files name".into(),
            })?;
            submission.origin.user = account.name;
            submission.origin.home = account.home;
        }
        moments(submission, now)
    }

    /// Looks whether a submission is more than others need bear.
    fn is_bounded(&self, submission: &mut Submission) -> Result<(), Refused> {
        let missing = self.ledger.missing(submission);
        let many = missing.numbers.len() + missing.names.len() > AWAITED;
        let many = many.then_some("a job waits for a thousand at most that ended long ago");
        match excess(submission).or(many) {
            None => Ok(()),
            Some(what) => Err(Refused {
                class: Class::User,
                causes: vec![what.into()],
                hint: "submit it in pieces, or let it read a file".into(),
            }),
        }
    }

    /// Has those in mind for which a job is to wait when it is changed.
    fn recall_for(
        &mut self,
        who: Who,
        target: Target,
        edits: &[Edit],
        now: Time,
    ) -> Result<Vec<Record>, Reply> {
        let its = self.ledger.jobs().get(&target.job);
        let its = its.filter(|its| who.operator || its.asked.user == who.user);
        let Some(its) = its else {
            return Ok(Vec::new());
        };
        let mut wanted = its.asked.submission.clone();
        edits.iter().for_each(|edit| edit.apply(&mut wanted));
        self.is_bounded(&mut wanted).map_err(Reply::Refused)?;
        let recalled = self.recall(who, &wanted, now);
        recalled.map_err(|error| no_history(&error))
    }

    /// Tells what somebody may know of a job.
    fn sight(&self, who: Who, job: u64) -> Sight {
        let audience = &self.settings.audience;
        match self.ledger.jobs().get(&job) {
            Some(job) => audience.sight(who, job),
            None => {
                let past = self.past(job);
                past.map_or(Sight::Nothing, |job| audience.sight(who, &job))
            }
        }
    }

    pub(crate) fn viewer(&mut self, who: Who, now: Time) -> Viewer<'_> {
        Viewer {
            ledger: &self.ledger,
            now,
            who,
            audience: &self.settings.audience,
            account: self.settings.account,
            origin: self.ledger.began().unwrap_or_default().0,
            within: &self.within,
            steps: &self.steps,
            users: &mut self.users,
        }
    }

    fn of_tasks(&self, targets: Vec<Target>, event: impl Fn(TaskId) -> Event) -> Vec<Event> {
        let all = targets
            .into_iter()
            .flat_map(|target| tasks(&self.ledger, target));
        all.map(event).collect()
    }

    /// Does all that can be done; of what cannot, the first is told.
    fn steps(
        &mut self,
        who: Who,
        now: Time,
        events: Vec<Event>,
        records: &mut Vec<Record>,
    ) -> Reply {
        let mut reply = Reply::Done;
        for event in events {
            match self.ledger.step(now, event) {
                Ok(new) => records.extend(new),
                Err(refusal) if reply == Reply::Done => {
                    reply = Reply::Refused(self.refused(who, &refusal));
                }
                Err(refusal) => {
                    if let Reply::Refused(refused) = &mut reply {
                        refused.causes.push(refusal.to_string());
                    }
                }
            }
        }
        reply
    }
}

fn no_history(error: &HistoryError) -> Reply {
    Reply::Refused(Refused {
        class: Class::Internal,
        causes: causes(error),
        hint: "it says how jobs ended on which this one depends".into(),
    })
}
