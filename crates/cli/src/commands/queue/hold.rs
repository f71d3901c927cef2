//! Holding all that runs of another user to what that has, together.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;

use hyperion_model::{Bytes, Cores};
use hyperion_sys::cgroup::{Cgroup, Layout};

use crate::commands::users;

static LAYOUT: LazyLock<Layout> = LazyLock::new(Layout::detect);
/// How much memory each is to be held to.
static WANTED: Mutex<BTreeMap<u32, Option<Bytes>>> = Mutex::new(BTreeMap::new());
/// Whose memory is to be less.
static LESS: LazyLock<Sender<u32>> = LazyLock::new(|| {
    let (order, orders) = channel();
    // The kernel may have to make room first, and nobody is to wait for that.
    thread::spawn(move || orders.into_iter().for_each(lower));
    order
});

/// Holds a user's jobs to so much together, where groups can be made: at once to more,
/// and to less memory as soon as there is room.
pub(super) fn hold(user: u32, cpus: Option<Cores>, memory: Option<Bytes>) {
    let Some(account) = users::numbered(user) else {
        return;
    };
    // Before anything of the user's runs: its agent only enters them.
    let name = super::group_of(user);
    drop(Cgroup::hand_over(&LAYOUT, &name, user, account.gid));
    let groups = Cgroup::handed_over(&LAYOUT, &name);
    groups.hold_time(cpus);
    want(user, memory);
    let size = |limit: Option<Bytes>| limit.map_or(u64::MAX, |Bytes(bytes)| bytes);
    match size(memory) < size(groups.held_memory()) {
        true => drop(LESS.send(user)),
        false => groups.hold_memory(memory),
    }
}

fn want(user: u32, memory: Option<Bytes>) {
    let mut wanted = WANTED.lock().unwrap_or_else(PoisonError::into_inner);
    wanted.insert(user, memory);
}

fn wanted(user: u32) -> Option<Option<Bytes>> {
    let wanted = WANTED.lock().unwrap_or_else(PoisonError::into_inner);
    wanted.get(&user).copied()
}

/// Lowers the limit of a user, until it is the one that is wanted by then.
fn lower(user: u32) {
    let name = super::group_of(user);
    let mut done = None;
    while let Some(memory) = wanted(user).filter(|memory| Some(*memory) != done) {
        Cgroup::handed_over(&LAYOUT, &name).hold_memory(memory);
        done = Some(memory);
    }
}
