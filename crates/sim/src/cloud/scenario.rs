use serde::{Deserialize, Serialize};

use super::law::Quantity;
use super::utilization::Utilization;

/// What is simulated: datacenters, and brokers with machines and work for them.
///
/// Read by [`Scenario::read`]; times are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// How long a datacenter takes to answer, and looks away after it has looked.
    #[serde(default = "hundredth")]
    pub min_time_between_events_s: f64,
    /// What all that is drawn is drawn from.
    #[serde(default)]
    pub seed: u64,
    /// When all ends; when nothing is left to happen if it is not said.
    pub stop_s: Option<f64>,
    /// How long messages are on their way.
    #[serde(default)]
    pub link: Vec<Link>,
    /// In the order in which brokers ask them.
    #[serde(default)]
    pub datacenter: Vec<Datacenter>,
    /// In the order in which they begin.
    #[serde(default)]
    pub broker: Vec<Broker>,
}

/// A way for messages, there and back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The names of brokers, of datacenters, or of places on the way.
    pub between: [String; 2],
    /// How long a message takes.
    pub latency_s: f64,
}

/// Hosts, and who gets which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Datacenter {
    /// Told in results.
    pub name: String,
    /// When it opens.
    #[serde(default)]
    pub start_s: f64,
    /// Which host a VM gets.
    #[serde(default)]
    pub allocation: Allocation,
    /// What it takes for what it gives.
    #[serde(default)]
    pub cost: Cost,
    /// Lets it look at fixed intervals, and give VMs what they ask for at the time.
    pub dynamic: Option<Dynamic>,
    /// How its hosts are connected; what is sent between them is held up by nothing but the
    /// bandwidth of VMs when it is not said.
    pub network: Option<Network>,
    /// Its hosts, in order.
    pub host: Vec<Host>,
    /// Where files are that cloudlets need.
    #[serde(default)]
    pub storage: Vec<Storage>,
}

/// Storage of a datacenter: CloudSim's `HarddriveStorage`, or `SanStorage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// How much there is room for; as much as is there when it is not said.
    pub capacity_mib: Option<u64>,
    /// How fast files come from it.
    pub bandwidth_mbps: f64,
    /// How long it takes until the first byte of a file comes.
    #[serde(default)]
    pub latency_s: f64,
    /// What is on it.
    #[serde(default)]
    pub file: Vec<File>,
}

/// A file on a storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// By which cloudlets ask for it.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

impl Datacenter {
    /// Gives how long a file takes from the first of its storages that has it, in seconds.
    pub(super) fn loads(&self, file: &str) -> Option<f64> {
        self.storage.iter().find_map(|storage| {
            let file = storage.file.iter().find(|its| its.name == file)?;
            let bits = 8.0 * file.bytes as f64;
            Some(storage.latency_s + bits / (storage.bandwidth_mbps * 1e6))
        })
    }
}

/// What a datacenter takes, in whatever one pays with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// For each second in which a cloudlet runs.
    #[serde(default)]
    pub per_second: f64,
    /// For each byte that goes in with a cloudlet, or comes out.
    #[serde(default)]
    pub per_byte: f64,
    /// For each MiB of memory of a VM that is made.
    #[serde(default)]
    pub per_memory_mib: f64,
    /// For each MiB of storage of a VM that is made.
    #[serde(default)]
    pub per_storage_mib: f64,
}

/// How a datacenter follows what its VMs ask for: CloudSim's `PowerDatacenter`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dynamic {
    /// How long after a look it looks again.
    pub interval_s: f64,
    /// When a host has too much to do, and VMs leave it; and VMs leave hosts that have
    /// little to do. Nothing is moved when it is not said.
    pub overload: Option<Overload>,
    /// Which VM leaves such a host.
    #[serde(default)]
    pub select: Select,
}

/// Switches and the links between them. Latencies are of passing a switch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// How switches are connected.
    pub topology: Topology,
    /// Of the link between a host and its edge switch, each way.
    pub edge_mbps: f64,
    /// Of that between an edge switch and an aggregate switch.
    pub aggregate_mbps: f64,
    /// Of that between an aggregate switch and a root switch.
    pub root_mbps: f64,
    /// Of an edge switch.
    #[serde(default)]
    pub edge_latency_s: f64,
    /// Of an aggregate switch.
    #[serde(default)]
    pub aggregate_latency_s: f64,
    /// Of a root switch.
    #[serde(default)]
    pub root_latency_s: f64,
}

/// How switches are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Topology {
    /// One root switch, aggregate switches, edge switches, hosts.
    Tree {
        /// Hosts at an edge switch.
        hosts_per_edge: u32,
        /// Edge switches at an aggregate switch.
        edges_per_aggregate: u32,
    },
    /// The fat tree of Al-Fares, Loukissas and Vahdat (2008): as many pods as switches have
    /// ports, and between hosts of two pods a quarter of the square of that many ways.
    FatTree {
        /// Ports of a switch, an even number.
        ports: u32,
    },
}

/// What a cloudlet does, one after another: CloudSim's `TaskStage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stage {
    /// So many million instructions on each of its cores.
    Run(u64),
    /// So many on each of its GPUs, once it has them.
    Gpu(u64),
    /// Sends data to another cloudlet, and goes on.
    Send {
        /// Its number.
        to: u32,
        /// How much.
        bytes: u64,
    },
    /// Waits for data of the cloudlet with this number; what comes first is taken.
    Receive(u32),
}

/// When a host has too much to do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overload {
    /// When more than this share of its MIPS is asked for.
    Static(f64),
    /// When more is asked for than 1 less so many interquartile ranges of what was.
    Iqr(f64),
    /// When more is asked for than 1 less so many median absolute deviations of what was.
    Mad(f64),
    /// When a line through what was asked for, taken so many times, reaches 1 by the end
    /// of a migration.
    LocalRegression(f64),
}

/// Which VM leaves a host that has too much to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// The one with the least memory.
    #[default]
    MinimumMigrationTime,
    /// The one that uses the smallest share of its MIPS.
    MinimumUtilization,
    /// The one whose load the loads of the others predict best.
    MaximumCorrelation,
    /// Any.
    Random,
}

/// Which host a VM gets, of those with the MIPS, memory and bandwidth for it; the
/// first of several that are alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allocation {
    /// The one with the most free MIPS: CloudSim's `VmAllocationPolicySimple`.
    #[default]
    Simple,
    /// The first.
    FirstFit,
    /// The one with the fewest free MIPS.
    BestFit,
    /// The one with the most free cores.
    WorstFit,
    /// The first after the one that was taken last.
    RoundRobin,
    /// The one that then draws least more, and does not have too much to do: only in a
    /// dynamic datacenter.
    PowerAware,
}

/// Hosts that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// How many there are.
    #[serde(default = "one")]
    pub count: u32,
    /// Cores of each.
    pub cores: u32,
    /// Millions of instructions per second of each core.
    pub mips: f64,
    /// As much as is asked for when it is not said.
    pub memory_mib: Option<u64>,
    /// As much as is asked for when it is not said.
    pub storage_mib: Option<u64>,
    /// As much as is asked for when it is not said.
    pub bandwidth_mbps: Option<u64>,
    /// How its VMs have its cores.
    #[serde(default)]
    pub scheduler: Sharing,
    /// How it fails and is repaired; it does not when it is not said.
    pub failure: Option<Failure>,
    /// What it draws at utilizations from 0 to 1, in equal steps: two numbers are a line,
    /// eleven what SPECpower_ssj2008 measures. Nothing is counted when it is not said.
    #[serde(default)]
    pub power_watts: Vec<f64>,
    /// GPUs of each, which VMs have whole.
    #[serde(default)]
    pub gpus: u32,
    /// Millions of instructions per second of each GPU.
    #[serde(default)]
    pub gpu_mips: f64,
    /// What its GPUs draw beside that, all together, by the share of them that works.
    #[serde(default)]
    pub gpu_power_watts: Vec<f64>,
    /// NUMA nodes among which its cores and its memory are divided evenly.
    #[serde(default = "one")]
    pub numa_nodes: u32,
    /// The share of its MIPS that a VM loses for which no node of them had room alone.
    #[serde(default)]
    pub numa_overhead: f64,
}

/// How a host fails and is repaired, time and again: 0.001 s at least each time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// How long it works until it fails.
    pub after_s: Quantity,
    /// How long the repair takes.
    pub repair_s: Quantity,
    /// What becomes of its VMs.
    #[serde(default)]
    pub vms: Fate,
    /// What becomes of what their cloudlets had done.
    #[serde(default)]
    pub progress: Progress,
}

/// What becomes of the VMs of a host that fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// They wait until it works again.
    #[default]
    Wait,
    /// They are placed anew, as soon as another host of the datacenter has room; until then
    /// they wait.
    Move,
}

/// What becomes of what cloudlets had done when their host fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// It is lost: they begin anew.
    #[default]
    Lose,
    /// It is kept: they go on where they were.
    Keep,
}

/// How cores are had by several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// All at once, each with its part of what there is.
    #[default]
    TimeShared,
    /// Each has cores of its own; who finds too few waits, or is refused.
    SpaceShared,
}

/// A user, who asks for VMs and gives them cloudlets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Told in results.
    pub name: String,
    /// When it begins.
    #[serde(default)]
    pub start_s: f64,
    /// When it stands still: what reaches it then waits for the end of that.
    #[serde(default)]
    pub pause: Vec<Pause>,
    /// How it asks for more VMs, and gives them up; it does not when it is not said.
    pub scaling: Option<Scaling>,
    /// What it asks for, in order.
    #[serde(default)]
    pub vm: Vec<Vm>,
    /// Which of its VMs a container gets.
    #[serde(default)]
    pub container_allocation: Allocation,
    /// Containers, which are to VMs what VMs are to hosts. Where there are some, cloudlets
    /// run in them.
    #[serde(default)]
    pub container: Vec<Vm>,
    /// What it hands out, in order.
    #[serde(default)]
    pub cloudlet: Vec<Cloudlet>,
}

/// How a broker fits the number of its VMs to what they have to do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// How many VMs it has at most; what comes is like its last group of VMs.
    pub most: u32,
    /// How long after it has looked it looks again.
    pub every_s: f64,
    /// It asks for one more when a larger share of their MIPS is in use.
    pub above: f64,
    /// It gives one up that has nothing to do, of those that came, when a smaller share is.
    pub below: f64,
    /// For how long nothing more is changed after a change.
    #[serde(default)]
    pub cool_down_s: f64,
}

/// A time during which a broker stands still.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Its beginning.
    pub from_s: f64,
    /// Its end.
    pub to_s: f64,
}

/// VMs that are alike; or containers, which have of a VM what VMs have of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// How many there are.
    #[serde(default = "one")]
    pub count: u32,
    /// The number of the first; else the one after the last VM before it.
    pub id: Option<u32>,
    /// Cores of each.
    #[serde(default = "one")]
    pub cores: u32,
    /// Millions of instructions per second of each core.
    pub mips: f64,
    /// Of its host's.
    #[serde(default)]
    pub memory_mib: u64,
    /// Of its host's.
    #[serde(default)]
    pub storage_mib: u64,
    /// Of its host's.
    #[serde(default)]
    pub bandwidth_mbps: u64,
    /// GPUs of its host's.
    #[serde(default)]
    pub gpus: u32,
    /// How its cloudlets have its cores.
    #[serde(default)]
    pub scheduler: Sharing,
    /// The shares of its MIPS that isolation takes, at each level between its host and its
    /// cloudlets; of a container, between its VM and its cloudlets.
    #[serde(default)]
    pub overhead: Vec<f64>,
}

impl Vm {
    /// The share of its MIPS that its cloudlets have.
    pub(super) fn left(&self) -> f64 {
        self.overhead
            .iter()
            .fold(1.0, |left, taken| left * (1.0 - taken))
    }

    /// What it is to containers.
    pub(super) fn as_host(&self) -> Host {
        Host {
            count: 1,
            cores: self.cores,
            mips: self.mips,
            memory_mib: Some(self.memory_mib),
            storage_mib: Some(self.storage_mib),
            bandwidth_mbps: Some(self.bandwidth_mbps),
            scheduler: self.scheduler,
            failure: None,
            power_watts: Vec::new(),
            gpus: self.gpus,
            gpu_mips: 0.0,
            gpu_power_watts: Vec::new(),
            numa_nodes: 1,
            numa_overhead: 0.0,
        }
    }
}

/// Cloudlets that are alike, or drawn from the same laws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cloudlet {
    /// How many there are.
    #[serde(default = "one")]
    pub count: u32,
    /// The number of the first; else the one after the last cloudlet before it.
    pub id: Option<u32>,
    /// Millions of instructions on each of its cores: a whole number, 1 at least.
    pub length_mi: Option<Quantity>,
    /// In place of a length: what it does, one after another.
    #[serde(default)]
    pub stages: Vec<Stage>,
    /// Cores that it works on at once.
    #[serde(default = "one")]
    pub cores: u32,
    /// GPUs that it works on in place of cores; where it has stages, in those that say so.
    #[serde(default)]
    pub gpus: u32,
    /// The number of its VM; else the VMs take turns.
    pub vm: Option<u32>,
    /// The number of its container, where there are some; else these take turns.
    pub container: Option<u32>,
    /// When the first is there, after its broker has begun.
    #[serde(default)]
    pub submit_s: f64,
    /// How long after it the next is there.
    #[serde(default)]
    pub gap_s: Quantity,
    /// What goes in with it.
    #[serde(default)]
    pub input_bytes: u64,
    /// What comes out of it.
    #[serde(default)]
    pub output_bytes: u64,
    /// Files of the datacenter that it needs before it starts.
    #[serde(default)]
    pub files: Vec<String>,
    /// What share of its VM's MIPS it asks for, in a dynamic datacenter.
    #[serde(default)]
    pub utilization: Utilization,
    /// What share of its VM's memory it asks for, in a dynamic datacenter.
    #[serde(default)]
    pub utilization_memory: Utilization,
    /// What share of its VM's bandwidth it asks for, in a dynamic datacenter.
    #[serde(default)]
    pub utilization_bandwidth: Utilization,
}

impl Cloudlet {
    /// On how many cores or GPUs it works at a stage, and whether it is GPUs.
    pub(super) fn units(&self, stage: Option<&Stage>) -> (u32, bool) {
        match (stage, self.gpus) {
            (Some(Stage::Gpu(_)), gpus) => (gpus, true),
            (None, gpus) if gpus > 0 => (gpus, true),
            _ => (self.cores, false),
        }
    }
}

const fn one() -> u32 {
    1
}

const fn hundredth() -> f64 {
    0.01
}
