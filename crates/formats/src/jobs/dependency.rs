//! What must have happened to other jobs, in the words of each system.

use std::time::Duration;

use hyperion_model::submission::{Comparison, Condition, Event, JobRef, JobWord, TaskState};

use super::options::Wrong;
use super::tell::shown;

/// The most jobs that one may wait for.
const MOST: usize = 10_000;
/// The deepest nesting of an expression.
const DEEPEST: u32 = 32;

/// Reads a job's number: `12`, `12_3`, `12[3]`, `12[].server`, `12.server`.
fn numbered(text: &str) -> Option<JobRef> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let number = JobWord::Number(number.parse().ok()?);
    let tasks = match rest.as_bytes().first() {
        None | Some(b'.') => None,
        Some(b'_') => match &rest[1..] {
            "*" => None,
            task => Some(task.parse().ok()?),
        },
        Some(b'[') => {
            let (inside, behind) = rest[1..].split_once(']')?;
            if !behind.is_empty() && !behind.starts_with('.') {
                return None;
            }
            match inside {
                "" | "*" => None,
                tasks => Some(tasks.parse().ok()?),
            }
        }
        _ => return None,
    };
    Some(JobRef { job: number, tasks })
}

fn job(value: &str, text: &str) -> Result<JobRef, Wrong> {
    numbered(text).ok_or_else(|| {
        let wrong =
            Wrong::new(format!("{} is not the number of a job", shown(text))).at(value, text);
        match text.contains('$') {
            true => wrong.hint("no shell reads directives: give the option on the command line"),
            false => wrong,
        }
    })
}

fn all(mut conditions: Vec<Condition>) -> Condition {
    match conditions.len() {
        1 => conditions.remove(0),
        _ => Condition::All(conditions),
    }
}

/// Reads Slurm's `TYPE:ID[:ID][,TYPE…]`, or with `?` for any of them.
pub(super) fn slurm(text: &str) -> Result<Condition, Wrong> {
    let any = text.contains('?');
    if any && text.contains(',') {
        return Err(Wrong::new(
            "`,` (all) and `?` (any) cannot stand in one list",
        ));
    }
    let mut conditions = Vec::new();
    for part in text.split(if any { '?' } else { ',' }) {
        let (kind, jobs) = match part.split_once(':') {
            Some((kind, jobs)) => (kind, jobs),
            None if part.eq_ignore_ascii_case("singleton") => {
                conditions.push(Condition::Singleton);
                continue;
            }
            // A number alone is `afterany`.
            None if part.starts_with(|c: char| c.is_ascii_digit()) => ("afterany", part),
            None => (part, ""),
        };
        let kind = kind.to_ascii_lowercase();
        for id in jobs.split(':') {
            let (id, delay) = match id.split_once('+') {
                Some((id, minutes)) if kind == "after" => {
                    let minutes =
                        super::amounts::count(minutes, 0).map_err(|w| w.at(text, minutes))?;
                    (id, minutes)
                }
                _ => (id, 0),
            };
            let event = match kind.as_str() {
                "after" => Event::Started(Duration::from_secs(u64::from(delay) * 60)),
                "afterany" => Event::Ended,
                "afterok" => Event::Succeeded,
                "afternotok" => Event::Failed,
                "aftercorr" => Event::SameSucceeded,
                "afterburstbuffer" => Event::Ended,
                _ => {
                    let what = format!("{} is not a kind of dependency", shown(part));
                    let hint = "write after, afterok, afternotok, afterany, aftercorr or singleton";
                    return Err(Wrong::new(what).at(text, part).hint(hint));
                }
            };
            if conditions.len() >= MOST {
                return Err(Wrong::new(format!("more than {MOST} jobs")));
            }
            conditions.push(Condition::Job(job(text, id)?, event));
        }
    }
    Ok(match any && conditions.len() > 1 {
        true => Condition::Any(conditions),
        false => all(conditions),
    })
}

/// Reads the `depend=` of PBS and Torque: `TYPE:ID[:ID][,TYPE…]`.
pub(super) fn pbs(text: &str) -> Result<Condition, Wrong> {
    let mut conditions = Vec::new();
    for part in text.split(',') {
        let (kind, jobs) = part.split_once(':').unwrap_or((part, ""));
        let event = match kind.to_ascii_lowercase().as_str() {
            "after" | "afterstart" | "afterstartarray" => Event::Started(Duration::ZERO),
            "afterok" | "afterokarray" => Event::Succeeded,
            "afternotok" | "afternotokarray" => Event::Failed,
            "afterany" | "afteranyarray" => Event::Ended,
            known @ ("before" | "beforestart" | "beforeok" | "beforenotok" | "beforeany" | "on"
            | "synccount" | "syncwith" | "runone") => {
                let does = match known {
                    "on" => "waits for jobs that name this one with before",
                    "synccount" | "syncwith" => "starts several jobs at one time",
                    "runone" => "runs one of several jobs",
                    _ => "makes other jobs wait for this one",
                };
                let what = format!("{known} {does}, which is not known here");
                let hint = "let the other jobs wait with after, afterok, afternotok or afterany";
                return Err(Wrong::new(what).at(text, part).hint(hint));
            }
            _ => {
                let what = format!("{} is not a kind of dependency", shown(part));
                let hint = "write after, afterok, afternotok or afterany";
                return Err(Wrong::new(what).at(text, part).hint(hint));
            }
        };
        for id in jobs.split(':') {
            if conditions.len() >= MOST {
                return Err(Wrong::new(format!("more than {MOST} jobs")));
            }
            // Torque limits how many of an array must: `12[][3]`.
            conditions.push(Condition::Job(job(text, id)?, event));
        }
    }
    Ok(all(conditions))
}

/// Reads Grid Engine's `-hold_jid`: numbers, names and patterns of names.
pub(super) fn sge(text: &str, same: bool) -> Result<Condition, Wrong> {
    let event = if same { Event::SameEnded } else { Event::Ended };
    let mut conditions = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let digits = part.starts_with(|c: char| c.is_ascii_digit());
        let other = if digits {
            let (number, tasks) = part.split_once('.').unwrap_or((part, ""));
            let tasks = match tasks {
                "" => None,
                tasks => {
                    let wrong = |e: hyperion_model::indices::IndexError| {
                        Wrong::new(e.to_string()).at(text, tasks)
                    };
                    Some(tasks.parse().map_err(wrong)?)
                }
            };
            JobRef {
                job: job(text, number)?.job,
                tasks,
            }
        } else if part.contains('$') {
            return Err(job(text, part)
                .err()
                .unwrap_or_else(|| Wrong::new("not a job")));
        } else {
            JobRef {
                job: JobWord::Name(part.to_owned()),
                tasks: None,
            }
        };
        if conditions.len() >= MOST {
            return Err(Wrong::new(format!("more than {MOST} jobs")));
        }
        conditions.push(Condition::Job(other, event));
    }
    match conditions.is_empty() {
        true => Err(Wrong::new("names no job")),
        false => Ok(all(conditions)),
    }
}

/// Reads LSF's expression: `done(1) && (ended("name") || !exit(2, >= 3))`.
pub(super) fn lsf(text: &str) -> Result<Condition, Wrong> {
    let mut reader = Expression {
        text,
        rest: text,
        jobs: 0,
    };
    let condition = reader.any(0)?;
    match reader.rest.trim_start() {
        "" => Ok(condition),
        _ => Err(reader.wrong("`&&`, `||` or the end is expected here")),
    }
}

/// Makes a condition on tasks of the same index one on whole arrays, for a job
/// that has no tasks.
pub(super) fn of_whole(condition: Condition) -> Condition {
    let each = |all: Vec<Condition>| all.into_iter().map(of_whole).collect();
    match condition {
        Condition::All(all) => Condition::All(each(all)),
        Condition::Any(all) => Condition::Any(each(all)),
        Condition::Not(one) => Condition::Not(Box::new(of_whole(*one))),
        Condition::Job(job, Event::SameSucceeded) => Condition::Job(job, Event::Succeeded),
        Condition::Job(job, Event::SameEnded) => Condition::Job(job, Event::Ended),
        other => other,
    }
}

struct Expression<'a> {
    text: &'a str,
    rest: &'a str,
    jobs: usize,
}

impl<'a> Expression<'a> {
    fn wrong(&self, what: &str) -> Wrong {
        let rest = self.rest.trim_start();
        let end = rest.char_indices().nth(1).map_or(rest.len(), |(at, _)| at);
        Wrong::new(what).at(self.text, &rest[..end])
    }

    fn takes(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn any(&mut self, deep: u32) -> Result<Condition, Wrong> {
        let mut all = vec![self.all(deep)?];
        while self.takes("||") {
            all.push(self.all(deep)?);
        }
        Ok(match all.len() {
            1 => all.remove(0),
            _ => Condition::Any(all),
        })
    }

    fn all(&mut self, deep: u32) -> Result<Condition, Wrong> {
        let mut conditions = vec![self.one(deep)?];
        while self.takes("&&") {
            conditions.push(self.one(deep)?);
        }
        Ok(all(conditions))
    }

    fn one(&mut self, deep: u32) -> Result<Condition, Wrong> {
        if deep > DEEPEST {
            return Err(self.wrong("the expression is nested too deep"));
        }
        if self.takes("!") {
            return Ok(Condition::Not(Box::new(self.one(deep + 1)?)));
        }
        if self.takes("(") {
            let inside = self.any(deep + 1)?;
            return match self.takes(")") {
                true => Ok(inside),
                false => Err(self.wrong("`)` is expected here")),
            };
        }
        self.jobs += 1;
        if self.jobs > MOST {
            return Err(Wrong::new(format!("more than {MOST} jobs")));
        }
        let rest = self.rest.trim_start();
        let letters = |c: char| c.is_ascii_lowercase() || c == '_';
        let end = rest.find(|c: char| !letters(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        match behind
            .trim_start()
            .strip_prefix('(')
            .filter(|_| !word.is_empty())
        {
            Some(inside) => {
                let (argument, behind) = self.argument(inside)?;
                self.rest = behind;
                self.call(word, argument)
            }
            // A job alone must have ended well.
            None => {
                let end = rest.find([' ', '&', '|', ')', '\t']).unwrap_or(rest.len());
                let (job, behind) = rest.split_at(end);
                if job.is_empty() {
                    return Err(self.wrong("a condition such as done(12) is expected here"));
                }
                self.rest = behind;
                Ok(Condition::Job(self.job(job)?, Event::Succeeded))
            }
        }
    }

    /// Gives what stands in the brackets, and what behind them.
    fn argument(&self, inside: &'a str) -> Result<(&'a str, &'a str), Wrong> {
        let mut quoted = false;
        for (at, character) in inside.char_indices() {
            match character {
                '"' => quoted = !quoted,
                ')' if !quoted => return Ok((&inside[..at], &inside[at + 1..])),
                _ => {}
            }
        }
        Err(Wrong::new("`)` is missing").at(self.text, inside))
    }

    fn call(&self, word: &str, argument: &str) -> Result<Condition, Wrong> {
        let (job, compared) = match super::amounts::split(argument, ',').as_slice() {
            [job] => (*job, None),
            [job, compared] => (*job, Some(compared.trim())),
            _ => return Err(Wrong::new("one job is expected").at(self.text, argument)),
        };
        let each = job.trim().trim_end_matches(['"', '\'']).ends_with("[*]");
        let job = self.job(job.trim())?;
        let counted = |state| {
            let compared = compared.ok_or_else(|| {
                Wrong::new("a number of tasks is missing").at(self.text, argument)
            })?;
            let (comparison, number) = match compared {
                "*" => return Ok(Event::Tasks(state, Comparison::AtLeast, u64::MAX)),
                _ => self.compared(compared)?,
            };
            Ok(Event::Tasks(state, comparison, number))
        };
        let plain = |event| match compared {
            None => Ok(event),
            Some(compared) => Err(Wrong::new(format!("{word} takes one job and nothing else"))
                .at(self.text, compared)),
        };
        let event = match word {
            // Each task waits for the one of its index.
            "done" if each => plain(Event::SameSucceeded)?,
            "ended" if each => plain(Event::SameEnded)?,
            "done" | "post_done" => plain(Event::Succeeded)?,
            "ended" => plain(Event::Ended)?,
            _ if each => {
                let wrong =
                    Wrong::new(format!("{word} of the task of the same index is not known"));
                return Err(wrong.at(self.text, argument).hint("write done or ended"));
            }
            "started" => plain(Event::Started(Duration::ZERO))?,
            "post_err" => plain(Event::Failed)?,
            "exit" => match compared {
                None => Event::Failed,
                Some(compared) => {
                    let (comparison, number) = self.compared(compared)?;
                    Event::Exited(comparison, number)
                }
            },
            "numdone" => counted(TaskState::Succeeded)?,
            "numended" => counted(TaskState::Ended)?,
            "numexit" => counted(TaskState::Failed)?,
            "numhold" => counted(TaskState::Held)?,
            "numpend" => counted(TaskState::Pending)?,
            "numrun" => counted(TaskState::Running)?,
            "numstart" => counted(TaskState::Started)?,
            _ => {
                let what = format!("{} is not a condition", shown(word));
                let hint = "write done, ended, exit, started or numdone";
                let place = self
                    .text
                    .find(word)
                    .map_or("", |at| &self.text[at..at + word.len()]);
                return Err(Wrong::new(what).at(self.text, place).hint(hint));
            }
        };
        Ok(Condition::Job(job, event))
    }

    fn compared(&self, text: &str) -> Result<(Comparison, u64), Wrong> {
        let all = [
            (">=", Comparison::AtLeast),
            ("<=", Comparison::AtMost),
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            (">", Comparison::More),
            ("<", Comparison::Less),
            ("", Comparison::Equal),
        ];
        let found = all
            .iter()
            .find_map(|(sign, comparison)| Some((comparison, text.strip_prefix(sign)?)));
        let (comparison, number) = found.unwrap_or((&Comparison::Equal, text));
        let number =
            super::amounts::count(number.trim(), 0).map_err(|wrong| wrong.at(self.text, number))?;
        Ok((*comparison, u64::from(number)))
    }

    fn job(&self, text: &str) -> Result<JobRef, Wrong> {
        let name = super::amounts::unquoted(text);
        if name.len() == text.len() && text.starts_with(|c: char| c.is_ascii_digit()) {
            return job(self.text, text);
        }
        let (name, tasks) = match name.split_once('[') {
            // Without its end it is read as no list of tasks.
            Some((name, tasks)) => (name, Some(tasks.strip_suffix(']').unwrap_or("["))),
            None => (name, None),
        };
        let bad = || {
            let wrong = Wrong::new(format!("{} is not a job", shown(text))).at(self.text, text);
            match text.contains('$') {
                true => {
                    wrong.hint("no shell reads directives: give the option on the command line")
                }
                false => wrong,
            }
        };
        if name.is_empty() || name.contains(['$', '"', '\'', '(', '&', '|', '=', '>', '<']) {
            return Err(bad());
        }
        let tasks = match tasks {
            None | Some("*") => None,
            Some(tasks) => Some(tasks.parse().map_err(|_| bad())?),
        };
        Ok(JobRef {
            job: JobWord::Name(name.to_owned()),
            tasks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn short(condition: &Condition) -> String {
        let list = |all: &[Condition]| all.iter().map(short).collect::<Vec<_>>().join(" ");
        match condition {
            Condition::All(all) => format!("(all {})", list(all)),
            Condition::Any(all) => format!("(any {})", list(all)),
            Condition::Not(one) => format!("(not {})", short(one)),
            Condition::Singleton => "singleton".to_owned(),
            Condition::Job(job, event) => {
                let name = match &job.job {
                    JobWord::Number(number) => number.to_string(),
                    JobWord::Name(name) => name.clone(),
                };
                let tasks = job
                    .tasks
                    .as_ref()
                    .map_or(String::new(), |t| format!("[{t}]"));
                format!("{name}{tasks} {event:?}")
            }
        }
    }

    #[test]
    fn slurms_lists_are_all_or_any() {
        let read = |text| slurm(text).map(|c| short(&c)).expect(text);
        assert_eq!(
            read("afterok:20:21,afterany:23"),
            "(all 20 Succeeded 21 Succeeded 23 Ended)"
        );
        assert_eq!(
            read("afterok:20:21?afterany:23"),
            "(any 20 Succeeded 21 Succeeded 23 Ended)"
        );
        assert_eq!(read("after:5+10"), "5 Started(600s)");
        assert_eq!(
            read("singleton,afternotok:7_3"),
            "(all singleton 7[3] Failed)"
        );
        assert_eq!(read("12"), "12 Ended");
        for bad in [
            "bogus:1",
            "afterok",
            "afterok:",
            "afterok:$JOB",
            "afterok:1?after:2,after:3",
            "after:1+x",
        ] {
            assert!(slurm(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pbs_takes_servers_and_arrays_and_refuses_what_turns_it_round() {
        let read = |text| pbs(text).map(|c| short(&c)).expect(text);
        assert_eq!(read("afterok:123.host1.domain.com"), "123 Succeeded");
        assert_eq!(
            read("afteranyarray:12[].server:13[4]"),
            "(all 12 Ended 13[4] Ended)"
        );
        let wrong = pbs("afterok:1,before:2").expect_err("turned round");
        assert_eq!(wrong.part, Some((10, 18)));
    }

    #[test]
    fn lsf_has_expressions() {
        let read = |text| lsf(text).map(|c| short(&c)).expect(text);
        assert_eq!(
            read("done(1) && ended(\"a name\")"),
            "(all 1 Succeeded a name Ended)"
        );
        assert_eq!(
            read("done(1)&&(exit(2)||!started(x*))"),
            "(all 1 Succeeded (any 2 Failed (not x* Started(0ns))))"
        );
        assert_eq!(read("exit(34334, == 12)"), "34334 Exited(Equal, 12)");
        assert_eq!(read("exit(7, >= 3)"), "7 Exited(AtLeast, 3)");
        assert_eq!(read("numdone(55, > 5)"), "55 Tasks(Succeeded, More, 5)");
        // "Use the * with dependency conditions to define one-to-one dependency
        // among job array elements": the reference of bsub -w, 6.2 to 10.1.
        assert_eq!(read("ended(array1[*])"), "array1 SameEnded");
        assert_eq!(read("done(\"array1[*]\")"), "array1 SameSucceeded");
        assert_eq!(read("done(312[*])"), "312 SameSucceeded");
        assert!(lsf("exit(array1[*])").is_err());
        assert_eq!(read("done(myarr[1-3])"), "myarr[1-3] Succeeded");
        assert_eq!(read("312 && name"), "(all 312 Succeeded name Succeeded)");
        for bad in [
            "",
            "done(",
            "done()",
            "done(1) ended(2)",
            "bogus(1)",
            "done(1) &&",
            "(done(1)",
            "done($ID)",
        ] {
            assert!(lsf(bad).is_err(), "{bad}");
        }
        assert!(lsf(&"(".repeat(100_000)).is_err());
        assert!(lsf(&"!".repeat(100_000)).is_err());
    }

    #[test]
    fn grid_engine_waits_for_names_too() {
        let read = |text| sge(text, false).map(|c| short(&c)).expect(text);
        assert_eq!(
            read("12,prep*,14.3-5"),
            "(all 12 Ended prep* Ended 14[3-5] Ended)"
        );
        assert!(sge("", false).is_err());
        assert!(sge("$JOB", false).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_of_dependencies_panic(text in "\\PC{0,40}", near in "[a-z0-9:,?()!&|\"\\[\\]<>= .+_-]{0,40}") {
            for text in [text, near] {
                let _ = (slurm(&text), pbs(&text), lsf(&text), sge(&text, true));
            }
        }
    }
}
