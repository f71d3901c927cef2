//! The users of a host's queue: who knows them, and to what they are held.

use hyperion_testkit::{requires, wait_until};
use rustix::process::Pid;

use crate::host::{Host, groups_of};
use crate::site::{LONG, finish, wait_gone};

#[test]
fn a_user_whom_only_a_directory_service_knows_has_jobs_with_its_groups() {
    requires!("root", "command:unshare", "command:mount");
    // What the C library's name service would say, for the others as it does.
    let how = r#"
        grep '^bob:' passwd > directory; chmod 644 directory
        grep -v '^bob:' passwd > files; mount --bind files /etc/passwd
        uid=$(cut -d: -f3 directory)
        printf '#!/bin/sh\ncase "$3" in bob|%s) cat %s;; *) exit 2;; esac\n' $uid $PWD/directory > getent
        printf '#!/bin/sh\n[ "$3" = bob ] && echo %s %s 4294967295\n' $uid $((uid + 5)) > id
        chmod 755 getent id
        mount --bind getent /usr/bin/getent; mount --bind id /usr/bin/id
        exec "$PROGRAM" serve --host"#;
    let host = Host::started("", how);
    let job = host.wrap(
        host.bob,
        &["-o./own"],
        "grep -E '^(Uid|Groups):' /proc/self/status; echo $HOME",
    );
    host.wait_for_state(host.bob, &job, "completed");
    let said = host.line(host.bob, "own");
    let (uid, home) = (host.bob.uid, host.home(host.bob));
    assert!(said.contains(&format!("Uid:\t{uid}\t{uid}\t")), "{said}");
    assert!(
        said.contains(&format!("Groups:\t{uid} {} \n", uid + 5)),
        "{said}"
    );
    assert!(said.ends_with(&format!("{}\n", home.display())), "{said}");
    // Whom the files have is not asked for.
    let job = host.wrap(host.ada, &["-o./own"], "echo hers");
    host.wait_for_state(host.ada, &job, "completed");
}

#[test]
fn a_users_jobs_are_held_to_their_memory_and_what_they_leave_is_ended() {
    requires!(
        "root",
        "command:unshare",
        "command:mount",
        "command:python3",
        "cgroup:v1"
    );
    let host = Host::new("");
    let ada = host.ada;
    let line = "grep -c hyperion-user /proc/self/cgroup; python3 -c 'len(bytearray(200 << 20))'";
    let job = host.wrap(ada, &["--mem=50M", "-o./out"], line);
    host.wait_for_state(ada, &job, "out-of-memory");
    // Who lifts the limit of the own job has what the own jobs have together, and no more.
    let lift = "own=$(sed -n 's/^.*:memory://p' /proc/self/cgroup)\n\
                echo -1 > /sys/fs/cgroup/memory$own/memory.limit_in_bytes && echo lifted\n\
                echo -1 > /sys/fs/cgroup/memory${own%/*}/memory.limit_in_bytes || echo kept\n\
                python3 -c 'len(bytearray(400 << 20))' || echo killed";
    let job = host.wrap(ada, &["--mem=50M", "-o./lifted"], lift);
    host.wait_for_state(ada, &job, "completed");
    let said = host.line(ada, "lifted");
    let lines = ["lifted\n", "kept\n", "killed\n"];
    assert!(lines.iter().all(|line| said.contains(line)), "{said}");
    // What leaves the job's processes behind is still in the user's groups.
    let line =
        "setsid sh -c 'echo $$ > left; exec sleep 600' & until [ -s left ]; do sleep 0.01; done";
    let job = host.wrap(ada, &["-o./other"], line);
    host.wait_for_state(ada, &job, "completed");
    let left = host.line(ada, "left");
    let left = left.trim().parse().ok().and_then(Pid::from_raw);
    assert!(!groups_of(ada).is_empty());
    finish(host.root(&["serve", "--stop"])).ok();
    wait_gone(left.expect("a process"));
    let gone = wait_until(LONG, || groups_of(ada).is_empty());
    assert!(gone, "{:?}", groups_of(ada));
}
