//! Messages and data on their way, beside CloudSim 7.0.1, and by hand.

#[allow(dead_code, reason = "each test file needs a part")]
mod common;

use common::{all, read};
use hyperion_sim::cloud::{Ran, Scenario};

/// The links of `topology.brite`, which CloudSim's network examples read: its nodes are
/// `0` to `4`, of which these have names.
fn links(names: [&str; 5]) -> String {
    let edges = [
        (2, 0, 1.1),
        (2, 1, 2.1),
        (3, 0, 3.9),
        (3, 1, 4.1),
        (4, 3, 5.0),
        (4, 2, 4.0),
        (0, 4, 3.0),
        (1, 4, 4.1),
    ];
    let link = |(one, two, latency): (usize, usize, f64)| {
        let (one, two) = (names[one], names[two]);
        format!("[[link]]\nbetween = ['{one}', '{two}']\nlatency_s = {latency}\n")
    };
    edges.map(link).concat()
}

fn datacenter(name: &str) -> String {
    format!(
        "[[datacenter]]
         name = '{name}'
         host = [{{ cores = 1, mips = 1000, memory_mib = 2048, scheduler = 'space-shared' }}]\n"
    )
}

fn broker(name: &str) -> String {
    format!(
        "[[broker]]
         name = '{name}'
         vm = [{{ mips = 250, memory_mib = 512 }}]
         cloudlet = [{{ length_mi = 40000 }}]\n"
    )
}

/// Datacenter, start and end of each cloudlet, by broker.
fn rows(text: &str) -> Vec<(u32, f64, f64)> {
    let (mut ran, summary) = all(text);
    assert_eq!(summary.left, []);
    ran.sort_by_key(|one| (one.broker, one.cloudlet));
    let cents = |time: f64| (time * 100.0).round() / 100.0;
    let row = |one: &Ran| (one.datacenter, cents(one.start), cents(one.finish));
    ran.iter().map(row).collect()
}

#[test]
fn messages_take_the_shortest_way_as_in_cloudsims_network_examples() {
    // NetworkExample1: one broker, one datacenter.
    let one = links(["east", "1", "2", "user", "4"]) + &datacenter("east") + &broker("user");
    assert_eq!(rows(&one), [(0, 19.51, 179.51)]);
    // NetworkExample2: a datacenter that is only asked what it is.
    let wide = datacenter("east").replace("cores = 1", "cores = 2");
    let two = broker("user")
        .replace("[{ mips", "[{ count = 2, mips")
        .replace("[{ length", "[{ count = 2, length");
    let two = links(["east", "1", "west", "user", "4"]) + &wide + &datacenter("west") + &two;
    assert_eq!(rows(&two), [(0, 21.71, 181.71), (0, 21.71, 181.71)]);
    // NetworkExample3: two brokers, of which the second asks first.
    let three = links(["east", "1", "west", "far", "near"])
        + &datacenter("east")
        + &datacenter("west")
        + &broker("far")
        + &broker("near");
    assert_eq!(rows(&three), [(1, 32.82, 192.82), (0, 17.01, 177.01)]);
    // NetworkExample4: a link that is named.
    let link = "[[link]]\nbetween = ['east', 'user']\nlatency_s = 10\n";
    let four = link.to_owned() + &datacenter("east") + &broker("user");
    assert_eq!(rows(&four), [(0, 50.01, 210.01)]);
    // It ends when the last message has come: the cloudlet is back, and the VM given up.
    let (_, summary) = all(&four);
    assert!((summary.end - 230.01).abs() < 1e-9, "{}", summary.end);
}

#[test]
fn cloudlets_send_each_other_data_in_a_dynamic_datacenter_too() {
    let text = |interval: &str, hosts: u32| {
        format!(
            "[[datacenter]]
             name = 'east'
             allocation = 'round-robin'
             {interval}
             host = [{{ count = {hosts}, cores = 2, mips = 1000, power_watts = [1, 2] }}]
             network = {{ topology = {{ tree = {{ hosts_per_edge = 1, edges_per_aggregate = 9 }} }}, edge_mbps = 40, aggregate_mbps = 8, root_mbps = 1, edge_latency_s = 0.5 }}
             [[broker]]
             name = 'user'
             vm = [{{ count = 2, mips = 1000, bandwidth_mbps = 100 }}]
             cloudlet = [
                 {{ vm = 0, stages = [{{ run = 10000 }}, {{ send = {{ to = 1, bytes = 10000000 }} }}, {{ run = 1000 }}] }},
                 {{ vm = 1, stages = [{{ receive = 0 }}, {{ run = 10000 }}, {{ send = {{ to = 0, bytes = 1 }} }}] }},
             ]"
        )
    };
    // 10 s of work, 10 s for 80 Mbit at 8 Mbit/s and two switches, 10 s of work; on one host
    // data is there at once. Ends are seen at a look.
    for (hosts, right) in [(2, 31.0), (1, 20.0)] {
        for interval in ["", "dynamic = { interval_s = 0.5 }"] {
            let (ran, summary) = all(&text(interval, hosts));
            assert_eq!(summary.left, [], "{interval}");
            let end = |cloudlet: u32| {
                ran.iter()
                    .find(|one| one.cloudlet == cloudlet)
                    .map(|one| one.finish)
            };
            let (first, second) = (end(0).expect("it ended"), end(1).expect("it ended"));
            assert!((first - 11.0).abs() < 1.1, "{hosts} {interval}: {first}");
            assert!((second - right).abs() < 1.6, "{hosts} {interval}: {second}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_link_and_what_no_link_reaches_is_told() {
    let text = |link: &str| format!("[[link]]\n{link}\n") + &datacenter("east") + &broker("user");
    for (link, why) in [
        (
            "between = ['east', 'user']\nlatency_s = -1",
            "line 3: link[0].latency_s: must be a time",
        ),
        (
            "between = ['east', 'east']\nlatency_s = 1",
            "line 2: link[0].between: must be two names",
        ),
        ("between = ['east']\nlatency_s = 1", "line 2"),
        ("latency_s = 1", "missing field `between`"),
    ] {
        let told = Scenario::read(&text(link)).expect_err(link).to_string();
        assert!(told.contains(why), "{told}");
    }
    let notes = read(&text("between = ['east', 'usr']\nlatency_s = 1")).notes();
    let told: Vec<String> = notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["broker[0].name: no link leads to it: messages take no time"]
    );
}

/// Hosts at switches of two or four, and VMs. CloudSim counts bandwidth of VMs in bits per
/// second, so here all sizes are a million times as large; its switches send a packet on
/// when all of it is there, which is in their latency.
fn east(hosts_per_edge: u32, latency: f64, host: &str, vm: &str, cloudlets: &str) -> String {
    format!(
        "[[datacenter]]
         name = 'east'
         host = [{{ {host}, memory_mib = 2048 }}]
         [datacenter.network]
         topology = {{ tree = {{ hosts_per_edge = {hosts_per_edge}, edges_per_aggregate = 2 }} }}
         edge_mbps = 104857600
         aggregate_mbps = 104857600
         root_mbps = 41943040
         edge_latency_s = {latency}
         aggregate_latency_s = {latency}
         [[broker]]
         name = 'user'
         vm = [{{ {vm}, mips = 1, memory_mib = 512, bandwidth_mbps = 1000 }}]
         {cloudlets}"
    )
}

const BYTES: u64 = 1_000_000;
/// Seconds that a switch of CloudSim's examples takes for 1000 bytes.
const COPY: f64 = 8000.0 / 104_857_600.0;

/// Two cloudlets, of which the second goes on from what the first sends it.
fn pair(first: u32, at: f64, vms: [&str; 2]) -> String {
    let (second, bytes) = (first + 1, 1000 * BYTES);
    format!(
        "[[broker.cloudlet]]
         id = {first}
         submit_s = {at}
         {}
         stages = [{{ run = 1000 }}, {{ send = {{ to = {second}, bytes = {bytes} }} }}]
         [[broker.cloudlet]]
         submit_s = {at}
         {}
         stages = [{{ receive = {first} }}, {{ run = 1000 }}]\n",
        vms[0], vms[1]
    )
}

/// Cloudlet, VM, start and end, in the order in which they ended.
fn ends(text: &str) -> Vec<(u32, u32, f64, f64)> {
    let (ran, summary) = all(text);
    assert_eq!(summary.left, []);
    let (stays, presence) = (summary.stays_s, summary.presence_s);
    assert!(
        (stays - presence).abs() <= 1e-9 * stays,
        "{stays} {presence}"
    );
    let cents = |time: f64| (time * 100.0).round() / 100.0;
    let row = |one: &Ran| (one.cloudlet, one.vm, cents(one.start), cents(one.finish));
    ran.iter().map(row).collect()
}

#[test]
fn a_tandem_of_two_ends_when_it_does_in_cloudsim() {
    let host = "count = 2, cores = 2, mips = 100000";
    // TandemAppExample1 and 3: one pair, under one switch and under two.
    let one = east(
        4,
        COPY,
        host,
        "count = 4",
        &pair(0, 0.0, ["vm = 0", "vm = 1"]),
    );
    assert_eq!(ends(&one), [(0, 0, 0.01, 1000.01), (1, 1, 0.01, 2007.03)]);
    let host = "count = 4, cores = 2, mips = 10";
    let apart = ["vm = 0", "vm = 2"];
    let three = east(2, COPY, host, "count = 8", &pair(0, 0.0, apart));
    assert_eq!(ends(&three), [(0, 0, 0.01, 1000.01), (1, 2, 0.01, 2007.03)]);
    // TandemAppExample4: two pairs, one after the other.
    let two = pair(0, 683.825, apart) + &pair(2, 1744.021, apart);
    let four = east(2, COPY, host, "count = 8", &two);
    assert_eq!(
        ends(&four),
        [
            (0, 0, 683.83, 1683.83),
            (1, 2, 683.83, 2690.85),
            (2, 0, 1744.02, 2743.04),
            (3, 2, 1744.02, 3750.06),
        ]
    );
}

#[test]
fn a_workflow_and_a_bag_of_tasks_end_when_they_do_in_cloudsim() {
    let host = "count = 4, cores = 8, mips = 1";
    let bytes = 1000 * BYTES;
    // WorkflowAppExample: two send to a third.
    let workflow = format!(
        "[[broker.cloudlet]]
         vm = 6
         stages = [{{ run = 800 }}, {{ send = {{ to = 2, bytes = {bytes} }} }}]
         [[broker.cloudlet]]
         vm = 1
         stages = [{{ run = 800 }}, {{ send = {{ to = 2, bytes = {bytes} }} }}]
         [[broker.cloudlet]]
         vm = 2
         stages = [{{ receive = 0 }}, {{ receive = 1 }}, {{ run = 800 }}]"
    );
    let mut found = ends(&east(4, 0.00157, host, "count = 8, cores = 4", &workflow));
    found.sort_by_key(|row| row.0);
    let right = [
        (0, 6, 0.01, 800.01),
        (1, 1, 0.01, 800.01),
        (2, 2, 0.01, 1607.03),
    ];
    assert_eq!(found, right);
    // BagOfTaskAppExample: one gathers what three have found.
    let mut bag = "[[broker.cloudlet]]
         vm = 6
         cores = 4
         stages = [{ run = 1 }, { receive = 1 }, { receive = 2 }, { receive = 3 }]\n"
        .to_owned();
    for vm in [1, 2, 0] {
        bag += &format!(
            "[[broker.cloudlet]]
             vm = {vm}
             cores = 4
             stages = [{{ run = 1 }}, {{ send = {{ to = 0, bytes = {BYTES} }} }}]\n"
        );
    }
    let mut found = ends(&east(4, 0.00157, host, "count = 8, cores = 4", &bag));
    found.sort_by_key(|row| row.0);
    let right = [
        (0, 6, 0.01, 1.05),
        (1, 1, 0.01, 1.01),
        (2, 2, 0.01, 1.01),
        (3, 0, 0.01, 1.01),
    ];
    assert_eq!(found, right);
}

#[test]
fn five_pairs_that_arrive_by_chance_end_nearly_when_they_do_in_cloudsim() {
    let (early, late) = (["vm = 0", "vm = 1"], ["vm = 2", "vm = 3"]);
    let pairs = [
        pair(0, 683.8253, early),
        pair(8, 760.4115, late),
        pair(4, 834.7837, early),
        pair(2, 1744.0205, late),
        pair(6, 5177.4287, early),
    ];
    let found = ends(&east(
        4,
        COPY,
        "count = 2, cores = 2, mips = 10",
        "count = 4",
        &pairs.concat(),
    ));
    // TandemAppExample2. CloudSim rounds down at each of its looks, fifty in a second while
    // something waits, and is late by up to a ten thousandth.
    let right = [
        (8, 2, 760.41, 1774.91),
        (0, 0, 683.83, 2531.0),
        (4, 0, 834.78, 2681.96),
        (2, 2, 1744.02, 2758.5),
        (9, 3, 760.41, 2798.52),
        (1, 1, 683.83, 4386.52),
        (3, 3, 1744.02, 4386.52),
        (5, 1, 834.78, 4688.52),
        (6, 0, 5177.43, 6177.43),
        (7, 1, 5177.43, 7184.45),
    ];
    assert_eq!(found.len(), right.len());
    for (found, right) in found.iter().zip(right) {
        assert_eq!((found.0, found.1, found.2), (right.0, right.1, right.2));
        let early = right.3 - found.3;
        assert!((-0.005..0.13).contains(&early), "{found:?} {right:?}");
    }
}

/// Lets VMs of different hosts send 1 GB each, and gives when it had come, to a look.
fn transfers(topology: &str, pairs: &[(u32, u32)], vm: &str) -> Vec<f64> {
    let mut cloudlets = String::new();
    for (number, (from, to)) in pairs.iter().enumerate() {
        let (first, second) = (2 * number, 2 * number + 1);
        cloudlets += &format!(
            "[[broker.cloudlet]]
             id = {first}
             vm = {from}
             stages = [{{ run = 1000 }}, {{ send = {{ to = {second}, bytes = 1000000000 }} }}]
             [[broker.cloudlet]]
             vm = {to}
             stages = [{{ receive = {first} }}]\n"
        );
    }
    let (ran, summary) = all(&format!(
        "[[datacenter]]
         name = 'one'
         allocation = 'round-robin'
         host = [{{ count = 16, cores = 1, mips = 1000 }}]
         [datacenter.network]
         topology = {topology}
         edge_mbps = 1000
         aggregate_mbps = 1000
         root_mbps = 1000
         edge_latency_s = 0.25
         aggregate_latency_s = 0.5
         root_latency_s = 1
         [[broker]]
         name = 'user'
         vm = [{{ count = 16, mips = 1000, {vm} }}]
         {cloudlets}"
    ));
    assert_eq!(summary.left, []);
    let mut ran: Vec<Ran> = ran
        .into_iter()
        .filter(|one| one.cloudlet % 2 == 1)
        .collect();
    ran.sort_by_key(|one| one.cloudlet);
    ran.iter().map(|one| one.finish - 1.01).collect()
}

#[test]
fn transfers_share_links_as_max_min_fairness_says() {
    let tree = "{ tree = { hosts_per_edge = 2, edges_per_aggregate = 2 } }";
    let fat = "{ fat-tree = { ports = 4 } }";
    let any = "bandwidth_mbps = 0";
    let near = |found: Vec<f64>, right: &[f64]| {
        assert_eq!(found.len(), right.len());
        let late = |(found, right): (&f64, &f64)| (0.0..0.0201).contains(&(found - right + 1e-9));
        assert!(found.iter().zip(right).all(late), "{found:?} {right:?}");
    };
    // 8 Gbit over 1 Gbit/s, and the latency of one, three and five switches.
    near(transfers(tree, &[(0, 1)], any), &[8.25]);
    near(transfers(tree, &[(0, 2)], any), &[9.0]);
    near(transfers(tree, &[(0, 4)], any), &[10.5]);
    near(transfers(fat, &[(0, 4)], any), &[10.5]);
    // What a VM may send.
    near(transfers(tree, &[(0, 1)], "bandwidth_mbps = 100"), &[80.25]);
    // Two of one edge switch to others: the way up from it is one in a tree, two in a fat
    // tree.
    near(transfers(tree, &[(0, 8), (1, 10)], any), &[18.5, 18.5]);
    near(transfers(fat, &[(0, 8), (1, 10)], any), &[10.5, 10.5]);
    // Two to one host share its link; a third that shares none of it does not.
    near(
        transfers(tree, &[(0, 2), (3, 2), (4, 5)], any),
        &[16.0 + 1.0, 16.0 + 0.25, 8.25],
    );
    // 0 → 1 and 0 → 4 share the link of 0, after they have shared its core for a second
    // more; 4 → 5 has its own.
    near(
        transfers(tree, &[(0, 1), (0, 4), (4, 5)], any),
        &[17.25, 19.5, 8.25],
    );
}

#[test]
fn data_that_nobody_sends_is_waited_for_and_that_is_told() {
    let cloudlets = "cloudlet = [
        { stages = [{ receive = 1 }], vm = 0 },
        { stages = [{ run = 5 }], vm = 1 },
    ]";
    let text = east(
        4,
        0.0,
        "count = 2, cores = 2, mips = 10",
        "count = 2",
        cloudlets,
    );
    let (ran, summary) = all(&text);
    assert_eq!((ran.len(), summary.left.len()), (1, 1));
    assert_eq!(
        summary.left[0].why.to_string(),
        "it waits for data that did not come"
    );
}

#[test]
fn what_is_wrong_with_stages_and_a_network_is_told_by_line() {
    let right = "[[datacenter]]
name = 'one'
host = [{ count = 4, cores = 1, mips = 1 }]
[datacenter.network]
topology = { fat-tree = { ports = 4 } }
edge_mbps = 1
aggregate_mbps = 1
root_mbps = 1
[[broker]]
name = 'user'
vm = [{ mips = 1 }]
[[broker.cloudlet]]
stages = [{ run = 1 }, { send = { to = 1, bytes = 1 } }]
[[broker.cloudlet]]
stages = [{ receive = 0 }]
";
    read(right);
    for (from, to, line, why) in [
        ("run = 1", "run = 0", 13, "stages[0]: must be 1 MI at least"),
        ("run = 1", "rnu = 1", 13, "unknown variant `rnu`"),
        ("{ run = 1 }, ", "", 13, "none begins by sending"),
        (
            "to = 1",
            "to = 7",
            13,
            "stages[1]: must be to the number of a cloudlet",
        ),
        (
            "receive = 0",
            "receive = 9",
            15,
            "from the number of a cloudlet",
        ),
        (
            "stages = [{ receive = 0 }]",
            "",
            14,
            "length_mi: must be there",
        ),
        (
            "stages = [{ receive = 0 }]",
            "stages = [{ receive = 0 }]\nlength_mi = 5",
            16,
            "unless there are stages",
        ),
        (
            "vm = [{ mips = 1 }]",
            "vm = [{ mips = 1, scheduler = 'space-shared' }]",
            13,
            "space-shared",
        ),
        ("ports = 4", "ports = 5", 5, "an even number"),
        ("ports = 4", "ports = 2", 5, "enough for all hosts"),
        (
            "ports = 4",
            "prots = 4",
            5,
            "unexpected keys in table: prots",
        ),
        ("edge_mbps = 1", "edge_mbps = 0", 6, "a number of Mbit/s"),
        ("root_mbps = 1\n", "", 4, "missing field `root_mbps`"),
        (
            "root_mbps = 1",
            "root_mbps = 1\nroot_latency_s = -1",
            9,
            "a time",
        ),
    ] {
        let text = right.replacen(from, to, 1);
        assert_ne!(text, right, "{from}");
        let told = Scenario::read(&text).expect_err(to).to_string();
        assert!(
            told.contains(&format!("line {line}")) && told.contains(why),
            "{told}"
        );
    }
}
