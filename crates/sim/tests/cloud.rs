//! Machines that are modelled, from the outside: CloudSim's own examples, what theory
//! says of queues, and what goes wrong.

use std::path::Path;

use hyperion_sim::cloud::{Ran, Scenario, Summary, run};

/// A cloudlet, its datacenter and VM, when it started, and when it had ended.
type Row = (u32, u32, u32, f64, f64);

fn read(text: &str) -> Scenario {
    Scenario::read(text).unwrap_or_else(|error| panic!("{error}"))
}

fn all(scenario: &Scenario) -> (Vec<Ran>, Summary) {
    let mut ran = Vec::new();
    let summary = run(scenario, |one| ran.push(one)).expect("a right scenario");
    // Little's law: what ended was there as long as it was there.
    if summary.left.is_empty() {
        let (stays, presence) = (summary.stays_s, summary.presence_s);
        assert!(
            (stays - presence).abs() <= 1e-9 * stays,
            "{stays} {presence}"
        );
    }
    (ran, summary)
}

/// Runs an example of CloudSim's, and compares what the first brokers got back, in order.
fn agrees(number: u32, brokers: u32, right: &[Row]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../../examples/sim/cloudsim-{number}.toml"));
    let scenario = read(&std::fs::read_to_string(file).expect("an example"));
    let (mut ran, _) = all(&scenario);
    ran.sort_by_key(|one| one.broker);
    let found: Vec<Row> = (ran.iter().filter(|one| one.broker < brokers))
        .map(|one| {
            let place = (one.cloudlet, one.datacenter, one.vm);
            (place.0, place.1, place.2, one.start, one.finish)
        })
        .collect();
    assert_eq!(found.len(), right.len(), "{found:?}");
    for (found, right) in found.iter().zip(right) {
        let same = (found.0, found.1, found.2) == (right.0, right.1, right.2)
            && (found.3 - right.3).abs() < 0.01
            && (found.4 - right.4).abs() < 0.01;
        assert!(same, "{found:?} not {right:?}");
    }
}

#[test]
fn examples_1_to_5_of_cloudsim_give_its_tables() {
    agrees(1, 1, &[(0, 0, 0, 0.01, 400.01)]);
    agrees(2, 1, &[(0, 0, 0, 0.01, 1000.01), (1, 0, 1, 0.01, 1000.01)]);
    agrees(3, 1, &[(1, 0, 1, 0.01, 80.01), (0, 0, 0, 0.01, 160.01)]);
    agrees(4, 1, &[(0, 0, 0, 0.02, 160.02), (1, 1, 1, 0.02, 160.02)]);
    agrees(5, 2, &[(0, 0, 0, 0.01, 160.01), (0, 1, 0, 0.02, 160.02)]);
}

#[test]
fn example_6_of_cloudsim_gives_its_table() {
    // VMs 4 and up have three cloudlets each, those before four.
    let three: [u32; 8] = [4, 5, 6, 7, 8, 10, 9, 11];
    let datacenter = |vm: u32| u32::from(vm > 5);
    let mut right: Vec<Row> = Vec::new();
    for vm in three {
        let row = |n: u32| (vm + 12 * n, datacenter(vm), vm, 0.02, 3.02);
        right.extend((0..3).map(row));
    }
    for vm in 0..4u32 {
        let row = |n: u32| (vm + 12 * n, datacenter(vm), vm, 0.02, 4.02);
        right.extend((0..4).map(row));
    }
    agrees(6, 1, &right);
}

#[test]
fn examples_7_and_8_of_cloudsim_give_their_tables() {
    let row = |shift: u32, start: f64| {
        move |n: u32| {
            let (turn, vm) = (n % 2, n / 2);
            (shift + vm + 5 * turn, 0, shift + vm, start, start + 320.0)
        }
    };
    let first: Vec<Row> = (0..10).map(row(0, 0.01)).collect();
    let second: Vec<Row> = (0..10).map(row(100, 200.01)).collect();
    agrees(7, 1, &first);
    agrees(8, 2, &[first, second].concat());
}

#[test]
fn example_9_of_cloudsim_gives_what_cloudsim_gives() {
    agrees(
        9,
        1,
        &[
            (3, 0, 1, 0.01, 10.01),
            (0, 0, 0, 0.01, 30.01),
            (4, 0, 1, 10.01, 110.01),
            (1, 0, 0, 0.01, 210.01),
            (2, 0, 0, 0.01, 1110.01),
            (5, 0, 1, 110.01, 1110.01),
        ],
    );
}

#[test]
fn what_one_may_not_expect_of_cloudsim_is_kept() {
    let scenario = read(
        "[[datacenter]]
         name = 'one'
         host = [{ cores = 6, mips = 1000 }]
         [[broker]]
         name = 'user'
         vm = [{ mips = 333 }, { cores = 2, mips = 500, scheduler = 'space-shared' }]
         cloudlet = [
             { count = 2, length_mi = 1000, vm = 0 },
             { length_mi = 7001, vm = 0 },
             { count = 3, length_mi = 5000, vm = 1 },
             { length_mi = 777, cores = 2, vm = 1 },
             { count = 2, length_mi = 5000, vm = 1 },
             { count = 2, length_mi = 1500, cores = 3, vm = 0 },
         ]",
    );
    // What CloudSim 7.0.1 gives: 7 starts only when something ends in the other VM,
    // though a core is free since 10 s; and all ends are seen a little early or late.
    let right = [
        (3, 0.01, 10.008006006006006),
        (4, 0.01, 10.008006006006006),
        (5, 10.008006006006006, 20.007513513513516),
        (7, 13.523513513513514, 23.523513513513514),
        (0, 0.01, 27.037027027027026),
        (1, 0.01, 27.037027027027026),
        (8, 20.007513513513516, 30.007027027027025),
        (6, 30.007027027027025, 31.561027027027023),
        (9, 0.01, 37.545011011011006),
        (10, 0.01, 37.545011011011006),
        (2, 0.01, 54.06405405405405),
    ];
    let (ran, _) = all(&scenario);
    let row = |one: &Ran| (one.cloudlet, one.start, one.finish);
    let found: Vec<(u32, f64, f64)> = ran.iter().map(row).collect();
    assert_eq!(found, right);
}

/// A queue with so many servers, and what its customers wait in the mean, after the
/// first of them; with the half of a 99 % interval from 20 runs.
fn waits(servers: u32, gap: f64) -> (f64, f64) {
    let mut means = Vec::new();
    for seed in 0..20 {
        let scenario = read(&format!(
            "min_time_between_events_s = 1e-6
             seed = {seed}
             [[datacenter]]
             name = 'one'
             [[datacenter.host]]
             cores = {servers}
             mips = 1e6
             [[broker]]
             name = 'customers'
             [[broker.vm]]
             cores = {servers}
             mips = 1e6
             scheduler = 'space-shared'
             [[broker.cloudlet]]
             count = 6000
             length_mi = {{ exponential = 1e7 }}
             gap_s = {{ exponential = {gap} }}"
        ));
        let (mut ran, summary) = all(&scenario);
        assert_eq!(summary.left, []);
        ran.sort_by_key(|one| one.cloudlet);
        let wait = |one: &Ran| one.start - one.submitted;
        let late = &ran[1000..];
        means.push(late.iter().map(wait).sum::<f64>() / late.len() as f64);
    }
    let runs = means.len() as f64;
    let mean = means.iter().sum::<f64>() / runs;
    let spread = means.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (runs - 1.0);
    // Student's t with 19 degrees of freedom.
    (mean, 2.861 * (spread / runs).sqrt())
}

#[test]
fn queues_of_one_and_of_three_servers_wait_as_theory_says() {
    // M/M/1: ρ / (1 − ρ) × 10 s.
    let (mean, half) = waits(1, 12.5);
    assert!((mean - 40.0).abs() < half && half < 6.0, "{mean} ± {half}");
    // M/M/3, Erlang C: with a = 2.4 and ρ = 0.8, C / (3 (1 − ρ)) × 10 s.
    let a: f64 = 2.4;
    let full = a.powi(3) / 6.0 / (1.0 - a / 3.0);
    let waits_at_all = full / (1.0 + a + a * a / 2.0 + full);
    let right = waits_at_all / (3.0 - a) * 10.0;
    let (mean, half) = waits(3, 10.0 / a);
    assert!(
        (mean - right).abs() < half && half < 2.0,
        "{mean} ± {half}, not {right}"
    );
}

#[test]
fn what_is_wrong_with_a_scenario_is_told_by_line() {
    let right = "[[datacenter]]
name = 'one'
[[datacenter.host]]
cores = 1
mips = 1000
[[broker]]
name = 'user'
[[broker.vm]]
mips = 100
[[broker.cloudlet]]
length_mi = 1000
";
    read(right);
    let told = |from: &str, to: &str| {
        let text = right.replace(from, to);
        assert_ne!(text, right);
        Scenario::read(&text).expect_err(to).to_string()
    };
    for (from, to, line, why) in [
        (
            "cores = 1",
            "corse = 1",
            4,
            "unknown field `corse`, expected one of",
        ),
        (
            "cores = 1",
            "cores = 0",
            4,
            "datacenter[0].host[0].cores: must be 1 at least",
        ),
        (
            "mips = 1000",
            "mips = nan",
            5,
            "host[0].mips: must be a number of MIPS",
        ),
        (
            "mips = 100\n",
            "mips = 100\ncount = 0\n",
            10,
            "broker[0].vm[0].count: must be",
        ),
        (
            "length_mi = 1000",
            "length_mi = { unifrom = [1, 2] }",
            11,
            "unknown variant `unifrom`",
        ),
        (
            "length_mi = 1000",
            "length_mi = { uniform = [2, 1] }",
            11,
            "a least number",
        ),
        (
            "length_mi = 1000",
            "length_mi = 'long'",
            11,
            "expected a number, or a law such as",
        ),
        (
            "length_mi = 1000",
            "length_mi = 9\nvm = 7",
            12,
            "the number of a VM of the broker",
        ),
        (
            "name = 'user'",
            "name = 'user'\npause = [{ from_s = 5, to_s = 2 }]",
            8,
            "later than",
        ),
        (
            "[[broker.vm]]\nmips = 100\n",
            "",
            8,
            "no cloudlets without a VM",
        ),
    ] {
        let told = told(from, to);
        assert!(
            told.contains(&format!("line {line}")) && told.contains(why),
            "{told}"
        );
    }
}

#[test]
fn the_schema_of_scenarios_has_the_keys_that_the_reader_has() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/scenario.schema.json");
    let text = std::fs::read_to_string(file).expect("a schema");
    let schema: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let center = "[[datacenter]]\nname = 'a'\n";
    let broker = "[[broker]]\nname = 'b'\n";
    for (table, before) in [
        ("", String::new()),
        ("datacenter", center.to_owned()),
        ("host", format!("{center}[[datacenter.host]]\n")),
        ("link", "[[link]]\n".to_owned()),
        ("cost", format!("{center}[datacenter.cost]\n")),
        ("dynamic", format!("{center}[datacenter.dynamic]\n")),
        (
            "failure",
            format!("{center}[[datacenter.host]]\n[datacenter.host.failure]\n"),
        ),
        ("storage", format!("{center}[[datacenter.storage]]\n")),
        (
            "file",
            format!("{center}[[datacenter.storage]]\n[[datacenter.storage.file]]\n"),
        ),
        ("network", format!("{center}[datacenter.network]\n")),
        ("broker", broker.to_owned()),
        ("scaling", format!("{broker}[broker.scaling]\n")),
        ("pause", format!("{broker}[[broker.pause]]\n")),
        ("vm", format!("{broker}[[broker.vm]]\n")),
        ("cloudlet", format!("{broker}[[broker.cloudlet]]\n")),
    ] {
        let told = Scenario::read(&format!("{before}nonsense = 1")).expect_err("no such key");
        let told = told.to_string();
        let line = told.lines().last().expect("a message");
        let mut known: Vec<&str> = line.split('`').skip(3).step_by(2).collect();
        known.sort_unstable();
        let of = match table {
            "" => &schema,
            table => &schema["$defs"][table],
        };
        let properties = of["properties"].as_object().expect(table);
        let mut keys: Vec<&str> = properties.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, known, "{table}");
    }
}

#[test]
fn each_allocation_chooses_the_host_that_it_says() {
    for (allocation, right) in [
        ("simple", [0, 2, 0]),
        ("first-fit", [0, 0, 0]),
        ("best-fit", [1, 1, 1]),
        ("worst-fit", [2, 2, 2]),
        ("round-robin", [0, 1, 2]),
    ] {
        let scenario = read(&format!(
            "[[datacenter]]
             name = 'one'
             allocation = '{allocation}'
             host = [
                 {{ cores = 2, mips = 3000 }},
                 {{ cores = 4, mips = 1000 }},
                 {{ cores = 8, mips = 700 }},
             ]
             [[broker]]
             name = 'user'
             vm = [{{ count = 3, mips = 500 }}]
             cloudlet = [{{ count = 3, length_mi = 1000 }}]"
        ));
        let (mut ran, _) = all(&scenario);
        ran.sort_by_key(|one| one.vm);
        let hosts: Vec<u32> = ran.iter().map(|one| one.host).collect();
        assert_eq!(hosts, right, "{allocation}");
    }
}

#[test]
fn what_isolation_takes_at_each_level_makes_work_longer_and_hosts_no_idler() {
    let scenario = |more: &str| {
        read(&format!(
            "stop_s = 1000
             [[datacenter]]
             name = 'one'
             {more}
             host = [{{ cores = 1, mips = 1000, power_watts = [100, 200] }}]
             [[broker]]
             name = 'user'
             vm = [{{ mips = 1000, overhead = [0.2, 0.5] }}]
             cloudlet = [{{ length_mi = 40000 }}]"
        ))
    };
    let (ran, summary) = all(&scenario(""));
    // 40 s of work at 0.8 × 0.5 of the speed.
    assert!((ran[0].finish - 100.01).abs() < 0.01, "{ran:?}");
    assert!((summary.hosts[0].2 - (0.01 * 100.0 + 100.0 * 200.0)).abs() < 1.0);
    let (ran, _) = all(&scenario("dynamic = { interval_s = 10 }"));
    assert!((ran[0].finish - 100.01).abs() < 0.01, "{ran:?}");
    let wrong = Scenario::read(
        "[[broker]]
name = 'user'
vm = [{ mips = 1, overhead = [1.5] }]",
    );
    let told = wrong.expect_err("a share above 1").to_string();
    assert!(
        told.contains("line 3: broker[0].vm[0].overhead: must be shares"),
        "{told}"
    );
}

#[test]
fn every_example_runs_and_all_of_its_keys_are_meant() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sim");
    let readme = std::fs::read_to_string(folder.join("README.md")).expect("a page");
    for entry in std::fs::read_dir(&folder).expect("examples") {
        let path = entry.expect("an example").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if !name.ends_with(".toml") {
            continue;
        }
        let number = name.starts_with("cloudsim-");
        assert!(
            number || readme.contains(&format!("[{name}]({name})")),
            "{name}"
        );
        let scenario = read(&std::fs::read_to_string(&path).expect("an example"));
        assert_eq!(scenario.notes(), [], "{name}");
        let hosts = scenario.datacenter.iter().flat_map(|its| &its.host);
        if hosts.map(|group| group.count).sum::<u32>() < 1000 {
            let (ran, summary) = all(&scenario);
            assert!(ran.len() + summary.left.len() > 0, "{name}");
        }
    }
}

#[test]
fn a_broker_that_stands_still_hears_later_and_a_datacenter_that_opens_is_asked() {
    let scenario = |pause: &str, opens: f64| {
        read(&format!(
            "[[datacenter]]
             name = 'small'
             host = [{{ cores = 1, mips = 1000 }}]
             [[datacenter]]
             name = 'late'
             start_s = {opens}
             host = [{{ cores = 1, mips = 1000 }}]
             [[broker]]
             name = 'user'
             pause = [{pause}]
             vm = [{{ count = 2, mips = 1000 }}]
             cloudlet = [{{ count = 2, length_mi = 1000 }}]"
        ))
    };
    let rows = |scenario: &Scenario| -> Vec<(u32, f64, f64)> {
        let (ran, _) = all(scenario);
        let row = |one: &Ran| (one.datacenter, one.start, one.finish);
        ran.iter().map(row).collect()
    };
    let near = |found: Vec<(u32, f64, f64)>, right: [(u32, f64, f64); 2]| {
        let same = |(a, b): (&(u32, f64, f64), &(u32, f64, f64))| {
            a.0 == b.0 && (a.1 - b.1).abs() < 0.001 && (a.2 - b.2).abs() < 0.001
        };
        assert!(
            found.iter().zip(&right).all(same),
            "{found:?} not {right:?}"
        );
    };
    near(rows(&scenario("", 0.0)), [(0, 0.02, 1.02), (1, 0.02, 1.02)]);
    // It opens before the first has said that it has no room.
    near(
        rows(&scenario("", 0.005)),
        [(0, 0.02, 1.02), (1, 0.02, 1.02)],
    );
    // It opens too late: both cloudlets share what there is.
    near(rows(&scenario("", 5.0)), [(0, 0.01, 2.01), (0, 0.01, 2.01)]);
    let pause = "{ from_s = 0.005, to_s = 50 }";
    near(
        rows(&scenario(pause, 0.0)),
        [(0, 50.01, 51.01), (1, 50.01, 51.01)],
    );
}
