//! What events mean: who may do what, and what follows.

use std::sync::Arc;
use std::time::Duration;

use hyperion_model::errand::Outcome;
use hyperion_model::submission::Submission;
use hyperion_sched::{Arrangement, Preemption, Queued, Standing, Start, Time, has_room, plan_on};

use crate::alarm::Alarm;
use crate::condition::named;
use crate::event::{Event, Refusal, Who};
use crate::grounds::{Grounds, RulesError};
use crate::job::Job;
use crate::ledger::Ledger;
use crate::record::{Change, Record, Submitted};
use crate::rules::{NodeState, Preempted, Qos};
use crate::state::{End, Holder, State, TaskId, Why};

/// How many steps a round of planning may take: some hundredths of a second.
const EFFORT: u64 = 2_000_000;
/// A task of which nobody knew so often how it had ended is not started again: Slurm's
/// `max_batch_requeue`.
const MOST_LOST: u32 = 5;

impl Ledger {
    /// Says what an event changes, and changes it.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed.
    pub fn step(&mut self, now: Time, event: Event) -> Result<Vec<Record>, Refusal> {
        let mut pen = Pen::new(self, now);
        match event {
            Event::Submit {
                who,
                submission,
                begin,
                deadline,
            } => {
                let asked = pen.ledger.taken(who, *submission, (begin, deadline))?;
                let from = begin.map_or(now, |begin| begin.max(now));
                if asked.last_start().is_some_and(|last| last < from) {
                    return Err(Refusal::TooLate);
                }
                pen.write(Change::Submitted(Box::new(asked)));
            }
            Event::Hold(who, job) => {
                let its = pen.ledger.owned(who, job)?;
                if its.waiting().next().is_none() {
                    return Err(its.refused());
                }
                pen.hold(who, job)?;
            }
            Event::Release(who, job) => {
                let its = pen.ledger.owned(who, job)?;
                match its.held {
                    Some(Holder::Operator) if !who.operator => {
                        return Err(Refusal::HeldByOperator(job));
                    }
                    Some(_) => pen.write(Change::Released { job }),
                    None if its.is_over() => return Err(its.refused()),
                    None => {}
                }
            }
            Event::Edit(who, job, index, edits) => {
                let changes = pen.ledger.edited(who, (job, index), &edits, now)?;
                changes.into_iter().for_each(|change| pen.write(change));
            }
            Event::Cancel(who, job, index) => pen.cancel(who, job, index)?,
            Event::Requeue(who, task) => {
                pen.ledger.running(who, task, may_be_stopped)?;
                pen.stop(task, Why::Requeued);
            }
            Event::RequeueHold(who, job) => {
                let its = pen.ledger.owned(who, job)?;
                let running = its
                    .tasks
                    .iter()
                    .filter(|(_, its)| may_be_stopped(its.state));
                let running: Vec<u32> = running.map(|(index, _)| *index).collect();
                if running.is_empty() {
                    return Err(its.refused());
                }
                for index in running {
                    pen.stop(TaskId { job, index }, Why::Requeued);
                }
                pen.hold(who, job)?;
            }
            Event::Suspend(who, task) => {
                pen.ledger.running(who, task, |s| s == State::Running)?;
                pen.write(Change::Suspended { task, by: None });
            }
            Event::Resume(who, task) => {
                pen.ledger.running(who, task, |s| s == State::Suspended)?;
                // One that makes room for another goes on by itself.
                if pen.ledger.queue.get(task.number()).is_none() {
                    pen.write(Change::Resuming { task });
                }
            }
            Event::Up(task) => {
                if pen.ledger.state(task) == Some(State::Configuring) {
                    pen.write(Change::Up { task });
                }
            }
            Event::Over(task, end) => {
                let (why, cost) = (None, None);
                pen.over(task, Outcome { end, why, cost });
            }
            Event::Ended(task, outcome) => pen.over(task, *outcome),
            Event::Node(who, node, state) => {
                only_operator(who)?;
                pen.node(who, node, state)?;
            }
            Event::Book(who, name, booking) => {
                only_operator(who)?;
                let site = &pen.ledger.site;
                if let Some(node) = booking.nodes.iter().find(|node| site.node(node).is_none()) {
                    return Err(RulesError::NoNode(node.clone()).into());
                }
                pen.write(Change::Booked { name, booking });
            }
            Event::Unbook(who, name) => {
                only_operator(who)?;
                if !pen.ledger.bookings.contains_key(&name) {
                    return Err(RulesError::NoReservation(name).into());
                }
                pen.write(Change::Unbooked { name });
            }
            Event::Partition(who, name, state) => {
                only_operator(who)?;
                if !pen.ledger.rules.partitions.contains_key(&name) {
                    return Err(RulesError::NoPartition(name).into());
                }
                if pen.ledger.partition_state(&name) != state {
                    pen.write(Change::Partition { name, state });
                }
            }
            Event::Forget(job) => {
                let its = pen.ledger.jobs.get(&job).filter(|its| its.is_over());
                if its.is_some_and(|its| !pen.ledger.is_waited_for(its)) {
                    pen.write(Change::Forgotten { job });
                }
            }
            Event::Recall(past) => {
                if !pen.ledger.jobs.contains_key(&past.asked.job) {
                    pen.write(Change::Recalled(past));
                }
            }
            Event::Tick => pen.tick(),
        }
        Ok(pen.done())
    }

    /// Starts what can start now, by the policy.
    ///
    /// It looks only so far in one call. Where that was not far enough
    /// [`Ledger::wake_at`] is now: the next call goes on there. Where nothing has changed
    /// since the last call nothing is looked at.
    pub fn schedule(&mut self, now: Time) -> Vec<Record> {
        let woken = self.planned.wake_at.is_some_and(|wake_at| wake_at <= now);
        if self.planned.holds && !woken && !self.order.changes() {
            return Vec::new();
        }
        let mut pen = Pen::new(self, now);
        loop {
            let (plan, more, preemptions) = pen.ledger.plan(now);
            let mut short = false;
            for start in plan {
                let task = TaskId::of(start.job);
                // Too few only where the site has fewer than when others were started.
                let Some(pins) = pen.ledger.choose(&start.allocation) else {
                    short = true;
                    continue;
                };
                pen.write(match pen.ledger.state(task) {
                    Some(State::Suspended) => Change::Resumed { task, pins },
                    _ => Change::Started {
                        until: pen.ledger.ends_by(task, start.until),
                        task,
                        allocation: start.allocation,
                        pins,
                    },
                });
            }
            // More tasks of an array may be seen then.
            let offered = pen.ledger.queue.len() > more;
            let made = pen.make_room(&preemptions);
            let is_cut_short = pen.ledger.planned.wake_at == Some(now);
            let again = !short && (offered || made == Room::Now);
            if !again || is_cut_short {
                pen.ledger.planned.holds = made != Room::NotYet;
                return pen.done();
            }
        }
    }

    /// Plans one round; gives what starts, how many wait when it has, and who makes room.
    fn plan(&mut self, now: Time) -> (Vec<Start>, usize, Vec<Preemption>) {
        self.set_due(now);
        let (cluster, queue) = (&self.cluster, &self.queue);
        let memory = &mut self.planned.memory;
        let plan = plan_on(self.policy, cluster, queue, now, memory, EFFORT);
        let kept = plan.reservations.iter();
        self.planned.kept = kept.map(|kept| (kept.job, kept.at)).collect();
        self.planned.verdicts = plan.verdicts.into_vec();
        self.planned.head = plan.head;
        self.planned.wake_at = match plan.unfinished {
            true => Some(now),
            false => plan.wake_at,
        };
        let left = self.queue.len() - plan.starts.len();
        (plan.starts.into_vec(), left, plan.preemptions)
    }

    /// Gives when a task that starts is told to end: by its deadline, too.
    pub(crate) fn ends_by(&self, task: TaskId, until: Time) -> Time {
        let job = self.jobs.get(&task.job);
        let deadline = job.and_then(|job| job.asked.deadline);
        deadline.map_or(until, |deadline| deadline.min(until))
    }

    /// Says what is due to whom, where that counts.
    pub(crate) fn set_due(&mut self, now: Time) {
        if let Some(due) = self.due(now) {
            self.queue.set_due(due);
        }
    }

    /// Takes what a submission asks.
    pub(crate) fn taken(
        &mut self,
        who: Who,
        mut submission: Submission,
        (begin, deadline): (Option<Time>, Option<Time>),
    ) -> Result<Submitted, Refusal> {
        if !who.operator {
            submission.give_way();
        }
        if let Some(condition) = &submission.after {
            let (numbers, _) = named(condition);
            if let Some(&unknown) = numbers.iter().find(|on| !self.jobs.contains_key(on)) {
                return Err(Refusal::DependsOnUnknown(unknown));
            }
        }
        let asked = self.settled(who, self.next, submission, (begin, deadline))?;
        self.has_room_for(&asked, None)?;
        self.fits(asked)
    }

    /// Settles where a submission goes, and what it takes there.
    pub(crate) fn settled(
        &self,
        who: Who,
        job: u64,
        submission: Submission,
        (begin, deadline): (Option<Time>, Option<Time>),
    ) -> Result<Submitted, Refusal> {
        let Grounds { partition, limit } = self.grounds(who, &submission)?;
        let its = partition
            .as_ref()
            .and_then(|name| self.rules.partitions.get(name));
        let mut request = self.site.request(&submission, &self.rules.licences)?;
        if its.is_some_and(|partition| partition.max_nodes == Some(1)) && request.others.is_empty()
        {
            request.arrangement = Arrangement::Together;
        }
        if its.is_some_and(|partition| partition.exclusive) {
            request.exclusive = true;
            request
                .others
                .iter_mut()
                .for_each(|other| other.exclusive = true);
        }
        Ok(Submitted {
            job,
            user: who.user,
            submission,
            request: request.into(),
            limit,
            begin,
            deadline,
            partition,
        })
    }

    /// Looks whether the nodes have so much when nothing runs.
    pub(crate) fn fits(&mut self, asked: Submitted) -> Result<Submitted, Refusal> {
        let task = TaskId {
            job: asked.job,
            index: 0,
        };
        let alone = Queued {
            job: task.number(),
            submitted: Time(0),
            limit: asked.limit,
            least: None,
            request: Arc::new(self.among(&asked)),
            standing: Standing::default(),
        };
        match has_room(&self.empty, &alone) {
            true => Ok(asked),
            false => Err(Refusal::NeverFits),
        }
    }

    /// Gives a job that somebody may touch.
    pub(crate) fn owned(&self, who: Who, job: u64) -> Result<&Job, Refusal> {
        let its = self.jobs.get(&job).ok_or(Refusal::Unknown(job))?;
        match who.operator || its.asked.user == who.user {
            true => Ok(its),
            false => Err(Refusal::NotYours(job)),
        }
    }

    /// Looks whether somebody may touch a task, and whether it is in a state for that.
    fn running(&self, who: Who, task: TaskId, fits: impl Fn(State) -> bool) -> Result<(), Refusal> {
        let state = self.owned(who, task.job)?.state(task.index);
        match state.ok_or(Refusal::NoTask(task))? {
            state if fits(state) => Ok(()),
            state => Err(Refusal::Not {
                job: task.job,
                state,
            }),
        }
    }
}

fn may_be_stopped(state: State) -> bool {
    state.is_active() && state != State::Completing
}

fn only_operator(who: Who) -> Result<(), Refusal> {
    match who.operator {
        true => Ok(()),
        false => Err(Refusal::NotOperator),
    }
}

impl Job {
    pub(crate) fn refused(&self) -> Refusal {
        let last = self.tasks.last_key_value();
        Refusal::Not {
            job: self.asked.job,
            state: last.map_or(State::Pending, |(_, task)| task.state),
        }
    }
}

/// When there is room for who was to have some.
#[derive(PartialEq)]
enum Room {
    /// At once.
    Now,
    /// When others have ended.
    Later,
    /// Others are to be asked again.
    NotYet,
}

/// Writes records into a ledger, at one moment.
struct Pen<'a> {
    ledger: &'a mut Ledger,
    now: Time,
    records: Vec<Record>,
}

impl<'a> Pen<'a> {
    fn new(ledger: &'a mut Ledger, now: Time) -> Self {
        Self {
            ledger,
            now,
            records: Vec::new(),
        }
    }

    fn write(&mut self, change: Change) {
        let at = self.now;
        let record = Record { at, change };
        self.ledger.apply(&record);
        self.records.push(record);
    }

    fn done(mut self) -> Vec<Record> {
        while let Some(job) = self.ledger.hopeless.pop_first() {
            let (index, why) = (None, None);
            self.write(Change::Dropped { job, index, why });
        }
        self.records
    }

    /// Keeps what waits of a job, or will, from starting.
    fn hold(&mut self, who: Who, job: u64) -> Result<(), Refusal> {
        let its = self.ledger.owned(who, job)?;
        let by = match who.operator && its.asked.user != who.user {
            true => Holder::Operator,
            false => Holder::User,
        };
        if its.held < Some(by) {
            self.write(Change::Held { job, by });
        }
        Ok(())
    }

    fn cancel(&mut self, who: Who, job: u64, index: Option<u32>) -> Result<(), Refusal> {
        let its = self.ledger.owned(who, job)?;
        let wanted = |at: u32| index.is_none_or(|index| index == at);
        if let Some(index) = index
            && its.state(index).is_none()
        {
            return Err(Refusal::NoTask(TaskId { job, index }));
        }
        let waits = its.waiting().any(wanted);
        let active = its.tasks.iter().filter(|(at, task)| {
            wanted(**at) && task.state.is_active() && task.told != Some(Why::Cancelled)
        });
        let active: Vec<u32> = active.map(|(at, _)| *at).collect();
        if !waits && active.is_empty() && its.active == 0 {
            return Err(its.refused());
        }
        if waits {
            let why = None;
            self.write(Change::Dropped { job, index, why });
        }
        for index in active {
            self.stop(TaskId { job, index }, Why::Cancelled);
        }
        Ok(())
    }

    fn node(&mut self, who: Who, node: String, state: NodeState) -> Result<(), Refusal> {
        let number = self.ledger.site.node(&node);
        let number = number.ok_or_else(|| RulesError::NoNode(node.clone()))?;
        let is_down = matches!(state, NodeState::Down(_));
        if *self.ledger.node_state(&node) != state {
            let by = Some(who.user);
            self.write(Change::Node { node, state, by });
        }
        if !is_down {
            return Ok(());
        }
        let running = self.ledger.cluster.running().iter();
        let there = running.filter(|(_, its)| its.allocation.iter().any(|p| p.node == number));
        let tasks: Vec<TaskId> = there.map(|(job, _)| TaskId::of(*job)).collect();
        for task in tasks {
            let told = self
                .ledger
                .jobs
                .get(&task.job)
                .and_then(|job| job.task(task.index)?.told);
            if told.is_none() {
                self.stop(task, Why::NodeDown);
            }
        }
        Ok(())
    }

    /// Tells whether a job that makes room for another does not wait again.
    fn is_cancelled(&self, job: &Job) -> bool {
        let qos = self.qos(job);
        qos.is_some_and(|qos| qos.preempted == Some(Preempted::Cancel))
    }

    /// Has tasks make room for another.
    fn make_room(&mut self, preemptions: &[Preemption]) -> Room {
        let configuring = |gone: &Preemption| {
            let state = self.ledger.state(TaskId::of(gone.job));
            gone.rests && state == Some(State::Configuring)
        };
        // What is on its way up does not hear that it is to stand still.
        if preemptions.iter().any(configuring) {
            return Room::NotYet;
        }
        // As long as others are on their way out, the room is not there yet, and whoever stood
        // still for it would go on at once.
        let mut running = self.ledger.cluster.running().values();
        let waits = running.any(|its| its.ending) || preemptions.iter().any(|gone| !gone.rests);
        let mut room = Room::Later;
        for gone in preemptions {
            let task = TaskId::of(gone.job);
            if gone.rests && waits {
                continue;
            }
            if gone.rests {
                let by = Some(TaskId::of(gone.by).job);
                self.write(Change::Suspended { task, by });
                room = Room::Now;
                continue;
            }
            let job = self.ledger.jobs.get(&task.job);
            match job
                .and_then(|job| self.qos(job))
                .map(|its| its.grace_seconds)
            {
                None | Some(0) => self.stop(task, Why::Preempted),
                Some(grace) => {
                    let until = self.now + Duration::from_secs(grace);
                    self.write(Change::Leaving { task, until });
                }
            }
        }
        room
    }

    /// Gives the quality of service of a job.
    fn qos(&self, job: &Job) -> Option<&Qos> {
        let name = job.asked.submission.qos.as_ref()?;
        self.ledger.rules.qos.get(name)
    }

    fn stop(&mut self, task: TaskId, why: Why) {
        self.write(Change::Stopping { task, why });
    }

    fn over(&mut self, task: TaskId, outcome: Outcome) {
        let Outcome { end, why, cost } = outcome;
        let Some(job) = self.ledger.jobs.get(&task.job) else {
            return;
        };
        let Some(its) = job
            .tasks
            .get(&task.index)
            .filter(|its| its.state.is_active())
        else {
            return;
        };
        let again = match (its.told, end) {
            (Some(Why::Requeued), _) => true,
            (Some(Why::Cancelled | Why::TimeLimit), _) => false,
            (Some(Why::Preempted), _) if self.is_cancelled(job) => false,
            (Some(Why::Preempted | Why::NodeDown), _) => job.may_start_again(),
            // It may be its own doing: a script can kill what looks after it.
            (None, End::Lost) => its.lost < MOST_LOST && job.may_start_again(),
            (None, _) => false,
        };
        self.write(Change::Ended {
            task,
            end,
            again,
            why,
            cost: cost.map(Box::new),
        });
    }

    /// Lets happen what time has brought.
    fn tick(&mut self) {
        while let Some(&(at, alarm)) = self.ledger.alarms.first() {
            if at > self.now {
                return;
            }
            match alarm {
                Alarm::Due(job) => self.write(Change::Due { job }),
                Alarm::TooLate(job) => {
                    let its = self.ledger.jobs.get(&job);
                    if its.is_some_and(|its| its.waiting().next().is_some()) {
                        let why = Some("it could not end by its deadline any more".into());
                        let index = None;
                        self.write(Change::Dropped { job, index, why });
                    }
                }
                Alarm::Warn(task) => self.write(Change::Warned { task }),
                Alarm::Limit(task) => {
                    let job = self.ledger.jobs.get(&task.job);
                    let its = job.and_then(|job| job.task(task.index));
                    let why = match its.is_some_and(|its| its.leaving) {
                        true => Why::Preempted,
                        false => Why::TimeLimit,
                    };
                    self.stop(task, why);
                }
            }
            // What was written has taken it away; it never rings twice.
            self.ledger.alarms.remove(&(at, alarm));
        }
    }
}
