//! `srun`: starts a step of a job, and the job where there is none

mod outside;
pub(super) mod step;

use hyperion_formats::listings::words::{Opt, Style, Takes, Words};

use super::salloc::OF_JOBS;
use super::slurm::read_as;
use super::{Call, Outcome, Stop};

use Takes::{Attached, Nothing, Value};

/// The options of srun.
const SRUN: &[Opt] = &[
    Opt(&["--ntasks", "-n"], Value),
    Opt(&["--nodes", "-N"], Value),
    Opt(&["--ntasks-per-node", "--tasks-per-node"], Value),
    Opt(&["--cpus-per-task", "-c"], Value),
    Opt(&["--label", "-l"], Nothing),
    Opt(&["--chdir", "-D"], Value),
    Opt(&["--output", "-o"], Value),
    Opt(&["--error", "-e"], Value),
    Opt(&["--input", "-i"], Value),
    Opt(&["--pty"], Nothing),
    Opt(&["--jobid"], Value),
    Opt(&["--job-name", "-J"], Value),
    Opt(&["--time", "-t"], Value),
    Opt(&["--export"], Value),
    Opt(&["--wait", "-W"], Value),
    Opt(&["--kill-on-bad-exit", "-K"], Attached),
    Opt(&["--mpi"], Value),
    Opt(&["--overlap"], Nothing),
    Opt(&["--overcommit", "-O"], Nothing),
    Opt(&["--exclusive"], Attached),
    Opt(&["--exact"], Nothing),
    Opt(&["--whole"], Nothing),
    Opt(&["--nodelist", "-w"], Value),
    Opt(&["--exclude", "-x"], Value),
    Opt(&["--relative", "-r"], Value),
    Opt(&["--cpu-bind", "--cpu_bind"], Value),
    Opt(&["--mem-bind", "--mem_bind"], Value),
    Opt(&["--gpu-bind"], Value),
    Opt(&["--accel-bind"], Value),
    Opt(&["--distribution", "-m"], Value),
    Opt(&["--hint"], Value),
    Opt(&["--mem"], Value),
    Opt(&["--mem-per-cpu"], Value),
    Opt(&["--gres"], Value),
    Opt(&["--gpus", "-G"], Value),
    Opt(&["--gpus-per-task"], Value),
    Opt(&["--gpus-per-node"], Value),
    Opt(&["--threads-per-core"], Value),
    Opt(&["--ntasks-per-core"], Value),
    Opt(&["--ntasks-per-socket"], Value),
    Opt(&["--open-mode"], Value),
    Opt(&["--unbuffered", "-u"], Nothing),
    Opt(&["--preserve-env", "-E"], Nothing),
    Opt(&["--propagate"], Attached),
    Opt(&["--immediate", "-I"], Attached),
    Opt(&["--disable-status", "-X"], Nothing),
    Opt(&["--slurmd-debug"], Value),
    Opt(&["--test-only"], Nothing),
    Opt(&["--quiet", "-Q"], Nothing),
    Opt(&["--verbose", "-v"], Nothing),
    Opt(&["--version", "-V"], Nothing),
    Opt(&["--help", "-h"], Nothing),
    Opt(&["--usage"], Nothing),
];

/// What `srun --mpi=list` says.
const MPI: &str = "MPI plugin types are...\n\tnone\n\tpmi2\n\tpmix\n";

pub(super) fn answer(call: &Call) -> Outcome {
    // What stands first is found first: what both have is srun's.
    let options = [SRUN, OF_JOBS].concat();
    let words = match read_as(call, &options, Style::Leading)? {
        Ok(words) => words,
        Err(code) => return Ok(code),
    };
    if words.value("--mpi") == Some("list") {
        eprint!("{MPI}");
        return Ok(hyperion_sys::entry::ExitCode::SUCCESS);
    }
    if words.rest.is_empty() {
        return Err(error("No command given to execute."));
    }
    if words.has("--test-only") {
        return outside::test(call, &words);
    }
    // In the sandbox of a job its init listens there.
    let inside = std::env::var_os("HYPERION_STEPS").is_some();
    let around = std::env::var("SLURM_JOB_ID").ok();
    match (words.value("--jobid"), around) {
        (Some(job), _) => outside::within(call, &words, job),
        (None, Some(_)) if inside => step::run(call, &words),
        (None, Some(job)) => outside::within(call, &words, &job),
        (None, None) => outside::alone(call, &words),
    }
}

fn error(text: impl std::fmt::Display) -> Stop {
    Stop::new(1, format!("srun: error: {text}"))
}

/// Reads a count.
fn count(words: &Words, name: &str) -> Result<Option<u32>, Stop> {
    let read = |text: &str| {
        let number = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| error(format_args!("Invalid numeric value \"{text}\" for {name}.")))
    };
    words.value(name).map(read).transpose()
}
