//! The probe of KVM on the host that runs the tests, whatever KVM it has.

use std::time::{Duration, Instant};

use hyperion_sys::kvm::{self, KvmVerdict};
use hyperion_testkit::requires;

/// The guest's two seconds, and as much for a processor that resists.
const LIMIT: Duration = Duration::from_secs(6);

#[test]
fn a_probe_comes_to_an_end_and_its_verdict_is_kept() {
    requires!("path:/dev/kvm");
    let root = tempfile::tempdir().expect("a folder");
    let since = Instant::now();
    let first = kvm::probe(root.path());
    assert!(since.elapsed() < LIMIT, "{:?}", since.elapsed());
    println!("{:?}: {}", since.elapsed(), first.verdict);
    assert!(!first.cached);
    let kept = root.path().join("probe/kvm.json").exists();
    let since = Instant::now();
    let second = kvm::probe(root.path());
    println!("again: {:?}", since.elapsed());
    match &first.verdict {
        KvmVerdict::Works { .. } => assert!(kept),
        KvmVerdict::Missing { .. } | KvmVerdict::Denied { .. } => assert!(!kept),
        KvmVerdict::Broken { .. } | KvmVerdict::Untried { .. } => {}
    }
    assert_eq!(second.cached, kept);
    if kept {
        assert_eq!(second.verdict, first.verdict);
        assert!(!kvm::probe_anew(root.path()).cached);
    }
}
