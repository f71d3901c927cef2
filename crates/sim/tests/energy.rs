//! What hosts draw, and what of that is for whom.

#[allow(dead_code, reason = "each test file needs a part")]
mod common;

use std::fmt::Write as _;

use common::all;
use hyperion_sim::Seed;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;

fn near(found: f64, right: f64, what: &str) {
    assert!(
        (found - right).abs() <= 1e-9 * (1.0 + right.abs()),
        "{found}, not {right}: {what}"
    );
}

#[test]
fn cloudlets_share_what_their_host_draws_by_what_they_use() {
    let (ran, summary) = all("[[datacenter]]
        name = 'one'
        host = [{ cores = 4, mips = 1000, power_watts = [100, 300] }]
        [[broker]]
        name = 'user'
        vm = [{ cores = 2, mips = 1000 }, { mips = 1000 }]
        cloudlet = [
            { length_mi = 10000, cores = 2, vm = 0 },
            { length_mi = 10000, cores = 2, vm = 0 },
            { length_mi = 10000, vm = 1 },
        ]");
    // 10 s at three quarters (250 W), two thirds of it for the first VM; then 10 s at a
    // half (200 W).
    let joules = |cloudlet: u32| {
        let one = ran.iter().find(|one| one.cloudlet == cloudlet);
        one.expect("it ended").joules.expect("it is known")
    };
    for (cloudlet, right) in [
        (0, (2500.0 * 2.0 / 3.0 + 2000.0) / 2.0),
        (1, (2500.0 * 2.0 / 3.0 + 2000.0) / 2.0),
        (2, 2500.0 / 3.0),
    ] {
        assert!((joules(cloudlet) - right).abs() < 0.5, "{cloudlet} {ran:?}");
    }
    assert!((summary.idle[0] - 1.0).abs() < 1e-9, "0.01 s before all");
}

#[test]
fn what_is_not_known_is_not_told() {
    let (ran, summary) = all("[[datacenter]]
        name = 'one'
        host = [{ cores = 1, mips = 1000 }]
        [[broker]]
        name = 'user'
        vm = [{ mips = 1000 }]
        cloudlet = [{ length_mi = 10000 }]");
    assert_eq!((ran[0].joules, summary.idle.len()), (None, 0));
}

/// Makes a scenario of one of several kinds, of which some cloudlets do not end.
fn scenario(chance: &mut ChaCha8Rng, kind: u64) -> String {
    let mut below = |most: u64| chance.next_u64() % most;
    let (hosts, cores, vms) = (1 + below(4), 1 + below(4), 1 + below(6));
    let (stop, most) = (50 + below(300), 300 + below(700));
    let mut sharing = ["time-shared", "space-shared"][below(2) as usize];
    let (mut dynamic, mut failure, mut scaling) = (String::new(), "", "");
    let (mut container, mut cloudlet) = (String::new(), String::new());
    match kind {
        0 => {}
        1 => {
            container = format!(
                "container = [{{ count = {}, mips = 300, overhead = [0.05] }}]",
                1 + below(5)
            )
        }
        2 => {
            failure =
                ", failure = { after_s = { exponential = 40 }, repair_s = { uniform = [1, 30] } }"
        }
        3 => scaling = "scaling = { most = 9, every_s = 5, above = 0.5, below = 0.3 }",
        4 => {
            sharing = "time-shared";
            failure = [
                "",
                ", failure = { after_s = 30, repair_s = 9, vms = 'move', progress = 'keep' }",
            ][below(2) as usize];
            dynamic = ["", "dynamic = { interval_s = 3 }"][below(2) as usize].to_owned();
            cloudlet = "{ stages = [{ run = 3000 }, { send = { to = 1, bytes = 9000000 } }, { run = 50 }] },
                { stages = [{ receive = 0 }, { run = 70000 }] },"
                .to_owned();
        }
        _ => {
            sharing = "time-shared";
            failure = [
                "",
                ", failure = { after_s = 40, repair_s = { exponential = 9 }, vms = 'move' }",
            ][below(2) as usize];
            scaling = [
                "",
                "scaling = { most = 9, every_s = 5, above = 0.5, below = 0.3 }",
            ][below(2) as usize];
            dynamic = "dynamic = { interval_s = 7, overload = { static = 0.6 }, select = 'maximum-correlation' }".to_owned();
        }
    }
    let mut text = format!(
        "seed = {}\nstop_s = {stop}
         [[datacenter]]
         name = 'east'
         {dynamic}
         host = [{{ count = {hosts}, cores = {cores}, mips = 1000, bandwidth_mbps = 10000, power_watts = [60, 80, 130]{failure} }}]
         [[broker]]
         name = 'user'
         {scaling}
         vm = [{{ count = {vms}, mips = {most}, bandwidth_mbps = 8, scheduler = '{sharing}', overhead = [0.1] }}]
         {container}
         cloudlet = [{cloudlet} ",
        below(1000)
    );
    for _ in 0..1 + below(3) {
        let cores = match kind {
            1 => 1,
            _ => 1 + below(2),
        };
        write!(
            text,
            "{{ count = {}, cores = {cores}, length_mi = {{ exponential = 9000 }}, gap_s = {{ exponential = {} }}, utilization = {{ uniform = [0, 1] }} }}, ",
            1 + below(30),
            1 + below(9),
        )
        .expect("a string");
    }
    text + "]"
}

#[test]
fn what_cloudlets_draw_sums_up_to_what_hosts_draw_beside_idling() {
    let (mut shared, mut idled, mut left, mut joules_left) = (0, 0, 0, 0.0);
    for number in 0..300 {
        let text = scenario(&mut Seed(31).stream(number), number % 6);
        let (ran, summary) = all(&text);
        let hosts: f64 = summary.hosts.iter().map(|its| its.2).sum();
        let idle: f64 = summary.idle.iter().sum();
        let vms: f64 = summary.vms.iter().map(|its| its.2).sum();
        let ended: f64 = ran.iter().filter_map(|one| one.joules).sum();
        let others: f64 = summary.left.iter().map(|one| one.joules).sum();
        near(ended + others, hosts - idle, &text);
        near(vms, hosts - idle, &text);
        assert!(
            ran.iter()
                .all(|one| one.joules.is_some_and(|its| its >= -1e-6))
        );
        shared += u32::from(ended > 0.0);
        idled += u32::from(idle > 0.0);
        left += summary.left.len();
        joules_left += others;
    }
    // There was something to share, to idle, and to be cut.
    assert!(shared > 200 && idled > 100, "{shared} {idled}");
    assert!(left > 100 && joules_left > 1e5, "{left} {joules_left}");
}
