//! Files that cloudlets need before they start.

#[allow(dead_code, reason = "each test file needs a part")]
mod common;

use common::all;
use hyperion_sim::cloud::{Scenario, Why};

const RIGHT: &str = "stop_s = 10000
[[datacenter]]
name = 'east'
host = [{ cores = 2, mips = 1000 }]
[[datacenter.storage]]
capacity_mib = 1000
bandwidth_mbps = 80
latency_s = 0.5
[[datacenter.storage.file]]
name = 'genome'
bytes = 1000000000
[[datacenter.storage.file]]
name = 'index'
bytes = 48576000
[[datacenter.storage]]
bandwidth_mbps = 8000
file = [{ name = 'tools', bytes = 1000000000 }, { name = 'genome', bytes = 1000000000 }]
[[broker]]
name = 'user'
vm = [{ mips = 1000, scheduler = 'space-shared' }]
[[broker.cloudlet]]
length_mi = 10000
files = ['genome', 'tools']
[[broker.cloudlet]]
length_mi = 20000
";

#[test]
fn a_cloudlet_starts_when_it_has_its_files_and_keeps_no_core_before() {
    let (mut ran, summary) = all(RIGHT);
    ran.sort_by_key(|one| one.cloudlet);
    // 0.5 s and 8000 Mbit at 80 Mbit/s, the first storage that has it; then a second.
    let loads = 0.5 + 100.0 + 1.0;
    let right = [(0.01 + loads, 0.01 + loads + 10.0), (0.01, 20.01)];
    for (one, (start, finish)) in ran.iter().zip(right) {
        assert_eq!(one.submitted, 0.01);
        assert!((one.start - start).abs() < 0.01, "{one:?}");
        assert!((one.finish - finish).abs() < 0.01, "{one:?}");
    }
    // Little's law counts who loads, too.
    let (stays, presence) = (summary.stays_s, summary.presence_s);
    assert!(
        (stays - presence).abs() < 1e-9 * stays,
        "{stays} {presence}"
    );
    // A dynamic datacenter lets it wait as long.
    let dynamic = RIGHT.replacen(
        "name = 'east'",
        "name = 'east'\ndynamic = { interval_s = 5 }",
        1,
    );
    let dynamic = dynamic.replace(", scheduler = 'space-shared'", "");
    let (ran, summary) = all(&dynamic.replace("20000", "1000000"));
    let first = ran.iter().find(|one| one.cloudlet == 0).expect("it ended");
    assert!((first.start - 0.01 - loads).abs() < 0.01, "{first:?}");
    assert!(
        (summary.stays_s - summary.presence_s).abs() < 1e-6,
        "{summary:?}"
    );
}

#[test]
fn a_file_of_another_datacenter_is_none() {
    let other = "[[datacenter]]
name = 'west'
host = [{ cores = 1, mips = 1000 }]
storage = [{ bandwidth_mbps = 1, file = [{ name = 'far', bytes = 9 }] }]
[[broker]]
name";
    let text = RIGHT
        .replacen("[[broker]]\nname", other, 1)
        .replace("'tools']", "'far']");
    let (ran, summary) = all(&text);
    assert_eq!((ran.len(), summary.left.len()), (1, 1));
    assert_eq!(summary.left[0].why, Why::NoFile);
    // It is back at once: the VM is given up when the other cloudlet is back, and the third
    // VM of another broker has its room.
    let later = "[[broker]]
name = 'later'
start_s = 30
vm = [{ count = 3, mips = 1000 }]
cloudlet = [{ length_mi = 1000, vm = 2 }]
";
    let (ran, _) = all(&(text + later));
    assert!(ran.iter().any(|one| one.broker == 1), "{ran:?}");
}

#[test]
fn what_is_wrong_with_files_is_told_by_line() {
    for (from, to, why) in [
        (
            "bytes = 48576000",
            "bytes = 48576001",
            "line 14: datacenter[0].storage[0].file[1].bytes: must be 48576000 at most: so much is free there",
        ),
        (
            "'genome', 'tools'",
            "'genome', 'tolls'",
            "line 23: broker[0].cloudlet[0].files[1]: must be the name of a file in the storage",
        ),
        (
            "name = 'index'",
            "name = 'genome'",
            "line 13: datacenter[0].storage[0].file[1].name: must be a name of its own",
        ),
        (
            "bandwidth_mbps = 80\n",
            "bandwidth_mbps = 0\n",
            "line 7: datacenter[0].storage[0].bandwidth_mbps: must be a number",
        ),
        (
            "latency_s = 0.5",
            "latency_s = -1",
            "line 8: datacenter[0].storage[0].latency_s: must be a time",
        ),
        (
            "bytes = 48576000",
            "size = 48576000",
            "unknown field `size`",
        ),
    ] {
        let text = RIGHT.replacen(from, to, 1);
        assert_ne!(text, RIGHT);
        let told = Scenario::read(&text).expect_err(to).to_string();
        assert!(told.contains(why), "{told}");
    }
}
