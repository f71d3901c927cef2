//! `srun` outside of a job, and in an allocation: the step is started in the sandbox of a
//! job, which is made for it where there is none.

use hyperion_formats::listings::words::Words;
use hyperion_node::Jobs;
use hyperion_sys::entry::ExitCode;

use super::super::allocation::{
    Allocation, Beside, Failed, Stage, Wanted, at_the_second, beside, ended_by,
};
use super::super::salloc::{OF_JOBS, patience, refused, stop, submission};
use super::super::slurm::tested;
use super::super::{Call, Outcome, Stop, targets, told as told_of};
use super::{SRUN, error};
use crate::commands::queue::submit::foresee;

/// Gets an allocation, runs a step in it, and gives it back.
pub(super) fn alone(call: &Call, words: &Words) -> Outcome {
    let mut submission = submission(words).map_err(|refusal| refused("srun", refusal))?;
    let program = words.rest.first().map_or("", String::as_str);
    let program = program.rsplit('/').next().unwrap_or(program);
    submission.name.get_or_insert_with(|| program.to_owned());
    let wanted = Wanted {
        submission,
        kept: true,
        patience: patience(words),
    };
    let quiet = words.has("--quiet");
    let taken = Allocation::take(call, wanted, |stage| match stage {
        _ if quiet => {}
        Stage::Waits(number) => {
            eprintln!("srun: job {number} queued and waiting for resources");
        }
        Stage::Granted(number) => eprintln!("srun: job {number} has been allocated resources"),
    });
    let mut taken = match taken {
        Ok(taken) => taken,
        Err(Failed::Interrupted(signal)) => {
            eprintln!("srun: Job allocation has been revoked");
            return Ok(ExitCode::from(ended_by(signal)));
        }
        Err(failed) => return Err(stop("srun", "Unable to allocate resources", failed)),
    };
    let number = taken.number;
    let aborted = std::rc::Rc::new(std::cell::Cell::new(false));
    let mut second = at_the_second(told(number));
    let noted = std::rc::Rc::clone(&aborted);
    let mut step = step(words, number);
    step.on_signal = Box::new(move |signal| {
        let code = second(signal);
        noted.set(code.is_some());
        code
    });
    let code = taken.run(step)?;
    match aborted.get() {
        true => {
            eprintln!("srun: forcing job termination");
            taken.cancel()?;
        }
        false => taken.release(code)?,
    }
    Ok(ExitCode::from(code))
}

/// Says when an allocation would be had: `--test-only`.
pub(super) fn test(call: &Call, words: &Words) -> Outcome {
    let submission = submission(words).map_err(|refusal| refused("srun", refusal))?;
    let foreseen = foresee(submission, &call.ctx);
    let foreseen =
        foreseen.map_err(|e| Stop::new(1, format!("allocation failure: {}", told_of(&e))))?;
    tested(call, &foreseen)
}

/// Runs a step in a job that runs: that of an allocation, or the one that is named.
pub(super) fn within(call: &Call, words: &Words, job: &str) -> Outcome {
    let unknown = || error("Unable to confirm allocation for job: Invalid job id specified");
    let wanted = targets(&[job.to_owned()]).map_err(|_| unknown())?;
    let jobs = call.jobs(super::super::numbers(&wanted), false)?;
    let job = jobs
        .iter()
        .find(|job| super::super::is_meant(job, &wanted))
        .ok_or_else(unknown)?;
    let id = job.id.as_ref().ok_or_else(|| {
        Stop::new(
            1,
            format!(
                "srun: error: Unable to create step for job {}: it does not run",
                job.job
            ),
        )
    })?;
    let record = Jobs::new(&call.ctx.root);
    let record = record.find(id).map_err(anyhow::Error::from)?;
    let mut step = step(words, job.job);
    step.on_signal = at_the_second(told(job.job));
    Ok(ExitCode::from(beside(&record, step)?))
}

fn told(job: u64) -> String {
    format!("srun: interrupt (one more within 1 sec to abort)\nsrun: step of job {job} running")
}

/// The step, as the `srun` of the job's own sandbox is told to start it.
fn step(words: &Words, job: u64) -> Beside {
    let mut argv = vec!["srun".to_owned()];
    let of_steps = words.options.iter().filter(|(name, _)| {
        let of_job = OF_JOBS.iter().any(|known| known.0.first() == Some(name));
        let both = [
            "--ntasks",
            "--ntasks-per-node",
            "--cpus-per-task",
            "--job-name",
            "--chdir",
            "--overcommit",
            "--quiet",
        ];
        SRUN.iter().any(|known| known.0.first() == Some(name))
            && (!of_job || both.contains(name))
            && *name != "--jobid"
    });
    argv.extend(of_steps.map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => (*name).to_owned(),
    }));
    argv.push("--".into());
    argv.extend(words.rest.iter().cloned());
    // As in a job that was submitted here and now.
    let terminal = std::env::var("TERM").map(|term| format!("TERM={term}"));
    Beside {
        argv,
        env: terminal.into_iter().collect(),
        tty: words.has("--pty"),
        input: words.value("--input") != Some("none"),
        on_signal: at_the_second(told(job)),
    }
}
