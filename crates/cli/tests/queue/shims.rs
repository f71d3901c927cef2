//! Called as a command of a batch system: what workflow managers and loops of shell rely on.

use std::fs;
use std::process::Command;

use hyperion_testkit::{Done, hyperion_binary, wait_until};

use crate::Queue;
use crate::site::{LONG, finish};

/// A queue, and the links through which it is asked.
pub(crate) struct Shims {
    pub(crate) queue: Queue,
}

impl Shims {
    pub(crate) fn new() -> Self {
        let shims = Self {
            queue: Queue::new(),
        };
        shims.queue.run(&["install-shims", "../shims"]).ok();
        shims
    }

    /// Runs a line of shell in the folder of scripts, with the links in front.
    #[track_caller]
    pub(crate) fn sh(&self, line: &str) -> Done {
        finish(self.command(line))
    }

    /// The same, not yet started.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        // What a command of the queue is given, the shell is given.
        let like = self.queue.site.command(&[]);
        command.env_clear();
        for (name, value) in like.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let path = std::env::var("PATH").expect("a path");
        let links = self.queue.site.path().join("shims");
        command
            .env("PATH", format!("{}:{path}", links.display()))
            .args(["-ec", line])
            .current_dir(self.queue.folder());
        command
    }
}

#[test]
fn a_loop_that_submits_to_slurm_and_polls_until_the_end_works() {
    let shims = Shims::new();
    shims.queue.script(
        "job.sh",
        "#!/bin/sh\n#SBATCH --job-name=work -t 5\necho out; exit 3\n",
    );
    let out = shims.sh(
        "id=$(sbatch --parsable job.sh)\n\
         while [ -n \"$(squeue -h -j $id -o %T)\" ]; do sleep 0.1; done\n\
         until sacct -n -X -P -o State -j $id | grep -qv -e PENDING -e RUNNING; do sleep 0.1; done\n\
         echo $id $(sacct -n -X -P -o State,ExitCode,JobName,Timelimit -j $id)\n\
         sacct -P -n -o JobID -j $id\n\
         scontrol show job $id | grep -o 'JobState=[A-Z]*'\n\
         sbatch --wrap true\nsbatch -a 1-2 job.sh\n",
    );
    let out = out.ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines,
        [
            "1 FAILED|3:0|work|00:05:00",
            "1",
            "1.batch",
            "JobState=FAILED",
            "Submitted batch job 2",
            "Submitted batch job 3"
        ]
    );
    let files = shims.sh(
        "sbatch -H -q fast -o o-%x-%j -J named --wrap true >/dev/null\n\
         scontrol show job 4 | grep -e StdOut -e StdErr; squeue -h -j 4 -o %q; scancel 4",
    );
    let folder = shims.queue.folder().display().to_string();
    let want = format!("   StdErr={folder}/o-named-4\n   StdOut={folder}/o-named-4\nfast");
    assert_eq!(files.ok(), want);
    // As Nextflow, Snakemake and Parsl ask.
    shims.queue.wait_over("3");
    let nextflow = shims
        .sh("squeue --noheader -o '%i %t' -t all -u $(id -un)")
        .ok();
    assert_eq!(nextflow, "1 F\n2 CD\n3_1 F\n3_2 F\n4 CA");
    let snakemake = "sacct -X --parsable2 --clusters all --noheader --format=JobIdRaw,State \
                     --starttime now-2days --endtime now --name work";
    assert_eq!(shims.sh(snakemake).ok(), "1|FAILED\n3_1|FAILED\n3_2|FAILED");
    assert_eq!(shims.sh("sinfo -h -o '%P %a %t'").ok(), "main* up idle");
    assert!(shims.sh("squeue --json").ok().contains("\"jobs\": []"));
}

#[test]
fn slurms_commands_refuse_as_slurm_refuses() {
    let shims = Shims::new();
    shims.sh("sbatch --wrap true").ok();
    for (line, code, error) in [
        (
            "squeue --nope",
            1,
            "squeue: unrecognized option '--nope'\nTry \"squeue --help\" for more information\n",
        ),
        (
            "squeue -Z",
            1,
            "squeue: invalid option -- 'Z'\nTry \"squeue --help\" for more information\n",
        ),
        (
            "squeue -j 999",
            1,
            "slurm_load_jobs error: Invalid job id specified\n",
        ),
        (
            "sbatch --nope --wrap true",
            255,
            "sbatch: unrecognized option '--nope'\nTry \"sbatch --help\" for more information\n",
        ),
        (
            "sbatch none.sh",
            1,
            "sbatch: error: Unable to open file none.sh\n",
        ),
        (
            "scancel",
            1,
            "scancel: error: No job identification provided\n",
        ),
        (
            "scontrol show job 999",
            1,
            "slurm_load_jobs error: Invalid job id specified\n",
        ),
        ("scontrol foo", 1, "invalid keyword: foo\n"),
        (
            "sacct -o nothing",
            1,
            "sacct: error: Invalid field requested: \"nothing\"\n",
        ),
    ] {
        let done = shims.sh(line);
        assert_eq!((done.code, done.err.as_str()), (code, error), "{line}");
    }
    assert_eq!(
        shims.sh("scontrol show hostnames 'n[1-2],m'").ok(),
        "n1\nn2\nm"
    );
}

#[test]
fn jobs_are_held_released_and_cancelled_by_slurms_words() {
    let shims = Shims::new();
    let out = shims.sh("id=$(sbatch --parsable -H -J held --wrap 'sleep 300')\n\
         squeue -h -o '%i %t %r'\nscontrol release $id\n\
         until [ \"$(squeue -h -j $id -o %t)\" = R ]; do sleep 0.1; done\n\
         scontrol suspend $id; squeue -h -j $id -o %T\n\
         scontrol resume $id; scancel -n held\n\
         until sacct -n -X -o state -j $id | grep -q CANCELLED; do sleep 0.1; done\n\
         sacct -n -X -P -o state -j $id\n");
    let uid = rustix::process::getuid().as_raw();
    let want = format!("1 PD JobHeldUser\nSUSPENDED\nCANCELLED by {uid}");
    assert_eq!(out.ok(), want);
}

#[test]
fn pbs_and_grid_engine_share_names_and_are_told_apart() {
    let shims = Shims::new();
    let queue = &shims.queue;
    queue.script(
        "job.pbs",
        "#PBS -N pee\n#PBS -l walltime=00:05:00\necho $PBS_JOBID\nexit 4\n",
    );
    queue.script("job.sge", "#!/bin/sh\n#$ -N ess -cwd\nexit 5\n");
    let out = shims.sh("id=$(qsub job.pbs)\necho $id\n\
         until qstat -x -f $id | grep -q 'job_state = F'; do sleep 0.1; done\n\
         cat pee.o1\n\
         qstat -x -f $id | grep -e Exit_status -e Job_Name\n\
         qsub job.sge\n\
         while qstat -j 2 >/dev/null 2>&1; do sleep 0.1; done\n\
         qacct -j 2 | grep exit_status\n");
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let want = format!(
        "1.{host}\n1.{host}\n    Job_Name = pee\n    Exit_status = 4\n\
         Your job 2 (\"ess\") has been submitted\nexit_status  5"
    );
    assert_eq!(out.ok(), want);
    for (line, code, error) in [
        (
            "qstat 99",
            153,
            format!("qstat: Unknown Job Id 99.{host}\n"),
        ),
        (
            "qstat 1",
            35,
            format!(
                "qstat: 1.{host} Job has finished, use -x or -H to obtain historical job information\n"
            ),
        ),
        ("qdel 1", 35, format!("qdel: Job has finished 1.{host}\n")),
        (
            "qstat -j 99",
            1,
            "Following jobs do not exist: \n99\n".into(),
        ),
    ] {
        let done = shims.sh(line);
        assert_eq!((done.code, done.err), (code, error), "{line}");
    }
    // Held, released and deleted, each in its own words.
    let out = shims.sh(
        "id=$(qsub -h job.pbs); qstat $id | tail -1 | cut -c 1-50; qdel $id\n\
         HYPERION_QSUB=sge qsub -h job.sge >/dev/null; qdel 4\n\
         PATH=$PWD/../shims/sge:$PATH; qsub -terse -h job.sge; qstat | tail -1; qdel 5",
    );
    let out = out.ok();
    assert!(
        out.contains("pee") && out.contains("has deleted job 4"),
        "{out}"
    );
    // Whose command it is, is seen from the folder through which it was found.
    assert!(out.contains("\n5\n") && out.contains(" hqw "), "{out}");
    let json = shims.sh("qstat -x -f -F json 1").ok();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["Jobs"][format!("1.{host}")]["Exit_status"], 4);
}

#[test]
fn a_loop_that_submits_to_lsf_and_polls_until_the_end_works() {
    let shims = Shims::new();
    let queue = &shims.queue;
    queue.script("job.lsf", "#BSUB -J ell\n#BSUB -q normal\nexit 6\n");
    let out = shims.sh("bsub < job.lsf\nbsub -o out.%J sleep 300\n\
         until [ \"$(bjobs -noheader -o stat 1)\" = EXIT ]; do sleep 0.1; done\n\
         bjobs -noheader -o \"jobid stat exit_code delimiter=','\" 1\n\
         until [ \"$(bjobs -noheader -o stat 2)\" = RUN ]; do sleep 0.1; done\n\
         bkill 2\n\
         until [ \"$(bjobs -noheader -o stat 2)\" = EXIT ]; do sleep 0.1; done\n\
         bqueues | head -1; bhosts | wc -l");
    assert_eq!(
        out.ok(),
        "Job <1> is submitted to queue <normal>.\n\
         Job <2> is submitted to default queue <main>.\n1,EXIT,6\n\
         Job <2> is being terminated\n\
         QUEUE_NAME      PRIO STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN  SUSP \n2"
    );
    for (line, error) in [
        ("bjobs 99", "Job <99> is not found\n"),
        ("bkill 1", "Job <1>: Job has already finished\n"),
        (
            "bsub -nope true",
            "bsub: illegal option -- nope\nJob not submitted.\n",
        ),
    ] {
        let done = shims.sh(line);
        assert_eq!((done.code, done.err.as_str()), (255, error), "{line}");
    }
    assert_eq!(
        shims.sh("bjobs").expect_code(0).err,
        "No unfinished job found\n"
    );
}

#[test]
fn links_are_made_and_removed_and_nothing_else_is_touched() {
    let queue = Queue::new();
    queue.run(&["install-shims", "bin"]).ok();
    let bin = queue.folder().join("bin");
    assert!(fs::read_link(bin.join("sbatch")).is_ok());
    // Anew over its own is no error; over another's it is.
    queue.run(&["install-shims", "bin"]).ok();
    fs::remove_file(bin.join("squeue")).expect("there");
    fs::write(bin.join("squeue"), "mine").expect("written");
    queue
        .run(&["install-shims", "bin"])
        .refused("squeue is there already", "--only");
    queue.run(&["install-shims", "--remove", "bin"]).ok();
    assert_eq!(queue.read("bin/squeue"), "mine");
    let gone = wait_until(LONG, || fs::read_dir(&bin).expect("there").count() == 1);
    assert!(gone, "links are left");
    queue
        .run(&["install-shims", "--only", "nothing", "bin"])
        .refused("nothing is no command", "sbatch");
}

#[test]
fn a_program_under_another_name_takes_the_links_of_a_queue_over() {
    let queue = Queue::new();
    queue.submit(&["--wait", "--wrap=true"]);
    queue.run(&["serve", "--stop"]).ok();
    let next = queue.folder().join("hyperion-next");
    fs::copy(hyperion_binary(), &next).expect("copied");
    let mut command = Command::new(&next);
    command.arg("--root").arg(queue.site.root());
    command.args(["submit", "--wait", "-o", "out", "--wrap=squeue -h -o %T"]);
    command.current_dir(queue.folder());
    finish(command).ok();
    let out = fs::read_to_string(queue.folder().join("out"));
    assert_eq!(out.expect("output"), "RUNNING\n");
}

#[test]
fn nodes_that_are_closed_are_told_with_their_reasons() {
    let shims = Shims::new();
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    shims.sh("srun true").ok();
    let ran = shims.sh("sacct -n -P -X -o NodeList").ok();
    assert_eq!(ran, host, "where it ran is told when it has ended");
    shims
        .queue
        .run(&["drain", &host, "--reason", "new disk"])
        .ok();
    for (line, want) in [
        (
            "sinfo -h -o '%t %T %A %F %E'",
            "drain drained 0/0 0/0/1/1 new disk",
        ),
        ("sinfo -h -R -o '%E|%N'", &format!("new disk|{host}")),
        (
            "scontrol show node | grep -o 'State=[A-Z+]*'",
            "State=IDLE+DRAIN",
        ),
        (
            "scontrol show node | grep Reason | sed s/@.*//",
            &format!("   Reason=new disk [{}", shims.sh("id -un").ok()),
        ),
        (
            "test $(sinfo -h -R -o %u) = $(id -un) && sinfo -h -R -o %H | cut -c 1-10",
            &shims.sh("date +%F").ok(),
        ),
        (
            "pbsnodes -l | tr -s ' '",
            &format!("{host} offline new disk"),
        ),
        (
            "pbsnodes -a | grep -e 'state =' -e comment",
            "     state = offline\n     comment = new disk",
        ),
        ("bhosts | tail -1 | cut -c 20-29", "closed_Adm"),
    ] {
        assert_eq!(shims.sh(line).ok(), want, "{line}");
    }
    shims.queue.run(&["undrain", &host]).ok();
    assert_eq!(shims.sh("sinfo -h -R; sinfo -h -o %t").ok(), "idle");
}
