//! Messages and data on their way, beside CloudSim 7.0.1, and by hand.

use hyperion_sim::cloud::{Ran, Scenario, Summary, run};

fn read(text: &str) -> Scenario {
    Scenario::read(text).unwrap_or_else(|error| panic!("{error}"))
}

fn all(text: &str) -> (Vec<Ran>, Summary) {
    let mut ran = Vec::new();
    let summary = run(&read(text), |one| ran.push(one)).expect("a right scenario");
    (ran, summary)
}

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
