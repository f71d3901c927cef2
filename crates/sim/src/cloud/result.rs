use std::fmt;

use serde::{Deserialize, Serialize};

/// A cloudlet that has ended. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// The place of its broker in the scenario.
    pub broker: u32,
    /// Its number, among those of its broker.
    pub cloudlet: u32,
    /// The place of its datacenter in the scenario.
    pub datacenter: u32,
    /// The number of its host, in that datacenter.
    pub host: u32,
    /// The number of its VM, among those of its broker.
    pub vm: u32,
    /// The number of its container, among those of its broker, where there are some.
    pub container: Option<u32>,
    /// When it reached its datacenter.
    pub submitted: f64,
    /// When it began to run.
    pub start: f64,
    /// When it had ended.
    pub finish: f64,
    /// What its datacenter takes for it.
    pub cost: f64,
    /// What hosts drew for it, in joules, where that is known: while it ran, as large a part
    /// of what its host drew as it had of the MIPS in use.
    pub joules: Option<f64>,
}

/// What a scenario came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many cloudlets ended.
    pub cloudlets: u64,
    /// How many events there were.
    pub events: u64,
    /// When the last of them was, in seconds.
    pub end: f64,
    /// The sum of all times from submission to end, in seconds.
    pub stays_s: f64,
    /// The sum over time of how many cloudlets were in datacenters, in seconds: the same
    /// as `stays_s` when all have ended (Little's law).
    pub presence_s: f64,
    /// Cloudlets that did not end.
    pub left: Vec<Left>,
    /// What hosts drew, of which it is known: the place of the datacenter in the scenario,
    /// the number of the host in it, and joules.
    pub hosts: Vec<(u32, u32, f64)>,
    /// What of that hosts drew while nothing was in use, in the order of `hosts`. The rest was
    /// for cloudlets.
    pub idle: Vec<f64>,
    /// What of it was for VMs: the place of the broker in the scenario, the number of
    /// the VM among those of its broker, and joules.
    pub vms: Vec<(u32, u32, f64)>,
    /// What of that was for containers: the place of the broker in the scenario, the number
    /// of the container among those of its broker, and joules.
    pub containers: Vec<(u32, u32, f64)>,
    /// What datacenters take for cloudlets that ended and for VMs that were made.
    pub cost: f64,
    /// How dynamic datacenters have served their VMs.
    pub services: Vec<Service>,
    /// How brokers have scaled, one change after another.
    pub scaled: Vec<Scaled>,
    /// How hosts have failed, of those that may.
    pub failures: Vec<Failures>,
}

/// A change of how many VMs a broker has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scaled {
    /// The place of the broker in the scenario.
    pub broker: u32,
    /// When it was, in seconds.
    pub time: f64,
    /// How many VMs it has from then on.
    pub vms: u32,
}

/// How a host has failed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Failures {
    /// The place of its datacenter in the scenario.
    pub datacenter: u32,
    /// Its number in the datacenter.
    pub host: u32,
    /// How often it failed.
    pub count: u64,
    /// For how long it was down, in seconds.
    pub down_s: f64,
    /// How many VMs were placed on other hosts meanwhile.
    pub moved: u64,
}

/// How a dynamic datacenter has served its VMs, in CloudSim's measures. Shares are from 0
/// to 1, and 0 where there is nothing to divide by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its place in the scenario.
    pub datacenter: u32,
    /// What all hosts drew.
    pub joules: f64,
    /// How many migrations were begun.
    pub migrations: u64,
    /// The product of the next two.
    pub sla: f64,
    /// What VMs lacked while they left a host, of all that they asked for.
    pub sla_degradation_due_to_migration: f64,
    /// The time in which a host that worked gave less than was asked for, of all the time
    /// in which hosts worked.
    pub sla_time_per_active_host: f64,
    /// What VMs lacked, of all that they asked for.
    pub sla_overall: f64,
    /// The mean share that a VM lacked at looks at which it lacked something.
    pub sla_average: f64,
    /// How often a host had nothing more to do.
    pub host_shutdowns: u64,
    /// For how long it had worked then.
    pub mean_time_before_host_shutdown_s: f64,
    /// How long a migration took.
    pub mean_time_of_migration_s: f64,
}

impl Summary {
    pub(super) fn add(&mut self, ran: &Ran) {
        self.cloudlets += 1;
        self.stays_s += ran.finish - ran.submitted;
        self.cost += ran.cost;
    }
}

/// A cloudlet that did not end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// The place of its broker in the scenario.
    pub broker: u32,
    /// Its number, among those of its broker.
    pub cloudlet: u32,
    /// Why.
    pub why: Why,
    /// What hosts drew for it all the same, where that is known.
    pub joules: f64,
}

/// Why a cloudlet did not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Why {
    /// There was no datacenter when its broker began.
    NoDatacenter,
    /// No datacenter made any VM of its broker.
    NoVm,
    /// No VM of its broker had room for any container.
    NoContainer,
    /// No datacenter made the VM that it is bound to.
    VmNotMade,
    /// No VM of its broker had room for the container that it is bound to.
    ContainerNotMade,
    /// Its VM is space-shared, and has fewer cores than it needs.
    TooFewCores,
    /// Its VM asked for nothing at a look of a dynamic datacenter.
    VmGivenUp,
    /// The datacenter of its VM lacks a file that it needs.
    NoFile,
    /// It was still to end when the scenario stopped.
    Stopped,
    /// It waits for data that nobody sent.
    NoData,
    /// It works at no speed: its VM is given nothing.
    Starved,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDatacenter => "no datacenter was open when its broker began",
            Self::NoVm => "no datacenter had room for any VM of its broker",
            Self::NoContainer => "no VM of its broker had room for any container",
            Self::VmNotMade => "no datacenter had room for its VM",
            Self::ContainerNotMade => "no VM of its broker had room for its container",
            Self::TooFewCores => "its VM has fewer cores than it needs",
            Self::VmGivenUp => "its VM asked for nothing, and was given up",
            Self::NoFile => "the datacenter of its VM lacks a file that it needs",
            Self::Stopped => "it had not ended when the scenario stopped",
            Self::NoData => "it waits for data that did not come",
            Self::Starved => "its VM was given nothing",
        })
    }
}
