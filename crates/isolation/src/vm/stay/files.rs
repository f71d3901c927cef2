//! The few files that a machine's name, its network and its keys are told by.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use hyperion_model::report::Exit;
use hyperion_sys::process::{self, Fork};

use super::say;
use crate::init::{become_user, users};

/// The first line of files that are ours to write anew.
const MARK: &str = "# written by hyperion at each start";
/// Which machine has written its name down here: a clone has another.
const NAMED: &str = "/etc/hyperion-machine";

/// Writes a file, unless somebody else's is there: at a machine's first start only what
/// lay in the image is, which knows nothing of it.
pub(super) fn own(path: &str, text: &str, first: bool) {
    let ours = match fs::read_to_string(path) {
        Ok(there) => there.trim().is_empty() || there.starts_with(MARK),
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    };
    if (ours || first)
        && let Err(e) = fs::write(path, format!("{MARK}\n{text}"))
    {
        say(format_args!("cannot write {path}: {e}"));
    }
}

/// Gives the machine its name; tells whether it starts for the first time.
pub(super) fn name(name: &str) -> bool {
    let _ = rustix::system::sethostname(name.as_bytes());
    let hosts = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{name}\n"
    );
    // Whoever has called it otherwise since wants that.
    let first = !fs::read_to_string(NAMED).is_ok_and(|last| last.trim() == name);
    own("/etc/hosts", &hosts, first);
    if !first {
        return false;
    }
    let line = format!("{name}\n");
    let written = fs::write("/etc/hostname", &line).and_then(|()| fs::write(NAMED, &line));
    if let Err(e) = written {
        say(format_args!("cannot write down the name: {e}"));
    }
    true
}

/// Lets users in who have these keys.
pub(super) fn keys(all: &[(String, Vec<String>)]) {
    for (user, keys) in all.iter().filter(|(_, keys)| !keys.is_empty()) {
        let Some(found) = users::look_up(user) else {
            say(format_args!("there is no user {user} to give a key to"));
            continue;
        };
        let home = found.home.clone().or_else(|| users::home_of(found.uid));
        let home = home.unwrap_or_else(|| "/".into());
        // As that user: what lies there may lead anywhere.
        match process::fork() {
            Ok(Fork::Child) => {
                let done = become_user(&found, true).and_then(|()| add(Path::new(&home), keys));
                process::exit_now(u8::from(done.is_err()));
            }
            Ok(Fork::Parent(pid)) => {
                let ended = process::wait_for(pid);
                if !ended.is_ok_and(|ended| ended.exit == Exit::Code(0)) {
                    say(format_args!("cannot write the keys of {user} below {home}"));
                }
            }
            Err(e) => say(format_args!("cannot write the keys of {user}: {e}")),
        }
    }
}

fn add(home: &Path, keys: &[String]) -> io::Result<()> {
    let folder = home.join(".ssh");
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let file = folder.join("authorized_keys");
    let there = fs::read_to_string(&file).unwrap_or_default();
    let mut options = OpenOptions::new();
    let mut to = options.create(true).append(true).mode(0o600).open(&file)?;
    if !there.is_empty() && !there.ends_with('\n') {
        to.write_all(b"\n")?;
    }
    for key in keys.iter().filter(|key| !there.lines().any(|l| l == **key)) {
        to.write_all(format!("{key}\n").as_bytes())?;
    }
    Ok(())
}
