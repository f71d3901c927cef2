//! GPUs and NUMA nodes of hosts.

#[allow(dead_code, reason = "each test file needs a part")]
mod common;

use common::all;
use hyperion_sim::cloud::{Ran, Scenario};

/// A host with GPUs, and what comes behind it.
fn host(parts: &str, rest: &str) -> String {
    format!(
        "[[datacenter]]
        name = 'lab'
        host = [{{ cores = 8, mips = 1000, {parts} }}]
        [[broker]]
        name = 'team'
        {rest}"
    )
}

/// Starts and ends of cloudlets, by their numbers, from the first start on.
fn times(scenario: &str) -> Vec<(f64, f64)> {
    let (mut ran, _) = all(scenario);
    ran.sort_by_key(|its| its.cloudlet);
    let first = ran.iter().map(|its| its.start).fold(f64::MAX, f64::min);
    ran.iter()
        .map(|its| (its.start - first, its.finish - first))
        .collect()
}

#[track_caller]
fn near(found: &[(f64, f64)], right: &[(f64, f64)]) {
    let close = |one: f64, other: f64| (one - other).abs() < 0.1;
    let all = found.iter().zip(right);
    let same = all
        .clone()
        .all(|(one, other)| close(one.0, other.0) && close(one.1, other.1));
    assert!(
        found.len() == right.len() && same,
        "{found:?}, not {right:?}"
    );
}

#[test]
fn who_finds_no_gpu_free_waits_for_one() {
    let scenario = host(
        "gpus = 2, gpu_mips = 5000",
        "vm = [{ cores = 2, mips = 1000, gpus = 2 }]
        cloudlet = [
            { count = 3, gpus = 1, length_mi = 50000 },
            { gpus = 2, length_mi = 10000 },
            { length_mi = 8000 },
        ]",
    );
    // Ten seconds each on one of two; who wants both waits for both, and who wants none does
    // not wait.
    let right = [
        (0.0, 10.0),
        (0.0, 10.0),
        (10.0, 20.0),
        (20.0, 22.0),
        (0.0, 8.0),
    ];
    near(&times(&scenario), &right);
}

#[test]
fn vms_have_gpus_whole_and_one_for_which_there_are_too_few_is_not_made() {
    let scenario = host(
        "gpus = 3, gpu_mips = 1000",
        "vm = [{ count = 2, mips = 1000, gpus = 2 }]
        cloudlet = [{ count = 2, gpus = 2, length_mi = 1000 }]",
    );
    // Both take their turns on the one that is.
    let (ran, _) = all(&scenario);
    assert!(ran.iter().all(|its| its.vm == 0), "{ran:?}");
    near(&times(&scenario), &[(0.0, 1.0), (1.0, 2.0)]);
    let notes = |vm: &str| {
        let rest = format!("vm = [{{ mips = 1000, gpus = {vm} }}]");
        let scenario = Scenario::read(&host("gpus = 3, gpu_mips = 1000", &rest)).expect("right");
        let notes = scenario.notes();
        notes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(notes("3"), Vec::<String>::new());
    let told = notes("4");
    assert_eq!(told[1], "broker[0].vm[0].gpus: more than any host has");
}

#[test]
fn a_job_computes_on_cores_and_then_on_a_gpu() {
    let scenario = host(
        "gpus = 1, gpu_mips = 1000",
        "vm = [{ cores = 2, mips = 1000, gpus = 1 }]
        [[broker.cloudlet]]
        count = 2
        gpus = 1
        stages = [{ run = 2000 }, { gpu = 5000 }, { run = 1000 }]",
    );
    // Both prepare at once, and one after another has the GPU.
    near(&times(&scenario), &[(0.0, 8.0), (0.0, 13.0)]);
}

#[test]
fn containers_have_gpus_of_their_vm() {
    let scenario = host(
        "gpus = 2, gpu_mips = 1000",
        "vm = [{ cores = 4, mips = 1000, gpus = 2 }]
        container = [{ count = 2, mips = 1000, gpus = 1 }]
        cloudlet = [{ count = 4, gpus = 1, length_mi = 10000 }]",
    );
    let right = [(0.0, 10.0), (0.0, 10.0), (10.0, 20.0), (10.0, 20.0)];
    near(&times(&scenario), &right);
}

#[test]
fn what_gpus_draw_is_counted_beside_what_cores_do() {
    let scenario = host(
        "gpus = 4, gpu_mips = 1000, gpu_power_watts = [100, 500], power_watts = [50, 50]",
        "vm = [{ mips = 1000, gpus = 4 }]
        cloudlet = [{ gpus = 1, length_mi = 10000 }, { gpus = 3, length_mi = 10000 }]",
    );
    let (ran, summary) = all(&scenario);
    let of = |number: u32| {
        let mut ran = ran.iter();
        let its: &Ran = ran.find(|its| its.cloudlet == number).expect("it ran");
        its.joules.expect("it is metered")
    };
    // Both at once: 500 W of which a quarter is the first's. The host itself idles.
    assert!(
        (of(0) - 1250.0).abs() < 15.0 && (of(1) - 3750.0).abs() < 45.0,
        "{ran:?}"
    );
    let [(_, _, joules)] = summary.hosts[..] else {
        panic!("{:?}", summary.hosts);
    };
    let idle: f64 = summary.idle.iter().sum();
    assert!((joules - idle - of(0) - of(1)).abs() < 1e-6, "{summary:?}");
    assert!(
        (joules - summary.end * 150.0 - 4000.0).abs() < 50.0,
        "{summary:?}"
    );
}

#[test]
fn a_vm_that_no_numa_node_has_room_for_is_slower() {
    // Seconds that a cloudlet takes in each VM.
    let lies = |parts: &str, vms: &str| {
        let scenario = format!(
            "[[datacenter]]
            name = 'lab'
            host = [{{ cores = 10, mips = 1000, {parts} }}]
            [[broker]]
            name = 'team'
            vm = [{vms}]
            cloudlet = [{{ count = 3, length_mi = 10000 }}]"
        );
        let took = |(start, end): (f64, f64)| (10.0 * (end - start)).round() / 10.0;
        times(&scenario).into_iter().map(took).collect::<Vec<_>>()
    };
    let three = "{ count = 3, cores = 3, mips = 1000, memory_mib = 4 }";
    let two = "numa_nodes = 2, numa_overhead = 0.2";
    // Five cores on each node: the third has two on each.
    assert_eq!(lies(two, three), [10.0, 10.0, 12.5]);
    assert_eq!(lies("numa_overhead = 0.2", three), [10.0, 10.0, 10.0]);
    // Cores enough on each, but memory for one.
    let small = "{ count = 3, cores = 1, mips = 1000, memory_mib = 30 }";
    let memory = format!("{two}, memory_mib = 100");
    assert_eq!(lies(&memory, small), [10.0, 10.0, 12.5]);
    // The node with the least room that is enough is taken, so that the large one fits too.
    let mixed = "{ cores = 2, mips = 1000 }, { id = 1, cores = 3, mips = 1000 }, { id = 2, cores = 5, mips = 1000 }";
    assert_eq!(lies(two, mixed), [10.0, 10.0, 10.0]);
}

#[test]
fn a_vm_that_moves_has_the_gpus_of_its_new_host() {
    let scenario = "stop_s = 1000
        [[datacenter]]
        name = 'lab'
        allocation = 'first-fit'
        [[datacenter.host]]
        cores = 1
        mips = 1000
        gpus = 1
        gpu_mips = 1000
        failure = { after_s = 5, repair_s = 900, vms = 'move', progress = 'keep' }
        [[datacenter.host]]
        cores = 1
        mips = 1000
        gpus = 1
        gpu_mips = 500
        [[broker]]
        name = 'team'
        vm = [{ mips = 1000, gpus = 1 }]
        cloudlet = [{ gpus = 1, length_mi = 10000 }]";
    let (ran, _) = all(scenario);
    // Half of it on the first, and half at half the speed.
    let took = ran[0].finish - ran[0].start;
    assert!((took - 15.0).abs() < 0.2, "{ran:?}");
    assert_eq!(ran[0].host, 1);
}

#[test]
fn what_is_wrong_with_gpus_and_nodes_is_told_with_its_place() {
    let told = |parts: &str, rest: &str| {
        let read = Scenario::read(&host(parts, rest));
        read.expect_err("it is wrong").to_string()
    };
    for (parts, rest, right) in [
        ("gpus = 1", "", "datacenter[0].host[0].gpu_mips"),
        (
            "gpu_power_watts = [1, 2]",
            "",
            "must be not there without gpus",
        ),
        ("numa_nodes = 0", "", "must be a number from 1 to 64"),
        ("numa_overhead = 1", "", "must be a share from 0 to 0.99"),
        (
            "gpus = 1, gpu_mips = 1",
            "vm = [{ mips = 1 }]\ncloudlet = [{ gpus = 1, length_mi = 1 }]",
            "broker[0].cloudlet[0].gpus: must be no more than each machine that it may get has",
        ),
        (
            "gpus = 1, gpu_mips = 1",
            "vm = [{ mips = 1, gpus = 1 }]\ncloudlet = [{ stages = [{ gpu = 5 }] }]",
            "broker[0].cloudlet[0].stages[0]: must be for a cloudlet with gpus",
        ),
    ] {
        let found = told(parts, rest);
        assert!(found.contains(right), "{found}");
    }
}
