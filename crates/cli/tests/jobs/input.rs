//! Wrong words, wrong files, a full disk: an error with a hint, and nothing done.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use hyperion_testkit::{Done, hyperion_as, requires, wait_until};

use crate::site::{LONG, Site, finish};

fn run(site: &Site, flags: &[&str]) -> Done {
    let words = [&["run", "--isolation", "process"][..], flags, &["true"]].concat();
    site.run(&words)
}

fn contain(site: &Site, flags: &[&str]) -> Done {
    let root = site.path().join("image");
    std::fs::create_dir_all(&root).expect("a folder");
    let root = root.to_str().expect("text").to_owned();
    let words = [&["run"][..], flags, &[&root, "true"]].concat();
    site.run(&words)
}

#[test]
fn misspelt_flags_verbs_and_values_are_answered_with_the_right_ones() {
    let site = Site::new();
    contain(&site, &["--report", "json"])
        .refused("\"json\" stands where the image is named", "--report=json");
    run(&site, &["--raks", "3"]).refused("unexpected argument '--raks'", "'--ranks'");
    site.run(&["isnpect"])
        .refused("unrecognized subcommand 'isnpect'", "'inspect'");
    run(&site, &["--network", "hots"]).refused("invalid value 'hots'", "'host'");
    run(&site, &["--ulimit", "nofle=3"]).refused("there is no limit named \"nofle\"", "nofile");
    contain(&site, &["--cap-add", "NET_ADMN"])
        .refused("no capability named \"NET_ADMN\"", "NET_ADMIN");
    site.run(&["ps", "--al"])
        .refused("unexpected argument '--al'", "'--all'");
    assert!(!site.root().join("jobs").exists(), "nothing was started");
}

#[test]
fn an_unknown_key_of_the_settings_is_refused_with_the_likely_one() {
    let site = Site::new();
    let file = site.path().join("config/hyperion/config.toml");
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
    std::fs::write(&file, "rot = \"/data\"\n").expect("written");
    let done = run(&site, &[]).refused("cannot use", "did you mean \"root\"?");
    assert!(done.err.contains("\ncause: "), "{done:?}");
    std::fs::write(&file, "root = \n").expect("written");
    run(&site, &[]).refused("config.toml", "correct the file");
    std::fs::remove_file(&file).expect("removed");
}

#[test]
fn settings_are_listed_with_where_they_come_from_and_the_strongest_wins() {
    let site = Site::new();
    let user = site.path().join("config/hyperion/config.toml");
    std::fs::create_dir_all(user.parent().expect("a folder")).expect("made");
    let mirrors = "[registries.\"docker.io\"]\nmirrors = [\"m:5000\"]\n";
    std::fs::write(&user, format!("root = \"/of/the/user\"\n{mirrors}")).expect("written");
    let project = site.path().join("hyperion.toml");
    std::fs::write(&project, "root = \"store\"\n").expect("written");
    let below = site.path().join("src/deep");
    std::fs::create_dir_all(&below).expect("made");
    let list = |variable: bool, flags: &[&str]| {
        let mut command = site.command(&["config", "list", "--origin"]);
        command.args(flags).current_dir(&below);
        if !variable {
            command.env_remove("HYPERION_ROOT");
        }
        finish(command).ok()
    };
    let has = |told: &str, value: &str, origin: &str| {
        let line = |l: &str| l.starts_with("root = ") && l.contains(value) && l.ends_with(origin);
        assert!(told.lines().any(line), "no {value} of {origin} in {told}");
    };
    let store = site.path().join("store");
    let told = list(false, &[]);
    has(
        &told,
        &format!("{store:?}"),
        &format!("# {}", project.display()),
    );
    let mirror = format!(
        "registries.\"docker.io\".mirrors = [\"m:5000\"]  # {}",
        user.display()
    );
    assert!(told.contains(&mirror), "{told}");
    let told = list(true, &[]);
    has(&told, "/hyperion\"", "# $HYPERION_ROOT");
    has(&list(true, &["--root", "/flag"]), "\"/flag\"", "# --root");
    std::fs::remove_file(&project).expect("removed");
    has(
        &list(false, &[]),
        "\"/of/the/user\"",
        &format!("# {}", user.display()),
    );
    std::fs::remove_file(&user).expect("removed");
    has(&list(false, &[]), "hyperion\"", "# built in");
    let json = site.run(&["config", "list", "--output", "json"]).ok();
    let all: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&all[0]["key"], &all[0]["origin"]),
        (&"root".into(), &"$HYPERION_ROOT".into())
    );
}

#[test]
fn words_that_mean_nothing_are_refused_with_an_example() {
    let site = Site::new();
    run(&site, &["--memory", "lots"]).refused("\"lots\" is not a size", "--help");
    run(&site, &["--cpus", "many"]).refused("not a number of cores", "--help");
    run(&site, &["--cpuset", "3-1"]).refused("not a list of processors", "--help");
    run(&site, &["--time", "soon"]).refused("not a span of time", "--help");
    run(&site, &["--ulimit", "nofile"]).refused("NAME=SOFT[:HARD]", "--help");
    run(&site, &["--name", "a b"]).refused("is not a name", "--help");
    run(&site, &["-n", "0"]).refused("at least one rank", "--ranks");
    run(&site, &["-e", "=x"]).refused("has no name before '='", "NAME=VALUE");
    run(&site, &["--env-file", "/no/such/file"]).refused("cannot read /no/such/file", "path");
    contain(&site, &["-v", "relative"]).refused("is not a volume", "-v /data:/data:ro");
    contain(&site, &["-v", "/tmp:relative"]).refused("must be an absolute path", "inside");
    contain(&site, &["-v", "/no/such/folder:/x"])
        .refused("there is no /no/such/folder to mount", "mkdir");
    contain(&site, &["--mount", "type=bind,sauce=/x"])
        .refused("a mount has no option", "did you mean source?");
    contain(&site, &["-v", "/tmp:/"]).refused("below '/'", "inside");
    contain(&site, &["-v", "/tmp:/x", "--tmpfs", "/x"])
        .refused("two mounts have the target \"/x\"", "another target");
    contain(&site, &["--tmpfs", "/x:size=much"])
        .refused("\"much\" is no value of a mount's size", "64MiB");
    let propagation = "type=bind,source=/tmp,target=/x,bind-propagation=rslav";
    contain(&site, &["--mount", propagation]).refused("\"rslav\" is no value", "slave");
    contain(&site, &["--hostname", "a b"]).refused("\"a b\" is no name of a host", "letters");
    run(&site, &["--ulimit", "nofile=9:8"]).refused("the soft limit is above", "--help");
    run(&site, &["--pids", "many"]).refused("a whole number is meant", "--help");
    run(&site, &["-e", ""]).refused("\"\" has no name", "NAME=VALUE");
    let variables = site.path().join("variables");
    std::fs::write(&variables, "# all\n\n  A=1\nB C=2\n").expect("written");
    run(&site, &["--env-file", variables.to_str().expect("text")])
        .refused("\"B C\" in ", "without blanks");
    site.run(&["logs", "--since", "soon", "x"])
        .refused("such as 10m, and no time, such as 2026", "--help");
    site.run(&["kill", "-s", "FOO", "x"])
        .refused("there is no signal \"FOO\"", "--help");
    site.run(&["kill", "-s", "SIGTREM", "x"])
        .refused("there is no signal \"SIGTREM\"", "TERM");
    assert!(!site.root().join("jobs").exists(), "nothing was started");
}

#[test]
fn limits_that_nothing_can_run_with_are_refused() {
    let site = Site::new();
    for (flag, value, told) in [
        ("--memory", "0", "so little memory"),
        ("--memory", "64k", "so little memory"),
        ("--cpus", "0", "without processor time"),
        ("--cpuset", "", "list of processors is empty"),
        ("--time", "0", "a time limit of nothing"),
        ("-n", "4000000000", "at most 65536 ranks"),
        ("-n", "-1", "invalid value '-1' for '--ranks <N>'"),
        ("--memory", "-1", "\"-1\" is not a size"),
        ("--cpus-per-rank", "0", "0 is not in 1.."),
        ("--repeat", "0", "0 is not in 1.."),
    ] {
        run(&site, &["--oversubscribe", flag, value]).refused(told, "-");
    }
    run(&site, &["--pids", "1"]).says("hint: ").expect_code(125);
    run(&site, &["--output-dir", "/proc/x"]).refused("/proc/x cannot be used", "--output-dir");
    run(&site, &["--env-file", "/"]).refused("cannot read /", "not a folder");
    assert!(site.jobs().is_empty());
}

#[test]
fn a_fence_around_a_process_is_refused_and_not_left_out() {
    let site = Site::new();
    for flags in [
        &["--network", "none"][..],
        &["--read-only"],
        &["-v", "/tmp:/x"],
        &["--tmpfs", "/x"],
        &["--cap-drop", "ALL"],
        &["--userns", "host"],
        &["--shm-size", "1m"],
        &["--hostname", "x"],
    ] {
        run(&site, flags).refused("a process sees the host as it is", "--isolation container");
    }
    assert!(!site.root().join("jobs").exists(), "nothing was started");
}

#[test]
fn what_never_ran_leaves_no_record_and_its_name_free() {
    let site = Site::new();
    let named = ["run", "--isolation", "process", "--name", "again"];
    let try_to = |words: &[&str]| site.run(&[&named[..], words].concat());
    try_to(&["no-such-program"]).expect_code(127).says("PATH");
    try_to(&["/etc/passwd"]).expect_code(126).says("chmod +x");
    try_to(&["-n", "4000", "true"]).refused("do not fit", "--oversubscribe");
    try_to(&["-d", "-n", "4000", "true"]).refused("do not fit", "--oversubscribe");
    try_to(&["--preflight=only", "true"]).expect_code(0);
    assert!(site.jobs().is_empty());
    try_to(&["true"]).expect_code(0);
    assert_eq!(site.jobs().len(), 1);
    site.run(&["logs", "--rank", "1", "again"])
        .refused("has no rank 1", "0 to 0");
}

#[test]
fn limits_above_the_host_are_refused_before_the_start() {
    let site = Site::new();
    run(&site, &["--memory", "900TiB"])
        .refused("asks for 900TiB of memory and this host has", "--memory");
    run(&site, &["--cpus", "9000"]).refused("asks for 9000 cores", "--cpus");
    run(&site, &["--cpuset", "4000"]).refused("asks for processors 4000", "--cpuset");
    run(&site, &["--pids", "99999999999"]).refused("asks for 99999999999 processes", "--pids");
    run(&site, &["--ranks-per-node", "1", "-n", "2"])
        .refused("need several nodes", "--ranks-per-node");
    assert!(site.jobs().is_empty());
}

#[test]
fn a_missing_image_is_named_with_where_to_look() {
    let site = Site::new();
    site.run(&["run", "--pull", "never", "debain", "true"])
        .refused("there is no image \"debain\"", "hyperion image ls");
    site.run(&["run", "./debain", "true"])
        .refused("there is no image at ./debain", "folder");
    site.run(&["run", "--pull", "never", "De:bi:an", "true"])
        .refused("De:bi:an", "");
    assert!(site.jobs().is_empty());
}

#[test]
fn a_folder_of_jobs_that_cannot_be_written_is_an_error_of_its_own() {
    let site = Site::new();
    let with_root = |root: &str| {
        let mut command = site.command(&["run", "--isolation", "process", "true"]);
        command.env("HYPERION_ROOT", root);
        finish(command)
    };
    with_root("/proc/nope").refused("cannot make /proc/nope", "--root or HYPERION_ROOT");
    with_root("/etc/passwd").refused("cannot make /etc/passwd", "--root or HYPERION_ROOT");
}

#[test]
fn another_users_folder_is_refused() {
    requires!("user:nobody");
    let home = hyperion_testkit::TestDir::shared();
    let closed = home.path().join("closed");
    std::fs::create_dir(&closed).expect("a folder");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).expect("set");
    let mut command = hyperion_as(home.path(), "nobody");
    command
        .args(["run", "--isolation", "process", "true"])
        .env("HYPERION_ROOT", &closed);
    finish(command)
        .refused("cannot make", "--root or HYPERION_ROOT")
        .says("cause: Permission denied");
    let mut command = hyperion_as(home.path(), "nobody");
    command.args(["run", "--userns", "host", "/", "true"]);
    finish(command).refused("only root can run", "leave out --userns");
}

#[test]
fn in_a_chroot_the_hint_says_why_there_are_no_containers() {
    requires!("root", "userns", "command:unshare", "command:chroot");
    let site = Site::new();
    let root = site.rootfs(&["true"]);
    let hyperion = site.command(&["run", &root, "true"]);
    let other = site.path().join("other");
    std::fs::create_dir(&other).expect("a folder");
    let mut command = std::process::Command::new("unshare");
    let script = "mount --rbind / \"$0\" && chroot \"$0\" \"$@\"";
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    command
        .arg(&other)
        .arg(hyperion.get_program())
        .args(hyperion.get_args());
    for (name, value) in hyperion.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    finish(command).refused("cannot make the namespaces", "this is a chroot");
    assert!(site.jobs().is_empty());
}

/// Runs a script with a tiny file system as the root of jobs, in a mount
/// namespace of its own.
fn with_small_disk(site: &Site, script: &str) -> Done {
    let disk = site.path().join("disk");
    std::fs::create_dir_all(&disk).expect("a folder");
    let mut hyperion = site.command(&[]);
    hyperion.env("HYPERION_ROOT", &disk);
    let script = format!(
        "mount -t tmpfs -o size=256k small {} && cd / && {script}",
        quoted(&disk)
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    command.arg(hyperion.get_program()).env_clear();
    for (name, value) in hyperion.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    finish(command)
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_done() {
    requires!("root", "command:unshare", "command:mount");
    let site = Site::new();
    let script = "head -c 1M /dev/zero > $HYPERION_ROOT/fill 2>/dev/null; mkdir $HYPERION_ROOT/jobs;
        \"$0\" run --isolation process --name full true; echo \"code $?\"; ls -A $HYPERION_ROOT/jobs/*; ls -A $HYPERION_ROOT";
    let done = with_small_disk(&site, script).expect_code(0);
    assert_eq!(done.out, "code 125\nfill\njobs\n", "{done:?}");
    let done = done
        .says("error: cannot write")
        .says("cause: No space left on device");
    done.says("hint: the disk is full");
}

#[test]
fn a_job_of_which_nothing_is_kept_runs_on_a_full_disk() {
    requires!("root", "command:unshare", "command:mount");
    let site = Site::new();
    let script =
        "head -c 1M /dev/zero > $HYPERION_ROOT/fill 2>/dev/null; mkdir $HYPERION_ROOT/jobs;
        \"$0\" run --rm --isolation process sh -c 'sleep 0.3; exit 3'; echo \"code $?\";
        ls -A $HYPERION_ROOT/jobs/*";
    let done = with_small_disk(&site, script);
    assert_eq!(done.out, "code 3\n", "{done:?}");
    let done = done.says("the job has no record yet, so that no other command finds it");
    done.says("No space left on device");
}

#[test]
fn a_job_goes_on_when_its_log_is_full() {
    requires!("root", "command:unshare", "command:mount");
    let site = Site::new();
    // Long enough to be written down as one that runs, for which there is no room either.
    let script = "\"$0\" run --isolation process --name big \
            sh -c 'head -c 1M /dev/zero; sleep 0.3; head -c 1M /dev/zero; exit 4' | wc -c;
        \"$0\" ps -a; rm $HYPERION_ROOT/jobs/*/log; \"$0\" rm big";
    let done = with_small_disk(&site, script);
    assert!(done.out.starts_with("2097152\n"), "{done:?}");
    let done = done.says("the job's log could not be written and ends here");
    assert!(
        done.out.contains("(4)") || done.out.contains("lost"),
        "{done:?}"
    );
}

#[test]
fn a_job_that_has_filled_the_disk_itself_is_written_down_with_its_end() {
    requires!("root", "userns", "command:unshare", "command:mount");
    let site = Site::new();
    let root = site.rootfs(&["sh", "head"]);
    let script = format!(
        "\"$0\" run '{root}' sh -c 'head -c 1M /dev/zero > /big; exit 4'; echo \"code $?\";
        \"$0\" ps -a"
    );
    let done = with_small_disk(&site, &script).expect_code(0);
    assert!(done.out.starts_with("code 4\n"), "{done:?}");
    assert!(done.out.contains("ended (4)"), "{done:?}");
}

#[test]
fn what_is_closed_of_the_first_descriptors_is_opened_before_a_file_becomes_one() {
    let site = Site::new();
    let words = [
        "run",
        "--name",
        "closed",
        "--isolation",
        "process",
        "sleep",
        "60",
    ];
    let mut command = executed_by("exec \"$0\" \"$@\" <&- >&- 2>&-", &site.command(&words));
    let mut child = command.spawn().expect("sh starts");
    let begun = wait_until(LONG, || site.run(&["inspect", "closed"]).code == 0);
    assert!(begun, "it does not start");
    for number in 0..3 {
        let link = format!("/proc/{}/fd/{number}", child.id());
        let leads = std::fs::read_link(link).expect("it is open");
        assert_eq!(leads.to_str(), Some("/dev/null"), "{number}");
    }
    site.run(&["stop", "-t", "0s", "closed"]).ok();
    child.wait().expect("it ends");
}

/// Gives a command that a script of the shell's executes as "$0" "$@".
fn executed_by(script: &str, like: &Command) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command.arg(like.get_program()).args(like.get_args());
    command.env_clear();
    for (name, value) in like.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command
}

#[test]
fn a_starter_that_hears_of_no_child_is_told_the_end_all_the_same() {
    let site = Site::new();
    let root = site.rootfs(&["sh"]);
    let script = ["sh", "-c", "exit 3"];
    let process = [&["run", "--isolation", "process"][..], &script].concat();
    let container = [&["run", &root][..], &script].concat();
    for words in [process, container] {
        let ignoring = "trap '' CHLD; exec \"$0\" \"$@\"";
        let done = finish(executed_by(ignoring, &site.command(&words)));
        assert_eq!(done.code, 3, "{done:?}");
    }
}
