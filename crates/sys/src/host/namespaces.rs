//! User namespaces and the ids that a user may map into them.

use hyperion_model::{Check, Verdict};

use super::packages::NEWUIDMAP;
use super::{Distribution, Host, seen, trial};
use crate::userns::subordinate_range;

const MAX: &str = "/proc/sys/user/max_user_namespaces";
const CLONE: &str = "/proc/sys/kernel/unprivileged_userns_clone";
const APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

pub(super) fn check_user_namespaces(host: &Host) -> Check {
    const NAME: &str = "user-namespaces";
    const NEEDS_ROOT: &str = "containers need root on this host";
    // The limits bind everybody, the two switches only those without rights.
    let unprivileged = host.user.uid != 0;
    let Some(max) = host.value::<u64>(MAX) else {
        return Check {
            consequence: NEEDS_ROOT.into(),
            fix: "boot a kernel with CONFIG_USER_NS".into(),
            ..seen(NAME, Verdict::Missing, format!("{MAX} is not there"))
        };
    };
    let mut evidence = format!("at most {max} ({MAX})");
    if max == 0 {
        return Check {
            consequence: NEEDS_ROOT.into(),
            fix: "sysctl -w user.max_user_namespaces=15000".into(),
            ..seen(NAME, Verdict::Missing, evidence)
        };
    }
    let off = |path| host.text(path).as_deref() == Some("0");
    let restricted = host.text(APPARMOR).as_deref() == Some("1");
    let (mut consequence, mut fix) = (String::new(), String::new());
    if off(CLONE) {
        evidence += &format!("; {CLONE} is 0");
        consequence = "only root may make them: containers need root on this host".into();
        fix = "sysctl -w kernel.unprivileged_userns_clone=1".into();
    } else if restricted {
        evidence += &format!("; {APPARMOR} is 1");
        consequence = "without root they give no rights inside: mounts in them fail".into();
        fix = "give hyperion an AppArmor profile with `userns,`, or sysctl -w \
               kernel.apparmor_restrict_unprivileged_userns=0"
            .into();
    }
    if host.is_live() {
        let who = if unprivileged { "this user" } else { "root" };
        match trial::user_namespace() {
            // A profile may let this very program pass in spite of the switch.
            Ok(()) if unprivileged => {
                return seen(NAME, Verdict::Ok, format!("{evidence}; made one as {who}"));
            }
            Ok(()) => evidence += &format!("; made one as {who}"),
            Err(error) => {
                return Check {
                    consequence: NEEDS_ROOT.into(),
                    fix: if fix.is_empty() {
                        "allow unshare(2) with CLONE_NEWUSER: a seccomp filter, a read-only /proc or \
                         a limit of an outer container refuses it"
                            .into()
                    } else {
                        fix
                    },
                    ..seen(
                        NAME,
                        Verdict::Missing,
                        format!("{evidence}; making one as {who} failed: {error}"),
                    )
                };
            }
        }
    }
    let verdict = if consequence.is_empty() {
        Verdict::Ok
    } else {
        Verdict::Limited
    };
    Check {
        consequence,
        fix,
        ..seen(NAME, verdict, evidence)
    }
}

pub(super) fn check_subordinate_ids(host: &Host, dist: &Distribution) -> Check {
    const NAME: &str = "subordinate-ids";
    const ONE_ID: &str = "without root a container has one user id; files of others appear as \
                          nobody's and package managers fail inside";
    if host.user.uid == 0 {
        return seen(NAME, Verdict::Ok, "root maps any id");
    }
    let name = host.user_name();
    let of = |path| {
        let text = host.text(path).unwrap_or_default();
        let user = name.as_deref().unwrap_or_default();
        subordinate_range(&text, user, host.user.uid).map_or(0, |(_, count)| count)
    };
    let (uids, gids) = (of("/etc/subuid"), of("/etc/subgid"));
    let tool = host.program("newuidmap");
    let evidence = format!(
        "{uids} uids (/etc/subuid), {gids} gids (/etc/subgid), {}",
        match &tool {
            Some(path) => path.display().to_string(),
            None => "no newuidmap in PATH".to_owned(),
        }
    );
    let mut fixes = Vec::new();
    if tool.is_none() {
        fixes.push(dist.install(NEWUIDMAP));
    }
    if uids < 65536 || gids < 65536 {
        let user = name.unwrap_or_else(|| host.user.uid.to_string());
        fixes.push(format!(
            "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
        ));
    }
    if fixes.is_empty() {
        return seen(NAME, Verdict::Ok, evidence);
    }
    Check {
        consequence: ONE_ID.into(),
        fix: fixes.join("; "),
        ..seen(NAME, Verdict::Limited, evidence)
    }
}
