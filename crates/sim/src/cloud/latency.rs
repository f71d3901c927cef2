use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::scenario::Scenario;

/// How long messages take between brokers and datacenters: CloudSim's `NetworkTopology`,
/// where they take the way with the least latency.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Latency {
    /// For each broker, seconds to each datacenter; empty where there are no links.
    ways: Vec<Vec<f64>>,
}

impl Latency {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut links: BTreeMap<&str, Vec<(&str, f64)>> = BTreeMap::new();
        for link in &scenario.link {
            let [one, two] = &link.between;
            links.entry(one).or_default().push((two, link.latency_s));
            links.entry(two).or_default().push((one, link.latency_s));
        }
        let ways = |from: &str| {
            let times = times(&links, from);
            let to = |name: &str| times.get(name).copied().unwrap_or(0.0);
            let centers = scenario.datacenter.iter();
            centers.map(|its| to(&its.name)).collect()
        };
        let brokers = scenario.broker.iter().filter(|_| !links.is_empty());
        Self {
            ways: brokers.map(|its| ways(&its.name)).collect(),
        }
    }

    /// Seconds between a broker and a datacenter, by their places in the scenario.
    pub(super) fn between(&self, broker: u32, datacenter: u32) -> f64 {
        match self.ways.get(broker as usize) {
            Some(ways) => ways[datacenter as usize],
            None => 0.0,
        }
    }
}

/// Gives the least time to each place that can be reached (Dijkstra).
fn times<'n>(
    links: &BTreeMap<&'n str, Vec<(&'n str, f64)>>,
    from: &'n str,
) -> BTreeMap<&'n str, f64> {
    let mut times = BTreeMap::new();
    let mut next = BTreeSet::from([(Moment(0.0), from)]);
    while let Some((time, place)) = next.pop_first() {
        if times.contains_key(place) {
            continue;
        }
        times.insert(place, time.0);
        for (to, latency) in links.get(place).into_iter().flatten() {
            next.insert((Moment(time.0 + latency), *to));
        }
    }
    times
}
