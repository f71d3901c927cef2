//! Finding and starting the binaries of this workspace.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The built `hyperion`.
///
/// # Panics
/// As [`binary`].
#[must_use]
pub fn hyperion_binary() -> PathBuf {
    binary("hyperion")
}

/// The path of a binary of this workspace.
///
/// Taken from `HYPERION_BIN_<name>` (a test of a packaged binary), from what
/// the test runner says, or beside the folder of the running test.
///
/// # Panics
/// If it has not been built; cargo builds binaries only for the tests of their
/// own package, so elsewhere `cargo build` must have run.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let said = ["HYPERION_BIN", "NEXTEST_BIN_EXE", "CARGO_BIN_EXE"]
        .into_iter()
        .find_map(|prefix| std::env::var_os(format!("{prefix}_{name}")));
    if let Some(path) = said {
        return path.into();
    }
    let test = std::env::current_exe().expect("a running test has a path");
    // target/<triple>/<profile>/deps/<test>
    let beside = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    beside.unwrap_or_else(|| {
        panic!("`{name}` is not built; run `cargo build --workspace --bins` first")
    })
}

/// `hyperion` with an environment that holds nothing of the tester's own.
///
/// Store, state and configuration lie in `home`.
///
/// # Panics
/// As [`binary`].
#[must_use]
pub fn hyperion(home: &Path) -> Command {
    with_home(&hyperion_binary(), home)
}

/// As [`hyperion`], run by another user; the caller is root.
///
/// # Panics
/// As [`binary`] and [`run_as`], and if no copy can be made: the built binary
/// may lie where nobody else may go (below `/root`), and then one is put into
/// `home`.
#[must_use]
pub fn hyperion_as(home: &Path, user: &str) -> Command {
    let built = hyperion_binary();
    let mut folders = built.ancestors().skip(1);
    let open = |folder: &Path| folder.metadata().is_ok_and(|m| m.mode() & 0o001 != 0);
    let mut command = if folders.all(open) {
        with_home(&built, home)
    } else {
        let copy = home.join("hyperion-for-all");
        if !copy.exists() {
            std::fs::copy(&built, &copy).expect("the binary can be copied");
        }
        with_home(&copy, home)
    };
    run_as(&mut command, user);
    command
}

fn with_home(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("HYPERION_ROOT", home.join("hyperion"))
        .env("XDG_DATA_HOME", home.join("data"))
        .env("XDG_STATE_HOME", home.join("state"))
        .env("XDG_CACHE_HOME", home.join("cache"))
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_RUNTIME_DIR", home.join("run"))
        .env("TMPDIR", std::env::temp_dir())
        .env("TZ", "UTC")
        .env("LC_ALL", "C.UTF-8")
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .current_dir(home);
    command
}

/// Lets `command` run as another user; the caller is root.
///
/// # Panics
/// If /etc/passwd has no such user: gate the test by `requires!("user:NAME")`.
pub fn run_as<'a>(command: &'a mut Command, user: &str) -> &'a mut Command {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == user).then_some(())?;
        let uid: u32 = fields.nth(1)?.parse().ok()?;
        let gid: u32 = fields.next()?.parse().ok()?;
        Some((uid, gid))
    });
    let (uid, gid) = ids.unwrap_or_else(|| panic!("no user {user} in /etc/passwd"));
    // As root this also drops the supplementary groups.
    command.uid(uid).gid(gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_runs_as_another_user() {
        crate::requires!("user:nobody");
        let output = run_as(Command::new("id").arg("-un"), "nobody")
            .output()
            .expect("id runs");
        assert_eq!(output.stdout, b"nobody\n");
    }

    #[test]
    #[should_panic(expected = "is not built")]
    fn a_binary_that_is_not_built_is_named() {
        let _ = binary("no-such-binary");
    }
}
