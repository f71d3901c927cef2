//! On which grounds a job is taken: partition, quality of service, limits, reservation.

use std::collections::BTreeSet;
use std::time::Duration;

use hyperion_model::submission::{Part, Submission, TimeLimit};
use hyperion_sched::{
    Amounts, Caps, Cluster, Family, NodeNumber, NodeSet, QuotaNumber, Request, SetNumber, Standing,
    Yields,
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use thiserror::Error;

use crate::event::Who;
use crate::features::{Wish, like};
use crate::ledger::Ledger;
use crate::record::Submitted;
use crate::rules::{Booking, Limits, Partition, PartitionState, Preempted, Qos, minutes};

/// Why a site does not take a job.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RulesError {
    /// There is no such partition.
    #[error("there is no partition {0}")]
    NoPartition(String),
    /// There is no such quality of service.
    #[error("there is no quality of service {0}")]
    NoQos(String),
    /// There is no such account.
    #[error("there is no account {0}")]
    NoAccount(String),
    /// It lies in itself, by way of others.
    #[error("account {0} lies in itself")]
    AccountInItself(String),
    /// That is no wish for features.
    #[error("{0:?} does not say what a node must have")]
    Features(String),
    /// Too few nodes have that.
    #[error("too few nodes have {asked}; there is {there}")]
    NoFeatures {
        /// What is asked for.
        asked: String,
        /// What nodes have.
        there: String,
    },
    /// There is no such reservation.
    #[error("there is no reservation {0}")]
    NoReservation(String),
    /// There is no such node.
    #[error("there is no node {0}")]
    NoNode(String),
    /// It is not for this user or account.
    #[error("{0} is not for this user and account")]
    NotAllowed(Scope),
    /// The partition takes no jobs now.
    #[error("partition {0} takes no jobs")]
    TakesNone(String),
    /// It asks for more time than is allowed.
    #[error("{scope} allows {most} minutes")]
    TooLong {
        /// Where.
        scope: Scope,
        /// How much is.
        most: u64,
    },
    /// It asks for more nodes than are allowed.
    #[error("partition {partition} allows {most} nodes")]
    TooManyNodes {
        /// Where.
        partition: String,
        /// How many are.
        most: u32,
    },
    /// As many tasks wait or run as may.
    #[error("{scope} may have {most} tasks that wait or run")]
    TooMany {
        /// Whose.
        scope: Scope,
        /// How many.
        most: u64,
    },
}

/// Those who share a limit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The jobs of a user.
    User(u32),
    /// Those of a project or account.
    Project(String),
    /// Those in a partition.
    Partition(String),
    /// Those of a user in a partition.
    PartitionUser(String, u32),
    /// Those of a quality of service.
    Qos(String),
    /// Those of a user in a quality of service.
    QosUser(String, u32),
    /// Those in a reservation.
    Reservation(String),
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(user) => write!(f, "user {user}"),
            Self::Project(name) => write!(f, "project {name}"),
            Self::Partition(name) => write!(f, "partition {name}"),
            Self::PartitionUser(name, user) => write!(f, "user {user} in partition {name}"),
            Self::Qos(name) => write!(f, "quality of service {name}"),
            Self::QosUser(name, user) => write!(f, "user {user} in quality of service {name}"),
            Self::Reservation(name) => write!(f, "reservation {name}"),
        }
    }
}

/// What was settled when a job was taken.
pub(crate) struct Grounds {
    pub(crate) partition: Option<String>,
    pub(crate) limit: Duration,
}

impl Ledger {
    /// Settles where a submission goes, and whether it may.
    pub(crate) fn grounds(&self, who: Who, asked: &Submission) -> Result<Grounds, RulesError> {
        if let Some(name) = &asked.reservation {
            let booked = self.bookings.get(name);
            let (booking, _) = booked.ok_or_else(|| RulesError::NoReservation(name.clone()))?;
            if !may_use(booking, who, asked) {
                return Err(RulesError::NotAllowed(Scope::Reservation(name.clone())));
            }
        }
        for part in &asked.parts {
            self.site.has_features(part)?;
        }
        let qos = self.qos_of(asked)?;
        let mut named: Vec<&String> = asked
            .parts
            .first()
            .map_or(&[][..], |p| &p.queues)
            .iter()
            .collect();
        if self.rules.partitions.is_empty() {
            named.clear();
        } else if named.is_empty() {
            let default = self.rules.partitions.iter().find(|(_, p)| p.default);
            named.extend(default.map(|(name, _)| name));
        }
        let mut refused = None;
        for name in &named {
            match self.in_partition(name, who, asked) {
                Ok(partition) => {
                    let limit = self.limit(asked, Some((name, partition)), qos)?;
                    let partition = Some((*name).clone());
                    return Ok(Grounds { partition, limit });
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) => Err(error),
            None => Ok(Grounds {
                partition: None,
                limit: self.limit(asked, None, qos)?,
            }),
        }
    }

    fn qos_of<'a>(
        &'a self,
        asked: &'a Submission,
    ) -> Result<Option<(&'a str, &'a Qos)>, RulesError> {
        match &asked.qos {
            Some(name) if !self.rules.qos.is_empty() => {
                let qos = self.rules.qos.get(name);
                let qos = qos.ok_or_else(|| RulesError::NoQos(name.clone()))?;
                Ok(Some((name, qos)))
            }
            _ => Ok(None),
        }
    }

    fn in_partition(
        &self,
        name: &str,
        who: Who,
        asked: &Submission,
    ) -> Result<&Partition, RulesError> {
        let none = || RulesError::NoPartition(name.to_owned());
        let partition = self.rules.partitions.get(name).ok_or_else(none)?;
        if !self.partition_state(name).takes() {
            return Err(RulesError::TakesNone(name.to_owned()));
        }
        let user = partition.users.is_empty() || partition.users.contains(&who.user);
        let account = asked.account.as_ref().or(asked.project.as_ref());
        let account = partition.accounts.is_empty()
            || account.is_some_and(|account| partition.accounts.contains(account));
        let may = who.operator || (user && account);
        if !may {
            return Err(RulesError::NotAllowed(Scope::Partition(name.to_owned())));
        }
        let nodes = asked.parts.iter().filter_map(|part| part.nodes);
        let nodes: u32 = nodes.map(|nodes| nodes.least).fold(0, u32::saturating_add);
        match partition.max_nodes {
            Some(most) if nodes > most => Err(RulesError::TooManyNodes {
                partition: name.to_owned(),
                most,
            }),
            _ => {
                self.limit(asked, Some((name, partition)), None)?;
                Ok(partition)
            }
        }
    }

    /// Gives how long each task of a submission may run.
    fn limit(
        &self,
        asked: &Submission,
        partition: Option<(&str, &Partition)>,
        qos: Option<(&str, &Qos)>,
    ) -> Result<Duration, RulesError> {
        let of_partition = partition.and_then(|(name, partition)| {
            let scope = Scope::Partition(name.to_owned());
            Some((scope, partition.max_minutes?))
        });
        let of_qos =
            qos.and_then(|(name, qos)| Some((Scope::Qos(name.to_owned()), qos.max_minutes?)));
        let most = of_partition
            .into_iter()
            .chain(of_qos)
            .min_by_key(|(_, most)| *most);
        let usual = partition.and_then(|(_, partition)| partition.default_minutes);
        let asked = match asked.time_limit {
            Some(TimeLimit::Span(span)) => Some(span),
            Some(TimeLimit::Unlimited) => None,
            None => usual.map(minutes).or(self.site.usual_limit),
        };
        match (asked, most) {
            (Some(span), Some((scope, most))) if span > minutes(most) => {
                Err(RulesError::TooLong { scope, most })
            }
            (Some(span), _) => Ok(span),
            (None, Some((_, most))) => Ok(minutes(most)),
            (None, None) => Ok(Duration::MAX),
        }
    }

    /// Tells whether as many tasks may wait and run; those of a job that is changed are
    /// counted already where it was before.
    pub(crate) fn has_room_for(
        &self,
        asked: &Submitted,
        before: Option<&Submitted>,
    ) -> Result<(), RulesError> {
        let array = asked.submission.array.as_ref();
        let tasks = array.map_or(1, |array| array.indices.count());
        let counted = before.map(|before| self.scopes(before));
        let is_counted = |scope: &Scope| counted.iter().flatten().any(|(its, _)| its == scope);
        for (scope, limits) in self.scopes(asked) {
            if is_counted(&scope) {
                continue;
            }
            let open = self.open.get(&scope).copied().unwrap_or(0);
            if let Some(most) = limits.submitted.filter(|most| open + tasks > *most) {
                return Err(RulesError::TooMany { scope, most });
            }
        }
        Ok(())
    }

    /// Gives the limits that a job is under.
    pub(crate) fn scopes<'a>(&'a self, asked: &'a Submitted) -> Vec<(Scope, &'a Limits)> {
        let (rules, user) = (&self.rules, asked.user);
        let mut scopes = Vec::new();
        let own = rules.users.get(&user).unwrap_or(&rules.each_user);
        scopes.push((Scope::User(user), own));
        let submission = &asked.submission;
        if let Some(project) = submission.project.as_ref().or(submission.account.as_ref()) {
            let own = rules.projects.get(project).unwrap_or(&rules.each_project);
            scopes.push((Scope::Project(project.clone()), own));
        }
        let partition = asked.partition.as_ref();
        if let Some((name, its)) = partition.and_then(|name| rules.partitions.get_key_value(name)) {
            scopes.push((Scope::Partition(name.clone()), &its.limits));
            scopes.push((Scope::PartitionUser(name.clone(), user), &its.each_user));
        }
        if let Ok(Some((name, qos))) = self.qos_of(submission) {
            scopes.push((Scope::Qos(name.to_owned()), &qos.limits));
            scopes.push((Scope::QosUser(name.to_owned(), user), &qos.each_user));
        }
        let limits = |limits: &Limits| limits.limit_what_runs() || limits.submitted.is_some();
        scopes.retain(|(_, its)| limits(its));
        scopes
    }

    /// Puts a job under no limits, by its number, before it is submitted: one that was taken
    /// when there were others.
    pub fn lift_limits(&mut self, job: u64) {
        self.unlimited.insert(job);
    }

    /// Gives what counts for a job beside what it asks for.
    pub fn standing(&mut self, asked: &Submitted) -> Standing {
        let mut scopes = self.scopes(asked);
        let is_limited = !self.unlimited.contains(&asked.job);
        scopes.retain(|(_, limits)| is_limited && limits.limit_what_runs());
        let scopes: Vec<(Scope, Caps)> = scopes
            .into_iter()
            .map(|(scope, limits)| (scope, self.site.caps(limits)))
            .collect();
        let mut quotas: SmallVec<[QuotaNumber; 4]> = SmallVec::new();
        for (scope, caps) in scopes {
            let cluster = &mut self.cluster;
            let number = self.quotas.entry(scope);
            quotas.push(*number.or_insert_with(|| cluster.quota(caps)));
        }
        let share_number = self.share_of(asked);
        let (rules, submission) = (&self.rules, &asked.submission);
        let partitions = &rules.partitions;
        let highest = partitions.values().map(|its| its.priority).max();
        let partition = asked
            .partition
            .as_ref()
            .and_then(|name| partitions.get(name));
        let highest_qos = rules.qos.values().map(|its| its.priority).max();
        let qos = submission.qos.as_ref().and_then(|name| rules.qos.get(name));
        let reservation = submission.reservation.as_ref();
        Standing {
            share: share_number,
            nice: submission.nice,
            fixed: submission.priority,
            partition: share(partition.map(|its| its.priority), highest),
            qos: share(qos.map(|its| its.priority), highest_qos),
            rank: qos.map_or(0, |its| its.rank),
            yields: match qos.and_then(|its| its.preempted) {
                None => Yields::No,
                Some(Preempted::Requeue | Preempted::Cancel) => Yields::Ends,
                Some(Preempted::Suspend) => Yields::Rests,
            },
            right: reservation.and_then(|name| Some(self.bookings.get(name)?.1)),
            quotas,
        }
    }

    /// Gives the request of a job with the nodes that it may have.
    pub fn among(&mut self, asked: &Submitted) -> Request {
        let mut request = Request::clone(&asked.request);
        let all = NodeSet::first(self.site.nodes.len());
        let partition = asked.partition.as_ref();
        let partition = partition.and_then(|name| self.rules.partitions.get(name));
        let allowed = match partition {
            Some(partition) if !partition.nodes.is_empty() => self.site.set(&partition.nodes),
            _ => all,
        };
        let sets: Vec<NodeSet> = asked
            .submission
            .parts
            .iter()
            .map(|part| self.site.nodes_for(part, &allowed))
            .collect();
        for (member, set) in sets.into_iter().enumerate() {
            let number = self.set(set);
            match member {
                0 => request.among = number,
                member => {
                    if let Some(other) = request.others.get_mut(member - 1) {
                        other.among = number;
                    }
                }
            }
        }
        request
    }

    /// Gives a set its number, which is the same where nothing runs.
    fn set(&mut self, nodes: NodeSet) -> SetNumber {
        self.empty.set(nodes.clone());
        self.cluster.set(nodes)
    }

    /// Tells what may be done with a partition.
    pub fn partition_state(&self, name: &str) -> PartitionState {
        let own = || self.rules.partitions.get(name).map(|its| its.state);
        let told = self.partition_states.get(name).copied();
        told.or_else(own).unwrap_or_default()
    }
}

/// Tells whether somebody may use what is booked.
fn may_use(booking: &Booking, who: Who, asked: &Submission) -> bool {
    let account = asked.account.as_ref().or(asked.project.as_ref());
    who.operator
        || booking.users.contains(&who.user)
        || account.is_some_and(|account| booking.accounts.contains(account))
}

/// Gives a priority beside the highest of any, in thousandths.
fn share(priority: Option<u16>, highest: Option<u16>) -> u16 {
    let (priority, highest) = (priority.unwrap_or(0), highest.unwrap_or(0).max(1));
    (u32::from(priority) * 1000 / u32::from(highest)) as u16
}

impl crate::Site {
    /// Gives the number of a node.
    pub fn node(&self, name: &str) -> Option<NodeNumber> {
        let at = self.nodes.iter().position(|node| node.name == name)?;
        Some(NodeNumber(at as u32))
    }

    /// Gives the nodes of these names, in which `*` stands for anything, and `?` for a letter.
    pub fn set<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> NodeSet {
        let (patterns, names): (Vec<_>, Vec<_>) = names
            .into_iter()
            .partition(|name| name.contains(['*', '?']));
        let named = names.into_iter().filter_map(|name| self.node(name));
        let nodes = (0..).map(NodeNumber).zip(&self.nodes);
        let is_meant = |name: &str| patterns.iter().any(|pattern| like(pattern, name));
        let alike = nodes.filter(|(_, node)| !patterns.is_empty() && is_meant(&node.name));
        named.chain(alike.map(|(number, _)| number)).collect()
    }

    fn nodes_for(&self, part: &Part, allowed: &NodeSet) -> NodeSet {
        let mut nodes = allowed.clone();
        if !part.hosts.is_empty() {
            nodes.keep(&self.set(&part.hosts));
        }
        nodes.leave(&self.set(&part.without));
        let wish = part.features.as_deref().and_then(Wish::read);
        if let Some(wish) = wish {
            nodes.keep(&self.with_features(&wish));
        }
        nodes
    }

    fn with_features(&self, wish: &Wish) -> NodeSet {
        let has = |at: &u32| {
            let features = self.features.get(*at as usize);
            features.is_some_and(|its| wish.holds(its))
        };
        let nodes = (0..self.nodes.len() as u32).filter(has);
        nodes.map(NodeNumber).collect()
    }

    /// Looks whether enough nodes have what a part asks for by name.
    fn has_features(&self, part: &Part) -> Result<(), RulesError> {
        let Some(asked) = &part.features else {
            return Ok(());
        };
        let wish = Wish::read(asked).ok_or_else(|| RulesError::Features(asked.clone()))?;
        let nodes = part.nodes.map_or(1, |nodes| nodes.least.max(1)) as usize;
        let mut counts = wish.counts().into_iter();
        let enough = self.with_features(&wish).count() >= nodes
            && counts.all(|(count, wish)| self.with_features(wish).count() >= count as usize);
        if enough {
            return Ok(());
        }
        let all: BTreeSet<&str> = self.features.iter().flatten().map(String::as_str).collect();
        let all: Vec<&str> = all.into_iter().collect();
        Err(RulesError::NoFeatures {
            asked: asked.clone(),
            there: match all.is_empty() {
                true => "nothing that has a name".into(),
                false => all.join(", "),
            },
        })
    }

    fn caps(&self, limits: &Limits) -> Caps {
        let cores = limits.cores.map(|cores| (0, cores.saturating_mul(1000)));
        let others = limits
            .resources
            .iter()
            .filter_map(|(name, most)| Some((self.kind(name)?, *most)));
        Caps {
            jobs: limits.running,
            amounts: cores.into_iter().chain(others).collect(),
            core_seconds: limits
                .core_minutes
                .map(|minutes| minutes.saturating_mul(60)),
        }
    }
}

/// Makes the cluster of a site, with its licences.
pub(crate) fn cluster(site: &crate::Site, licences: impl IntoIterator<Item = u64>) -> Cluster {
    let families = families(&site.kinds);
    let mut nodes = site.nodes.clone();
    for node in &mut nodes {
        for family in &families {
            let of_kinds: u64 = family
                .kinds
                .iter()
                .map(|kind| node.capacity.of(*kind))
                .sum();
            // Where some are of a kind that is told, the others are not given out.
            if of_kinds > 0 {
                let others = node.capacity.of(family.any).saturating_sub(of_kinds);
                node.capacity.take(&Amounts::only(family.any, others));
            }
        }
    }
    let mut cluster = Cluster::with_licences(nodes, Amounts::new(licences));
    cluster.set_families(families);
    cluster
}

/// Finds `gpu` beside `gpu:h100` among what is counted.
fn families(kinds: &[String]) -> Vec<Family> {
    let numbered = || kinds.iter().zip(2..);
    let all = numbered().filter(|(name, _)| !name.contains(':'));
    let families = all.map(|(name, any)| {
        let of = |kind: &str| {
            kind.strip_prefix(name.as_str())
                .is_some_and(|k| k.starts_with(':'))
        };
        let kinds = numbered().filter(|(kind, _)| of(kind));
        Family {
            any,
            kinds: kinds.map(|(_, number)| number).collect(),
        }
    });
    families.filter(|family| !family.kinds.is_empty()).collect()
}
