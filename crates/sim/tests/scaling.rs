//! Brokers that fit the number of their VMs to what these have to do.

#[allow(dead_code, reason = "each test file needs a part")]
mod common;

use common::all;
use hyperion_sim::cloud::{Ran, Scenario, Summary};

/// Cloudlets of 15 s that come every 10 s: one VM is too few, two are enough.
fn stream(hosts: u32, scaling: &str) -> String {
    format!(
        "stop_s = 5000
         [[datacenter]]
         name = 'one'
         host = [{{ count = {hosts}, cores = 1, mips = 1000, power_watts = [10, 20] }}]
         [[broker]]
         name = 'user'
         {scaling}
         vm = [{{ mips = 1000, scheduler = 'space-shared' }}]
         cloudlet = [{{ count = 60, length_mi = 15000, gap_s = 10 }}]"
    )
}

fn rows(summary: &Summary) -> Vec<(f64, u32)> {
    let row = |its: &hyperion_sim::cloud::Scaled| ((its.time * 100.0).round() / 100.0, its.vms);
    summary.scaled.iter().map(row).collect()
}

fn longest(ran: &[Ran]) -> f64 {
    ran.iter()
        .map(|one| one.finish - one.submitted)
        .fold(0.0, f64::max)
}

#[test]
fn a_broker_with_too_few_vms_asks_for_more_and_work_no_longer_piles_up() {
    let (ran, summary) = all(&stream(4, ""));
    assert_eq!((ran.len(), summary.scaled.len()), (60, 0));
    // The last waits for the half of what came before it: 60 × 15 − 590 s.
    assert!((longest(&ran) - 310.0).abs() < 1.0, "{}", longest(&ran));
    let scaling = "scaling = { most = 2, every_s = 7, above = 0.9, below = 0, cool_down_s = 30 }";
    let (ran, summary) = all(&stream(4, scaling));
    // The first look is 7 s after the broker has its VM, and finds it busy.
    assert_eq!(rows(&summary), [(7.02, 2)]);
    assert!(longest(&ran) < 30.5, "{}", longest(&ran));
    assert_eq!((ran.len(), summary.left.len()), (60, 0));
    assert!(ran.iter().any(|one| one.vm == 1));
}

#[test]
fn what_came_is_given_up_when_it_has_nothing_to_do_and_a_change_is_waited_after() {
    let text = stream(4, "scaling = { most = 3, every_s = 5, above = 0.5, below = 0.4, cool_down_s = 100 }")
        // Some, then nothing for long, then one.
        .replace(
            "cloudlet = [{ count = 60, length_mi = 15000, gap_s = 10 }]",
            "cloudlet = [{ count = 10, length_mi = 15000, gap_s = 20 }, { length_mi = 1000, submit_s = 2000 }]",
        );
    let (ran, summary) = all(&text);
    assert_eq!((ran.len(), summary.left.len()), (11, 0));
    let rows = rows(&summary);
    assert_eq!(rows[0], (5.02, 2));
    let vms: Vec<u32> = rows.iter().map(|row| row.1).collect();
    assert_eq!(vms, [2, 1, 2], "{rows:?}");
    assert!(rows[1].0 < 200.0 && rows[2].0 > 2000.0, "{rows:?}");
    for pair in rows.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= 100.0, "{rows:?}");
        assert_eq!(pair[1].1.abs_diff(pair[0].1), 1, "{rows:?}");
    }
    // What two VMs drew is counted though one was given up long before the end.
    assert!(
        summary
            .vms
            .iter()
            .any(|(_, vm, joules)| *vm == 1 && *joules > 0.0)
    );
}

#[test]
fn where_there_is_no_room_for_more_all_goes_on_with_what_there_is() {
    let scaling = "scaling = { most = 9, every_s = 7, above = 0.9, below = 0 }";
    let (ran, summary) = all(&stream(1, scaling));
    assert_eq!(
        (ran.len(), summary.left.len(), summary.scaled.len()),
        (60, 0, 0)
    );
    assert!((longest(&ran) - 310.0).abs() < 1.0);
}

#[test]
fn brokers_scale_in_a_dynamic_datacenter_and_no_vm_is_given_up_for_them() {
    let scaling = "scaling = { most = 3, every_s = 7, above = 0.9, below = 0.3, cool_down_s = 20 }";
    let text = stream(4, scaling)
        .replace("name = 'one'", "name = 'one'\ndynamic = { interval_s = 5 }")
        .replace(", scheduler = 'space-shared'", "")
        // Some, then nothing for long, then some.
        .replace(
            "cloudlet = [{ count = 60, length_mi = 15000, gap_s = 10 }]",
            "cloudlet = [{ count = 30, length_mi = 15000, gap_s = 10 }, { count = 5, length_mi = 9000, gap_s = 5, submit_s = 2000 }]",
        );
    let (ran, summary) = all(&text);
    assert_eq!((ran.len(), summary.left.len()), (35, 0), "{summary:?}");
    let rows = rows(&summary);
    // It has more while there is much to do, and gives that up when there is nothing.
    assert!(rows[0].0 < 60.0 && rows[0].1 == 2, "{rows:?}");
    assert!(
        rows.iter().any(|row| row.1 == 1 && row.0 < 2000.0),
        "{rows:?}"
    );
    assert!(longest(&ran) < 120.0, "{}", longest(&ran));
    // A VM that came twice has drawn what it drew both times.
    let vms: f64 = summary.vms.iter().map(|its| its.2).sum();
    let ended: f64 = ran.iter().filter_map(|one| one.joules).sum();
    assert!((vms - ended).abs() < 1e-6 * vms, "{vms} {ended}");
}

#[test]
fn what_is_wrong_with_scaling_is_told_by_line() {
    let right = stream(
        1,
        "scaling = { most = 3, every_s = 5, above = 0.5, below = 0.4 }",
    );
    for (from, to, why) in [
        (
            "most = 3",
            "most = 0",
            "line 7: broker[0].scaling.most: must be as many VMs",
        ),
        (
            "every_s = 5",
            "every_s = 0",
            "line 7: broker[0].scaling.every_s: must be 0.001 s at least",
        ),
        (
            "above = 0.5",
            "above = 1.5",
            "line 7: broker[0].scaling.above: must be a share",
        ),
        (
            "below = 0.4",
            "below = 0.6",
            "line 7: broker[0].scaling.below: must be a share from 0 to `above`",
        ),
        (
            "below = 0.4",
            "below = 0.4, cooldown_s = 3",
            "unknown field `cooldown_s`",
        ),
        ("stop_s = 5000", "", "stop_s: must be there"),
    ] {
        let text = right.replacen(from, to, 1);
        assert_ne!(text, right);
        let told = Scenario::read(&text).expect_err(to).to_string();
        assert!(told.contains(why), "{told}");
    }
}
