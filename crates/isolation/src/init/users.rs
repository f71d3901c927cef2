//! Users and groups by the files inside: the C library's name service is not
//! to be called from a static program in a foreign root.

use hyperion_model::UserSpec;

use super::files;

/// No user database is larger.
const MAX_SIZE: u32 = 16 << 20;

/// Looks up `user[:group]`, each a name or a number, in `/etc/passwd` and
/// `/etc/group`. A number needs no entry; a name does.
pub(crate) fn look_up(text: &str) -> Option<UserSpec> {
    find(text, &read("/etc/passwd"), &read("/etc/group"))
}

/// Gives the home folder of a user by number.
pub(crate) fn home_of(uid: u32) -> Option<String> {
    let passwd = read("/etc/passwd");
    passwd
        .lines()
        .filter_map(User::parse)
        .find(|u| u.uid == uid)
        .map(|u| u.home.to_owned())
}

fn read(path: &str) -> String {
    let bytes = files::read(path, 0, MAX_SIZE).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads the number of a user or group. The largest one is none: to setresuid(2)
/// it says that nothing is to change, and the program would stay what it is.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&id| id != u32::MAX)
}

/// One line of passwd(5).
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> User<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else {
            return None;
        };
        Some(Self {
            name,
            uid: id(uid)?,
            gid: id(gid)?,
            home,
        })
    }
}

pub(crate) fn find(text: &str, passwd: &str, group: &str) -> Option<UserSpec> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let known = passwd
        .lines()
        .filter_map(User::parse)
        .find(|u| u.name == user || id(user) == Some(u.uid));
    let uid = match &known {
        Some(known) => known.uid,
        None => id(user)?,
    };
    let group_named = |wanted: &str| {
        let mut lines = group.lines().map(|l| l.split(':').collect::<Vec<_>>());
        lines
            .find(|f| f.first() == Some(&wanted))
            .and_then(|f| id(f.get(2)?))
    };
    let gid = match wanted_group {
        Some(wanted) => group_named(wanted).or_else(|| id(wanted))?,
        None => known.as_ref().map_or(0, |k| k.gid),
    };
    // Further groups come with a user's own group only, as docker does it.
    let member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, number, members] = fields[..] else {
            return None;
        };
        let name = known.as_ref()?.name;
        members
            .split(',')
            .any(|m| m == name)
            .then(|| id(number))
            .flatten()
    };
    let groups = if wanted_group.is_none() {
        let others = group.lines().filter_map(member);
        others.filter(|&other| other != gid).collect()
    } else {
        Vec::new()
    };
    Some(UserSpec {
        uid,
        gid,
        groups,
        home: known.map(|k| k.home.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nana:x:1000:100:Ana:/home/ana:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:ana\nvideo:x:44:ana,bob\n";

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let ana = find("ana", PASSWD, GROUP).expect("known");
        assert_eq!((ana.uid, ana.gid), (1000, 100));
        assert_eq!(ana.groups, [44]);
        assert_eq!(ana.home.as_deref(), Some("/home/ana"));
        assert_eq!(find("1000", PASSWD, GROUP), Some(ana));
    }

    #[test]
    fn a_number_needs_no_entry_and_a_name_does() {
        assert_eq!(
            find("4711", PASSWD, GROUP).map(|u| (u.uid, u.gid)),
            Some((4711, 0))
        );
        assert_eq!(
            find("4711:12", PASSWD, GROUP).map(|u| (u.uid, u.gid)),
            Some((4711, 12))
        );
        assert_eq!(
            find("ana:video", PASSWD, GROUP).map(|u| (u.gid, u.groups)),
            Some((44, vec![]))
        );
        assert_eq!(find("eve", PASSWD, GROUP), None);
        assert_eq!(find("ana:nogroup", PASSWD, GROUP), None);
        assert_eq!(find("", PASSWD, GROUP), None);
        for nobody in ["4294967295", "0:4294967295", "4294967296", "-1", "+1:x"] {
            assert_eq!(find(nobody, PASSWD, GROUP), None, "{nobody}");
        }
        let passwd = "eve:x:4294967295:0::/:\n";
        assert_eq!(find("eve", passwd, GROUP), None);
    }
}
