//! Room for commands of somebody who is there: `srun` outside of a job, `salloc`,
//! `qsub -I`, `bsub -I`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use hyperion_testkit::wait_until;
use rustix::process::{Pid, Signal, kill_process};

use crate::shims::Shims;
use crate::site::LONG;

/// What sacct says of all jobs.
#[track_caller]
fn accounts(shims: &Shims) -> String {
    shims.sh("sacct -n -P -o JobID,JobName,State,ExitCode").ok()
}

/// Waits until something runs.
#[track_caller]
fn wait_for_one(shims: &Shims) {
    let runs = || shims.sh("squeue -h -t R -o %i").ok();
    assert!(wait_until(LONG, || !runs().is_empty()), "nothing runs");
}

#[test]
fn srun_outside_of_a_job_makes_one_and_ends_with_its_worst_task() {
    let shims = Shims::new();
    let done =
        shims.sh("echo given | srun -n 2 -l sh -c 'cat; echo $SLURM_JOB_ID; exit $SLURM_PROCID'");
    assert_eq!(done.code, 1);
    let mut lines: Vec<&str> = done.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0: 1", "0: given", "1: 1"]);
    assert!(
        done.err.contains("task 1: Exited with exit code 1"),
        "{done:?}"
    );
    assert_eq!(accounts(&shims), "1|sh|FAILED|1:0\n1.0|sh|FAILED|1:0");
    // Nothing of it is left, not even a file of output.
    let files = std::fs::read_dir(shims.queue.folder()).expect("there");
    assert_eq!(files.count(), 0);
}

#[test]
fn salloc_runs_a_command_here_whose_steps_run_in_the_job() {
    let shims = Shims::new();
    let done = shims.sh(
        "salloc -n 2 -J mine sh -c 'echo $SLURM_JOB_ID $SLURM_NTASKS; srun -l echo step | sort; exit 5'",
    );
    assert_eq!(done.code, 5, "{done:?}");
    assert_eq!(done.out, "1 2\n0: step\n1: step\n");
    assert_eq!(
        done.err,
        "salloc: Granted job allocation 1\nsalloc: Relinquishing job allocation 1\n"
    );
    assert_eq!(
        accounts(&shims),
        "1|mine|FAILED|5:0\n1.0|echo|COMPLETED|0:0"
    );
    // It can stay, and be entered, until it is cancelled.
    let out = shims.sh(
        "salloc -Q --no-shell -n 1; srun --jobid=2 echo inside; scancel 2; ! srun --jobid=9 true",
    );
    assert_eq!(out.out, "inside\n", "{out:?}");
    assert!(out.err.contains("Invalid job id specified"), "{out:?}");
}

#[test]
fn an_allocation_that_is_taken_away_ends_what_it_was_for() {
    let shims = Shims::new();
    let done = shims.sh("salloc -n 1 sh -c 'scancel $SLURM_JOB_ID; sleep 300'");
    assert_eq!(done.code, 143, "{done:?}");
    assert!(
        done.err.contains("Job allocation 1 has been revoked."),
        "{done:?}"
    );
}

#[test]
fn room_ends_with_who_asked_for_it_and_waits_for_its_turn() {
    let shims = Shims::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let start = |line: &str| {
        let mut command = shims.command(line);
        command.stdin(Stdio::null());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("started")
    };
    let mut first = start(&format!("exec srun -n {cores} sleep 300"));
    wait_for_one(&shims);
    let busy = shims.sh("srun -I1 true");
    let text = "srun: error: Unable to allocate resources: Requested nodes are busy\n";
    assert!(busy.err.ends_with(text), "{busy:?}");
    let mut second = start("exec srun echo later");
    let mut said = BufReader::new(second.stderr.take().expect("a pipe"));
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    assert_eq!(line, "srun: job 3 queued and waiting for resources\n");
    // However it ends: what it started ends with it, and the next has its turn.
    let _ = kill_process(Pid::from_child(&first), Signal::KILL);
    let _ = first.wait();
    line.clear();
    said.read_to_string(&mut line).expect("all of it");
    assert_eq!(line, "srun: job 3 has been allocated resources\n");
    let done = second.wait_with_output().expect("ended");
    assert_eq!(
        (done.status.code(), &done.stdout[..]),
        (Some(0), &b"later\n"[..])
    );
}

#[test]
fn ctrl_c_twice_ends_an_srun_and_once_one_that_waits() {
    let shims = Shims::new();
    let mut command = shims.command("exec srun sleep 300");
    let run = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    wait_for_one(&shims);
    let held = shims
        .command("exec srun -H true")
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let waits = || shims.sh("squeue -h -t PD -o %j").ok();
    assert!(wait_until(LONG, || waits() == "true"), "{}", waits());
    let _ = kill_process(Pid::from_child(&held), Signal::INT);
    let held = held.wait_with_output().expect("ended");
    assert_eq!(held.status.code(), Some(130));
    let pid = Pid::from_child(&run);
    // The first says how far it is; two that come together are one to the kernel.
    let ended = wait_until(LONG, || {
        let _ = kill_process(pid, Signal::INT);
        crate::site::is_gone(pid) || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            stat.is_ok_and(|stat| stat.contains(") Z "))
        }
    });
    assert!(ended, "it goes on");
    let run = run.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(
        said.starts_with("srun: interrupt (one more within 1 sec to abort)\n"),
        "{said}"
    );
    assert_eq!(run.status.code(), Some(130), "{said}");
    let both = accounts(&shims);
    assert!(
        both.contains("1|sleep|CANCELLED") && both.contains("2|true|CANCELLED"),
        "{both}"
    );
}

#[test]
fn qsub_and_bsub_run_a_command_at_the_terminal() {
    let shims = Shims::new();
    let done = shims
        .sh("echo 'echo $PBS_JOBNAME $PBS_ENVIRONMENT; exit 4' | SHELL=/bin/sh qsub -I -N pee");
    assert_eq!(
        (done.code, done.out.as_str()),
        (4, "pee PBS_INTERACTIVE\n"),
        "{done:?}"
    );
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let want = format!("qsub: job 1.{host} ready\n\n\nqsub: job 1.{host} completed\n");
    assert_eq!(done.err, want);
    let done = shims.sh("bsub -J ell -I sh -c 'echo $LSB_JOBNAME; exit 6'");
    let want = format!(
        "Job <2> is submitted to default queue <main>.\n<<Waiting for dispatch ...>>\n\
         <<Starting on {host}>>\nell\n"
    );
    assert_eq!((done.code, done.out), (6, want));
    // A script that is handed in has none.
    shims.queue.script("job.pbs", "#PBS -I\ntrue\n");
    let refused = shims.queue.run(&["submit", "job.pbs"]);
    assert!(refused.err.contains("qsub -I"), "{refused:?}");
}

#[test]
fn a_shell_has_a_terminal_in_the_job() {
    hyperion_testkit::requires!("command:script");
    let shims = Shims::new();
    let line =
        "script -qec 'srun --pty sh -c \"test -t 0 && test -t 1 && tty && exit 3\"' /dev/null";
    let done = shims.sh(line);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.out.contains("/dev/pts/"), "{done:?}");
}
