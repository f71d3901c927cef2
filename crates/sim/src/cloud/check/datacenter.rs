use std::collections::BTreeSet;

use super::super::scenario::{
    Allocation, Datacenter, Host, Network, Overload, Sharing, Storage, Topology, Vm,
};
use super::{Finding, Place, rule, speed, time};

impl Datacenter {
    pub(super) fn check(&self, place: &Place) -> Result<(), Finding> {
        time(self.start_s, place.key("start_s"))?;
        rule(
            !self.host.is_empty(),
            place.key("host"),
            "one host at least",
        )?;
        for (number, host) in self.host.iter().enumerate() {
            let place = place.key("host").index(number);
            rule(host.count > 0, place.key("count"), "1 at least")?;
            rule(host.cores > 0, place.key("cores"), "1 at least")?;
            speed(host.mips, place.key("mips"))?;
            if let Some(failure) = host.failure {
                let place = place.key("failure");
                for (key, quantity) in
                    [("after_s", failure.after_s), ("repair_s", failure.repair_s)]
                {
                    if let Some(right) = quantity.wrong() {
                        return Err(place.key(key).says(format!("must be {right}")));
                    }
                }
            }
            for (key, watts) in [
                ("power_watts", &host.power_watts),
                ("gpu_power_watts", &host.gpu_power_watts),
            ] {
                let good = watts.len() != 1 && watts.iter().all(|w| w.is_finite() && *w >= 0.0);
                rule(
                    good,
                    place.key(key),
                    "two numbers at least, each 0 at least",
                )?;
            }
            host.check_parts(&place)?;
        }
        for (number, storage) in self.storage.iter().enumerate() {
            storage.check(&place.key("storage").index(number))?;
        }
        let cost = &self.cost;
        for (key, price) in [
            ("per_second", cost.per_second),
            ("per_byte", cost.per_byte),
            ("per_memory_mib", cost.per_memory_mib),
            ("per_storage_mib", cost.per_storage_mib),
        ] {
            let good = (0.0..=1e12).contains(&price);
            rule(good, place.key("cost").key(key), "a price from 0 to 1e12")?;
        }
        if let Some(network) = &self.network {
            let hosts = self.host.iter().map(|host| u64::from(host.count)).sum();
            network.check(&place.key("network"), hosts)?;
        }
        self.check_dynamic(place)
    }

    fn check_dynamic(&self, place: &Place) -> Result<(), Finding> {
        let Some(dynamic) = &self.dynamic else {
            let fixed = self.allocation != Allocation::PowerAware;
            return rule(
                fixed,
                place.key("allocation"),
                "another one: power-aware is for a datacenter with a table `dynamic`",
            );
        };
        let here = place.key("dynamic");
        rule(
            (1e-3..1e12).contains(&dynamic.interval_s),
            here.key("interval_s"),
            "0.001 s at least",
        )?;
        if let Some(overload) = dynamic.overload {
            let (Overload::Static(number)
            | Overload::Iqr(number)
            | Overload::Mad(number)
            | Overload::LocalRegression(number)) = overload;
            let good = (0.0..=1e6).contains(&number);
            rule(good, here.key("overload"), "a number from 0 to 1e6")?;
        }
        for (number, host) in self.host.iter().enumerate() {
            let place = place.key("host").index(number);
            rule(
                host.scheduler == Sharing::TimeShared,
                place.key("scheduler"),
                "time-shared: VMs of a dynamic datacenter share cores",
            )?;
            let plain = host.gpus == 0 && host.numa_nodes == 1;
            let right = "not there, nor numa_nodes: a dynamic datacenter has neither";
            rule(plain, place.key("gpus"), right)?;
            let moves = dynamic.overload.is_some();
            let chosen = moves || self.allocation == Allocation::PowerAware;
            rule(
                !chosen || !host.power_watts.is_empty(),
                place.key("power_watts"),
                "there: the host is chosen by what it draws",
            )?;
            rule(
                !moves || host.bandwidth_mbps.is_some_and(|mbps| mbps > 0),
                place.key("bandwidth_mbps"),
                "there, and 1 at least: VMs move over it",
            )?;
        }
        Ok(())
    }
}

impl Storage {
    fn check(&self, place: &Place) -> Result<(), Finding> {
        let good = (1e-6..=1e12).contains(&self.bandwidth_mbps);
        let right = "a number of Mbit/s from 1e-6 to 1e12";
        rule(good, place.key("bandwidth_mbps"), right)?;
        time(self.latency_s, place.key("latency_s"))?;
        let mut names = BTreeSet::new();
        let mut free = self
            .capacity_mib
            .map_or(u128::MAX, |mib| u128::from(mib) << 20);
        for (number, file) in self.file.iter().enumerate() {
            let place = place.key("file").index(number);
            rule(
                names.insert(&file.name),
                place.key("name"),
                "a name of its own",
            )?;
            let left = free.checked_sub(file.bytes.into());
            free = left.ok_or_else(|| {
                place
                    .key("bytes")
                    .says(format!("must be {free} at most: so much is free there"))
            })?;
        }
        Ok(())
    }
}

impl Network {
    fn check(&self, place: &Place, hosts: u64) -> Result<(), Finding> {
        for (key, mbps) in [
            ("edge_mbps", self.edge_mbps),
            ("aggregate_mbps", self.aggregate_mbps),
            ("root_mbps", self.root_mbps),
        ] {
            let good = (1e-6..=1e12).contains(&mbps);
            rule(good, place.key(key), "a number of Mbit/s from 1e-6 to 1e12")?;
        }
        for (key, latency) in [
            ("edge_latency_s", self.edge_latency_s),
            ("aggregate_latency_s", self.aggregate_latency_s),
            ("root_latency_s", self.root_latency_s),
        ] {
            time(latency, place.key(key))?;
        }
        let place = place.key("topology");
        match self.topology {
            Topology::Tree {
                hosts_per_edge,
                edges_per_aggregate,
            } => rule(
                hosts_per_edge > 0 && edges_per_aggregate > 0,
                place,
                "a tree with 1 host at an edge switch and 1 of these at an aggregate switch at least",
            ),
            Topology::FatTree { ports } => {
                let most = u64::from(ports).pow(3) / 4;
                let even = ports % 2 == 0 && (2..=128).contains(&ports);
                rule(
                    even && hosts <= most,
                    place,
                    "a fat tree with ports from 2 to 128, an even number, a quarter of whose cube is enough for all hosts",
                )
            }
        }
    }
}

impl Host {
    /// Checks its GPUs and its NUMA nodes.
    fn check_parts(&self, place: &Place) -> Result<(), Finding> {
        let drawing = self.gpus > 0 || self.gpu_power_watts.is_empty();
        let right = "not there without gpus";
        rule(drawing, place.key("gpu_power_watts"), right)?;
        if self.gpus > 0 {
            speed(self.gpu_mips, place.key("gpu_mips"))?;
        }
        let nodes = (1..=64).contains(&self.numa_nodes);
        rule(nodes, place.key("numa_nodes"), "a number from 1 to 64")?;
        let share = (0.0..=0.99).contains(&self.numa_overhead);
        rule(share, place.key("numa_overhead"), "a share from 0 to 0.99")
    }

    /// Gives the key of what it has too little of for a VM, be it ever so empty.
    pub(super) fn lacks(&self, vm: &Vm) -> Option<&'static str> {
        let all = self.mips * f64::from(self.cores);
        let small = |has: Option<u64>, needs: u64| has.is_some_and(|has| has < needs);
        let whole = self.scheduler == Sharing::SpaceShared;
        [
            ("mips", self.mips < vm.mips),
            ("cores", all < vm.mips * f64::from(vm.cores)),
            ("cores", whole && self.cores < vm.cores),
            ("gpus", self.gpus < vm.gpus),
            ("memory_mib", small(self.memory_mib, vm.memory_mib)),
            ("storage_mib", small(self.storage_mib, vm.storage_mib)),
            (
                "bandwidth_mbps",
                small(self.bandwidth_mbps, vm.bandwidth_mbps),
            ),
        ]
        .into_iter()
        .find_map(|(key, lacks)| lacks.then_some(key))
    }
}
