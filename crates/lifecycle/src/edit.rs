//! What is changed of a job that was submitted: who may change what, and what follows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hyperion_model::Shared;
use hyperion_model::edit::Edit;
use hyperion_model::submission::{Submission, TimeLimit};
use hyperion_sched::{Order, Time};

use crate::alarm::Alarm;
use crate::condition::named;
use crate::event::{Refusal, Who};
use crate::job::Job;
use crate::ledger::Ledger;
use crate::record::{Change, Submitted};
use crate::state::{State, TaskId};

impl Ledger {
    /// Says what it means that somebody changes a job, or one task of it that runs: all of
    /// it, or a refusal.
    pub(crate) fn edited(
        &mut self,
        who: Who,
        target: (u64, Option<u32>),
        edits: &[Edit],
        now: Time,
    ) -> Result<Vec<Change>, Refusal> {
        let (job, index) = target;
        let its = self.owned(who, job)?;
        let of_array = its.asked.submission.array.is_some();
        let limit = edits.iter().rev().find_map(|edit| match edit {
            Edit::Limit(limit) => Some(*limit),
            _ => None,
        });
        if let Some(index) = index.filter(|_| of_array) {
            let task = TaskId { job, index };
            let state = its.state(index).ok_or(Refusal::NoTask(task))?;
            // Those that wait are one entry: what was asked is the same for all of them.
            return match limit {
                Some(limit) if edits.len() == 1 && state.is_active() => {
                    let until = self.limited(who, task, limit)?;
                    Ok(until.into_iter().collect())
                }
                _ => Err(Refusal::OnlyWhole(job)),
            };
        }
        let waits = its.waiting().next().is_some();
        if its.is_over() || !(waits || edits.iter().all(Edit::is_for_what_runs)) {
            return Err(its.refused());
        }
        self.may(who, its, edits, now)?;
        let active: Vec<u32> = its.tasks.keys().copied().collect();
        let asked = Arc::clone(&its.asked);
        let mut changes = Vec::new();
        if let Some(limit) = limit {
            for index in active {
                changes.extend(self.limited(who, TaskId { job, index }, limit)?);
            }
        }
        let mut submission = asked.submission.clone();
        edits.iter().for_each(|edit| edit.apply(&mut submission));
        let begin = edits.iter().rev().find_map(|edit| match edit {
            Edit::Begin(span) => Some((!span.is_zero()).then(|| now + *span)),
            _ => None,
        });
        let moments = (begin.unwrap_or(asked.begin), asked.deadline);
        let owner = Who {
            user: asked.user,
            operator: who.operator,
        };
        let settled = match (waits, is_placed_alike(&asked.submission, &submission)) {
            (true, false) => {
                let settled = self.settled(owner, job, submission, moments)?;
                self.has_room_for(&settled, Some(&*asked))?;
                self.fits(settled)?
            }
            _ => Submitted {
                limit: match limit {
                    None => asked.limit,
                    Some(TimeLimit::Unlimited) => Duration::MAX,
                    Some(TimeLimit::Span(span)) => span,
                },
                submission,
                begin: moments.0,
                ..Submitted::clone(&asked)
            },
        };
        let from = settled.begin.map_or(now, |begin| begin.max(now));
        if waits && settled.last_start().is_some_and(|last| last < from) {
            return Err(Refusal::TooLate);
        }
        changes.push(Change::Edited(Box::new(settled)));
        Ok(changes)
    }

    /// Looks whether somebody may change that of a job.
    fn may(&self, who: Who, its: &Job, edits: &[Edit], now: Time) -> Result<(), Refusal> {
        let job = its.asked.job;
        for edit in edits {
            match edit {
                Edit::AtOnce(_) if its.asked.submission.array.is_none() => {
                    return Err(Refusal::NoArray(job));
                }
                Edit::Nice(nice) if *nice < 0 && !who.operator => return Err(Refusal::NotOperator),
                Edit::Priority(_) if !matches!(self.order, Order::Multifactor(_)) => {
                    return Err(Refusal::NoPriorities);
                }
                Edit::Priority(to) => {
                    let index = its.waiting().next().unwrap_or_default();
                    let at = self.priority(TaskId { job, index }, now);
                    let lower = to.zip(at).is_some_and(|(to, at)| to as f64 <= at.total());
                    if !lower && !who.operator {
                        return Err(Refusal::NotOperator);
                    }
                }
                Edit::After(Some(condition)) => {
                    let (numbers, _) = named(condition);
                    let known = |on: &&u64| !self.jobs.contains_key(on);
                    if let Some(&unknown) = numbers.iter().find(known) {
                        return Err(Refusal::DependsOnUnknown(unknown));
                    }
                    if self.leads_to(numbers, job) {
                        return Err(Refusal::DependsOnItself(job));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells whether one of these jobs is that one, or waits for it by way of others.
    fn leads_to(&self, from: Vec<u64>, job: u64) -> bool {
        let (mut open, mut seen) = (from, BTreeSet::new());
        while let Some(at) = open.pop() {
            if at == job {
                return true;
            }
            let after = self.jobs.get(&at).filter(|_| seen.insert(at));
            let after = after.and_then(|its| its.asked.submission.after.as_ref());
            open.extend(after.into_iter().flat_map(|condition| named(condition).0));
        }
        false
    }

    /// Says when a task that has nodes is told to end by another limit; nothing where it is
    /// on its way out. To let one run longer is for operators.
    fn limited(&self, who: Who, task: TaskId, limit: TimeLimit) -> Result<Option<Change>, Refusal> {
        let its = self.owned(who, task.job)?.task(task.index);
        let runs = |state| {
            matches!(
                state,
                State::Configuring | State::Running | State::Suspended
            )
        };
        let Some(its) = its.filter(|its| runs(its.state) && !its.leaving) else {
            return Ok(None);
        };
        let until = match limit {
            TimeLimit::Unlimited => Time::NEVER,
            TimeLimit::Span(span) => its.started.unwrap_or_default() + its.still + span,
        };
        let until = self.ends_by(task, until);
        match until > its.until && !who.operator {
            true => Err(Refusal::NotOperator),
            false => Ok((until != its.until).then_some(Change::Limited { task, until })),
        }
    }

    /// Changes when a task that has nodes is told to end.
    pub(crate) fn set_limit(&mut self, task: TaskId, until: Time, at: Time) {
        self.forget_alarms(task);
        let Some(its) = self.task_mut(task) else {
            return;
        };
        its.until = until;
        let rests = its.state == State::Suspended;
        self.cluster.end_by(task.number(), until);
        match rests {
            false => self.set_alarms(task, until, at),
            // It asks for the rest of its time to go on.
            true if self.queue.remove(task.number()).is_some() => self.offer_to_go_on(task, at),
            true => {}
        }
    }

    /// Takes what was asked anew, in place of what was.
    pub(crate) fn ask_anew(&mut self, asked: &Submitted, at: Time) {
        let job = asked.job;
        self.withdraw(job);
        let Some(its) = self.jobs.get(&job) else {
            return;
        };
        let (before, tasks) = (Arc::clone(&its.asked), u64::from(its.size()));
        if let Some(condition) = &before.submission.after {
            self.waits_no_more(job, condition);
        }
        if let Some(last) = before.last_start() {
            self.alarms.remove(&(last, Alarm::TooLate(job)));
        }
        self.count(&before, tasks, u64::saturating_sub);
        self.count(asked, tasks, u64::saturating_add);
        self.waits_for_others(asked);
        let mut request = Shared::from(self.among(asked));
        let mut asked = asked.clone();
        self.common.share(&mut asked, &mut request);
        let begin = asked.begin.filter(|begin| *begin > at);
        if let Some(its) = self.jobs.get_mut(&job) {
            its.asked = Arc::new(asked);
            its.request = request;
            its.due = begin.is_none();
        }
        self.look_at(job, begin);
        self.offer(job, at);
        // Others may wait for it by its name.
        self.look_again(job, at);
    }
}

/// Tells whether two submissions ask for the same of a site.
fn is_placed_alike(one: &Submission, other: &Submission) -> bool {
    one.parts == other.parts
        && (&one.account, &one.project) == (&other.account, &other.project)
        && (&one.qos, &one.reservation) == (&other.qos, &other.reservation)
        && (one.time_limit, one.least_time) == (other.time_limit, other.least_time)
}
