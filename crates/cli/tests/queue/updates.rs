//! Jobs that are looked at before they are submitted, and changed after it, and what the
//! site says of accounts: in the words of batch systems.

use std::fs;

use crate::Queue;
use crate::shims::Shims;

impl Shims {
    /// A queue whose site says this.
    fn of_site(text: &str) -> Self {
        let shims = Self::new();
        let folder = shims.queue.site.root().join("queue");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("site.toml"), text).expect("the rules");
        shims
    }

    /// What a command says that fails.
    #[track_caller]
    fn refused(&self, line: &str, code: i32) -> String {
        self.sh(line).expect_code(code).err
    }
}

fn host() -> String {
    let host = rustix::system::uname();
    host.nodename().to_string_lossy().into_owned()
}

#[test]
fn slurms_test_only_says_when_a_job_would_start_and_submits_none() {
    let shims = Shims::new();
    let all = shims.sh("sinfo -h -o %c").ok();
    for (line, number) in [("sbatch -n 1 --wrap=true", 1), ("srun -n 1 true", 1)] {
        let line = line.replacen(' ', " --test-only ", 1);
        let done = shims.sh(&line).expect_code(0);
        let name = &line[..line.find(' ').expect("a blank")];
        let first = format!("{name}: Job {number} to start at ");
        assert!(
            done.out.is_empty() && done.err.starts_with(&first),
            "{done:?}"
        );
        let last = format!(
            " using 1 processors on nodes {} in partition main\n",
            host()
        );
        assert!(done.err.ends_with(&last), "{done:?}");
    }
    assert_eq!(shims.sh("sbatch --parsable -H -t 5 --wrap true").ok(), "1");
    // Behind one that has all processors for an hour.
    let line = format!("sbatch -n {all} -t 60 --parsable --wrap 'sleep 300'");
    assert_eq!(shims.sh(&line).ok(), "2");
    shims.queue.wait_for_state("2", "running");
    let start = shims
        .sh("date -d \"$(squeue -h -j 2 -o %S) 60 minutes\" +%FT%T")
        .ok();
    let later = shims.refused("sbatch --test-only --wrap true", 0);
    assert!(
        later.contains(&format!("Job 3 to start at {start} ")),
        "{later} {start}"
    );
    let never = shims.refused("sbatch --test-only -n 100000 --wrap true", 1);
    assert!(never.starts_with("allocation failure: "), "{never}");
    let never = shims.refused("srun --test-only -n 100000 true", 1);
    assert!(never.starts_with("allocation failure: "), "{never}");
    shims.sh("scancel 1 2").ok();
    assert_eq!(shims.sh("sbatch --parsable --wrap true").ok(), "3");
}

#[test]
fn scontrol_changes_jobs_that_wait_and_the_limit_of_those_that_run() {
    let shims = Shims::new();
    let out = shims.sh(
        "sbatch --parsable -H -t 60 --wrap true\n\
         sbatch --parsable -H -a 1-4 --wrap true\n\
         scontrol update JobId=1 TimeLimit=5 JobName=other Comment=hey Nice=7 Dependency=afterok:2\n\
         squeue -h -j 1 -o '%j|%l|%y|%k|%t'\n\
         scontrol show job 1 | grep -o -e 'Nice=7' -e 'TimeLimit=[0-9:]*' -e 'Comment=hey'\n\
         scontrol update job 1 TimeLimit+=10 Requeue=0; squeue -h -j 1 -o %l\n\
         scontrol update JobId=1 TimeLimit-=5 StartTime=now+1hour Dependency=\n\
         squeue -h -j 1 -o %l\n\
         scontrol update JobId=2 ArrayTaskThrottle=1; squeue -h -j 2 -o %i\n\
         scontrol release 1; squeue -h -j 1 -o %r\n\
         scontrol update JobId=1 StartTime=now\n",
    );
    assert_eq!(
        out.ok(),
        "1\n2\nother|5:00|7|hey|PD\nNice=7\nTimeLimit=00:05:00\nComment=hey\n15:00\n10:00\n\
         2_[1-4%1]\nBeginTime"
    );
    shims.queue.wait_for_state("1", "completed");
    // One that runs is ended by the limit that it has then.
    shims.sh("sbatch -t 60 --wrap 'sleep 300'").ok();
    shims.queue.wait_for_state("3", "running");
    shims.sh("scontrol update JobId=3 TimeLimit=30").ok();
    assert_eq!(shims.sh("squeue -h -j 3 -o %l").ok(), "30:00");
    let left = shims
        .sh("scontrol show job 3 | grep -o 'TimeLimit=[0-9:]*'")
        .ok();
    assert_eq!(left, "TimeLimit=00:30:00");
    // Processors and memory, as they are asked for from then on.
    let out = shims.sh("sbatch --parsable -H -n 1 --mem=1G --wrap true\n\
         scontrol update JobId=4 MinMemoryNode=64 NumTasks=1 NumCPUs=2\n\
         squeue -h -j 4 -o '%C %m'; scancel 4");
    assert_eq!(out.ok(), "4\n2 64M");
    // It waits again, and is held.
    shims.sh("scontrol requeuehold 3").ok();
    shims.queue.wait_for_state("3", "held");
    shims.sh("scontrol release 3").ok();
    shims.queue.wait_for_state("3", "running");
    // What was changed is known when the server comes again.
    shims.queue.run(&["serve", "--stop"]).ok();
    assert_eq!(shims.sh("squeue -h -j 3 -o '%l %t'").ok(), "30:00 R");
    for (line, code, error) in [
        (
            "JobId=99 TimeLimit=5",
            1,
            "Invalid job id specified for job 99\n",
        ),
        (
            "JobId=1 TimeLimit=5",
            1,
            "Job has already finished for job 1\n",
        ),
        (
            "JobId=3 Dependency=afterok:2",
            1,
            "Job is no longer pending execution for job 3\n",
        ),
        (
            "JobId=2 Dependency=afterok:2",
            1,
            "Job dependency problem (job 2 would wait for itself) for job 2\n",
        ),
        (
            "JobId=2 MinCPUsNode=4",
            1,
            "Update of this parameter is not supported: MinCPUsNode=4\nRequest aborted\n",
        ),
        (
            "JobId=2 TimeLimit=soon",
            1,
            "scontrol: error: Invalid TimeLimit value\n",
        ),
        ("JobId=2", 1, "No changes specified\n"),
    ] {
        let done = shims.sh(&format!("scontrol update {line}"));
        assert_eq!((done.code, done.err.as_str()), (code, error), "{line}");
    }
    shims
        .sh("scontrol update JobId=2 Priority=0; scancel 2 3")
        .ok();
    let node = host();
    let line = format!("scontrol update NodeName={node} State=DRAIN");
    let reason = "You must specify a reason when DOWNING or DRAINING a node. Request denied\n";
    assert_eq!(shims.refused(&line, 1), reason);
    shims.sh(&format!("{line} Reason=dust")).ok();
    assert_eq!(shims.sh("sinfo -h -o '%t %E'").ok(), "drain dust");
    shims
        .sh(&format!("scontrol update NodeName={node} State=RESUME"))
        .ok();
    assert_eq!(shims.sh("sinfo -h -o '%t'").ok(), "idle");
}

#[test]
fn the_script_of_a_job_is_told_as_it_was_submitted() {
    let shims = Shims::new();
    shims.queue.script("job.sh", "#!/bin/sh\ntrue\n");
    shims
        .sh("sbatch -H job.sh a b; sbatch -H --wrap true; sbatch -H < job.sh")
        .ok();
    let script = shims.queue.folder().join("job.sh").display().to_string();
    let told = shims
        .sh("squeue -h -S i -o %o; scontrol show job 1 | grep Command=")
        .ok();
    assert_eq!(
        told,
        format!("{script} a b\n(null)\n(null)\n   Command={script} a b")
    );
}

#[test]
fn qalter_qmove_and_bmod_change_jobs_in_their_words() {
    let shims = Shims::new();
    shims
        .queue
        .script("job.pbs", "#PBS -N pee -l walltime=1:00:00\nexit 0\n");
    let out = shims.sh("qsub -h job.pbs >/dev/null\n\
         qalter -l walltime=0:05:00 -N other -W depend= 1 2>/dev/null || true\n\
         qalter -l walltime=0:05:00 -N other 1; qmove fast 1\n\
         qstat -f 1 | grep -e Job_Name -e Resource_List.walltime -e 'queue ='\n\
         bsub -H -J ell -W 60 true\n\
         bmod -W 30 -J more -q short 2; bjobs -noheader -o \"job_name queue delimiter=':'\" 2\n\
         qalter -h n 1");
    assert_eq!(
        out.ok(),
        "    Job_Name = other\n    queue = fast\n    Resource_List.walltime = 00:05:00\n\
         Job <2> is submitted to default queue <main>.\n\
         Parameters of job <2> are being changed\nmore:short"
    );
    shims.queue.wait_for_state("1", "completed");
    let host = host();
    for (line, code, error) in [
        (
            "qalter -N x 99",
            153,
            format!("qalter: Unknown Job Id 99.{host}\n"),
        ),
        (
            "qalter -N x 1",
            35,
            format!("qalter: Job has finished 1.{host}\n"),
        ),
        (
            "qalter -l select=2 2",
            2,
            "qalter: that cannot be changed any more\n".into(),
        ),
        (
            "bmod -n 2,4 2",
            255,
            "that cannot be changed any more. Job not modified.\n".into(),
        ),
        (
            "bmod -W 5 99",
            255,
            "Job <99>: No matching job found\n".into(),
        ),
        (
            "bmod -W 5 1",
            255,
            "Job <1>: Job has already finished\n".into(),
        ),
    ] {
        let done = shims.sh(line);
        assert_eq!((done.code, done.err), (code, error), "{line}");
    }
}

#[test]
fn jobs_are_updated_in_the_words_that_submit_them() {
    let queue = Queue::new();
    queue.script("job.pbs", "#PBS -h -l walltime=1:00:00\nexit 0\n");
    let slurm = queue.submit(&["-H", "-t", "60", "--wrap=true"]);
    let pbs = queue.submit(&["job.pbs"]);
    let words = [
        "--time=5",
        "--job-name=other",
        "--nice=7",
        "--begin=now+1hour",
    ];
    queue
        .run(&[&["update", &slurm][..], &words].concat())
        .expect_code(0);
    let words = ["-l", "walltime=0:10:00", "-W", "depend=afterok:1"];
    queue
        .run(&[&["update", &pbs][..], &words].concat())
        .expect_code(0);
    let (first, second) = (
        &queue.list("queue", &slurm)[0],
        &queue.list("queue", &pbs)[0],
    );
    assert_eq!(first["name"], "other");
    assert_eq!(first["limit"]["secs"], 300);
    assert_eq!(first["terms"]["nice"], 7);
    assert_eq!(second["limit"]["secs"], 600);
    queue.run(&["release", &slurm, &pbs]).expect_code(0);
    // Another time, and the other waits for it.
    assert_eq!(queue.state(&slurm), "pending");
    queue.run(&["update", &slurm, "--begin=now"]).expect_code(0);
    queue.wait_for_state(&pbs, "completed");
    for (words, why) in [
        (&["1"][..], "nothing is to be changed"),
        (&["--time=5"], "no job is named"),
        (&["99", "--time=5"], "99"),
        (&[slurm.as_str(), "--time=5"], "completed"),
        (
            &[slurm.as_str(), "--output=else"],
            "cannot be changed any more",
        ),
    ] {
        let done = queue.run(&[&["update"], words].concat()).expect_code(125);
        assert!(done.err.contains(why), "{words:?}: {done:?}");
    }
}

#[test]
fn sacctmgr_and_sshare_tell_accounts_qualities_of_service_and_shares() {
    let shims = Shims::of_site(
        "order = \"multifactor\"\n[qos.fast]\npriority = 5\nmax_minutes = 60\n\
         [accounts.physics]\nshares = 3\n[accounts.quarks]\nparent = \"physics\"\n",
    );
    // As the plugin of Snakemake for Slurm asks.
    let asked = "sacctmgr -n -s list user \"$(id -un)\" format=account%256 | tr -d ' '";
    assert_eq!(shims.sh(asked).ok(), "physics\nquarks");
    assert_eq!(
        shims.sh("sacctmgr -nP show qos format=name,maxwall").ok(),
        "fast|01:00:00"
    );
    let user = shims.sh("id -un").ok();
    shims.sh("sbatch -W -A quarks --wrap true").ok();
    let shares = shims
        .sh("sshare -n -P -o Account,User,RawShares,NormShares")
        .ok();
    assert_eq!(
        shares,
        format!(
            "root|||0.000000\n physics||3|1.000000\n  quarks||1|1.000000\n   quarks|{user}|1|1.000000"
        )
    );
    let mine = shims.sh("sshare -U --format Account%9 --noheader").ok();
    assert_eq!(mine, "   quarks");
    let refused = shims.refused("sacctmgr -i add account x", 1);
    assert!(refused.contains("site.toml"), "{refused}");
    // Where a site knows of no accounts any will do, and none is listed.
    assert_eq!(Shims::new().sh(asked).ok(), "");
}
