//! Machines that are not there: datacenters of hosts, virtual machines on them, and
//! cloudlets in those, with CloudSim's words and its semantics.
//!
//! ```text
//! broker ── asks for VMs ──▶ datacenter ── allocation ──▶ host: VMs share its cores
//!    │                            │
//!    ├── asks for containers ─────┴── on its VMs ───────▶ VM: containers share its cores
//!    │
//!    └── hands out cloudlets ───────────────────────────▶ VM, or container: they share its cores
//! ```
//!
//! What of CloudSim's behaviour is kept, and what is not, stands in
//! `docs/reference/scenarios.md`. Where CloudSim goes through all hosts, VMs and
//! cloudlets at each event, here only those are touched in which something happens.
//!
//! ```no_run
//! use hyperion_sim::cloud::{Scenario, run};
//!
//! let scenario = Scenario::read(
//!     "[[datacenter]]
//!      name = 'east'
//!      [[datacenter.host]]
//!      cores = 1
//!      mips = 1000
//!
//!      [[broker]]
//!      name = 'one'
//!      [[broker.vm]]
//!      mips = 250
//!      [[broker.cloudlet]]
//!      count = 2
//!      length_mi = 10000",
//! )?;
//! let mut ends = Vec::new();
//! run(&scenario, |ran| ends.push(ran.finish)).expect("a scenario that was read");
//! assert_eq!(ends, [80.01, 80.01], "both share one core of 250 MIPS");
//! # Ok::<(), hyperion_sim::cloud::ReadError>(())
//! ```

mod allocator;
mod broker;
mod check;
mod clock;
mod datacenter;
mod dynamic;
mod events;
mod forecast;
mod host;
mod latency;
mod law;
mod network;
mod power;
mod read;
mod result;
mod run;
mod scenario;
mod utilization;
mod work;

pub use check::{Finding, Place, Step};
pub use law::{Law, Quantity};
pub use read::{ReadError, line};
pub use result::{Failures, Left, Ran, Scaled, Service, Summary, Why};
pub use run::{Finished, Simulation, run};
pub use scenario::{
    Allocation, Broker, Cloudlet, Cost, Datacenter, Dynamic, Failure, Fate, File, Host, Link,
    Network, Overload, Pause, Progress, Scaling, Scenario, Select, Sharing, Stage, Storage,
    Topology, Vm,
};
pub use utilization::{Measured, TraceError, Utilization};
