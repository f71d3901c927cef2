//! What the simulator reads: scenarios, snapshots, and logs of jobs.

use hyperion_formats::swf;
use hyperion_sim::cloud::{Scenario, Simulation, line, run};
use sha2::{Digest as _, Sha256};

use super::texts;
use crate::Target;

/// So many things of a kind are simulated at most.
const MOST: u64 = 50;
/// So many looks of a dynamic datacenter are.
const LOOKS: f64 = 1000.0;

pub(super) const SCENARIO: Target = Target {
    name: "scenario",
    about: "a scenario of the simulator in TOML: what is told of it lies inside, and a small one runs to an end at which no cloudlet is lost",
    run: |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(scenario) = Scenario::read(&text) else {
            return;
        };
        for note in scenario.notes() {
            assert!(line(&text, &note.place) <= text.matches('\n').count() + 1);
        }
        let hosts = || scenario.datacenter.iter().flat_map(|its| &its.host);
        let brokers = scenario.broker.iter();
        let vms = brokers.flat_map(|its| its.vm.iter().chain(&its.container));
        let cloudlets = scenario.broker.iter().flat_map(|its| &its.cloudlet);
        let all: u64 = cloudlets.map(|group| u64::from(group.count)).sum();
        let small = all < MOST
            && hosts().map(|group| u64::from(group.count)).sum::<u64>() < MOST
            && vms.map(|group| u64::from(group.count)).sum::<u64>() < MOST;
        let stop = scenario.stop_s.unwrap_or(f64::INFINITY);
        let dynamic = scenario.datacenter.iter().flat_map(|its| &its.dynamic);
        let fails = hosts().any(|host| host.failure.is_some());
        let scales = scenario.broker.iter().flat_map(|its| &its.scaling);
        let scales = scales.into_iter().any(|its| its.most > 9);
        let often = fails || scenario.broker.iter().any(|its| its.scaling.is_some());
        let small = small && !scales && (!often || stop < 1.0);
        let small = small && dynamic.into_iter().all(|its| stop / its.interval_s < LOOKS);
        if small {
            let mut ended = 0;
            let summary = run(&scenario, |_| ended += 1).expect("it was checked");
            assert_eq!((summary.cloudlets, ended), (ended, ended));
            assert_eq!(ended + summary.left.len() as u64, all);
        }
    },
    seeds: || {
        texts(&[
            "seed = 1\n[[datacenter]]\nname = 'a'\n[[datacenter.host]]\ncores = 2\nmips = 1000\n[[broker]]\nname = 'b'\n[[broker.vm]]\ncount = 2\nmips = 500\n[[broker.cloudlet]]\ncount = 4\nlength_mi = 1000\n",
            "[[datacenter]]\nname = 'a'\nstart_s = 1\nallocation = 'round-robin'\nhost = [{ cores = 1, mips = 9, memory_mib = 7, power_watts = [1, 2] }]\n[[broker]]\nname = 'b'\nstart_s = 2\npause = [{ from_s = 1, to_s = 3 }]\nvm = [{ id = 3, cores = 2, mips = 4, scheduler = 'space-shared' }]\ncloudlet = [{ count = 3, length_mi = { uniform = [1, 99] }, gap_s = { exponential = 5 }, cores = 2, vm = 3 }]\n",
            "[[datacenter]]\nname = 'a'\nhost = [{ count = 4, cores = 2, mips = 9 }]\nnetwork = { topology = { tree = { hosts_per_edge = 2, edges_per_aggregate = 1 } }, edge_mbps = 1, aggregate_mbps = 2, root_mbps = 3, root_latency_s = 1 }\n[[broker]]\nname = 'b'\nvm = [{ count = 4, mips = 8 }]\ncloudlet = [{ stages = [{ run = 5 }, { send = { to = 1, bytes = 9 } }, { run = 2 }] }, { stages = [{ receive = 0 }, { run = 3 }] }]\n",
            "stop_s = 0.9\n[[datacenter]]\nname = 'a'\nhost = [{ count = 2, cores = 2, mips = 9, power_watts = [1, 2], failure = { after_s = { weibull = [2, 0.1] }, repair_s = 0.2 } }]\n[[broker]]\nname = 'b'\nvm = [{ count = 2, mips = 8 }]\ncloudlet = [{ count = 3, length_mi = 2 }]\n",
            "stop_s = 0.9\n[[datacenter]]\nname = 'a'\nhost = [{ count = 2, cores = 2, mips = 900 }]\n[[broker]]\nname = 'b'\nscaling = { most = 3, every_s = 0.02, above = 0.5, below = 0.2, cool_down_s = 0.03 }\nvm = [{ mips = 800 }]\ncloudlet = [{ count = 9, length_mi = 80, gap_s = { exponential = 0.05 } }]\n",
            "[[datacenter]]\nname = 'a'\nhost = [{ cores = 4, mips = 9 }]\nstorage = [{ capacity_mib = 1, bandwidth_mbps = 8, latency_s = 1, file = [{ name = 'f', bytes = 9 }] }]\n[[broker]]\nname = 'b'\ncontainer_allocation = 'best-fit'\nvm = [{ count = 2, cores = 2, mips = 8, memory_mib = 4, overhead = [0.1] }]\ncontainer = [{ count = 3, mips = 4, memory_mib = 2, scheduler = 'space-shared' }]\ncloudlet = [{ count = 4, length_mi = 5, files = ['f'] }, { length_mi = 5, container = 1 }]\n",
            "stop_s = 0.9\n[[datacenter]]\nname = 'a'\ndynamic = { interval_s = 0.1, select = 'maximum-correlation', overload = { static = 0.5 } }\nhost = [{ count = 3, cores = 2, mips = 900, bandwidth_mbps = 99, power_watts = [1, 2], failure = { after_s = 0.3, repair_s = 0.2, vms = 'move', progress = 'keep' } }]\n[[broker]]\nname = 'b'\nscaling = { most = 3, every_s = 0.2, above = 0.5, below = 0.2 }\nvm = [{ count = 2, mips = 800, bandwidth_mbps = 9 }]\ncloudlet = [{ stages = [{ run = 99 }, { send = { to = 1, bytes = 9 } }] }, { stages = [{ receive = 0 }, { run = 99 }] }]\n",
            "stop_s = 90\nlink = [{ between = ['a', 'b'], latency_s = 2 }]\n[[datacenter]]\nname = 'a'\nallocation = 'power-aware'\ncost = { per_second = 2 }\ndynamic = { interval_s = 5, overload = { static = 0.5 }, select = 'random' }\nhost = [{ count = 3, cores = 2, mips = 9, memory_mib = 7, bandwidth_mbps = 1, power_watts = [1, 2] }]\n[[broker]]\nname = 'b'\nvm = [{ count = 3, mips = 8, memory_mib = 2 }]\ncloudlet = [{ count = 3, length_mi = 99, input_bytes = 3, utilization = { uniform = [0, 1] }, utilization_memory = { every_s = 4, values = [0, 1] } }]\n",
        ])
    },
    words: &[
        "[[datacenter]]",
        "[[datacenter.host]]",
        "[[datacenter.storage]]",
        "[[broker.container]]",
        "progress = 'keep'",
        "vms = 'move'",
        "[[broker]]",
        "[[broker.vm]]",
        "[[broker.cloudlet]]",
        "name = 'x'",
        "count = ",
        "cores = ",
        "mips = ",
        "length_mi = ",
        "submit_s = ",
        "gap_s = ",
        "start_s = ",
        "min_time_between_events_s = ",
        "stop_s = ",
        "scaling = { most = 3, every_s = 0.02, above = 0.5, below = 0.2 }",
        "failure = { after_s = 0.1, repair_s = 0.1 }",
        "stages = [{ run = 1 }, { send = { to = 0, bytes = 9 } }]",
        "{ receive = 0 }",
        "fat-tree = { ports = 4 }",
        "[[link]]",
        "between = ['a', 'b']",
        "latency_s = ",
        "interval_s = ",
        "every_s = ",
        "utilization = ",
        "dynamic = ",
        "iqr = ",
        "mad = ",
        "local-regression = ",
        "power-aware",
        "{ uniform = [1, 2] }",
        "{ pareto = [0.1, 1] }",
        "'space-shared'",
        "1e12",
        "1e-3",
        "\n",
    ],
};

/// How a snapshot begins; its digest follows.
const HEAD: &[u8] = b"hyperion simulation 2\n";
/// Bytes of a digest.
const DIGEST: usize = 32;

pub(super) const SNAPSHOT: Target = Target {
    name: "snapshot",
    about: "a snapshot of a simulation, with its digest put right: what is read of it is written so that it is read again",
    run: |bytes| {
        // As it is; and with a digest that lets it through.
        let _ = Simulation::resume(bytes);
        let digest = Sha256::digest(bytes);
        if let Ok(simulation) = Simulation::resume(&[HEAD, &digest, bytes].concat()) {
            let written = simulation.snapshot().expect("it was read");
            assert!(Simulation::resume(&written).is_ok());
        }
    },
    seeds: || {
        let texts = (SCENARIO.seeds)();
        let at = |text: Vec<u8>, time: f64| {
            let scenario = Scenario::read(&String::from_utf8_lossy(&text)).expect("a seed");
            let mut simulation = Simulation::new(scenario).expect("a seed");
            simulation.run(time);
            simulation
                .snapshot()
                .expect("a seed")
                .split_off(HEAD.len() + DIGEST)
        };
        let all = texts.into_iter().map(|text| at(text, 0.5));
        all.collect()
    },
    words: &["\0", "\u{1}", "\u{7f}", "\0\0\0\0\0\0\0\0"],
};

pub(super) const SWF: Target = Target {
    name: "swf",
    about: "a log in the Standard Workload Format: what is read of a line is written so that it is read again",
    run: |bytes| {
        for said in swf::lines(bytes) {
            if let Ok(swf::Said::Job(job)) = said {
                let written = swf::write(&[], &[job]);
                let mut again = swf::lines(written.as_bytes());
                assert!(
                    matches!(again.next(), Some(Ok(swf::Said::Job(_)))),
                    "{written}"
                );
            }
        }
    },
    seeds: || {
        texts(&[
            "; MaxProcs: 8\n1 10 0 10 4 1.5 -1 4 20 -1 1 1 1 1 1 1 -1 -1\n",
            "2 5 -1 -1 4 -1 -1 -1 -1 -1 0 -1 -1 -1 -1 -1 -1 -1\n",
        ])
    },
    words: &[
        "-1",
        " ",
        ";",
        "1e9",
        "9223372036854775807",
        "\n",
        "nan",
        ".",
    ],
};
