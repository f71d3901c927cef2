//! Simulations that are cut anywhere, written, read and gone on with.

use std::fmt::Write as _;

use hyperion_sim::Seed;
use hyperion_sim::cloud::{Ran, Scenario, Simulation, Summary};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;
use sha2::{Digest as _, Sha256};

/// Draws what scenarios are made of.
struct Draw(ChaCha8Rng);

impl Draw {
    fn below(&mut self, most: u64) -> u64 {
        self.0.next_u64() % most
    }

    fn of<'t>(&mut self, words: &[&'t str]) -> &'t str {
        words[self.below(words.len() as u64) as usize]
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 0
    }

    fn share(&mut self) -> f64 {
        self.below(1 << 20) as f64 / f64::from(1 << 20)
    }

    fn sharing(&mut self, by_time: bool) -> &'static str {
        match by_time || self.yes() {
            true => "time-shared",
            false => "space-shared",
        }
    }

    /// Makes a scenario of containers, hosts that fail, brokers that scale, cloudlets that send data,
    /// a dynamic datacenter, or none of these.
    fn scenario(&mut self) -> String {
        let kind = self.of(&[
            "plain", "nested", "fails", "scales", "sends", "dynamic", "devices",
        ]);
        let mut text = format!("seed = {}\nstop_s = 400\n", self.below(1000));
        if self.yes() {
            let latency = self.share();
            writeln!(
                text,
                "link = [{{ between = ['c0', 'b0'], latency_s = {latency} }}]"
            )
            .expect("a string");
        }
        for number in 0..1 + self.below(2) {
            self.datacenter(number, kind, &mut text);
        }
        for number in 0..1 + self.below(2) {
            self.broker(number, kind, &mut text);
        }
        text
    }

    fn datacenter(&mut self, number: u64, kind: &str, text: &mut String) {
        let (start, count, cores) = (self.below(2), 2 + self.below(12), 1 + self.below(4));
        let policy = self.of(&[
            "simple",
            "first-fit",
            "best-fit",
            "worst-fit",
            "round-robin",
        ]);
        writeln!(
            text,
            "[[datacenter]]\nname = 'c{number}'\nstart_s = {start}\nallocation = '{policy}'\ncost = {{ per_second = 0.3, per_memory_mib = 0.1 }}"
        )
        .expect("a string");
        if kind == "dynamic" || kind == "sends" && self.yes() {
            let overload = self.of(&[
                "static = 0.7",
                "iqr = 1.5",
                "mad = 2.5",
                "local-regression = 1.2",
            ]);
            let select = self.of(&[
                "random",
                "minimum-utilization",
                "minimum-migration-time",
                "maximum-correlation",
            ]);
            writeln!(
                text,
                "dynamic = {{ interval_s = 7, overload = {{ {overload} }}, select = '{select}' }}"
            )
            .expect("a string");
        }
        if kind == "sends" && self.yes() {
            let topology = self.of(&[
                "tree = { hosts_per_edge = 2, edges_per_aggregate = 2 }",
                "fat-tree = { ports = 4 }",
            ]);
            writeln!(text, "network = {{ topology = {{ {topology} }}, edge_mbps = 10, aggregate_mbps = 15, root_mbps = 5, root_latency_s = 0.1 }}").expect("a string");
        }
        let (fate, progress) = (self.of(&["wait", "move"]), self.of(&["lose", "keep"]));
        let progress = if kind == "sends" { "keep" } else { progress };
        let others = ["dynamic", "sends", "devices"].contains(&kind);
        let failure = match kind == "fails" || others && self.yes() {
            true => format!(
                "failure = {{ after_s = {{ weibull = [2, 60] }}, repair_s = {{ uniform = [1, 20] }}, vms = '{fate}', progress = '{progress}' }},"
            ),
            false => String::new(),
        };
        writeln!(
            text,
            "storage = [{{ bandwidth_mbps = 100, file = [{{ name = 'file', bytes = 40000000 }}] }}]"
        )
        .expect("a string");
        let devices = match kind {
            "devices" => {
                "gpus = 4, gpu_mips = 900, gpu_power_watts = [5, 90], numa_nodes = 2, numa_overhead = 0.1,"
            }
            _ => "",
        };
        let sharing = self.sharing(kind == "dynamic" || kind == "sends");
        writeln!(
            text,
            "host = [{{ count = {count}, cores = {cores}, mips = 1000, memory_mib = 4096, bandwidth_mbps = 1000, scheduler = '{sharing}', {devices} {failure} power_watts = [50, 70, 100] }}]"
        )
        .expect("a string");
    }

    fn broker(&mut self, number: u64, kind: &str, text: &mut String) {
        writeln!(
            text,
            "[[broker]]\nname = 'b{number}'\nstart_s = {}",
            self.below(9)
        )
        .expect("a string");
        if self.yes() {
            writeln!(text, "pause = [{{ from_s = 20, to_s = 35.5 }}]").expect("a string");
        }
        if kind == "scales" || kind == "dynamic" && self.yes() {
            writeln!(
                text,
                "scaling = {{ most = 9, every_s = 3, above = 0.6, below = 0.3, cool_down_s = 5 }}"
            )
            .expect("a string");
        }
        let sharing = self.sharing(kind == "sends" || kind == "dynamic");
        let (count, mips, memory) = (
            1 + self.below(5),
            200 + self.below(700),
            64 + self.below(900),
        );
        let gpus = if kind == "devices" { 2 } else { 0 };
        writeln!(
            text,
            "vm = [{{ gpus = {gpus}, count = {count}, mips = {mips}, memory_mib = {memory}, bandwidth_mbps = 10, scheduler = '{sharing}', overhead = [0.03] }}]"
        )
        .expect("a string");
        if kind == "nested" || kind == "fails" && self.yes() {
            let (count, mips) = (1 + self.below(9), 50 + self.below(300));
            let sharing = self.sharing(false);
            writeln!(
                text,
                "container = [{{ count = {count}, mips = {mips}, scheduler = '{sharing}', overhead = [0.01] }}]"
            )
            .expect("a string");
        }
        if kind == "sends" {
            let bytes = 1 + self.below(50_000_000);
            writeln!(
                text,
                "cloudlet = [
                     {{ stages = [{{ run = 9000 }}, {{ send = {{ to = 1, bytes = {bytes} }} }}, {{ send = {{ to = 2, bytes = 70000000 }} }}, {{ run = 800 }}] }},
                     {{ count = 2, stages = [{{ receive = 0 }}, {{ run = 30000 }}, {{ send = {{ to = 3, bytes = 900000 }} }}] }},
                     {{ stages = [{{ receive = 1 }}, {{ receive = 2 }}, {{ run = 5000 }}] }}, {{ count = 5, length_mi = {{ uniform = [1000, 90000] }} }}]"
            )
            .expect("a string");
            return;
        }
        let gpus = match kind {
            "devices" => 1 + self.below(2),
            _ => 0,
        };
        let utilization = match kind {
            "dynamic" => {
                "utilization = { uniform = [0, 1] }, utilization_memory = { every_s = 9, values = [0.1, 0.9, 0.4] },"
            }
            _ => "",
        };
        let length = self.of(&[
            "20000",
            "{ lognormal = [9.5, 0.7] }",
            "{ pareto = [1.5, 3000] }",
        ]);
        let gap = self.of(&["0", "4", "{ exponential = 3 }", "{ normal = [2, 1] }"]);
        let files = self.of(&["", "files = ['file'],"]);
        let count = 1 + self.below(30);
        writeln!(
            text,
            "cloudlet = [{{ gpus = {gpus}, count = {count}, length_mi = {length}, gap_s = {gap}, {files} {utilization} }}]"
        )
        .expect("a string");
    }
}

/// Lets a scenario happen, and cuts it at these times. What is told shows every bit of a
/// number.
fn told(scenario: &Scenario, cuts: &[f64]) -> (Vec<Ran>, Summary, String) {
    let mut simulation = Simulation::new(scenario.clone()).expect("a right scenario");
    for cut in cuts {
        simulation.run(*cut);
        let file = simulation.snapshot().expect("a snapshot");
        simulation = Simulation::resume(&file).expect("the same simulation");
    }
    simulation.run(f64::INFINITY);
    let (ran, summary) = simulation.finish().into_parts();
    let told = format!("{ran:?} {summary:?}");
    (ran, summary, told)
}

#[test]
fn a_simulation_that_is_cut_anywhere_and_gone_on_with_ends_as_in_one_go() {
    let (mut ended, mut failures, mut moved, mut scaled) = (0, 0, 0, 0);
    let (mut migrations, mut stopped) = (0, 0);
    for number in 0..300 {
        let mut draw = Draw(Seed(17).stream(number));
        let text = draw.scenario();
        let scenario = Scenario::read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let (ran, summary, whole) = told(&scenario, &[]);
        let groups = scenario.broker.iter().flat_map(|its| &its.cloudlet);
        let count: u32 = groups.map(|group| group.count).sum();
        assert_eq!(
            ran.len() + summary.left.len(),
            count as usize,
            "none is lost:\n{text}"
        );
        let end = summary.end;
        let mut cuts: Vec<f64> = (0..1 + draw.below(3)).map(|_| draw.share() * end).collect();
        // Right at something that happens, too.
        cuts.extend(ran.get(draw.below(20) as usize).map(|one| one.finish));
        cuts.sort_by(f64::total_cmp);
        assert_eq!(told(&scenario, &cuts).2, whole, "cut at {cuts:?}:\n{text}");
        ended += ran.len();
        failures += summary.failures.iter().map(|its| its.count).sum::<u64>();
        moved += summary.failures.iter().map(|its| its.moved).sum::<u64>();
        scaled += summary.scaled.len();
        migrations += summary
            .services
            .iter()
            .map(|its| its.migrations)
            .sum::<u64>();
        stopped += summary.left.len();
    }
    // All that can be cut was there.
    assert!(ended > 3000 && stopped > 100, "{ended} {stopped}");
    assert!(
        failures > 100 && moved > 20 && scaled > 100 && migrations > 20,
        "{failures} {moved} {scaled} {migrations}"
    );
}

#[test]
fn every_example_that_is_cut_ends_as_in_one_go() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/sim");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).expect("examples") {
        let path = entry.expect("an entry").path();
        let named = |name: &str| path.ends_with(name);
        if path.extension().is_none_or(|its| its != "toml") || named("large.toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a text");
        let mut scenario = Scenario::read(&text).expect("a scenario");
        let hundred = (0..288)
            .map(|line| format!("{}\n", line * 7 % 100))
            .collect::<String>();
        let traces = scenario.read_traces(|path| Ok::<_, ()>(vec![(path.into(), hundred.clone())]));
        traces.expect("percentages");
        let (_, summary, whole) = told(&scenario, &[]);
        let cuts = [0.0, 0.1, 0.33, 0.7, 2.0].map(|part| part * summary.end);
        assert_eq!(told(&scenario, &cuts).2, whole, "{}", path.display());
        read += 1;
    }
    assert!(read >= 15);
}

#[test]
fn traces_are_in_a_snapshot_and_cloudlets_have_them_again() {
    let text = "[[datacenter]]
        name = 'one'
        dynamic = { interval_s = 10 }
        host = [{ count = 2, cores = 2, mips = 1000 }]
        [[broker]]
        name = 'user'
        vm = [{ count = 2, mips = 1000 }]
        cloudlet = [{ count = 4, length_mi = 100000, utilization = { every_s = 30, trace = 'load' } }]";
    let mut scenario = Scenario::read(text).expect("a scenario");
    let files = || {
        vec![
            ("a".to_owned(), "10\n90\n20\n".to_owned()),
            ("b".to_owned(), "70\n30\n".to_owned()),
        ]
    };
    let read = scenario.read_traces(|_| Ok::<_, ()>(files()));
    read.expect("percentages");
    let (ran, _, whole) = told(&scenario, &[]);
    assert_eq!(ran.len(), 4);
    assert_eq!(told(&scenario, &[25.0, 90.0, 91.0]).2, whole);
}

#[test]
fn a_cut_tells_how_it_stands_and_a_stop_is_the_end() {
    let text = |stop: &str| {
        format!(
            "{stop}
             datacenter = [{{ name = 'one', host = [{{ cores = 1, mips = 1000 }}] }}]
             [[broker]]
             name = 'user'
             vm = [{{ mips = 1000, scheduler = 'space-shared' }}]
             cloudlet = [{{ count = 3, length_mi = 10000 }}]"
        )
    };
    let scenario = Scenario::read(&text("")).expect("a scenario");
    let mut simulation = Simulation::new(scenario).expect("a scenario");
    assert!(simulation.run(15.0));
    assert_eq!((simulation.time(), simulation.ran().len()), (15.0, 1));
    let cut = simulation.finish().into_parts();
    let stopped = Scenario::read(&text("stop_s = 15")).expect("a scenario");
    let mut simulation = Simulation::new(stopped).expect("a scenario");
    assert!(
        !simulation.run(f64::INFINITY),
        "nothing is left before the stop"
    );
    assert_eq!(simulation.finish().into_parts(), cut);
    assert_eq!((cut.1.end, cut.1.left.len()), (15.0, 2));
}

/// A snapshot has no names in it: one that was written before a change would be read as
/// something else.
#[test]
fn a_change_of_what_is_kept_needs_a_new_number_of_the_format() {
    let mut digest = Sha256::new();
    for number in 0..40 {
        let mut draw = Draw(Seed(5).stream(number));
        let scenario = Scenario::read(&draw.scenario()).expect("a scenario");
        let mut simulation = Simulation::new(scenario).expect("a scenario");
        simulation.run(30.0);
        digest.update(simulation.snapshot().expect("a snapshot"));
    }
    let digest: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        digest, "05bb415f20253beeb11fdeac4f080c3ff8b249ad5af313e5843a4ccafe1e7183",
        "raise the format in src/snapshot.rs, and put the new digest here"
    );
}
