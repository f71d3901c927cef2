//! Lanes: scripts of a queue, one after the other, in one sandbox.
//!
//! A sandbox at process level is a group and an init: what one task leaves in it is
//! ended before the next begins. So a lane costs once what a job of its own costs each
//! time. What it runs comes from an agent; that and how it ended are written down before
//! they are told, so that another agent finds both.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use hyperion_isolation::SandboxError;
use hyperion_model::errand::{Cost, LaneLine, LaneTask, Outcome};
use hyperion_model::report::Exit;
use hyperion_model::task::End;
use hyperion_model::{Bytes, ProcessSpec};

use super::launch::job_variable;
use super::ranks::{RankState, files_of};
use super::streams::Owner;
use super::{Problem, Supervisor, report};
use crate::talk::Tell;
use hyperion_sys::failpoint;

/// After so many the next lane is a new one: the list of them stays short.
const MOST: usize = 10_000;

/// How long a line for which there was no room waits for another try.
const RETRY: Duration = Duration::from_millis(500);

/// Gives a line as it is written: behind one that was cut off, it is one of its own.
fn line_of(line: &LaneLine) -> std::io::Result<Vec<u8>> {
    let mut text = vec![b'\n'];
    serde_json::to_writer(&mut text, line)?;
    text.push(b'\n');
    Ok(text)
}

fn write_lines(list: &mut File, lines: &mut Vec<u8>) -> std::io::Result<()> {
    list.write_all(lines)?;
    lines.clear();
    Ok(())
}

impl Supervisor {
    /// Runs what comes, until the agent is gone or wants no more.
    pub(super) fn run_lane(&mut self) -> Result<(), Problem> {
        self.first_start = Some(Instant::now());
        self.record_running()?;
        self.clients.tell_all(&Tell::Started);
        let mut list = self.folder.lane()?;
        let mut kills = self.kills();
        let mut unwritten = Vec::new();
        for _ in 0..MOST {
            while self.tasks.is_empty() && !self.last && self.clients.is_watched() {
                self.wait()?;
            }
            let Some(task) = self.tasks.pop_front().filter(|_| !self.last) else {
                break;
            };
            unwritten.extend(line_of(&LaneLine::Begun(task.id.clone()))?);
            // What is not known to have begun could be started elsewhere, too.
            while write_lines(&mut list, &mut unwritten).is_err() && !self.last {
                self.retry_at = Some(Instant::now() + RETRY);
                self.wait()?;
            }
            self.retry_at = None;
            if !unwritten.is_empty() {
                break;
            }
            failpoint!("lane-begun");
            self.clients
                .tell_all(&Tell::Task(LaneLine::Begun(task.id.clone())));
            // What it needs to begin, it does not need while the task runs.
            self.settled = false;
            let outcome = self.run_task(&task, &mut kills)?;
            failpoint!("lane-over");
            let line = LaneLine::Ended(task.id, Box::new(outcome));
            unwritten.extend(line_of(&line)?);
            // Where there is no room the agent still hears it.
            let _ = write_lines(&mut list, &mut unwritten);
            failpoint!("lane-written");
            self.clients.tell_all(&Tell::Task(line));
            failpoint!("lane-told");
        }
        Ok(())
    }

    /// Runs a task to its end. `kills` is how often the kernel had killed here when that
    /// was read last.
    fn run_task(&mut self, task: &LaneTask, kills: &mut u64) -> Result<Outcome, Problem> {
        let fds = match files_of(&task.batch) {
            Ok(fds) => fds,
            Err(problem) => return Ok(self.not_run(End::Broken, &problem)),
        };
        let mut env = task.env.clone();
        // The name under which `exec` and others find it.
        env.push(job_variable(&self.launch.plan.id));
        env.extend(self.steps_variable());
        self.steps.begin();
        let process = ProcessSpec {
            node: 0,
            argv: task.argv.clone(),
            env,
            cwd: task.workdir.clone(),
            user: None,
            tty: false,
            terminal_size: None,
            cpus: task.cpus.clone(),
            rlimits: task.rlimits.clone(),
        };
        let pid = match self.spawn_for(Owner::Rank(0), 0, &process, fds) {
            Ok(pid) => pid,
            Err(Problem::Sandbox(e @ SandboxError::Spawn { .. })) => {
                let end = e.exit_code().map(|code| End::Exit(Exit::Code(code)));
                return Ok(self.not_run(end.unwrap_or(End::Broken), &e.into()));
            }
            Err(problem) => return Err(problem),
        };
        failpoint!("lane-spawned");
        self.ranks.clear();
        self.still = false;
        self.ranks.insert(0, RankState::started_now(pid));
        self.run()?;
        let Some((rank, its)) = self
            .ranks
            .get(&0)
            .and_then(|state| Some((state, state.ended.as_ref()?)))
        else {
            return Ok(Outcome {
                end: End::Lost,
                why: None,
                cost: None,
            });
        };
        let bytes = |count: u64| Some(Bytes(count));
        let cost = Cost {
            wall: its.wall,
            cpu_user: Some(rank.times.0),
            cpu_system: Some(rank.times.1),
            memory_peak: Some(its.memory_peak),
            io_read: bytes(rank.io.0),
            io_written: bytes(rank.io.1),
            steps: self.steps.ended(),
        };
        let exit = its.exit;
        // To read it takes longer than a short task: what ended well needed no more.
        let before = *kills;
        if !exit.is_success() {
            *kills = self.kills();
        }
        let starved = *kills > before;
        Ok(Outcome {
            end: match starved {
                true => End::OutOfMemory,
                false => End::Exit(exit),
            },
            why: starved.then(|| "it reached its memory limit".to_owned()),
            cost: Some(cost),
        })
    }

    /// Tells how often the kernel has killed here for want of memory.
    fn kills(&self) -> u64 {
        let usage = self.sandbox.as_ref().map(|sandbox| sandbox.usage());
        usage.and_then(|usage| usage.oom_kills).unwrap_or(0)
    }

    /// Says why a task could not be started.
    fn not_run(&self, end: End, problem: &Problem) -> Outcome {
        let mut why = vec![problem.to_string()];
        why.extend(report::causes(problem));
        why.extend(report::hint(problem, self.launch.plan.job.level));
        Outcome {
            end,
            why: Some(why.join(": ")),
            cost: None,
        }
    }
}
