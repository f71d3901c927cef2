//! `sacctmgr show` and `sshare`

use std::collections::BTreeSet;

use hyperion_api::queue::{Reply, Request, RulesView, ShareView};
use hyperion_formats::listings::slurm::{SACCTMGR, SSHARE, Sacctmgr, Sshare};

use super::slurm::read;
use super::{Call, Outcome, Stop, host, print};
use crate::commands::users;

pub(super) fn answer(call: &Call) -> Outcome {
    match call.name.as_str() {
        "sshare" => sshare(call),
        _ => sacctmgr(call),
    }
}

/// The name of the caller, as the server knows it.
fn me() -> String {
    users::name(rustix::process::getuid().as_raw())
}

fn shares(call: &Call) -> Result<Vec<ShareView>, Stop> {
    match call.ask(&Request::Shares)? {
        Reply::Shares(shares) => Ok(shares),
        _ => Ok(Vec::new()),
    }
}

fn sshare(call: &Call) -> Outcome {
    let words = match read(call, SSHARE)? {
        Ok(words) => words,
        Err(code) => return Ok(code),
    };
    if words.has("--helpformat") {
        return print(&Sshare::known());
    }
    let wrong = |text| Stop::new(1, format!("sshare: error: {text}"));
    let list = Sshare::read(&words, &me()).map_err(wrong)?;
    print(&list.write(&shares(call)?))
}

fn sacctmgr(call: &Call) -> Outcome {
    let words = match read(call, SACCTMGR)? {
        Ok(words) => words,
        Err(code) => return Ok(code),
    };
    let wrong = |text| Stop::new(1, format!("sacctmgr: error: {text}"));
    let list = Sacctmgr::read(&words).map_err(wrong)?;
    let rules = match call.ask(&Request::Rules)? {
        Reply::Rules(rules) => rules,
        _ => RulesView::default(),
    };
    // All who are known to use, or to be promised, something; and who asks.
    let shares = shares(call)?.into_iter().filter_map(|share| share.user);
    let named = rules
        .accounts
        .iter()
        .flat_map(|its| its.users.keys().cloned());
    let users: BTreeSet<String> = shares.chain(named).chain([me()]).collect();
    let users: Vec<String> = users.into_iter().collect();
    print(&list.write(&rules, &users, &host()))
}
