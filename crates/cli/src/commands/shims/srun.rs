//! `srun` inside of a job

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use hyperion_formats::listings::words::{Opt, Style, Takes};

use super::slurm::read_as;
use super::{Call, Outcome, Stop};

use Takes::{Attached, Nothing, Value};

/// The options of srun.
const SRUN: &[Opt] = &[
    Opt(&["--ntasks", "-n"], Value),
    Opt(&["--label", "-l"], Nothing),
    Opt(&["--chdir", "-D"], Value),
    Opt(&["--nodes", "-N"], Value),
    Opt(&["--cpus-per-task", "-c"], Value),
    Opt(&["--ntasks-per-node"], Value),
    Opt(&["--mpi"], Value),
    Opt(&["--cpu-bind", "--cpu_bind"], Value),
    Opt(&["--distribution", "-m"], Value),
    Opt(&["--hint"], Value),
    Opt(&["--job-name", "-J"], Value),
    Opt(&["--time", "-t"], Value),
    Opt(&["--mem"], Value),
    Opt(&["--mem-per-cpu"], Value),
    Opt(&["--gres"], Value),
    Opt(&["--gpus", "-G"], Value),
    Opt(&["--export"], Value),
    Opt(&["--wait", "-W"], Value),
    Opt(&["--kill-on-bad-exit", "-K"], Attached),
    Opt(&["--exclusive"], Attached),
    Opt(&["--exact"], Nothing),
    Opt(&["--overlap"], Nothing),
    Opt(&["--overcommit", "-O"], Nothing),
    Opt(&["--unbuffered", "-u"], Nothing),
    Opt(&["--quiet", "-Q"], Nothing),
    Opt(&["--verbose", "-v"], Nothing),
    Opt(&["--version", "-V"], Nothing),
    Opt(&["--help", "-h"], Nothing),
    Opt(&["--usage"], Nothing),
];

/// Runs a program on the tasks of the job: a job in the job, within its limits.
pub(super) fn answer(call: &Call) -> Outcome {
    let words = match read_as(call, SRUN, Style::Leading)? {
        Ok(words) => words,
        Err(code) => return Ok(code),
    };
    let stop = |text: &str| Stop::new(1, format!("srun: error: {text}"));
    if std::env::var_os("SLURM_JOB_ID").is_none() {
        return Err(stop(
            "there is no job around it; submit a script with sbatch, or use `hyperion run`",
        ));
    }
    if words.rest.is_empty() {
        return Err(stop("No executable program specified"));
    }
    if let Some(export) = words.value("--export").filter(|export| *export != "ALL") {
        return Err(stop(&format!(
            "--export={export} is not known here, but ALL; set variables in the script"
        )));
    }
    let tasks = words.value("--ntasks").map(str::to_owned);
    let tasks = tasks.or_else(|| std::env::var("SLURM_NTASKS").ok());
    let tasks = tasks.unwrap_or_else(|| "1".into());
    if tasks.parse::<u32>().is_err() {
        return Err(stop(&format!(
            "Invalid numeric value \"{tasks}\" for --ntasks."
        )));
    }
    let program = std::env::current_exe().map_err(|e| stop(&e.to_string()))?;
    let mut command = Command::new(program);
    command.arg("--root").arg(&call.ctx.root);
    command.args([
        "run",
        "--rm",
        "--isolation",
        "process",
        "--oversubscribe",
        "-n",
        &tasks,
    ]);
    if words.has("--label") {
        command.arg("--label");
    }
    if let Some(folder) = words.value("--chdir") {
        command.args(["--workdir", folder]);
    }
    let error = command.arg("--").args(&words.rest).exec();
    Err(stop(&error.to_string()))
}
