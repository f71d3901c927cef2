//! What clients are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use hyperion_api::queue::{
    AccountView, ClosureView, Filter, JobView, NodeView, PartitionView, QosView, ReservationView,
    RulesView, ShareView, Terms, Waits,
};
use hyperion_lifecycle::{
    Booked, Closure, Hold, Holder, Job, Ledger, NodeState, Partition, Preempted, Reason, ShareOf,
    Shut, State, Submitted, Task, TaskId, Time, Who,
};
use hyperion_model::errand::Step;
use hyperion_model::indices;
use hyperion_model::submission::{Command, Part, Submission};
use hyperion_model::{Bytes, Cores, CpuSet, JobId};
use hyperion_sched::{Amounts, CORES, MEMORY, Node, NodeNumber};

use crate::clients::Audience;
use crate::dispatch::{devices_of, id_of, queue_of, tasks_of};
use crate::turn::Account;

/// What somebody may know of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Everything.
    All,
    /// That it is there: whose it is, what it takes, how far it is.
    Line,
    /// Not even that.
    Nothing,
}

/// Stands for users of whom who looks may not hear.
const OTHERS: &str = "(others)";

/// Gives minutes as a span.
fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60))
}

impl Audience {
    /// Tells what somebody may know of a job.
    pub(crate) fn sight(&self, who: Who, job: &Job) -> Sight {
        match who.operator || who.user == job.asked.user {
            true => Sight::All,
            false if self.private => Sight::Nothing,
            false => Sight::Line,
        }
    }
}

/// Makes what clients are shown of a ledger.
#[derive(Debug)]
pub(crate) struct Viewer<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) now: Time,
    /// Who looks.
    pub(crate) who: Who,
    pub(crate) audience: &'a Audience,
    pub(crate) account: fn(u32) -> Option<Account>,
    pub(crate) origin: u64,
    /// The records in which starts run that have none of their own.
    pub(crate) within: &'a BTreeMap<JobId, JobId>,
    /// Steps of starts that have not ended.
    pub(crate) steps: &'a BTreeMap<JobId, Vec<Step>>,
    /// The names of users, as far as they were looked up.
    pub(crate) users: &'a mut BTreeMap<u32, String>,
}

impl Viewer<'_> {
    /// Gives the jobs that are wanted and in mind, by number, of those below a number.
    pub(crate) fn jobs(&mut self, filter: &Filter, below: u64) -> Vec<JobView> {
        let mut views = Vec::new();
        let ledger = self.ledger;
        if filter.jobs.is_empty() {
            for (&number, job) in ledger.jobs().range(filter.from..below) {
                self.job(number, job, filter, &mut views);
            }
        } else {
            for &number in BTreeSet::from_iter(&filter.jobs) {
                if let Some(job) = ledger.jobs().get(&number) {
                    self.job(number, job, filter, &mut views);
                }
            }
        }
        views
    }

    /// Tells whether who looks may know that a job is there.
    pub(crate) fn sees(&self, job: u64) -> bool {
        let job = self.ledger.jobs().get(&job);
        job.is_some_and(|job| self.audience.sight(self.who, job) != Sight::Nothing)
    }

    pub(crate) fn job(
        &mut self,
        number: u64,
        job: &Job,
        filter: &Filter,
        views: &mut Vec<JobView>,
    ) {
        if filter.user.is_some_and(|user| user != job.asked.user) {
            return;
        }
        let sight = self.audience.sight(self.who, job);
        if sight == Sight::Nothing {
            return;
        }
        let before = views.len();
        let of_array = job.asked.submission.array.is_some();
        for (&index, task) in job.tasks() {
            let over = task.state.is_end();
            // One that waits again is shown among those that wait.
            if job.state(index) != Some(task.state) || !wanted(filter, over) {
                continue;
            }
            let id = TaskId { job: number, index };
            let text = of_array.then(|| index.to_string());
            views.push(self.started(id, job, task, text));
        }
        let waiting: Vec<u32> = job.waiting().collect();
        if let (Some(&first), true) = (waiting.first(), wanted(filter, false)) {
            let task = TaskId {
                job: number,
                index: first,
            };
            let array = job.asked.submission.array.as_ref();
            let text = array.map(|array| {
                let mut text = indices::ranges(&waiting);
                if let Some(at_once) = array.at_once {
                    let _ = write!(text, "%{at_once}");
                }
                text
            });
            let state = job.state(first).unwrap_or(State::Pending);
            let mut view = self.plain(task, job, text, state);
            view.starts = job.task(first).map_or(0, |task| task.starts);
            view.reason = self.ledger.reason(task, self.now).map(waits);
            let priority = self.ledger.priority(task, self.now);
            // Rounded, and within what it can be.
            view.terms.priority = priority.map(|its| its.total().round() as u32);
            views.push(view);
        }
        if sight != Sight::All {
            for view in views.iter_mut().skip(before) {
                view.folder.clear();
                (view.comment, view.why, view.id) = (None, None, None);
                view.command = None;
                view.terms = Terms {
                    priority: view.terms.priority,
                    ..Terms::default()
                };
            }
        }
    }

    fn started(&mut self, id: TaskId, job: &Job, task: &Task, index: Option<String>) -> JobView {
        let mut view = self.plain(id, job, index, task.state);
        view.starts = task.starts;
        view.started = task.started.map(|at| at.0);
        // It may have been given less than it asked for, or more or less since.
        if let Some(at) = task.started.filter(|_| !task.leaving) {
            let given = task.until.since(at).saturating_sub(task.still);
            view.limit = (task.until != Time::NEVER).then_some(given);
        }
        view.ended = task.ended.map(|at| at.0);
        view.still = task.ended.map_or(Duration::ZERO, |_| task.stood_still());
        view.end = task.end;
        view.why.clone_from(&task.why);
        view.reason = self.ledger.reason(id, self.now).map(waits);
        view.cost = task.cost.as_deref().cloned();
        if let Some(running) = self.ledger.allocation(id) {
            let nodes = self.ledger.cluster().nodes();
            let parts = running.allocation.iter();
            view.hosts = parts
                .filter_map(|part| nodes.get(part.node.0 as usize))
                .map(|node| node.name.clone())
                .collect();
            view.nodes = running.allocation.len() as u32;
            let pins = self.ledger.pins(id, NodeNumber(0));
            let pins = pins.filter(|pins| !pins.cores.is_empty());
            view.cpus = pins.map(|pins| CpuSet(pins.cores.clone()));
            view.devices = devices_of(self.ledger, id, true);
            let own = id_of(self.origin, id, task.starts);
            view.steps = self.steps.get(&own).cloned().unwrap_or_default();
            view.id = Some(self.within.get(&own).unwrap_or(&own).to_string());
        } else if let ([node], Some(_)) = (self.ledger.cluster().nodes(), task.started) {
            // Where it ran is not kept; there is but one.
            view.hosts = vec![node.name.clone()];
        }
        view
    }

    fn plain(&mut self, id: TaskId, job: &Job, index: Option<String>, state: State) -> JobView {
        let asked = &job.asked;
        let submission = &asked.submission;
        let part = submission.parts.first();
        let sum = |kind| sum(asked, kind);
        JobView {
            job: id.job,
            index,
            name: submission.name.clone().unwrap_or_else(|| "job".into()),
            user: self.user(asked.user),
            uid: asked.user,
            dialect: submission.dialect,
            account: submission.account.clone(),
            queue: queue_of(asked),
            level: submission.fence.level,
            state,
            reason: None,
            submitted: job.submitted.0,
            started: None,
            ended: None,
            still: Duration::ZERO,
            limit: (asked.limit != Duration::MAX).then_some(asked.limit),
            starts: 0,
            tasks: part.map_or(1, tasks_of),
            nodes: part
                .and_then(|part| part.nodes)
                .map_or(1, |nodes| nodes.least),
            hosts: Vec::new(),
            cores: Cores(sum(CORES)),
            memory: Bytes(sum(MEMORY)),
            cpus: None,
            asks: {
                let kinds = self.ledger.site().kinds.iter().zip(2..);
                let asked = kinds.map(|(name, kind)| (name.clone(), sum(kind)));
                asked.filter(|(_, count)| *count > 0).collect()
            },
            devices: BTreeMap::new(),
            end: None,
            why: None,
            cost: None,
            script: !matches!(submission.command, Command::Room { .. }),
            steps: Vec::new(),
            command: command_of(submission),
            folder: submission.origin.folder.clone(),
            qos: submission.qos.clone(),
            files: (
                submission.files.output.path.clone(),
                submission.files.error.path.clone(),
            ),
            comment: submission.comment.clone(),
            id: None,
            terms: terms(job),
        }
    }

    /// Gives the name of a user, as the host knows it.
    fn user(&mut self, number: u32) -> String {
        let look = || {
            let account = (self.account)(number);
            account.map_or_else(|| number.to_string(), |account| account.name)
        };
        self.users.entry(number).or_insert_with(look).clone()
    }

    /// Gives what everybody is promised and has used.
    pub(crate) fn shares(&mut self) -> Vec<ShareView> {
        let shares = self.ledger.shares(self.now);
        let outermost = |its: &&ShareOf| its.accounts.len() + usize::from(its.user.is_some()) == 1;
        let all: f64 = shares.iter().filter(outermost).map(|its| its.used).sum();
        let mut shares = shares;
        shares.retain(|its| its.user.is_none_or(|user| self.may_name(user)));
        let shares = shares.into_iter();
        let of = |its: ShareOf| ShareView {
            user: its.user.map(|user| self.user(user)),
            shares: its.part,
            promised: its.part as f64 / its.parts.max(1) as f64,
            used: its.used,
            used_of_all: if all > 0.0 { its.used / all } else { 0.0 },
            fair_share: its.due,
            accounts: its.accounts,
        };
        shares.map(of).collect()
    }

    /// Gives what the site says of accounts and qualities of service.
    pub(crate) fn rules(&mut self) -> RulesView {
        let rules = self.ledger.rules();
        let accounts = rules.accounts.iter().map(|(name, its)| AccountView {
            name: name.clone(),
            parent: its.parent.clone(),
            shares: its.shares,
            users: {
                let users = its.users.iter().filter(|(user, _)| self.may_name(**user));
                let users: Vec<(u32, u64)> = users.map(|(user, part)| (*user, *part)).collect();
                let named = users
                    .into_iter()
                    .map(|(user, part)| (self.user(user), part));
                named.collect()
            },
        });
        let accounts = accounts.collect();
        let qos = rules.qos.iter().map(|(name, its)| QosView {
            name: name.clone(),
            priority: its.priority,
            preempted: its.preempted.map(|how| {
                let word = match how {
                    Preempted::Requeue => "requeue",
                    Preempted::Cancel => "cancel",
                    Preempted::Suspend => "suspend",
                };
                word.to_owned()
            }),
            grace: Duration::from_secs(its.grace_seconds),
            limit: its.max_minutes.map(minutes),
            tasks: (its.limits.running, its.limits.submitted),
            each_user: (its.each_user.running, its.each_user.submitted),
            cores: (its.limits.cores, its.each_user.cores),
        });
        RulesView {
            accounts,
            qos: qos.collect(),
        }
    }

    /// Tells whether who looks may hear of a user.
    fn may_name(&self, user: u32) -> bool {
        !self.audience.private || self.who.operator || user == self.who.user
    }

    /// Gives what is kept and not over, by name.
    pub(crate) fn reservations(&mut self) -> Vec<ReservationView> {
        let (ledger, now) = (self.ledger, self.now);
        let is_kept = |its: &&Booked| its.gone.is_none() && its.booking.until > now;
        let mut left: Vec<&Booked> = ledger.booked().iter().filter(is_kept).collect();
        left.sort_by_key(|its| &its.name);
        left.into_iter().map(|its| self.reservation(its)).collect()
    }

    /// Gives all that is or was kept, in the order in which that was said.
    pub(crate) fn past_reservations(&mut self) -> Vec<ReservationView> {
        let all = self.ledger.booked().iter();
        all.map(|its| self.reservation(its)).collect()
    }

    /// Gives when nodes and partitions were closed, in the order in which that was said.
    pub(crate) fn closures(&self) -> Vec<ClosureView> {
        let of = |its: &Closure| {
            let (name, partition, down) = match &its.of {
                Shut::Node(name, state) => (name, false, matches!(state, NodeState::Down(_))),
                Shut::Partition(name, _) => (name, true, false),
            };
            ClosureView {
                name: name.clone(),
                partition,
                down,
                from: its.from.0,
                until: its.until.map(|at| at.0),
            }
        };
        self.ledger.closures().iter().map(of).collect()
    }

    fn reservation(&mut self, booked: &Booked) -> ReservationView {
        let its = &booked.booking;
        let is_kept = |node: &&Node| its.nodes.is_empty() || its.nodes.contains(&node.name);
        let nodes = self.ledger.cluster().nodes().iter();
        let kept: Vec<&Node> = nodes.filter(is_kept).collect();
        ReservationView {
            name: booked.name.clone(),
            from: its.from.0,
            until: its.until.0,
            cores: Cores(kept.iter().map(|node| node.capacity.of(CORES)).sum()),
            nodes: kept.iter().map(|node| node.name.clone()).collect(),
            users: {
                let users = its.users.iter().copied();
                let seen: Vec<u32> = users.filter(|user| self.may_name(*user)).collect();
                let named = seen.into_iter().map(|user| self.user(user));
                // Whom it is for others need not know, but that it is for somebody.
                let named: Vec<String> = named.collect();
                match named.is_empty() && !its.users.is_empty() {
                    true => vec![OTHERS.into()],
                    false => named,
                }
            },
            accounts: its.accounts.iter().cloned().collect(),
            made: booked.made.0,
            gone: booked.gone.map(|at| at.0),
        }
    }

    /// Gives the partitions, by name.
    pub(crate) fn partitions(&self) -> Vec<PartitionView> {
        let nodes = self.nodes();
        let partitions = &self.ledger.rules().partitions;
        if partitions.is_empty() {
            return vec![PartitionView::named(PartitionView::ONLY, &nodes)];
        }
        let of = |(name, its): (&String, &Partition)| {
            let state = self.ledger.partition_state(name);
            let in_it = |node: &&NodeView| its.nodes.is_empty() || its.nodes.contains(&node.name);
            PartitionView {
                name: name.clone(),
                default: its.default,
                takes: state.takes(),
                starts: state.starts(),
                nodes: nodes.iter().filter(in_it).map(|n| n.name.clone()).collect(),
                limit: its.max_minutes.map(minutes),
                usual_limit: its.default_minutes.map(minutes),
                most_nodes: its.max_nodes,
                priority: its.priority,
                exclusive: its.exclusive,
            }
        };
        partitions.iter().map(of).collect()
    }

    /// Gives the nodes, by number.
    pub(crate) fn nodes(&self) -> Vec<NodeView> {
        let cluster = self.ledger.cluster();
        let mut tasks = vec![0; cluster.nodes().len()];
        for running in cluster.running().values() {
            for part in running.allocation.iter() {
                if let Some(count) = tasks.get_mut(part.node.0 as usize) {
                    *count += 1;
                }
            }
        }
        let nodes = cluster.nodes().iter().zip(0..);
        nodes
            .map(|(node, number)| {
                let free = cluster.free(NodeNumber(number));
                let used = |kind| node.capacity.of(kind).saturating_sub(free.of(kind));
                let closed = self.ledger.closed(&node.name);
                NodeView {
                    name: node.name.clone(),
                    cores: Cores(node.capacity.of(CORES)),
                    cores_used: Cores(used(CORES)),
                    memory: Bytes(node.capacity.of(MEMORY)),
                    memory_used: Bytes(used(MEMORY)),
                    devices: self.devices(node, free),
                    features: self
                        .ledger
                        .site()
                        .features
                        .get(number as usize)
                        .cloned()
                        .unwrap_or_default(),
                    tasks: tasks[number as usize],
                    closed: match self.ledger.node_state(&node.name) {
                        NodeState::Up => None,
                        NodeState::Drain(why) => Some(format!("drained: {why}")),
                        NodeState::Down(why) => Some(format!("down: {why}")),
                    },
                    closed_by: closed.and_then(|closed| closed.by),
                    closed_at: closed.map(|closed| closed.since.0),
                }
            })
            .collect()
    }
}

impl Viewer<'_> {
    /// Gives what a node has of what is counted beside processors and memory, and what of
    /// it is in use.
    fn devices(&self, node: &Node, free: &Amounts) -> BTreeMap<String, (u64, u64)> {
        let kinds = self.ledger.site().kinds.iter().zip(2..);
        let there = kinds.filter(|(_, kind)| node.capacity.of(*kind) > 0);
        let of = |(name, kind): (&String, usize)| {
            let all = node.capacity.of(kind);
            (name.clone(), (all, all.saturating_sub(free.of(kind))))
        };
        there.map(of).collect()
    }
}

/// Gives the file of a script, with what that is given.
fn command_of(submission: &Submission) -> Option<String> {
    let script = submission.script.as_ref()?;
    let arguments = match &submission.command {
        Command::Script { arguments, .. } => &arguments[..],
        Command::Program(_) | Command::Room { .. } => &[],
    };
    let words: Vec<&str> = [script]
        .into_iter()
        .chain(arguments)
        .map(String::as_str)
        .collect();
    Some(words.join(" "))
}

/// Gives what a task of a job asks for of something that is counted.
pub(crate) fn sum(asked: &Submitted, kind: usize) -> u64 {
    let chunks = asked.request.chunks.iter();
    let all = chunks.map(|chunk| chunk.each.of(kind).saturating_mul(chunk.count));
    all.fold(0u64, u64::saturating_add)
}

fn wanted(filter: &Filter, over: bool) -> bool {
    match over {
        true => filter.ended,
        false => filter.alive,
    }
}

pub(crate) fn waits(reason: Reason) -> Waits {
    match reason {
        Reason::Held(Holder::User) => Waits::HeldByUser,
        Reason::Held(Holder::Operator) => Waits::HeldByOperator,
        Reason::Begins(at) => Waits::Begins(at.0),
        Reason::Depends => Waits::Depends,
        Reason::DependsInVain => Waits::DependsInVain,
        Reason::AtOnce => Waits::AtOnce,
        Reason::Resources(at) => Waits::Resources(at.0),
        Reason::Turn => Waits::Turn,
        Reason::Limit(scope) => Waits::Limit(scope.to_string()),
        Reason::NodesClosed => Waits::NodesClosed,
        Reason::PartitionClosed(name) => Waits::PartitionClosed(name),
        Reason::MadeRoom(job) => Waits::MadeRoom(job),
    }
}

fn terms(job: &Job) -> Terms {
    let asked = &job.asked;
    let submission = &asked.submission;
    let part = submission.parts.first();
    let part = |get: fn(&Part) -> &Vec<String>| part.map(get).cloned().unwrap_or_default();
    Terms {
        priority: None,
        fixed: submission.priority,
        nice: submission.nice,
        requeue: submission.requeue,
        after: submission.after.clone(),
        at_once: submission.array.as_ref().and_then(|array| array.at_once),
        begin: asked.begin.map(|at| at.0),
        deadline: asked.deadline.map(|at| at.0),
        least_time: submission.least_time,
        reservation: submission.reservation.clone(),
        features: submission
            .parts
            .iter()
            .find_map(|part| part.features.clone()),
        licences: submission
            .parts
            .iter()
            .flat_map(|part| part.licences.clone())
            .collect(),
        with: part(|part| &part.hosts),
        without: part(|part| &part.without),
        exclusive: asked.request.exclusive,
        project: submission.project.clone(),
        held: match (&job.holds[..], submission.hold) {
            // It was not written down before when it was released.
            ([], true) => vec![(job.submitted.0, None)],
            (holds, _) => {
                let of = |hold: &Hold| (hold.from.0, hold.until.map(|at| at.0));
                holds.iter().map(of).collect()
            }
        },
    }
}
