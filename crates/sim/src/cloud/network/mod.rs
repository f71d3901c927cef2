//! Data on its way between hosts: flows over the links of a tree or of a fat tree, which
//! share them by max-min fairness.

mod fair;

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::events::{Event, Events, To};
use super::scenario::{Network, Topology};
use fair::fair;

/// Bits per second of a Mbit/s.
const MEGA: f64 = 1e6;

/// What is on its way.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Flows {
    /// Capacities of the links of datacenters, in bits per second.
    links: Vec<f64>,
    /// Those of VMs, by their places in the world's list.
    vms: Vec<f64>,
    under_way: Vec<Flow>,
    at: f64,
    /// The event that is waited for is the one with this number.
    plan: u32,
    sent: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Flow {
    cloudlet: u32,
    datacenter: u32,
    ways: Vec<u64>,
    latency: f64,
    bits: f64,
    rate: f64,
    end: f64,
}

/// A VM, or a container, that sends or receives, and where it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) vm: u32,
    /// The VM that it is on, where it is a container.
    pub(super) on: u32,
    pub(super) datacenter: u32,
    /// The number of its host in its datacenter.
    pub(super) host: u32,
}

/// The links of a datacenter, and where they stand among all.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Cables {
    begin: u64,
    topology: Topology,
    latency: [f64; 3],
    /// Hosts, edges, and aggregates; each has a way up and a way down, and in a fat tree
    /// several of both.
    counts: [u64; 3],
}

impl Flows {
    /// Begins with VMs that send so many Mbit/s; any where it is 0.
    pub(super) fn new(vms: impl Iterator<Item = u64>) -> Self {
        let bits = |mbps| match mbps {
            0 => f64::INFINITY,
            mbps => mbps as f64 * MEGA,
        };
        Self {
            vms: vms.map(bits).collect(),
            ..Self::default()
        }
    }

    /// Lays the cables of a datacenter with so many hosts.
    pub(super) fn lay(&mut self, network: &Network, hosts: u32) -> Cables {
        let begin = self.links.len() as u64;
        let hosts = u64::from(hosts);
        let counts = match network.topology {
            Topology::Tree {
                hosts_per_edge,
                edges_per_aggregate,
            } => {
                let edges = hosts.div_ceil(u64::from(hosts_per_edge));
                [hosts, edges, edges.div_ceil(u64::from(edges_per_aggregate))]
            }
            Topology::FatTree { ports } => {
                let ways = u64::from(ports) * u64::from(ports) * u64::from(ports) / 4;
                [ways; 3]
            }
        };
        let mbps = [network.edge_mbps, network.aggregate_mbps, network.root_mbps];
        for (count, mbps) in counts.iter().zip(mbps) {
            let ways = std::iter::repeat_n(mbps * MEGA, 2 * *count as usize);
            self.links.extend(ways);
        }
        Cables {
            begin,
            topology: network.topology,
            latency: [
                network.edge_latency_s,
                network.aggregate_latency_s,
                network.root_latency_s,
            ],
            counts,
        }
    }

    /// Whether an event with this number is still waited for.
    pub(super) const fn plans(&self, plan: u32) -> bool {
        self.plan == plan
    }

    /// Sends so many bytes for a cloudlet.
    pub(super) fn send(
        &mut self,
        cloudlet: u32,
        bytes: u64,
        (from, sender): (Place, Option<&Cables>),
        (to, receiver): (Place, Option<&Cables>),
        events: &mut Events,
    ) {
        let known = |vm: &u32| (*vm as usize) < self.vms.len();
        let own = [from.vm, from.on].into_iter().filter(known);
        let own = own.map(|vm| self.links.len() as u64 + u64::from(vm));
        let mut ways: Vec<u64> = own.collect();
        let turn = self.sent;
        self.sent += 1;
        let mut latency = 0.0;
        if from.datacenter == to.datacenter {
            if let Some(cables) = sender {
                latency += cables.between(from.host, to.host, turn, &mut ways);
            }
        } else {
            for (cables, host, down) in [(sender, from.host, false), (receiver, to.host, true)] {
                if let Some(cables) = cables {
                    latency += cables.outside(host, turn, down, &mut ways);
                }
            }
        }
        self.settle(events.now().0);
        self.under_way.push(Flow {
            cloudlet,
            datacenter: to.datacenter,
            ways,
            latency,
            bits: 8.0 * bytes as f64,
            rate: 0.0,
            end: 0.0,
        });
        self.share(events);
    }

    /// Lets what has come through arrive, after its latency.
    pub(super) fn arrive(&mut self, events: &mut Events) {
        let now = events.now().0;
        self.settle(now);
        self.under_way.retain(|flow| {
            let under_way = flow.end > now;
            if !under_way {
                let event = Event::Deliver {
                    cloudlet: flow.cloudlet,
                };
                let to = To::Datacenter(flow.datacenter);
                events.post(Moment(now + flow.latency), to, event);
            }
            under_way
        });
        self.share(events);
    }

    fn settle(&mut self, now: f64) {
        let time = now - self.at;
        self.at = now;
        for flow in &mut self.under_way {
            if time > 0.0 {
                flow.bits = (flow.bits - flow.rate * time).max(0.0);
            }
        }
    }

    /// Gives all their rates, and waits for the first that comes through.
    fn share(&mut self, events: &mut Events) {
        let ways: Vec<&[u64]> = self.under_way.iter().map(|flow| &*flow.ways).collect();
        let rates = fair(&ways, |link| {
            let vm = link.checked_sub(self.links.len() as u64);
            vm.map_or_else(|| self.links[link as usize], |vm| self.vms[vm as usize])
        });
        let mut first = f64::INFINITY;
        for (flow, rate) in self.under_way.iter_mut().zip(rates) {
            if flow.rate != rate {
                flow.rate = rate;
                flow.end = self.at + flow.bits / rate;
            }
            first = first.min(flow.end);
        }
        self.plan = self.plan.wrapping_add(1);
        let event = Event::Flow { plan: self.plan };
        events.post(Moment(first), To::Network, event);
    }
}

impl Cables {
    /// Adds the links between two hosts. Gives the latency of the switches on the way.
    fn between(&self, from: u32, to: u32, turn: u64, ways: &mut Vec<u64>) -> f64 {
        let [edge, aggregate, root] = self.latency;
        let (up, down) = (self.path(from, turn), self.path(to, turn));
        if from == to {
            return 0.0;
        }
        let level = match () {
            () if self.edge(from) == self.edge(to) => 0,
            () if self.pod(from) == self.pod(to) => 1,
            () => 2,
        };
        ways.extend((0..=level).map(|level| self.link(level, up[level], false)));
        ways.extend((0..=level).map(|level| self.link(level, down[level], true)));
        [
            edge,
            2.0 * edge + aggregate,
            2.0 * (edge + aggregate) + root,
        ][level]
    }

    /// Adds the links between a host and the outside.
    fn outside(&self, host: u32, turn: u64, down: bool, ways: &mut Vec<u64>) -> f64 {
        let path = self.path(host, turn);
        ways.extend((0..3).map(|level| self.link(level, path[level], down)));
        self.latency.iter().sum()
    }

    fn link(&self, level: usize, number: u64, down: bool) -> u64 {
        let below: u64 = self.counts[..level].iter().map(|count| 2 * count).sum();
        self.begin + below + 2 * number + u64::from(down)
    }

    /// The edge switch of a host.
    fn edge(&self, host: u32) -> u64 {
        u64::from(host)
            / match self.topology {
                Topology::Tree { hosts_per_edge, .. } => u64::from(hosts_per_edge),
                Topology::FatTree { ports } => u64::from(ports) / 2,
            }
    }

    /// The aggregate switch of a host, or its pod.
    fn pod(&self, host: u32) -> u64 {
        self.edge(host)
            / match self.topology {
                Topology::Tree {
                    edges_per_aggregate,
                    ..
                } => u64::from(edges_per_aggregate),
                Topology::FatTree { ports } => u64::from(ports) / 2,
            }
    }

    /// The links from a host up, one at each level. In a fat tree flows take the ways of
    /// the same length in turns.
    fn path(&self, host: u32, turn: u64) -> [u64; 3] {
        let (edge, pod) = (self.edge(host), self.pod(host));
        match self.topology {
            Topology::Tree { .. } => [u64::from(host), edge, pod],
            Topology::FatTree { ports } => {
                let half = u64::from(ports) / 2;
                let (one, two) = (turn % half, turn / half % half);
                [
                    u64::from(host),
                    edge * half + one,
                    (pod * half + one) * half + two,
                ]
            }
        }
    }
}
