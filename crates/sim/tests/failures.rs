//! Hosts that fail and are repaired, beside what theory says.

#[allow(dead_code, reason = "each test file needs a part")]
mod common;

use common::all;
use hyperion_sim::cloud::Scenario;

/// As many hosts as VMs and cloudlets, of 100 s each.
fn farm(count: u32, seed: u32, stop: u32, failure: &str) -> String {
    format!(
        "min_time_between_events_s = 1e-6
         seed = {seed}
         stop_s = {stop}
         [[datacenter]]
         name = 'one'
         host = [{{ count = {count}, cores = 1, mips = 1000, power_watts = [50, 100], failure = {failure} }}]
         [[broker]]
         name = 'user'
         vm = [{{ count = {count}, mips = 1000 }}]
         cloudlet = [{{ count = {count}, length_mi = 100000 }}]"
    )
}

#[test]
fn hosts_are_up_for_the_share_that_renewal_theory_says() {
    for (failure, works, down) in [
        (
            "{ after_s = { exponential = 900 }, repair_s = { exponential = 100 } }",
            900.0,
            100.0,
        ),
        // The mean of Weibull's law is its scale × Γ(1 + 1 / shape).
        (
            "{ after_s = { weibull = [2, 1000] }, repair_s = { uniform = [0, 400] } }",
            886.226_925,
            200.0,
        ),
    ] {
        let (_, summary) = all(&farm(400, 3, 100_000, failure));
        let shares: Vec<f64> = summary
            .failures
            .iter()
            .map(|host| host.down_s / 1e5)
            .collect();
        let count = shares.len() as f64;
        let mean = shares.iter().sum::<f64>() / count;
        let spread = shares.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let (right, error) = (down / (works + down), (spread / count).sqrt());
        // Hosts begin up, which counts for less than a thousandth here.
        assert!(
            (mean - right).abs() < 3.0 * error + 1e-3,
            "{mean} ± {error}, not {right}"
        );
        assert!(error < 0.02 * right);
        let failures = summary.failures.iter().map(|host| host.count).sum::<u64>() as f64;
        let right = count * 1e5 / (works + down);
        assert!((failures / right - 1.0).abs() < 0.02, "{failures} {right}");
    }
}

#[test]
fn work_that_begins_anew_after_each_failure_takes_as_long_as_theory_says() {
    // (e^(T/m) − 1) (m + r) for work of T, exponential failures after m, repairs of r.
    let (mean_works, repair) = (100.0, 20.0);
    let right = (1f64.exp() - 1.0) * (mean_works + repair);
    let failure = "{ after_s = { exponential = 100 }, repair_s = 20 }";
    let (ran, summary) = all(&farm(2000, 1, 5000, failure));
    assert_eq!(summary.left, []);
    let times: Vec<f64> = ran.iter().map(|one| one.finish - one.submitted).collect();
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let spread = times.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let error = (spread / count).sqrt();
    assert!(
        (mean - right).abs() < 3.0 * error,
        "{mean} ± {error}, not {right}"
    );
    assert!(error < 0.03 * right, "{error}");
    // The last run of each is as long as its work.
    assert!(
        ran.iter()
            .all(|one| (one.finish - one.start - 100.0).abs() < 0.02)
    );
}

#[test]
fn what_fails_draws_nothing_and_takes_nobody_in() {
    // Down from 30 to 50 s: from 30 on nothing is drawn, from 50 on the work is done anew.
    let text = farm(1, 0, 200, "{ after_s = 30, repair_s = 20 }")
        .replace("after_s = 30", "after_s = 120")
        .replace("length_mi = 100000", "length_mi = 100000, submit_s = 60");
    let (ran, summary) = all(&text);
    // 60 s idle, 60 s at work, 20 s down, 60 s at work: it did not end.
    assert_eq!((ran.len(), summary.left.len()), (0, 1));
    let joules = summary.hosts[0].2;
    assert!(
        (joules - (60.0 * 50.0 + 60.0 * 100.0 + 60.0 * 100.0)).abs() < 1e-3,
        "{joules}"
    );
    assert_eq!(
        (summary.failures[0].count, summary.failures[0].down_s),
        (1, 20.0)
    );
    // A broker that comes while it is down finds no host.
    let late = text.replace("name = 'user'", "name = 'user'\nstart_s = 130");
    let (_, summary) = all(&late);
    assert_eq!(
        summary.left[0].why.to_string(),
        "it had not ended when the scenario stopped"
    );
    assert_eq!(summary.hosts[0].2, 180.0 * 50.0);
}

#[test]
fn failures_of_one_host_change_nothing_for_another() {
    let two = |first: &str| {
        format!(
            "stop_s = 50000
             [[datacenter]]
             name = 'one'
             host = [
                 {{ cores = 1, mips = 1, failure = {{ after_s = {first}, repair_s = 1 }} }},
                 {{ cores = 1, mips = 1, failure = {{ after_s = {{ exponential = 50 }}, repair_s = {{ exponential = 5 }} }} }},
             ]"
        )
    };
    let second = |text: &str| all(text).1.failures[1];
    let one = second(&two("{ exponential = 70 }"));
    assert_eq!(second(&two("{ exponential = 7 }")), one);
    assert!(one.count > 500);
}

/// A host that fails whenever it has worked for 40 s, one that does not, and `more`; and two
/// users with a VM and a cloudlet of 100 s each.
fn pair(failure: &str, more: &str) -> String {
    let user = |name: &str, container: &str| {
        format!(
            "[[broker]]
             name = '{name}'
             vm = [{{ mips = 1000 }}]
             {container}
             cloudlet = [{{ length_mi = 100000 }}]\n"
        )
    };
    format!(
        "stop_s = 1000
         [[datacenter]]
         name = 'one'
         allocation = 'first-fit'
         host = [
             {{ cores = 1, mips = 1000, power_watts = [50, 100], failure = {{ after_s = 40, repair_s = 300, {failure} }} }},
             {{ cores = 1, mips = 1000, power_watts = [50, 100] }},
             {more}
         ]
         {}{}",
        user("first", "container = [{ mips = 1000 }]"),
        user("second", "")
    )
}

#[test]
fn vms_of_a_host_that_fails_are_placed_anew_and_cloudlets_lose_or_keep_what_they_did() {
    let free = "{ cores = 1, mips = 1000, power_watts = [50, 100] }";
    // Start and end of the cloudlet that was on the host that fails, and its last host.
    for (failure, more, right, moved) in [
        // It begins anew each time.
        ("", free, None, 0),
        // It works for 40 s, 40 s and 20 s, and is down for 300 s between.
        ("progress = 'keep'", free, Some((0.02, 700.0, 0)), 0),
        ("vms = 'move'", free, Some((40.0, 140.0, 2)), 1),
        (
            "vms = 'move', progress = 'keep'",
            free,
            Some((0.02, 100.02, 2)),
            1,
        ),
        // Room comes when the other VM is given up.
        ("vms = 'move'", "", Some((100.02, 200.02, 1)), 1),
        (
            "vms = 'move', progress = 'keep'",
            "",
            Some((0.02, 160.0, 1)),
            1,
        ),
    ] {
        let (ran, summary) = all(&pair(failure, more));
        let of = |broker: u32| ran.iter().find(|one| one.broker == broker);
        let second = of(1).expect("nothing happens to it");
        assert!((second.finish - 100.01).abs() < 0.03, "{second:?}");
        let first = of(0).map(|one| (one.start, one.finish, one.host));
        let near = match (first, right) {
            (Some(found), Some(right)) => {
                (found.0 - right.0).abs() < 0.05
                    && (found.1 - right.1).abs() < 0.05
                    && found.2 == right.2
            }
            (found, right) => found.is_none() && right.is_none(),
        };
        assert!(near, "{failure} {more}: {first:?}, not {right:?}");
        assert_eq!(summary.failures[0].moved, moved, "{failure} {more}");
    }
}

#[test]
fn vms_of_a_dynamic_datacenter_are_placed_anew_too() {
    let free = "{ cores = 1, mips = 1000, power_watts = [50, 100] }";
    for (failure, more, right, moved) in [
        ("", free, None, 0),
        ("progress = 'keep'", free, Some((0.01, 700.0, 0)), 0),
        ("vms = 'move'", free, Some((40.0, 140.0, 2)), 1),
        (
            "vms = 'move', progress = 'keep'",
            free,
            Some((0.01, 100.0, 2)),
            1,
        ),
        // The other VM is given up at the look at which it asks for nothing.
        ("vms = 'move'", "", Some((100.0, 200.0, 1)), 1),
        (
            "vms = 'move', progress = 'keep'",
            "",
            Some((0.01, 160.0, 1)),
            1,
        ),
    ] {
        let text = pair(failure, more)
            .replace("container = [{ mips = 1000 }]", "")
            .replace("'first-fit'", "'first-fit'\ndynamic = { interval_s = 2 }");
        let (ran, summary) = all(&text);
        let of = |broker: u32| ran.iter().find(|one| one.broker == broker);
        let second = of(1).expect("nothing happens to it");
        assert!((second.finish - 100.0).abs() < 2.1, "{second:?}");
        let first = of(0).map(|one| (one.start, one.finish, one.host));
        // It is seen at a look.
        let near = match (first, right) {
            (Some(found), Some(right)) => {
                (found.0 - right.0).abs() < 2.1
                    && (-0.1..4.1).contains(&(found.1 - right.1))
                    && found.2 == right.2
            }
            (found, right) => found.is_none() && right.is_none(),
        };
        assert!(near, "{failure} {more}: {first:?}, not {right:?}");
        assert_eq!(summary.failures[0].moved, moved, "{failure} {more}");
        // What is down draws nothing.
        if failure == "progress = 'keep'" {
            let joules = summary.hosts[0].2;
            assert!((joules - 100.0 * 100.0).abs() < 500.0, "{joules}");
        }
    }
}

#[test]
fn a_migration_ends_where_it_began_when_a_host_fails() {
    // Two VMs of 900 MIPS on a host with 2 cores: at the look at 30 s one begins to move to
    // the other host, which takes 20 s; from 40 to 130 s one of them is down.
    let text = |failing: usize| {
        let host = |number: usize| {
            let after = if number == failing { 40 } else { 100_000 };
            format!(
                "[[datacenter.host]]
                 cores = 2
                 mips = 1000
                 bandwidth_mbps = 1000
                 power_watts = [50, 100]
                 failure = {{ after_s = {after}, repair_s = 90, progress = 'keep' }}\n"
            )
        };
        format!(
            "stop_s = 165
             [[datacenter]]
             name = 'one'
             allocation = 'first-fit'
             dynamic = {{ interval_s = 30, overload = {{ static = 0.8 }} }}
             {}{}
             [[broker]]
             name = 'user'
             vm = [{{ count = 2, mips = 900, memory_mib = 1250 }}]
             cloudlet = [{{ count = 2, length_mi = 90000, utilization_memory = 0 }}]",
            host(0),
            host(1)
        )
    };
    let on = |ran: &[hyperion_sim::cloud::Ran]| -> Vec<u32> {
        let mut hosts: Vec<u32> = ran.iter().map(|one| one.host).collect();
        hosts.sort_unstable();
        hosts
    };
    let (ran, summary) = all(&text(2));
    assert_eq!((on(&ran), summary.services[0].migrations), (vec![0, 1], 1));
    // Where it was to go fails: both are where they were.
    let (ran, summary) = all(&text(1));
    assert_eq!((on(&ran), summary.failures[1].count), (vec![0, 0], 1));
    assert!(ran.iter().all(|one| one.finish < 131.0), "{ran:?}");
    // Where it comes from fails: it is down with the other.
    let (ran, summary) = all(&text(0));
    assert_eq!((ran.len(), summary.left.len()), (0, 2), "{summary:?}");
}

#[test]
fn who_waits_for_data_waits_while_hosts_fail_and_who_sends_it_goes_on() {
    let text = |dynamic: &str, failure: &str| {
        format!(
            "stop_s = 1000
             [[datacenter]]
             name = 'one'
             allocation = 'round-robin'
             {dynamic}
             host = [{{ count = 2, cores = 1, mips = 1000, power_watts = [50, 100], failure = {{ {failure} }} }}]
             [[broker]]
             name = 'user'
             vm = [{{ count = 2, mips = 1000, bandwidth_mbps = 8 }}]
             cloudlet = [
                 {{ vm = 0, stages = [{{ run = 60000 }}, {{ send = {{ to = 1, bytes = 10000000 }} }}] }},
                 {{ vm = 1, stages = [{{ receive = 0 }}, {{ run = 5000 }}] }},
             ]"
        )
    };
    // Down from 40 to 140 s: 20 s more of work, 10 s for the data, 5 s of work.
    let keep = "after_s = 40, repair_s = 100, progress = 'keep'";
    for dynamic in ["", "dynamic = { interval_s = 1 }"] {
        let (ran, summary) = all(&text(dynamic, keep));
        assert_eq!(summary.left, [], "{dynamic}");
        let ends: Vec<f64> = ran.iter().map(|one| one.finish).collect();
        assert!(
            (ends[0] - 160.0).abs() < 1.6 && (ends[1] - 175.0).abs() < 3.1,
            "{dynamic} {ends:?}"
        );
        assert!(ran[1].start < 1.0, "{ran:?}");
    }
    // Data comes while the host is down: it is taken when that works again.
    let (ran, summary) = all(&text("", "after_s = 65, repair_s = 100, progress = 'keep'"));
    assert_eq!(summary.left, []);
    assert!((ran[1].finish - 170.0).abs() < 0.1, "{ran:?}");
    let told = Scenario::read(&text("", "after_s = 40, repair_s = 100")).expect_err("it loses");
    assert!(
        told.to_string().contains("line 6: datacenter[0].host[0].failure: must be with progress = \"keep\" where cloudlets have stages"),
        "{told}"
    );
}

#[test]
fn work_that_keeps_what_it_did_takes_its_time_and_that_of_repairs() {
    // Of 100 s of work, with failures after m in the mean and repairs of r, T r / m is waited.
    let failure = "{ after_s = { exponential = 50 }, repair_s = 20, progress = 'keep' }";
    let (ran, summary) = all(&farm(400, 1, 5000, failure));
    assert_eq!(summary.left, []);
    let times: Vec<f64> = ran.iter().map(|one| one.finish - one.submitted).collect();
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    // Failures are a Poisson process while it works: their number has the variance 2.
    let error = 20.0 * (2.0 / times.len() as f64).sqrt();
    assert!((mean - 140.0).abs() < 3.0 * error, "{mean} ± {error}");
}

#[test]
fn what_is_wrong_with_a_failure_is_told_by_line() {
    let right = "stop_s = 9
[[datacenter]]
name = 'one'
[[datacenter.host]]
cores = 1
mips = 1
failure = { after_s = { weibull = [1, 2] }, repair_s = 3 }
";
    for (from, to, why) in [
        ("stop_s = 9\n", "", "stop_s: must be there: hosts that fail"),
        (
            "repair_s = 3",
            "repair_s = -3",
            "line 7: datacenter[0].host[0].failure.repair_s: must be a number",
        ),
        (
            "weibull = [1, 2]",
            "weibull = [0, 2]",
            "line 7: datacenter[0].host[0].failure.after_s: must be a shape above 0",
        ),
        ("repair_s = 3", "repair = 3", "unknown field `repair`"),
        (
            "repair_s = 3",
            "repair_s = 3, vms = 'moves'",
            "unknown variant `moves`, expected `wait` or `move`",
        ),
    ] {
        let text = right.replacen(from, to, 1);
        assert_ne!(text, right);
        let told = Scenario::read(&text).expect_err(to).to_string();
        assert!(told.contains(why), "{told}");
    }
}
