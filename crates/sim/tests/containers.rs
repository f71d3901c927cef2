//! Containers on virtual machines on hosts.

#[allow(dead_code, reason = "each test file needs a part")]
mod common;

use std::collections::BTreeMap;

use common::{all, read};
use hyperion_sim::cloud::{Ran, Scenario, Why};

fn near(found: f64, right: f64) {
    assert!((found - right).abs() < 1e-6, "{found}, not {right}");
}

/// Broker, container, VM, start, finish, by cloudlet.
fn rows(text: &str) -> Vec<(Option<u32>, u32, f64, f64)> {
    let (mut ran, summary) = all(text);
    assert_eq!(summary.left, []);
    ran.sort_by_key(|one| one.cloudlet);
    let cents = |time: f64| (time * 100.0).round() / 100.0;
    let row = |one: &Ran| (one.container, one.vm, cents(one.start), cents(one.finish));
    ran.iter().map(row).collect()
}

fn east(broker: &str) -> String {
    format!(
        "[[datacenter]]
         name = 'east'
         host = [{{ count = 2, cores = 8, mips = 1000, memory_mib = 8192, power_watts = [50, 130] }}]
         [[broker]]
         name = 'user'
         {broker}"
    )
}

#[test]
fn cloudlets_share_their_container_and_containers_their_vm() {
    let text = east(
        "vm = [{ cores = 2, mips = 1000, memory_mib = 1024 }]
         container = [{ mips = 500, memory_mib = 256 }, { cores = 2, mips = 250, memory_mib = 256, scheduler = 'space-shared' }]
         cloudlet = [
             { count = 2, length_mi = 5000, container = 0 },
             { count = 3, length_mi = 5000, container = 1 },
         ]",
    );
    // VMs are there after 0.01 s, containers after 0.02 s.
    assert_eq!(
        rows(&text),
        [
            (Some(0), 0, 0.02, 20.02),
            (Some(0), 0, 0.02, 20.02),
            (Some(1), 0, 0.02, 20.02),
            (Some(1), 0, 0.02, 20.02),
            (Some(1), 0, 20.02, 40.02),
        ]
    );
}

#[test]
fn a_vm_is_to_its_containers_what_a_host_is_to_its_vms() {
    for sharing in ["time-shared", "space-shared"] {
        for inner in ["time-shared", "space-shared"] {
            let guests = format!(
                "{{ count = 3, cores = 2, mips = 300, scheduler = '{inner}' }}, {{ mips = 700, scheduler = '{inner}' }}"
            );
            let text = |host: &str, broker: &str| {
                format!(
                    "seed = 5
                     min_time_between_events_s = 1e-6
                     [[datacenter]]
                     name = 'east'
                     host = [{{ cores = 8, mips = 1000, scheduler = '{host}' }}]
                     [[broker]]
                     name = 'user'
                     start_s = 1
                     {broker}
                     cloudlet = [{{ count = 60, length_mi = {{ uniform = [1000, 9000] }}, gap_s = {{ exponential = 2 }} }}]"
                )
            };
            let (plain, left) = all(&text(sharing, &format!("vm = [{guests}]")));
            let nested = text(
                "time-shared",
                &format!(
                    "vm = [{{ cores = 8, mips = 1000, scheduler = '{sharing}' }}]\ncontainer = [{guests}]"
                ),
            );
            let (found, none) = all(&nested);
            assert_eq!((plain.len(), left.left, none.left), (60, vec![], vec![]));
            let by_number = |ran: &[Ran]| -> BTreeMap<u32, Ran> {
                ran.iter().map(|one| (one.cloudlet, *one)).collect()
            };
            for (plain, found) in by_number(&plain).values().zip(by_number(&found).values()) {
                assert_eq!((Some(plain.vm), found.vm), (found.container, 0));
                // One answer more: a millionth of a second, at each turn of a look.
                assert!(
                    (found.start - plain.start).abs() < 0.03,
                    "{plain:?} {found:?}"
                );
                assert!(
                    (found.finish - plain.finish).abs() < 0.03,
                    "{plain:?} {found:?}"
                );
            }
        }
    }
}

#[test]
fn each_allocation_chooses_the_vm_that_it_says() {
    for (allocation, right) in [
        ("simple", [0, 0, 2]),
        ("first-fit", [0, 0, 0]),
        ("best-fit", [1, 1, 1]),
        ("worst-fit", [2, 2, 2]),
        ("round-robin", [0, 1, 2]),
    ] {
        let text = east(&format!(
            "container_allocation = '{allocation}'
             vm = [{{ cores = 2, mips = 1000 }}, {{ cores = 3, mips = 500 }}, {{ cores = 6, mips = 300 }}]
             container = [{{ count = 3, mips = 150 }}]
             cloudlet = [{{ count = 3, length_mi = 1500 }}]"
        ));
        let vms: Vec<u32> = rows(&text).iter().map(|row| row.1).collect();
        assert_eq!(vms, right, "{allocation}");
    }
}

#[test]
fn isolation_takes_its_part_at_both_levels_and_hosts_see_the_whole() {
    let text = east(
        "vm = [{ mips = 1000, overhead = [0.2] }]
         container = [{ mips = 1000, overhead = [0.5] }]
         cloudlet = [{ length_mi = 40000 }]",
    );
    assert_eq!(rows(&text), [(Some(0), 0, 0.02, 100.02)]);
    let (_, summary) = all(&text);
    // 0.02 s idle, 100 s at an eighth of the MIPS; and the other host idle.
    near(summary.hosts[0].2, 0.02 * 50.0 + 100.0 * 60.0);
    near(summary.vms[0].2, 100.0 * 60.0);
    assert_eq!(summary.containers, summary.vms);
}

#[test]
fn what_containers_draw_is_what_their_vms_draw() {
    let text = east(
        "vm = [{ count = 4, cores = 4, mips = 800, memory_mib = 1024 }]
         container = [{ count = 13, mips = 700, memory_mib = 200 }]
         cloudlet = [{ count = 80, length_mi = { uniform = [500, 9000] }, gap_s = 0.7 }]",
    );
    let (ran, summary) = all(&text);
    assert_eq!((ran.len(), summary.containers.len()), (80, 13));
    let mut by_vm: BTreeMap<u32, f64> = BTreeMap::new();
    for (broker, container, joules) in &summary.containers {
        assert!(*broker == 0 && *joules > 0.0);
        let vm = ran.iter().find(|one| one.container == Some(*container));
        *by_vm.entry(vm.expect("it had one").vm).or_default() += joules;
    }
    for (_, vm, joules) in &summary.vms {
        near(by_vm.get(vm).copied().unwrap_or(0.0), *joules);
    }
}

#[test]
fn data_goes_over_the_bandwidth_of_the_container_and_of_its_vm() {
    let text = |vm: u32, container: u32| {
        east(&format!(
            "vm = [{{ count = 2, cores = 8, mips = 1000, bandwidth_mbps = {vm} }}]
             container_allocation = 'round-robin'
             container = [{{ count = 2, mips = 1000, bandwidth_mbps = {container} }}]
             cloudlet = [
                 {{ container = 0, stages = [{{ run = 1000 }}, {{ send = {{ to = 1, bytes = 10000000 }} }}] }},
                 {{ container = 1, stages = [{{ receive = 0 }}, {{ run = 1000 }}] }},
             ]"
        ))
    };
    // 80 Mbit after a second, then another second of work.
    for (vm, container, right) in [(8, 4, 22.0), (8, 8, 12.0)] {
        let (ran, _) = all(&text(vm, container));
        let last = ran.iter().find(|one| one.cloudlet == 1).expect("it ended");
        assert!((last.finish - right).abs() < 0.1, "{last:?}");
    }
}

#[test]
fn containers_go_down_with_the_host_of_their_vm_and_begin_anew() {
    let text = east(
        "vm = [{ mips = 1000 }]
         container = [{ mips = 1000 }]
         cloudlet = [{ length_mi = 50000 }]",
    )
    .replace(
        "count = 2, cores",
        "failure = { after_s = 80, repair_s = 20 }, cores",
    )
    .replace("name = 'user'", "name = 'user'\nstart_s = 60");
    let (ran, _) = all(&format!("stop_s = 175\n{text}"));
    assert_eq!(ran.len(), 1);
    // Down from 80 to 100 s.
    near(ran[0].start, 100.0);
    assert!((ran[0].finish - 150.0).abs() < 0.03, "{ran:?}");
}

#[test]
fn a_container_without_room_is_told_and_so_is_what_was_for_it() {
    let text = "stop_s = 99
[[datacenter]]
name = 'east'
host = [{ cores = 4, mips = 1000 }]
[[broker]]
name = 'user'
[[broker.vm]]
cores = 2
mips = 1000
memory_mib = 512
[[broker.container]]
mips = 1000
[[broker.container]]
mips = 900
memory_mib = 1024
[[broker.cloudlet]]
length_mi = 1000
container = 0
[[broker.cloudlet]]
length_mi = 1000
container = 1
";
    let notes = read(text).notes();
    let told: Vec<String> = notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["broker[0].container[1].memory_mib: more than any VM of the broker has"]
    );
    let (ran, summary) = all(text);
    assert_eq!((ran.len(), ran[0].cloudlet), (1, 0));
    assert_eq!(summary.left[0].why, Why::ContainerNotMade);
    let none = text.replace(
        "mips = 1000\n[[broker.container]]",
        "mips = 2000\n[[broker.container]]",
    );
    let (ran, summary) = all(&none);
    assert_eq!(ran, []);
    assert!(summary.left.iter().all(|left| left.why == Why::NoContainer));
    for (from, to, why) in [
        (
            "container = 1\n",
            "container = 2\n",
            "line 21: broker[0].cloudlet[1].container: must be the number of a container",
        ),
        (
            "container = 1\n",
            "vm = 0\n",
            "line 21: broker[0].cloudlet[1].vm: must be none: cloudlets of the broker run in its containers",
        ),
        (
            "mips = 900",
            "mips = 0",
            "line 14: broker[0].container[1].mips: must be a number of MIPS",
        ),
        (
            "name = 'user'\n",
            "name = 'user'\ncontainer_allocation = 'power-aware'\n",
            "line 7: broker[0].container_allocation: must be another one",
        ),
        (
            "name = 'user'\n",
            "name = 'user'\nscaling = { most = 2, every_s = 1, above = 1, below = 0 }\n",
            "broker[0].scaling: must be none: its cloudlets run in containers",
        ),
        (
            "name = 'east'\n",
            "name = 'east'\ndynamic = { interval_s = 5 }\n",
            "broker[0].container: must be none where there is a dynamic datacenter",
        ),
        (
            "memory_mib = 1024",
            "memory_mb = 1024",
            "unknown field `memory_mb`",
        ),
    ] {
        let text = text.replacen(from, to, 1);
        let told = Scenario::read(&text).expect_err(to).to_string();
        assert!(told.contains(why), "{told}");
    }
}
