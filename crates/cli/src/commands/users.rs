//! Users and groups, by the files of this host: the C library's name service is not to be
//! called from a static program.

use std::fs;

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
    pub(super) shell: String,
}

/// Finds a user by number.
pub(super) fn numbered(uid: u32) -> Option<User> {
    find(&read("/etc/passwd"), |user| user.uid == uid)
}

/// Finds a user by name.
pub(super) fn named(name: &str) -> Option<User> {
    find(&read("/etc/passwd"), |user| user.name == name)
}

impl User {
    /// Gives the numbers of all groups that the user is in, as initgroups(3) does.
    pub(super) fn groups(&self) -> Vec<u32> {
        groups_of(self, &read("/etc/group"))
    }
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
