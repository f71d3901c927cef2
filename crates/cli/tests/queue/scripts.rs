//! Scripts in the words of each batch system, unchanged.

use hyperion_testkit::{requires, wait_until};

use crate::Queue;
use crate::site::LONG;

#[test]
fn scripts_of_each_system_run_as_there_and_find_what_they_expect() {
    let queue = Queue::new();
    let here = queue.folder().display().to_string();
    queue.script(
        "slurm.sh",
        "#!/bin/sh\n#SBATCH --job-name=one\n#SBATCH --ntasks=1 --time=5\n\
         echo $SLURM_JOB_ID $SLURM_JOB_NAME $SLURM_NTASKS $SLURM_SUBMIT_DIR $PWD $1 $MINE\n",
    );
    queue.script(
        "pbs.sh",
        "#PBS -N two\n#PBS -l select=1:ncpus=1,walltime=00:05:00\n#PBS -v GIVEN=7\n\
         echo ${PBS_JOBID%%.*} $PBS_JOBNAME $PBS_O_WORKDIR $GIVEN $MINE $(wc -l < $PBS_NODEFILE)\n\
         pwd >&2\n",
    );
    queue.script(
        "lsf.sh",
        "#BSUB -J three\n#BSUB -o lsf.%J.txt\n#BSUB -W 5\necho $LSB_JOBID $LSB_JOBNAME $PWD\n",
    );
    queue.script(
        "sge.sh",
        "#!/bin/sh\n#$ -N four\n#$ -cwd -j y\necho $JOB_ID $JOB_NAME $SGE_O_WORKDIR $PWD\n",
    );
    let submit = |words: &[&str]| {
        let mut command = queue
            .site
            .command(&[&["submit", "--wait"][..], words].concat());
        command.current_dir(queue.folder()).env("MINE", "mine");
        crate::finish(command).ok()
    };
    let one = submit(&["slurm.sh", "word"]);
    let wrote = queue.read(&format!("slurm-{one}.out"));
    assert_eq!(wrote, format!("{one} one 1 {here} {here} word mine\n"));
    // PBS begins at home, brings both files back, and hands on nothing that was not asked.
    let two = submit(&["pbs.sh"]);
    let wrote = queue.read(&format!("two.o{two}"));
    assert_eq!(wrote, format!("{two} two {here} 7 1\n"));
    let home = queue.read(&format!("two.e{two}"));
    assert_eq!(home.trim(), queue.site.path().display().to_string());
    let three = submit(&["lsf.sh"]);
    let wrote = queue.read(&format!("lsf.{three}.txt"));
    assert_eq!(wrote, format!("{three} three {here}\n"));
    let four = submit(&["sge.sh"]);
    let wrote = queue.read(&format!("four.o{four}"));
    assert_eq!(wrote, format!("{four} four {here} {here}\n"));
}

#[test]
fn scripts_go_with_their_jobs_and_one_that_somebody_keeps_stays_as_it_is() {
    let queue = Queue::new();
    let text = "#!/bin/sh\nln \"$0\" kept\necho first, and longer than the next\n";
    queue.script("first.sh", text);
    queue.script("next.sh", "#!/bin/sh\necho next\n");
    let submit = |script: &str| {
        let mut command = queue.site.command(&["submit", "--wait", script]);
        command.current_dir(queue.folder());
        crate::finish(command).ok()
    };
    let wrote = |script: &str| queue.read(&format!("slurm-{}.out", submit(script)));
    assert_eq!(wrote("first.sh"), "first, and longer than the next\n");
    for _ in 0..3 {
        assert_eq!(wrote("next.sh"), "next\n");
    }
    assert_eq!(queue.read("kept"), text);
    let left = || {
        let left = std::fs::read_dir(queue.site.path().join("hyperion/queue/batch"));
        left.expect("the folder of scripts").count()
    };
    assert!(wait_until(LONG, || left() == 0));
}

#[test]
fn each_task_of_an_array_knows_its_index_and_no_more_run_than_may() {
    let queue = Queue::new();
    queue.script(
        "array.sh",
        "#!/bin/sh\n#SBATCH --array=2-8:2%1\n#SBATCH --output=%x-%A.%a\n\
         mkdir lock || echo two at once\nsleep 0.05\nrmdir lock\n\
         echo $SLURM_ARRAY_TASK_ID $SLURM_ARRAY_TASK_COUNT\nexit $((SLURM_ARRAY_TASK_ID == 6))\n",
    );
    let job = queue.submit(&["array.sh"]);
    let after = queue.wrap(&[&format!("--dependency=afternotok:{job}")], "echo after");
    let never = queue.wrap(&[&format!("--dependency=afterok:{job}")], "echo never");
    queue.wait_over(&after);
    for index in [2, 4, 6, 8] {
        let wrote = queue.read(&format!("array.sh-{job}.{index}"));
        assert_eq!(wrote, format!("{index} 4\n"));
    }
    let tasks = queue.list("history", &job);
    let states: Vec<_> = tasks.iter().map(|t| (&t["index"], &t["state"])).collect();
    let states = format!("{states:?}");
    assert_eq!(tasks.len(), 4, "{states}");
    assert_eq!(states.matches("completed").count(), 3, "{states}");
    assert_eq!(queue.read(&format!("slurm-{after}.out")), "after\n");
    let sum = queue
        .run(&["--output", "json", "history", "--summary", "--by", "name"])
        .ok();
    let sum: serde_json::Value = serde_json::from_str(&sum).expect("JSON");
    let of = |name: &str| {
        sum.as_array()
            .and_then(|all| all.iter().find(|g| g["group"] == name))
    };
    let array = of("array.sh").expect("a group");
    assert_eq!(
        (&array["jobs"], &array["succeeded"]),
        (&4.into(), &3.into())
    );
    assert!(array["slowdown"]["p50"].as_f64() >= Some(1.0), "{array}");
    assert!(array["wait"]["max"].as_f64() >= Some(0.15), "{array}");
    let swf = queue.run(&["history", "--swf"]).ok();
    assert!(swf.starts_with("; Version: 2.2\n"), "{swf}");
    let lines: Vec<&str> = swf.lines().filter(|line| !line.starts_with(';')).collect();
    assert_eq!(lines.len(), 5, "{swf}");
    assert!(
        lines.iter().all(|line| line.split(' ').count() == 18),
        "{swf}"
    );
    let enough = queue.run(&["history", "--suggest"]).ok();
    assert!(
        enough.contains("array.sh") && enough.contains("1:00"),
        "{enough}"
    );
    let words = ["--output", "json", "sim", "what-if", "--add-nodes", "1"];
    let what_if = queue.run(&words).ok();
    let what_if: serde_json::Value = serde_json::from_str(&what_if).expect("JSON");
    let (was, now) = (&what_if["as_it_was"], &what_if["simulated"]);
    assert_eq!(
        (&was["jobs"], &now["jobs"]),
        (&5.into(), &5.into()),
        "{what_if}"
    );
    let procs = |its: &serde_json::Value| its["procs"].as_u64().expect("a number");
    let more = &what_if["variants"][0];
    assert_eq!(procs(more), 2 * procs(now), "{what_if}");
    let waits = queue.list("queue", &never);
    assert_eq!(waits[0]["reason"], "depends-in-vain");
    queue.run(&["cancel", &never]).ok();
    assert_eq!(queue.state(&never), "cancelled");
}

#[test]
fn an_option_that_would_change_the_result_is_refused_and_one_that_means_nothing_is_noted() {
    let queue = Queue::new();
    queue.script(
        "bad.sh",
        "#!/bin/sh\n#SBATCH --bb=capacity=1G\n#SBATCH --times=5\n:\n",
    );
    let refused = queue.run(&["submit", "bad.sh"]).expect_code(125);
    for words in ["bad.sh:2:", "--bb", "bad.sh:3:", "--time", "2 mistakes"] {
        assert!(refused.err.contains(words), "{}", refused.err);
    }
    queue.script("noted.sh", "#!/bin/sh\n#SBATCH --contiguous\ntrue\n");
    let noted = queue.run(&["submit", "--wait", "noted.sh"]).expect_code(0);
    assert!(
        noted.err.contains("noted.sh:2:") && noted.err.contains("note"),
        "{}",
        noted.err
    );
    let large = queue.run(&["submit", "-n", "100000", "noted.sh"]);
    large.refused("more than the nodes have", "hyperion nodes");
    let none = queue.run(&["submit", "none.sh"]).expect_code(125);
    assert!(
        none.err.contains("cannot read the script none.sh"),
        "{}",
        none.err
    );
}

#[test]
fn the_examples_of_three_systems_run_unchanged_and_wait_for_each_other() {
    requires!(
        "user:nobody",
        "command:mpiexec",
        "path:/usr/lib/python3/dist-packages/mpi4py"
    );
    let queue = Queue::of_user();
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([examples.join("heat"), examples.join("batch")])
        .arg(queue.folder())
        .status();
    assert!(copied.expect("cp starts").success());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let ranks = cores.min(4).to_string();
    let submit = |words: &[&str]| {
        let mut command = queue.site.command(&[&["submit"][..], words].concat());
        // The distribution's Python, which has mpi4py.
        command
            .current_dir(queue.folder())
            .env("PATH", "/usr/bin:/bin");
        crate::finish(command).ok()
    };
    let heat = submit(&["-n", &ranks, "batch/heat.slurm"]);
    let sizes = submit(&["batch/heat.pbs"]);
    let check = submit(&["batch/heat.lsf"]);
    queue.wait_for_state(&heat, "completed");
    queue.wait_over(&sizes);
    queue.wait_for_state(&check, "completed");
    let found = queue.read("check.out");
    let of = |file: String| {
        let lines = found.lines().filter(|line| line.starts_with(&file));
        assert_eq!(lines.count(), 1, "{file} in {found}");
    };
    of(format!("heat-{heat}.out:"));
    (1..=3).for_each(|index| of(format!("sizes.o{sizes}.{index}:")));
}
