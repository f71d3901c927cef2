//! Datacenters that follow what VMs ask for, beside CloudSim 7.0.1, and by hand.

#[allow(dead_code, reason = "each test file needs a part")]
mod common;

use common::{all, read};
use std::fmt::Write as _;

use hyperion_sim::cloud::{Scenario, Service, Simulation, Why, run};

fn near(found: f64, right: f64) -> bool {
    (found - right).abs() <= 1e-9 * right.abs()
}

/// The hosts and VMs of CloudSim's `power` examples, 24 VMs for 24 cloudlets whose
/// utilization changes every five minutes; `more` is said of each cloudlet.
fn day(datacenter: &str, hosts: u32, more: impl Fn(u64) -> String) -> String {
    let mut text = format!(
        "stop_s = 86400
         [[datacenter]]
         name = 'east'
         {datacenter}\n"
    );
    for host in 0..hosts {
        let (mips, watts) = match host % 2 {
            0 => (
                1860,
                "86, 89.4, 92.6, 96, 99.5, 102, 106, 108, 112, 114, 117",
            ),
            _ => (
                2660,
                "93.7, 97, 101, 105, 110, 116, 121, 125, 129, 133, 135",
            ),
        };
        let _ = writeln!(
            text,
            "[[datacenter.host]]
             cores = 2
             mips = {mips}
             memory_mib = 4096
             storage_mib = 1000000
             bandwidth_mbps = 1000
             power_watts = [{watts}]"
        );
    }
    text += "[[broker]]\nname = 'user'\n";
    for (mips, memory) in [(2500, 870), (2000, 1740), (1000, 1740), (500, 613)] {
        let _ = writeln!(
            text,
            "[[broker.vm]]
             count = 6
             mips = {mips}
             memory_mib = {memory}
             storage_mib = 2500
             bandwidth_mbps = 100"
        );
    }
    for vm in 0..24u64 {
        let share = |n: u64| (1 + (vm * 37 + n * n * 11 + vm * n * 7) % 100) as f64 / 100.0;
        let values: Vec<f64> = (0..288).map(share).collect();
        let _ = writeln!(
            text,
            "[[broker.cloudlet]]
             utilization = {{ every_s = 300, values = {values:?} }}
             {}",
            more(vm)
        );
    }
    text
}

fn moving(overload: &str, select: &str) -> String {
    format!(
        "allocation = 'power-aware'
         [datacenter.dynamic]
         interval_s = 300
         overload = {{ {overload} }}
         select = '{select}'"
    )
}

const NO_MEMORY: &str = "utilization_memory = 0\nutilization_bandwidth = 0";

fn service(text: &str) -> Service {
    let (_, summary) = all(text);
    assert_eq!(summary.end, 86400.0);
    summary.services[0]
}

#[test]
fn migrations_and_energy_of_a_day_are_those_of_cloudsim() {
    let long = |_| format!("length_mi = 216000000\n{NO_MEMORY}");
    let (mmt, mu) = ("minimum-migration-time", "minimum-utilization");
    // Joules, migrations, shutdowns, and in percent: SLA, its two factors, overall and
    // average violation.
    for (overload, select, joules, migrations, shutdowns, shares) in [
        (
            "static = 0.8",
            mmt,
            7.115052389170277e7,
            2162,
            587,
            [0.01079, 0.20, 5.40, 0.35, 12.36],
        ),
        (
            "static = 0.8",
            mu,
            7.389240063689518e7,
            2500,
            657,
            [0.02040, 0.24, 8.38, 0.54, 12.82],
        ),
        (
            "iqr = 1.5",
            mmt,
            8.095654035391079e7,
            2158,
            572,
            [0.00754, 0.17, 4.40, 0.22, 10.98],
        ),
        (
            "mad = 2.5",
            mu,
            8.031993679166299e7,
            2484,
            635,
            [0.01377, 0.21, 6.61, 0.31, 11.64],
        ),
        (
            "local-regression = 1.2",
            mmt,
            6.060463454822008e7,
            835,
            237,
            [0.00534, 0.05, 10.34, 1.65, 10.98],
        ),
    ] {
        let found = service(&day(&moving(overload, select), 16, long));
        assert!(near(found.joules, joules), "{overload} {select}: {found:?}");
        assert_eq!(
            (found.migrations, found.host_shutdowns),
            (migrations, shutdowns)
        );
        for (found, (right, digits)) in [
            found.sla,
            found.sla_degradation_due_to_migration,
            found.sla_time_per_active_host,
            found.sla_overall,
            found.sla_average,
        ]
        .into_iter()
        .zip(shares.into_iter().zip([1e-5, 1e-2, 1e-2, 1e-2, 1e-2]))
        {
            let off = (found * 100.0 - right).abs();
            assert!(off < 0.51 * digits, "{overload} {select}: {found}");
        }
    }
}

#[test]
fn memory_that_is_used_keeps_machines_where_they_are_as_in_cloudsim() {
    let long = |_| "length_mi = 216000000".to_owned();
    let text = day(&moving("static = 0.8", "minimum-migration-time"), 16, long);
    let found = service(&text);
    assert!(near(found.joules, 8.431254633514608e7), "{found:?}");
    assert_eq!(found.migrations, 109);
}

#[test]
fn without_migration_hosts_draw_what_they_draw_in_cloudsims_dvfs() {
    let how = "allocation = 'first-fit'\ndynamic = { interval_s = 300 }";
    let found = service(&day(how, 30, |_| {
        format!("length_mi = 216000000\n{NO_MEMORY}")
    }));
    assert!(near(found.joules, 9.09257207882855e7), "{found:?}");
    assert_eq!(
        (found.migrations, found.host_shutdowns, found.sla_overall),
        (0, 20, 0.0)
    );
}

#[test]
fn cloudlets_that_move_end_when_they_end_in_cloudsim() {
    let short = |vm| format!("length_mi = {}\n{NO_MEMORY}", 5_000_000 + 100_000 * vm);
    let text = day(&moving("static = 0.8", "minimum-migration-time"), 16, short);
    let (ran, summary) = all(&text);
    let right: [(u32, f64); 24] = [
        (3, 3300.01),
        (5, 3900.01),
        (1, 3900.01),
        (4, 3900.01),
        (0, 4200.01),
        (10, 4800.01),
        (2, 4800.01),
        (11, 5400.01),
        (8, 5700.01),
        (6, 6300.01),
        (7, 6600.01),
        (9, 7500.01),
        (17, 11700.01),
        (16, 12600.01),
        (12, 12600.01),
        (15, 12900.01),
        (14, 14700.01),
        (13, 14700.01),
        (18, 23400.010000000002),
        (21, 25800.010000000002),
        (19, 26100.010000000002),
        (22, 26400.010000000002),
        (20, 28500.010000000002),
        (23, 31500.010000000002),
    ];
    let found: Vec<(u32, f64)> = ran.iter().map(|one| (one.cloudlet, one.finish)).collect();
    assert_eq!(found, right);
    let service = summary.services[0];
    assert!(near(service.joules, 8243717.078041968), "{service:?}");
    assert_eq!((service.migrations, summary.left), (197, Vec::new()));
    // What hosts drew was for VMs, but for what they drew while none used them.
    let sum = |drawn: &[(u32, u32, f64)]| drawn.iter().map(|(_, _, joules)| joules).sum::<f64>();
    let (hosts, vms) = (sum(&summary.hosts), sum(&summary.vms));
    assert!(
        near(hosts, service.joules) && vms <= hosts && vms > 0.5 * hosts,
        "{vms} {hosts}"
    );
}

#[test]
fn a_scenario_with_chance_gives_the_same_twice_and_another_with_another_seed() {
    let text = |seed: u32| {
        format!(
            "seed = {seed}
             stop_s = 20000
             [[datacenter]]
             name = 'one'
             allocation = 'power-aware'
             dynamic = {{ interval_s = 100, overload = {{ static = 0.7 }}, select = 'random' }}
             host = [{{ count = 6, cores = 2, mips = 1000, bandwidth_mbps = 1000, power_watts = [50, 100] }}]
             [[broker]]
             name = 'user'
             vm = [{{ count = 9, mips = 900, memory_mib = 512 }}]
             cloudlet = [{{ count = 9, length_mi = 1e9, utilization = {{ uniform = [0, 1] }} }}]"
        )
    };
    let (_, one) = all(&text(1));
    assert_eq!(all(&text(1)).1, one);
    assert_ne!(all(&text(2)).1.services, one.services);
    assert!(one.services[0].migrations > 0);
    assert!(one.left.iter().all(|left| left.why == Why::Stopped));
}

#[test]
fn what_a_cloudlet_and_a_machine_cost_is_added_up() {
    let (ran, summary) = all("[[datacenter]]
         name = 'one'
         cost = { per_second = 3, per_byte = 0.5, per_memory_mib = 0.05, per_storage_mib = 0.001 }
         host = [{ cores = 1, mips = 1000 }]
         [[broker]]
         name = 'user'
         vm = [{ mips = 1000, memory_mib = 512, storage_mib = 10000 }]
         cloudlet = [{ length_mi = 4000, input_bytes = 300, output_bytes = 200 }]");
    // 4 s, 500 bytes; 512 and 10000 MiB.
    let cloudlet = 3.0 * (ran[0].finish - ran[0].start) + 250.0;
    assert!(
        near(ran[0].cost, cloudlet) && near(cloudlet, 262.0),
        "{cloudlet}"
    );
    assert!(
        near(summary.cost, cloudlet + 25.6 + 10.0),
        "{}",
        summary.cost
    );
}

#[test]
fn a_host_with_too_much_to_do_gives_each_its_part_in_whole_mips() {
    let end = |length: u32| {
        let (ran, summary) = all(&format!(
            "[[datacenter]]
             name = 'one'
             allocation = 'first-fit'
             dynamic = {{ interval_s = 10 }}
             host = [{{ cores = 1, mips = 1000 }}]
             [[broker]]
             name = 'first'
             vm = [{{ mips = 800 }}]
             [[broker.cloudlet]]
             length_mi = 200000
             utilization = {{ every_s = 10, values = [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1] }}
             [[broker]]
             name = 'second'
             start_s = 22
             vm = [{{ mips = 600 }}]
             cloudlet = [{{ length_mi = {length} }}]"
        ));
        assert_eq!(summary.left, []);
        let its = ran.iter().find(|one| one.broker == 1).expect("it ended");
        (its.finish * 100.0).round() / 100.0
    };
    // It is given nothing until the next look, at 32.01 s, and then 600 MIPS. At 92.01 s the
    // other asks for 480.4, so this one has 600 × 1000 / 1080.4 MIPS; from 102.01 s on 600 ×
    // 1000 / 1400.
    let until_122 = 600 * 60 + 555 * 10 + 428 * 20;
    assert_eq!(end(until_122), 122.01);
    assert_eq!(end(until_122 + 2), 132.01);
}

#[test]
fn a_trace_is_read_and_what_is_none_is_told_by_line() {
    let scenario = || {
        read(
            "stop_s = 900
             [[datacenter]]
             name = 'one'
             dynamic = { interval_s = 300 }
             host = [{ cores = 1, mips = 1000 }]
             [[broker]]
             name = 'user'
             vm = [{ count = 3, mips = 100 }]
             cloudlet = [{ count = 3, length_mi = 1e9, utilization = { every_s = 300, trace = 'day' } }]",
        )
    };
    let told = |text: &str| {
        let files = |path: &str| Ok::<_, std::io::Error>(vec![(format!("{path}/a"), text.into())]);
        scenario()
            .read_traces(files)
            .expect_err("no trace")
            .to_string()
    };
    assert_eq!(
        told("50\nhalf\n"),
        "day/a, line 2: must be a percentage from 0 to 100"
    );
    assert_eq!(
        told("101\n"),
        "day/a, line 1: must be a percentage from 0 to 100"
    );
    assert_eq!(told(""), "day/a: has no line");
    let mut right = scenario();
    let files = vec![("a".into(), "10\n10".into()), ("b".into(), "20".into())];
    right
        .read_traces(|_| Ok::<_, std::io::Error>(files.clone()))
        .expect("traces");
    assert!(run(&right, |_| ()).is_ok());
    let error = run(&scenario(), |_| ()).expect_err("it was not read");
    assert_eq!(
        error.to_string(),
        "broker[0].cloudlet[0].utilization: must be read: its trace is not there"
    );
}

#[test]
fn what_is_wrong_with_a_dynamic_datacenter_is_told_by_line() {
    let right = "[[datacenter]]
name = 'one'
allocation = 'power-aware'
[datacenter.dynamic]
interval_s = 300
overload = { static = 0.8 }
[[datacenter.host]]
cores = 1
mips = 1000
bandwidth_mbps = 1000
power_watts = [1, 2]
[[broker]]
name = 'user'
vm = [{ mips = 9 }]
[[broker.cloudlet]]
length_mi = 9
utilization = 0.5
";
    read(right);
    for (from, to, line, why) in [
        (
            "interval_s = 300",
            "interval_s = 0",
            5,
            "dynamic.interval_s: must be 0.001 s at least",
        ),
        (
            "static = 0.8",
            "sttaic = 0.8",
            6,
            "unknown variant `sttaic`",
        ),
        (
            "static = 0.8",
            "static = -1",
            6,
            "dynamic.overload: must be a number",
        ),
        (
            "power_watts = [1, 2]\n",
            "",
            7,
            "power_watts: must be there",
        ),
        (
            "bandwidth_mbps = 1000\n",
            "",
            7,
            "bandwidth_mbps: must be there",
        ),
        (
            "mips = 1000\n",
            "mips = 1000\nscheduler = 'space-shared'\n",
            10,
            "time-shared",
        ),
        (
            "[datacenter.dynamic]\ninterval_s = 300\noverload = { static = 0.8 }\n",
            "",
            3,
            "power-aware is for",
        ),
        (
            "utilization = 0.5",
            "utilization = 1.5",
            17,
            "a share from 0 to 1",
        ),
        (
            "utilization = 0.5",
            "utilization = { every_s = 9, vales = [1] }",
            17,
            "unknown field `vales`",
        ),
        (
            "utilization = 0.5",
            "utilization = { every_s = 9 }",
            17,
            "or a trace",
        ),
        (
            "utilization = 0.5",
            "utilization = { unifrom = [0, 1] }",
            17,
            "unknown variant `unifrom`",
        ),
        (
            "name = 'one'\n",
            "name = 'one'\ncost = { per_second = -1 }\n",
            3,
            "cost.per_second: must be a price",
        ),
        (
            "[[datacenter]]",
            "stop_s = -1\n[[datacenter]]",
            1,
            "stop_s: must be a time",
        ),
    ] {
        let text = right.replacen(from, to, 1);
        assert_ne!(text, right);
        let told = Scenario::read(&text).expect_err(to).to_string();
        assert!(
            told.contains(&format!("line {line}")) && told.contains(why),
            "{told}"
        );
    }
}

#[test]
fn of_machines_on_a_full_host_the_one_leaves_that_the_others_predict_best() {
    // The second and the third go up and down together, the first as it likes. The third
    // has the most memory: it moves last where that decides.
    let text = |select: &str, rounds: u32| {
        let wave = |at: f64| 0.35 + 0.1 * (at * 1.7).sin();
        let values = |number: u32| -> Vec<f64> {
            let at = |round: u32| match (round + 1 < rounds, number) {
                (false, _) => 0.9,
                (_, 0) => wave(f64::from(round * round)),
                (_, _) => wave(f64::from(round)),
            };
            (0..rounds + 3).map(at).collect()
        };
        let mut text = format!(
            "stop_s = {}
             [[datacenter]]
             name = 'east'
             dynamic = {{ interval_s = 10, overload = {{ static = 0.8 }}, select = '{select}' }}
             allocation = 'first-fit'
             host = [{{ count = 2, cores = 3, mips = 1000, memory_mib = 9000, bandwidth_mbps = 10000, power_watts = [50, 100] }}]
             [[broker]]
             name = 'user'
             vm = [{{ mips = 1000, memory_mib = 300 }}, {{ mips = 1000, memory_mib = 400 }}, {{ mips = 1000, memory_mib = 500 }}]
             ",
            10 * rounds + 20
        );
        for number in 0..3 {
            let _ = writeln!(
                text,
                "[[broker.cloudlet]]
                 vm = {number}
                 length_mi = 1e9
                 utilization_memory = 0
                 utilization = {{ every_s = 10, values = {:?} }}",
                values(number)
            );
        }
        text
    };
    let moved = |select: &str, rounds: u32| -> Vec<u32> {
        let scenario = read(&text(select, rounds));
        let mut simulation = Simulation::new(scenario).expect("a right scenario");
        simulation.run(f64::INFINITY);
        let (_, summary) = simulation.finish().into_parts();
        assert!(summary.services[0].migrations > 0, "{summary:?}");
        let drawn = |vm: u32| {
            summary
                .vms
                .iter()
                .find(|its| its.1 == vm)
                .map_or(0.0, |its| its.2)
        };
        let mut vms = [0, 1, 2];
        // Who is alone on a host draws most.
        vms.sort_by(|one, two| drawn(*two).total_cmp(&drawn(*one)));
        vms[..1].to_vec()
    };
    assert_eq!(moved("minimum-migration-time", 20), [0]);
    assert_eq!(moved("maximum-correlation", 20), [1]);
    // Three looks say nothing of three machines.
    assert_eq!(moved("maximum-correlation", 3), [0]);
}
