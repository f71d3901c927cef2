//! Users and groups, by the files of this host, and by what `getent` and `id` say of those
//! whom only a directory service knows: the C library's name service is not to be called
//! from a static program.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyperion_sys::process::ends_within;
use rustix::process::Pid;

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
    pub(super) shell: String,
    /// The files of this host have it.
    local: bool,
}

/// Finds a user by number.
pub(super) fn numbered(uid: u32) -> Option<User> {
    look_up(&uid.to_string(), |user| user.uid == uid)
}

/// Gives what a user is called, or the number where nobody knows.
pub(super) fn name(uid: u32) -> String {
    numbered(uid).map_or_else(|| uid.to_string(), |user| user.name)
}

/// Finds a user by name.
pub(super) fn named(name: &str) -> Option<User> {
    look_up(name, |user| user.name == name)
}

impl User {
    /// Gives the numbers of all groups that the user is in, as initgroups(3) does.
    pub(super) fn groups(&self) -> Vec<u32> {
        if self.local {
            return groups_of(self, &read("/etc/group"));
        }
        let said = ask("/usr/bin/id", &["-G", "--", &self.name]).unwrap_or_default();
        let mut groups = vec![self.gid];
        let others = said.split_ascii_whitespace().filter_map(id);
        groups.extend(others.filter(|group| *group != self.gid));
        groups
    }
}

/// How long what a directory service said is believed, and how long it is waited for.
const BELIEVED: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks a user up in the file, and where that has none asks the services that the host
/// knows.
fn look_up(key: &str, wanted: impl Fn(&User) -> bool) -> Option<User> {
    static SAID: Mutex<BTreeMap<String, (Instant, Option<User>)>> = Mutex::new(BTreeMap::new());
    if let Some(user) = find(&read("/etc/passwd"), &wanted) {
        return Some(user);
    }
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((at, user)) = said.get(key)
        && at.elapsed() < BELIEVED
    {
        return user.clone();
    }
    let text = ask("/usr/bin/getent", &["passwd", "--", key]).unwrap_or_default();
    let user = find(&text, wanted).map(|user| User {
        local: false,
        ..user
    });
    said.insert(key.to_owned(), (Instant::now(), user.clone()));
    user
}

/// Asks a program of the host's; one that does not answer in time has nothing to say.
fn ask(program: &str, words: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(words).env_clear().current_dir("/");
    let quiet = command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.stdout(Stdio::piped()).spawn().ok()?;
    if !ends_within(Pid::from_child(&child), PATIENCE).unwrap_or(false) {
        let _ = child.kill();
    }
    let status = child.wait().ok()?;
    let mut said = String::new();
    let read = child.stdout.take()?.read_to_string(&mut said);
    read.ok().filter(|_| status.success()).map(|_| said)
}

fn read(path: &str) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads a number. The largest one is none: to setresuid(2) it says that nothing is to change.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&id| id != u32::MAX)
}

/// Reads lines of passwd(5).
fn find(passwd: &str, wanted: impl Fn(&User) -> bool) -> Option<User> {
    let mut users = passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields[..] else {
            return None;
        };
        Some(User {
            name: name.to_owned(),
            uid: id(uid)?,
            gid: id(gid)?,
            home: home.to_owned(),
            shell: match shell {
                "" => "/bin/sh".to_owned(),
                shell => shell.to_owned(),
            },
            local: true,
        })
    });
    users.find(wanted)
}

/// Reads lines of group(5).
fn groups_of(user: &User, group: &str) -> Vec<u32> {
    let mut groups = vec![user.gid];
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [_, _, number, members] = fields[..]
            && members.split(',').any(|member| member == user.name)
            && let Some(number) = id(number)
            && !groups.contains(&number)
        {
            groups.push(number);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken:x:7\nno:x:4294967295:5::/:\n\
                          ana:x:1000:100:Ana:/home/ana:\n";

    #[test]
    fn a_user_is_found_by_number_and_what_is_broken_is_none() {
        let ana = find(PASSWD, |user| user.uid == 1000).expect("known");
        assert_eq!((&*ana.name, ana.gid), ("ana", 100));
        assert_eq!((&*ana.home, &*ana.shell), ("/home/ana", "/bin/sh"));
        for nobody in [7, u32::MAX, 1] {
            assert_eq!(find(PASSWD, |user| user.uid == nobody), None);
        }
    }

    #[test]
    fn a_user_is_in_the_own_group_and_in_those_that_name_it() {
        let ana = find(PASSWD, |user| user.name == "ana").expect("known");
        let group = "users:x:100:ana\nvideo:x:44:bob,ana\nshort:x:9\nroot:x:0:anabel\n\
                     none:x:4294967295:ana\nadm:x:4:ana\n";
        assert_eq!(groups_of(&ana, group), [100, 44, 4]);
    }
}
