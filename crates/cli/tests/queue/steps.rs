//! Steps: what scripts start with `srun` in their job, at every level.

use std::fs;
use std::os::unix::fs::symlink;

use hyperion_testkit::{guest_cache, wait_until};

use crate::shims::Shims;
use crate::site::LONG;

/// A script whose steps show what steps are.
const SCRIPT: &str = "#!/bin/sh\n#SBATCH -n 2 -J work -o out -e err\n\
    srun -l sh -c 'echo task $SLURM_PROCID of $SLURM_NTASKS in $SLURM_STEP_ID' | sort\n\
    srun -n 3 sh -c 'exit $SLURM_PROCID'; echo ended $?\n\
    srun -n 1 -o step-%J-%t -J third echo hello; cat step-*\n\
    srun -n 1 --export=NONE,A=b sh -c 'echo $A $GIVEN.'\n\
    exit 4\n";

const WROTE: &str = "0: task 0 of 2 in 0\n1: task 1 of 2 in 0\nended 2\nhello\nb .\n";

/// What sacct says of it, as Slurm's own did of a job like it.
#[track_caller]
fn is_counted(shims: &Shims, job: &str) {
    let line = format!("sacct -n -P -j {job} -o JobID,JobName,State,ExitCode,NTasks");
    let want = "{job}|work|FAILED|4:0|\n{job}.batch|batch|FAILED|4:0|1\n\
        {job}.0|sh|COMPLETED|0:0|2\n{job}.1|sh|FAILED|2:0|3\n\
        {job}.2|third|COMPLETED|0:0|1\n{job}.3|sh|COMPLETED|0:0|1";
    assert_eq!(shims.sh(&line).ok(), want.replace("{job}", job));
}

#[test]
fn steps_run_in_the_job_and_are_counted() {
    let shims = Shims::new();
    shims.queue.script("job.sh", SCRIPT);
    let done = shims.sh("export GIVEN=1; sbatch -W job.sh");
    assert_eq!(
        (done.code, done.out.as_str()),
        (4, "Submitted batch job 1\n")
    );
    assert_eq!(shims.queue.read("out"), WROTE);
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    assert_eq!(
        shims.queue.read("err"),
        format!(
            "srun: error: {host}: task 1: Exited with exit code 1\n\
             srun: error: {host}: task 2: Exited with exit code 2\n"
        )
    );
    is_counted(&shims, "1");
    let history = shims.queue.run(&["history", "--steps"]).ok();
    assert!(history.contains("\n 1.2  third"), "{history}");
    // Numbers begin anew in each job, though jobs follow each other in one sandbox.
    shims.sh("sbatch -W job.sh");
    is_counted(&shims, "2");
}

#[test]
fn steps_that_find_no_room_wait_for_others() {
    let shims = Shims::new();
    shims.queue.script(
        "job.sh",
        "#!/bin/sh\n#SBATCH -n 2 -o out\n\
         srun -n 2 -J first sh -c 'until [ -e go ]; do sleep 0.1; done' &\n\
         until [ \"$(squeue -s -h -o %j)\" = \"$(printf 'first\\nbatch')\" ]; do sleep 0.1; done\n\
         srun -n 1 -J second touch second &\n\
         srun -n 1 -J beside --overlap touch beside\n\
         ls second beside 2>/dev/null; touch go; wait\n",
    );
    shims.sh("sbatch -W job.sh").ok();
    assert_eq!(shims.queue.read("out"), "beside\n");
    let names = shims.sh("sacct -n -P -j 1 -o JobID,JobName,State").ok();
    for line in [
        "1.0|first|COMPLETED",
        "1.1|beside|COMPLETED",
        "1.2|second|COMPLETED",
    ] {
        assert!(names.contains(line), "{names}");
    }
}

#[test]
fn a_step_that_fails_or_is_cancelled_is_told_as_that() {
    let shims = Shims::new();
    shims.queue.script(
        "job.sh",
        "#!/bin/sh\n#SBATCH -n 2 -o out -e err\n\
         srun -n 2 -K sh -c 'test $SLURM_PROCID = 1 || exec sleep 300; exit 3'; echo $?\n\
         srun -n 2 -W 1 sh -c 'test $SLURM_PROCID = 1 || exec sleep 300'\n\
         srun -n 1 sh -c 'trap \"\" TERM; exec sleep 300'; echo third $?\n\
         srun -n 1 sh -c 'trap \"exit 7\" USR1; sleep 300 & wait'; echo fourth $?\n\
         srun -n 1 sleep 300\n",
    );
    shims.sh("sbatch job.sh").ok();
    let steps = || shims.sh("squeue -s -h -o %i").ok();
    let came = wait_until(LONG, || steps().contains("1.2"));
    assert!(came, "{}", steps());
    for unknown in ["1.7", "1.0", "9.0"] {
        let refused = shims.sh(&format!("scancel {unknown}")).expect_code(1);
        let want = "Kill job error on job step id {}: Invalid job id specified\n";
        let want = format!("scancel: error: {}", want.replace("{}", unknown));
        assert_eq!(refused.err, want);
    }
    // The step ends and its job does not, or hears a signal.
    shims.sh("scancel 1.2").ok();
    shims.queue.wait_for_text("out", "third 137\n");
    let err = shims.queue.read("err");
    assert!(err.contains("*** STEP 1.2 ON "), "{err}");
    assert!(err.contains("task 0: Killed\n"), "{err}");
    let signalled = wait_until(LONG, || {
        shims.sh("scancel -s USR1 1.3");
        shims.queue.read("out").contains("fourth 7\n")
    });
    assert!(signalled, "{}", shims.queue.read("out"));
    assert!(wait_until(LONG, || steps().contains("1.4")), "{}", steps());
    assert_eq!(shims.sh("squeue -h -o %T").ok(), "RUNNING");
    shims.sh("scancel 1").ok();
    shims.queue.wait_over("1");
    let out = shims.sh("sacct -n -P -j 1 -o JobID,State,ExitCode").ok();
    for line in [
        "1.0|FAILED|3:0",
        "1.1|TIMEOUT|",
        "1.2|CANCELLED|0:9",
        "1.3|FAILED|7:0",
        "1.4|CANCELLED|0:",
    ] {
        assert!(out.contains(line), "{out}");
    }
    assert_eq!(shims.queue.read("out").lines().next(), Some("3"));
}

/// Makes a small image of busybox.
fn image(shims: &Shims) {
    let root = shims.queue.site.path().join("image");
    for folder in ["bin", "tmp", "etc", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    fs::copy(guest_cache().join("busybox"), root.join("bin/busybox")).expect("copied");
    let allow = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(root.join("bin/busybox"), allow).expect("allowed");
    for name in ["sh", "sort", "echo", "cat", "sleep"] {
        symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    let root = root.to_str().expect("text");
    shims.queue.run(&["image", "import", root, "small"]).ok();
}

#[test]
fn steps_run_in_the_container_of_the_job() {
    hyperion_testkit::requires!("root", "guest");
    let shims = Shims::new();
    image(&shims);
    shims.queue.script("job.sh", SCRIPT);
    let done = shims.sh("HYPERION_IMAGE=small sbatch -W job.sh");
    assert_eq!(done.code, 4, "{done:?} {}", shims.queue.read("err"));
    assert_eq!(shims.queue.read("out"), WROTE);
    is_counted(&shims, "1");
    cancels_a_step(&shims, "HYPERION_IMAGE=small", "2");
}

/// Ends a step of another job, which goes on.
#[track_caller]
fn cancels_a_step(shims: &Shims, variables: &str, job: &str) {
    let text = "#!/bin/sh\n#SBATCH -t 5 -o again -e err\nsrun sleep 300\necho ended $?\n";
    shims.queue.script("again.sh", text);
    shims.sh(&format!("{variables} sbatch again.sh")).ok();
    let step = format!("{job}.0");
    let runs = || shims.sh("squeue -s -h -o %i").ok().contains(&step);
    assert!(wait_until(LONG, runs), "{}", shims.queue.read("err"));
    shims.sh(&format!("scancel {step}")).ok();
    shims.queue.wait_for_state(job, "completed");
    assert_eq!(shims.queue.read("again"), "ended 137\n");
    let told = shims
        .sh(&format!("sacct -n -P -j {job} -o JobID,State"))
        .ok();
    assert!(told.contains(&format!("{step}|CANCELLED")), "{told}");
}

#[test]
fn steps_run_in_the_machine_of_the_job() {
    hyperion_testkit::requires!("root", "guest");
    let shims = Shims::new();
    image(&shims);
    let kernel = guest_cache().join("kernel.deb");
    let kernel = kernel.to_str().expect("text");
    let install = ["vm", "kernel", "install", "--deb", kernel];
    shims.queue.run(&install).ok();
    shims.queue.script("job.sh", SCRIPT);
    let done = shims.sh("HYPERION_ISOLATION=vm HYPERION_IMAGE=small sbatch -t 5 -W job.sh");
    assert_eq!(done.code, 4, "{done:?} {}", shims.queue.read("err"));
    assert_eq!(shims.queue.read("out"), WROTE);
    is_counted(&shims, "1");
    cancels_a_step(&shims, "HYPERION_ISOLATION=vm HYPERION_IMAGE=small", "2");
}

#[test]
fn srun_in_a_script_starts_the_tasks_of_the_job() {
    hyperion_testkit::requires!("command:mpicc.mpich");
    let shims = Shims::new();
    shims.queue.script(
        "ranks.c",
        "#include <mpi.h>\n#include <stdio.h>\nint main(void) {\n  int rank, size;\n  \
         MPI_Init(0, 0);\n  MPI_Comm_rank(MPI_COMM_WORLD, &rank);\n  \
         MPI_Comm_size(MPI_COMM_WORLD, &size);\n  printf(\"rank %d of %d\\n\", rank, size);\n  \
         return MPI_Finalize();\n}\n",
    );
    shims.queue.script(
        "job.sh",
        "#!/bin/sh\n#SBATCH -o out -e err\n\
         srun -n 4 sh -c 'echo task $SLURM_PROCID of $SLURM_NTASKS' | sort\n\
         srun -n 4 --mpi=pmi2 ./ranks | sort\nsrun sh -c 'exit 7'\n",
    );
    shims.sh("mpicc.mpich ranks.c -o ranks").ok();
    // Scripts find it, whether or not there are links where they were submitted.
    let done = shims.queue.run(&["submit", "--wait", "job.sh"]);
    let wrote = shims.queue.read("out");
    assert_eq!(
        wrote,
        "task 0 of 4\ntask 1 of 4\ntask 2 of 4\ntask 3 of 4\n\
         rank 0 of 4\nrank 1 of 4\nrank 2 of 4\nrank 3 of 4\n"
    );
    assert_eq!(done.code, 7, "{done:?}");
}

#[test]
fn pbsdsh_and_blaunch_start_steps_in_their_words() {
    let shims = Shims::new();
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    shims.queue.script(
        "job.pbs",
        "#PBS -N pee -l nodes=1:ppn=2 -o out -e err\ncd $PBS_O_WORKDIR\n\
         pbsdsh sh -c 'echo slot $PBS_VNODENUM' | sort\npbsdsh -n 1 -v echo one\n\
         pbsdsh -u -- echo each; pbsdsh -n 7 true; echo $?\n",
    );
    shims.sh("qsub -W block=true job.pbs").ok();
    assert_eq!(shims.queue.read("out"), "slot 0\nslot 1\none\neach\n1\n");
    let err = shims.queue.read("err");
    assert_eq!(err, "pbsdsh: the job has no slot 7, but 2, from 0 on\n");
    shims.queue.script(
        "job.lsf",
        "#BSUB -J ell -n 2 -o lout -e lerr\n\
         blaunch $(hostname) echo \"'a  b'\" c\nblaunch -z \"localhost localhost\" 'echo $LSF_PM_TASKID' | sort\n\
         blaunch elsewhere true; echo $?\n",
    );
    shims.sh("bsub -K < job.lsf").ok();
    assert_eq!(shims.queue.read("lout"), "a  b c\n1\n2\n255\n");
    let err = shims.queue.read("lerr");
    assert_eq!(
        err,
        format!("blaunch: host <elsewhere> is not one of the job's: {host}\n")
    );
    let steps = shims.sh("sacct -n -P -o JobID,JobName,NTasks").ok();
    for line in ["1.0|sh|2", "1.1|echo|1", "2.0|sh|1", "2.1|sh|2"] {
        assert!(steps.lines().any(|known| known == line), "{steps}");
    }
}
