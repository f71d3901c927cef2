//! What a job changed in copies of folders, brought back to them at its end.

use std::time::Instant;

use hyperion_isolation::Taken;

use super::{Problem, Supervisor};
use crate::jobs::Failure;

impl Supervisor {
    /// Brings back what the job changed in copies of folders; tells whether all of
    /// it is there. Whoever stops the job meanwhile gives the rest up, and nothing
    /// comes of a sandbox that was `lost`.
    pub(super) fn bring_back(&mut self, lost: bool) -> bool {
        if !self.sandbox.as_ref().is_some_and(|s| s.collects()) {
            return true;
        }
        let since = Instant::now();
        self.collecting = true;
        // They were for the ranks.
        (self.kill_at, self.limit_at) = (None, None);
        let cut = |why: String| Taken {
            cut: Some(why),
            ..Taken::default()
        };
        let taken = match lost {
            true => cut("it went with the machine".into()),
            false => self
                .collect()
                .unwrap_or_else(|problem| cut(problem.to_string())),
        };
        self.phase("folders", since);
        if taken.is_whole() {
            return true;
        }
        self.tell_of(taken);
        false
    }

    /// Waits for what comes out.
    fn collect(&mut self) -> Result<Taken, Problem> {
        if let Some(sandbox) = &mut self.sandbox {
            sandbox.collect()?;
        }
        self.serve_sandbox()?;
        while self.collected.is_none() && !self.given_up {
            self.wait()?;
        }
        Ok(self.collected.take().unwrap_or_else(|| Taken {
            cut: Some("the job was stopped meanwhile".into()),
            ..Taken::default()
        }))
    }

    /// Says what is not back, beside what else went wrong.
    fn tell_of(&mut self, taken: Taken) {
        let what = "not all that the job changed in its folders is back on this host";
        let told = taken.remarks.len() as u64;
        let mut causes = taken.remarks;
        if taken.troubles > told {
            causes.push(format!("and {} more", taken.troubles - told));
        }
        let changes = taken.changes;
        causes.extend(taken.cut.map(|why| match changes {
            0 => why,
            1 => format!("{why}, after one change"),
            _ => format!("{why}, after {changes} changes"),
        }));
        match &mut self.failure {
            Some(failure) => {
                failure.causes.push(what.into());
                failure.causes.extend(causes);
            }
            None => {
                self.failure = Some(Failure {
                    task: self.task,
                    rank: None,
                    what: what.into(),
                    causes,
                    hint: Some(
                        "what came is whole: files are put in place one by one, and none that was \
                         changed here meanwhile is replaced"
                            .into(),
                    ),
                    last_lines: Vec::new(),
                });
            }
        }
    }
}
