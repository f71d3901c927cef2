//! What is known, and how records change it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hyperion_model::Shared;
use hyperion_model::submission::{Condition, Dialect};
use hyperion_sched::{
    Allocation, Cluster, JobNumber, Memory, Order, Policy, Queue, Queued, QuotaNumber, Running,
    Slots, Time, Verdict as Plan, WindowNumber, first_start,
};

use crate::alarm::{Alarm, Alarms};
use crate::ask::Site;
use crate::common::Common;
use crate::condition::{Asker, Verdict, holds, is_by_index, named};
use crate::fair::Fair;
use crate::grounds::{Scope, cluster};
use crate::job::{Job, Task};
use crate::record::{Change, Record, Submitted};
use crate::rules::{Booked, Booking, Closed, Closure, NodeState, PartitionState, Rules};
use crate::state::{End, Reason, State, TaskId, Why, state_of};

/// All jobs, by number. In boxes: a map keeps room for others beside each.
pub(crate) type Jobs = BTreeMap<u64, Box<Job>>;

/// How many tasks of one array the scheduler sees at a time: an array of a million
/// is a million entries in its queue otherwise.
const WINDOW: usize = 1024;

/// All that is known of a site's jobs.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub(crate) site: Site,
    pub(crate) rules: Rules,
    pub(crate) order: Order,
    pub(crate) policy: Policy,
    pub(crate) jobs: Jobs,
    pub(crate) next: u64,
    pub(crate) cluster: Cluster,
    /// Which cores and devices of each node are whose.
    pub(crate) slots: Vec<Slots>,
    /// The same where nothing runs.
    pub(crate) empty: Cluster,
    pub(crate) queue: Queue,
    /// Nodes that are kept for a time, by name.
    pub(crate) bookings: BTreeMap<String, (Booking, WindowNumber)>,
    /// All that ever were, in the order in which they were made.
    pub(crate) booked: Vec<Booked>,
    /// Nodes on which no job starts, by name.
    pub(crate) closed: BTreeMap<String, Closed>,
    /// When nodes and partitions were, in the order in which that was said.
    pub(crate) closures: Vec<Closure>,
    /// What was told of partitions, by name.
    pub(crate) partition_states: BTreeMap<String, PartitionState>,
    pub(crate) quotas: BTreeMap<Scope, QuotaNumber>,
    /// Jobs that are under no limits.
    pub(crate) unlimited: BTreeSet<u64>,
    /// Who has used how much.
    pub(crate) fair: Fair,
    /// How many tasks wait or run.
    pub(crate) open: BTreeMap<Scope, u64>,
    /// What many jobs have the same of.
    pub(crate) common: Common,
    /// Jobs that have ended, by when, and how many tasks they have.
    pub(crate) over: BTreeSet<(Time, u64)>,
    pub(crate) over_tasks: u64,
    /// When the first record of all was written.
    pub(crate) began: Option<Time>,
    pub(crate) alarms: Alarms,
    /// Which jobs wait for one.
    pub(crate) waiters: BTreeMap<u64, BTreeSet<u64>>,
    /// Those that wait for others by name.
    pub(crate) watchers: BTreeSet<u64>,
    /// Those that wait for what will never be, and are not to wait for it.
    pub(crate) hopeless: BTreeSet<u64>,
    /// What was planned last.
    pub(crate) planned: Planned,
}

/// What was planned last: nothing of it is written down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Planned {
    /// Nothing has changed since that makes another plan.
    pub(crate) holds: bool,
    /// What is kept for whom from when on.
    pub(crate) kept: BTreeMap<JobNumber, Time>,
    /// Why the others wait, by number.
    pub(crate) verdicts: Vec<(JobNumber, Plan)>,
    /// The first that does not start.
    pub(crate) head: Option<JobNumber>,
    /// When it is to be planned anew.
    pub(crate) wake_at: Option<Time>,
    /// What the planner keeps in mind.
    pub(crate) memory: Memory,
}

impl Planned {
    fn verdict(&self, job: JobNumber) -> Option<Plan> {
        let at = self
            .verdicts
            .binary_search_by_key(&job, |(number, _)| *number);
        at.ok().map(|at| self.verdicts[at].1)
    }
}

impl Ledger {
    /// Opens a ledger in which nothing is written, for a site that forbids nothing.
    pub fn new(site: Site, order: Order, policy: Policy) -> Self {
        Self::with_rules(site, Rules::default(), order, policy)
    }

    /// Opens one for a site with rules. The same records may be read under other rules
    /// than they were written under: what runs goes on.
    pub fn with_rules(site: Site, rules: Rules, order: Order, policy: Policy) -> Self {
        let licences = || rules.licences.values().copied();
        Self {
            empty: cluster(&site, licences()),
            cluster: cluster(&site, licences()),
            slots: site.slots.iter().cloned().map(Slots::new).collect(),
            fair: Fair::new(&rules),
            rules,
            bookings: BTreeMap::new(),
            booked: Vec::new(),
            closed: BTreeMap::new(),
            closures: Vec::new(),
            partition_states: BTreeMap::new(),
            quotas: BTreeMap::new(),
            unlimited: BTreeSet::new(),
            open: BTreeMap::new(),
            site,
            order,
            policy,
            jobs: Jobs::new(),
            next: 1,
            queue: Queue::new(order),
            common: Common::default(),
            over: BTreeSet::new(),
            over_tasks: 0,
            began: None,
            alarms: Alarms::new(),
            waiters: BTreeMap::new(),
            watchers: BTreeSet::new(),
            hopeless: BTreeSet::new(),
            planned: Planned::default(),
        }
    }

    /// Gives the jobs, by number.
    pub fn jobs(&self) -> &BTreeMap<u64, Box<Job>> {
        &self.jobs
    }

    /// Gives what a task has.
    pub fn allocation(&self, task: TaskId) -> Option<&Running> {
        let its = self.cluster.running().get(&task.number());
        its.map(Box::as_ref)
    }

    /// Gives what the site has.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Gives the rules of the site.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Tells whether jobs start on a node.
    pub fn node_state(&self, name: &str) -> &NodeState {
        self.closed
            .get(name)
            .map_or(&NodeState::Up, |closed| &closed.state)
    }

    /// Says by whom a node was closed, and when; nothing of one that is open.
    pub fn closed(&self, name: &str) -> Option<&Closed> {
        self.closed.get(name)
    }

    /// Gives what is kept for a time, by name.
    pub fn bookings(&self) -> impl Iterator<Item = (&str, &Booking)> {
        let bookings = self.bookings.iter();
        bookings.map(|(name, (booking, _))| (name.as_str(), booking))
    }

    /// Gives all that was ever kept for a time, in the order in which that was said.
    pub fn booked(&self) -> &[Booked] {
        &self.booked
    }

    /// Gives the times for which nodes and partitions were closed to jobs by whoever said so,
    /// the last ten thousand, in the order in which that was said.
    pub fn closures(&self) -> &[Closure] {
        &self.closures
    }

    /// Gives the nodes and what runs on them.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Tells when something happens though nobody does anything.
    pub fn wake_at(&self) -> Option<Time> {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        alarm.into_iter().chain(self.planned.wake_at).min()
    }

    /// Tells how far a task is.
    pub fn state(&self, task: TaskId) -> Option<State> {
        self.jobs.get(&task.job)?.state(task.index)
    }

    /// Tells why a task waits; `None` where it does not.
    pub fn reason(&self, task: TaskId, now: Time) -> Option<Reason> {
        let job = self.jobs.get(&task.job)?;
        if !job.waits(task.index) {
            let its = job.task(task.index)?;
            let rests = its.state == State::Suspended;
            return its.room_for.filter(|_| rests).map(Reason::MadeRoom);
        }
        if let Some(by) = job.held {
            return Some(Reason::Held(by));
        }
        if let (false, Some(begin)) = (job.due, job.asked.begin) {
            return Some(Reason::Begins(begin));
        }
        let index = task.index;
        let asker = Asker { job, index, now };
        let condition = job.asked.submission.after.as_ref();
        match condition.map_or(Verdict::Yes, |c| holds(&self.jobs, c, asker)) {
            Verdict::Wait(_) => return Some(Reason::Depends),
            Verdict::Never => return Some(Reason::DependsInVain),
            Verdict::Yes => {}
        }
        if let Some(partition) = self.shut(&job.asked) {
            return Some(Reason::PartitionClosed(partition.to_owned()));
        }
        if !job.queued.contains(&index) {
            return Some(Reason::AtOnce);
        }
        let (number, planned) = (task.number(), &self.planned);
        match planned.verdict(number) {
            Some(Plan::Limit(quota)) => {
                let mut quotas = self.quotas.iter();
                if let Some((scope, _)) = quotas.find(|(_, number)| **number == quota) {
                    return Some(Reason::Limit(scope.clone()));
                }
            }
            Some(Plan::Closed) => return Some(Reason::NodesClosed),
            _ => {}
        }
        if let Some(at) = planned.kept.get(&number) {
            return Some(Reason::Resources(*at));
        }
        if planned.head != Some(number) {
            return Some(Reason::Turn);
        }
        // For the first nothing is kept where nobody could take it.
        let first = first_start(self.policy, &self.cluster, &self.queue, now);
        let its = first.filter(|kept| kept.job == number);
        Some(its.map_or(Reason::Turn, |kept| Reason::Resources(kept.at)))
    }

    /// Changes what a record says.
    ///
    /// # Panics
    /// When it is no record of this ledger's: one that takes what is not free.
    pub fn apply(&mut self, record: &Record) {
        let at = record.at;
        self.began.get_or_insert(at);
        self.planned.holds &= !record.change.matters();
        match &record.change {
            Change::Submitted(asked) => self.submitted(asked, at),
            Change::Due { job } => {
                self.look_at(*job, None);
                if let Some(its) = self.jobs.get_mut(job) {
                    its.due = true;
                }
                self.offer(*job, at);
            }
            Change::Held { job, by } => {
                self.withdraw(*job);
                if let Some(its) = self.jobs.get_mut(job) {
                    its.hold(*by, at);
                }
            }
            Change::Released { job } => {
                if let Some(its) = self.jobs.get_mut(job) {
                    its.release(at);
                }
                self.offer(*job, at);
            }
            Change::Started {
                task,
                allocation,
                until,
                pins,
            } => {
                self.started(*task, allocation, *until, at);
                self.pin(*task, pins);
            }
            Change::Edited(asked) => self.ask_anew(asked, at),
            Change::Limited { task, until } => self.set_limit(*task, *until, at),
            Change::Up { task } => {
                if let Some(its) = self.task_mut(*task) {
                    its.state = State::Running;
                }
            }
            Change::Suspended { task, by } => self.suspended(*task, *by, at),
            Change::Resuming { task } => self.offer_to_go_on(*task, at),
            Change::Resumed { task, pins } => {
                self.resumed(*task, at);
                self.pin(*task, pins);
            }
            Change::Leaving { task, until } => {
                self.forget_alarms(*task);
                self.cluster.set_ending(task.number());
                if let Some(its) = self.task_mut(*task) {
                    its.leaving = true;
                    its.until = its.until.min(*until);
                    let until = its.until;
                    self.cluster.end_by(task.number(), until);
                    self.alarms.insert((until, Alarm::Limit(*task)));
                }
            }
            Change::Warned { task } => {
                self.alarms
                    .retain(|(_, alarm)| *alarm != Alarm::Warn(*task));
            }
            Change::Stopping { task, why } => {
                self.cluster.set_ending(task.number());
                self.queue.remove(task.number());
                self.forget_alarms(*task);
                if let Some(its) = self.task_mut(*task) {
                    its.state = State::Completing;
                    its.told = Some(*why);
                }
            }
            Change::Ended {
                task,
                end,
                again,
                why,
                cost,
            } => {
                if let Some(its) = self.task_mut(*task) {
                    its.why.clone_from(why);
                    its.cost.clone_from(cost);
                }
                self.ended(*task, *end, *again, at);
            }
            Change::Dropped { job, index, why } => self.dropped(*job, *index, why.as_ref(), at),
            Change::Forgotten { job } => self.forgotten(*job),
            Change::Recalled(past) => self.recalled(past),
            Change::Carried(carried) => self.carried_over(carried, at),
            Change::Node { node, state, by } => self.set_node(node, state, *by, at),
            Change::Booked { name, booking } => {
                self.unbook(name, at);
                self.book(name, booking, at);
                self.stand_anew();
            }
            Change::Unbooked { name } => {
                self.unbook(name, at);
                self.stand_anew();
            }
            Change::Partition { name, state } => {
                self.set_partition(name, *state, at);
            }
        }
    }

    fn submitted(&mut self, asked: &Submitted, at: Time) {
        let job = asked.job;
        self.next = self.next.max(job + 1);
        self.waits_for_others(asked);
        let mut request = Shared::from(self.among(asked));
        let mut asked = asked.clone();
        self.common.share(&mut asked, &mut request);
        let asked = Arc::new(asked);
        let its = Job::new(Arc::clone(&asked), request, at);
        self.count(&asked, u64::from(its.size()), u64::saturating_add);
        let begin = asked.begin.filter(|_| !its.due);
        self.jobs.insert(job, Box::new(its));
        self.look_at(job, begin);
        self.offer(job, at);
    }

    /// Has a job looked at when something happens to those that it waits for, and given up
    /// when it is too late.
    pub(crate) fn waits_for_others(&mut self, asked: &Submitted) {
        let job = asked.job;
        if let Some(condition) = &asked.submission.after {
            let (numbers, by_name) = named(condition);
            for on in numbers {
                self.waiters.entry(on).or_default().insert(job);
            }
            if by_name {
                self.watchers.insert(job);
            }
        }
        if let Some(last) = asked.last_start() {
            self.alarms.insert((last, Alarm::TooLate(job)));
        }
    }

    /// Hides the tasks of a job that wait from the scheduler.
    pub(crate) fn withdraw(&mut self, job: u64) {
        let Some(its) = self.jobs.get_mut(&job) else {
            return;
        };
        for index in std::mem::take(&mut its.queued) {
            its.waiting.insert(index);
            self.queue.remove(TaskId { job, index }.number());
        }
    }

    /// Counts tasks that wait or run where there is a limit to them.
    pub(crate) fn count(&mut self, asked: &Submitted, tasks: u64, change: fn(u64, u64) -> u64) {
        let scopes = self.scopes(asked).into_iter();
        let scopes: Vec<Scope> = scopes
            .filter(|(_, limits)| limits.submitted.is_some())
            .map(|(scope, _)| scope)
            .collect();
        for scope in scopes {
            let open = self.open.entry(scope).or_default();
            *open = change(*open, tasks);
        }
    }

    fn started(&mut self, task: TaskId, allocation: &Allocation, until: Time, at: Time) {
        let number = task.number();
        let queued = self.queue.remove(number);
        let running = Running {
            allocation: allocation.clone(),
            since: at,
            until,
            standing: queued.map(|queued| queued.standing).unwrap_or_default(),
            ending: false,
        };
        self.charge(running.standing.share, allocation, true, at);
        self.cluster.start_as(number, running);
        let Some(job) = self.jobs.get_mut(&task.job) else {
            return;
        };
        job.queued.remove(&task.index);
        job.waiting.remove(&task.index);
        job.active += 1;
        let before = job.tasks.get(&task.index);
        let (starts, lost) = before.map_or((0, 0), |its| (its.starts, its.lost));
        let its = Task {
            starts: starts + 1,
            lost,
            started: Some(at),
            ..Task::new(State::Configuring, until)
        };
        job.tasks.insert(task.index, its);
        self.set_alarms(task, until, at);
        self.offer(task.job, at);
        self.look_again(task.job, at);
    }

    pub(crate) fn set_alarms(&mut self, task: TaskId, until: Time, at: Time) {
        if until == Time::NEVER {
            return;
        }
        self.alarms.insert((until, Alarm::Limit(task)));
        let job = self.jobs.get(&task.job);
        let warning = job.and_then(|job| job.asked.submission.warning);
        if let (Some(warning), Some(its)) = (warning, self.task_mut(task)) {
            let before = u64::try_from(warning.before.as_micros()).unwrap_or(u64::MAX);
            let moment = Time(until.0.saturating_sub(before)).max(at);
            its.warned_at = Some(moment);
            self.alarms.insert((moment, Alarm::Warn(task)));
        }
    }

    pub(crate) fn forget_alarms(&mut self, task: TaskId) {
        let Some(its) = self.task_mut(task) else {
            return;
        };
        let (until, warned_at) = (its.until, its.warned_at.take());
        self.alarms.remove(&(until, Alarm::Limit(task)));
        if let Some(warned_at) = warned_at {
            self.alarms.remove(&(warned_at, Alarm::Warn(task)));
        }
    }

    /// Has a job looked at anew at a moment, or not at all.
    pub(crate) fn look_at(&mut self, job: u64, at: Option<Time>) {
        let Some(its) = self.jobs.get_mut(&job) else {
            return;
        };
        let before = std::mem::replace(&mut its.looked_at, at);
        if let Some(before) = before {
            self.alarms.remove(&(before, Alarm::Due(job)));
        }
        if let Some(at) = at {
            self.alarms.insert((at, Alarm::Due(job)));
        }
    }

    fn ended(&mut self, task: TaskId, end: End, again: bool, at: Time) {
        // One that stands still is not charged anyway.
        if self
            .task_mut(task)
            .is_some_and(|its| its.suspended.is_none())
        {
            self.charge_task(task, false, at);
        }
        self.cluster.end(task.number());
        for slots in &mut self.slots {
            slots.give_back(task.number());
        }
        self.queue.remove(task.number());
        self.forget_alarms(task);
        let Some(job) = self.jobs.get_mut(&task.job) else {
            return;
        };
        let Some(its) = job.tasks.get_mut(&task.index) else {
            return;
        };
        job.active -= 1;
        its.end = Some(end);
        its.ended = Some(at);
        its.state = state_of(end, its.told);
        if again {
            its.lost += u32::from(its.told.is_none());
            job.waiting.insert(task.index);
        } else {
            job.ended += 1;
            job.succeeded += u32::from(its.state == State::Completed);
        }
        self.offer(task.job, at);
        self.look_again(task.job, at);
    }

    fn dropped(&mut self, job: u64, index: Option<u32>, why: Option<&String>, at: Time) {
        let Some(its) = self.jobs.get_mut(&job) else {
            return;
        };
        let all: Vec<u32> = match index {
            Some(index) => vec![index],
            None => its.waiting().collect(),
        };
        for index in all {
            its.waiting.remove(&index);
            if its.queued.remove(&index) {
                self.queue.remove(TaskId { job, index }.number());
            }
            let task = its.tasks.entry(index);
            let task = task.or_insert(Task::new(State::Cancelled, at));
            if let Some(since) = task.ended {
                task.rested(at.since(since));
            }
            (task.state, task.told, task.ended) =
                (State::Cancelled, Some(Why::Cancelled), Some(at));
            task.why = why.cloned();
            its.ended += 1;
        }
        if its.is_over() {
            self.hopeless.remove(&job);
        }
        self.offer(job, at);
        self.look_again(job, at);
    }

    /// Nobody has to tell a job any more what happens to others.
    pub(crate) fn waits_no_more(&mut self, job: u64, condition: &Condition) {
        for on in named(condition).0 {
            if let Some(waiters) = self.waiters.get_mut(&on) {
                waiters.remove(&job);
                if waiters.is_empty() {
                    self.waiters.remove(&on);
                }
            }
        }
        self.watchers.remove(&job);
    }

    pub(crate) fn task_mut(&mut self, task: TaskId) -> Option<&mut Task> {
        self.jobs.get_mut(&task.job)?.tasks.get_mut(&task.index)
    }

    /// Looks at those that wait for a job, to which something has happened.
    pub(crate) fn look_again(&mut self, job: u64, at: Time) {
        let waiters = self.waiters.get(&job).into_iter().flatten();
        let all: BTreeSet<u64> = waiters.chain(&self.watchers).copied().collect();
        for waiter in all {
            if waiter != job {
                self.offer(waiter, at);
            }
        }
    }

    /// Lets the scheduler see tasks of a job, as many as it should.
    pub(crate) fn offer(&mut self, number: u64, at: Time) {
        let Some(job) = self.jobs.get(&number) else {
            return;
        };
        if job.is_over() {
            if let Some(last) = job.asked.last_start() {
                self.alarms.remove(&(last, Alarm::TooLate(number)));
            }
            if job.counted {
                let (asked, tasks) = (Arc::clone(&job.asked), u64::from(job.size()));
                self.count(&asked, tasks, u64::saturating_sub);
                self.is_over_now(number, at);
            }
            if let Some(job) = self.jobs.get_mut(&number) {
                job.counted = false;
            }
            let Some(job) = self.jobs.get(&number) else {
                return;
            };
            if let Some(condition) = job.asked.submission.after.clone() {
                self.waits_no_more(number, &condition);
            }
            self.look_at(number, None);
            return;
        }
        if job.held.is_some() || !job.due || self.shut(&job.asked).is_some() {
            return;
        }
        let array = job.asked.submission.array.as_ref();
        let at_once = array.and_then(|array| array.at_once);
        let at_once = at_once.map_or(usize::MAX, |at_once| at_once.max(1) as usize);
        let room = at_once.saturating_sub(job.active as usize).min(WINDOW);
        let room = room.saturating_sub(job.queued.len());
        let (mut offered, mut when) = (Vec::new(), None);
        let mut hopeless = false;
        let condition = job.asked.submission.after.as_ref();
        for &index in &job.waiting {
            if offered.len() == room {
                break;
            }
            let asker = Asker {
                job,
                index,
                now: at,
            };
            match condition.map_or(Verdict::Yes, |c| holds(&self.jobs, c, asker)) {
                Verdict::Yes => {
                    offered.push(index);
                    continue;
                }
                Verdict::Wait(then) => when = then,
                Verdict::Never => hopeless = true,
            }
            // For the others it is the same.
            if !condition.is_some_and(is_by_index) {
                break;
            }
        }
        // PBS does not keep what can never start; the others wait for somebody to see it.
        if hopeless && job.asked.submission.dialect == Dialect::Pbs {
            self.hopeless.insert(number);
        }
        self.look_at(number, when);
        if offered.is_empty() {
            return;
        }
        let Some(asked) = self.jobs.get(&number).map(|job| Arc::clone(&job.asked)) else {
            return;
        };
        let standing = self.standing(&asked);
        let Some(job) = self.jobs.get_mut(&number) else {
            return;
        };
        for index in offered {
            job.waiting.remove(&index);
            job.queued.insert(index);
            let task = TaskId { job: number, index };
            let request = job.request.clone().into();
            self.queue.insert(Queued {
                job: task.number(),
                submitted: job.submitted,
                limit: asked.limit,
                least: asked
                    .submission
                    .least_time
                    .filter(|least| *least < asked.limit),
                request,
                standing: standing.clone(),
            });
        }
    }
}
