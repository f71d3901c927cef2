//! Holding all that runs of another user to what that has, together.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

use hyperion_model::{Bytes, Cores};
use hyperion_sys::cgroup::{Cgroup, Layout};

use crate::commands::users;

static LAYOUT: LazyLock<Layout> = LazyLock::new(Layout::detect);
/// The groups of each user, and how much memory they are to be held to.
static HELD: Mutex<BTreeMap<u32, (Cgroup, Option<Bytes>)>> = Mutex::new(BTreeMap::new());
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
    let groups = {
        let mut held = held();
        let its = held
            .entry(user)
            .or_insert_with(|| (groups_of(user), memory));
        its.1 = memory;
        its.0.clone()
    };
    groups.hold_time(cpus);
    let size = |limit: Option<Bytes>| limit.map_or(u64::MAX, |Bytes(bytes)| bytes);
    match size(memory) < size(groups.held_memory()) {
        true => drop(LESS.send(user)),
        false => groups.hold_memory(memory),
    }
}

/// Ends what jobs of a user have left running, where they had groups of their own.
pub(super) fn end_rest_of(user: u32) {
    held().remove(&user);
    let groups = Cgroup::handed_over(&LAYOUT, &super::group_of(user));
    groups.kill();
    groups.remove();
}

fn held() -> MutexGuard<'static, BTreeMap<u32, (Cgroup, Option<Bytes>)>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the groups before anything of the user's runs: its agent only enters them.
fn groups_of(user: u32) -> Cgroup {
    let name = super::group_of(user);
    if let Some(account) = users::numbered(user) {
        drop(Cgroup::hand_over(&LAYOUT, &name, user, account.gid));
    }
    Cgroup::handed_over(&LAYOUT, &name)
}

/// Lowers the limit of a user, until it is the one that is wanted by then.
fn lower(user: u32) {
    let mut done = None;
    loop {
        let wanted = held().get(&user).cloned();
        match wanted {
            Some((groups, memory)) if done != Some(memory) => {
                groups.hold_memory(memory);
                done = Some(memory);
            }
            _ => return,
        }
    }
}
