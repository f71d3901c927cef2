//! What the kernel offers to confine a program, and what confines debugging.

use hyperion_model::{Check, Verdict};

use super::{Host, seen, trial};

pub(super) fn check_seccomp(host: &Host) -> Check {
    const PATH: &str = "/proc/sys/kernel/seccomp/actions_avail";
    let Some(actions) = host.text(PATH) else {
        return Check {
            consequence: "system calls of containers cannot be filtered".into(),
            fix: "boot a kernel with CONFIG_SECCOMP_FILTER".into(),
            ..seen("seccomp", Verdict::Missing, format!("{PATH} is not there"))
        };
    };
    let evidence = format!("{actions} ({PATH})");
    if !actions.split_whitespace().any(|a| a == "user_notif") {
        return Check {
            consequence: "filters work; none can ask the supervisor (kernel before 5.0)".into(),
            ..seen("seccomp", Verdict::Limited, evidence)
        };
    }
    seen("seccomp", Verdict::Ok, evidence)
}

pub(super) fn check_landlock(host: &Host) -> Check {
    let listed = security_modules(host).map(|text| text.split(',').any(|m| m == "landlock"));
    let (verdict, evidence) = if host.is_live() {
        match trial::landlock_abi() {
            Some(abi) => (
                Verdict::Ok,
                format!("version {abi} (landlock_create_ruleset)"),
            ),
            None => (
                Verdict::Missing,
                "landlock_create_ruleset refuses".to_owned(),
            ),
        }
    } else {
        match listed {
            Some(true) => (Verdict::Ok, format!("listed in {LSM}")),
            Some(false) => (Verdict::Missing, format!("not listed in {LSM}")),
            None => (Verdict::Unknown, format!("{LSM} cannot be read")),
        }
    };
    let mut check = seen("landlock", verdict, evidence);
    if verdict == Verdict::Missing {
        check.consequence = "the process level cannot fence off folders".into();
        check.fix = "boot a kernel with CONFIG_SECURITY_LANDLOCK and landlock in lsm=".into();
    }
    check
}

const LSM: &str = "/sys/kernel/security/lsm";

fn security_modules(host: &Host) -> Option<String> {
    host.text(LSM)
}

pub(super) fn check_lsm(host: &Host) -> Check {
    let mut words = Vec::new();
    let list = security_modules(host);
    if let Some(list) = &list {
        words.push(format!("{list} ({LSM})"));
    }
    match host.text("/sys/fs/selinux/enforce").as_deref() {
        Some("1") => words.push("SELinux enforcing (/sys/fs/selinux/enforce)".to_owned()),
        Some(_) => words.push("SELinux permissive (/sys/fs/selinux/enforce)".to_owned()),
        None => {}
    }
    if host
        .text("/sys/module/apparmor/parameters/enabled")
        .as_deref()
        == Some("Y")
    {
        words.push("AppArmor enabled".to_owned());
    }
    if words.is_empty() {
        return seen("lsm", Verdict::Unknown, format!("{LSM} cannot be read"));
    }
    seen("lsm", Verdict::Ok, words.join("; "))
}

pub(super) fn check_ptrace_scope(host: &Host) -> Check {
    const NAME: &str = "ptrace-scope";
    const PATH: &str = "/proc/sys/kernel/yama/ptrace_scope";
    let Some(scope) = host.value::<u32>(PATH) else {
        return seen(
            NAME,
            Verdict::Ok,
            format!("{PATH} is not there: no restriction"),
        );
    };
    let evidence = format!("{scope} ({PATH})");
    if scope == 0 {
        return seen(NAME, Verdict::Ok, evidence);
    }
    Check {
        consequence: "MPI cannot copy large messages straight between ranks (CMA): it copies \
                      twice through shared memory"
            .into(),
        fix: "sysctl -w kernel.yama.ptrace_scope=0".into(),
        ..seen(NAME, Verdict::Limited, evidence)
    }
}
