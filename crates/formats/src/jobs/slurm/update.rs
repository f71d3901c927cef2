//! The fields of `scontrol update` of a job.

use std::num::NonZeroU32;
use std::time::Duration;

use hyperion_model::edit::Edit;
use hyperion_model::submission::{Dialect, Per, TimeLimit};

use crate::jobs::alter::{Altered, altered};
use crate::jobs::time;

/// What is changed of jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Which, as they were written.
    pub jobs: Vec<String>,
    /// What.
    pub altered: Altered,
    /// They may run so much longer.
    pub longer: Option<Duration>,
    /// They may run so much less.
    pub shorter: Option<Duration>,
}

/// How a field is read.
enum Field {
    /// As this option of sbatch; where there is no value something is taken away.
    As(&'static str, Option<Edit>),
    Requeue,
    AtOnce,
    Cpus,
    Priority,
    Limit,
    Jobs,
}

/// Names of a field, and how it is read.
type Row = (&'static [&'static str], fn() -> Field);

/// Fields by their names; abbreviations of four letters and more will do.
fn field(name: &str) -> Option<Field> {
    use Field::As;
    let names: [Row; 23] = [
        (&["jobid"], || Field::Jobs),
        (&["account"], || As("account", Some(Edit::Account(None)))),
        (&["arraytaskthrottle"], || Field::AtOnce),
        (&["comment"], || As("comment", Some(Edit::Comment(None)))),
        (&["dependency"], || {
            As("dependency", Some(Edit::After(None)))
        }),
        (&["eligibletime", "starttime"], || {
            As("begin", Some(Edit::Begin(Duration::ZERO)))
        }),
        (&["excnodelist"], || {
            As("exclude", Some(Edit::Without(Vec::new())))
        }),
        (&["reqnodelist"], || {
            As("nodelist", Some(Edit::Hosts(Vec::new())))
        }),
        (&["features"], || {
            As("constraint", Some(Edit::Features(None)))
        }),
        (&["jobname", "name"], || As("job-name", None)),
        (&["minmemorycpu"], || As("mem-per-cpu", None)),
        (&["minmemorynode"], || As("mem", None)),
        (&["nice"], || As("nice", Some(Edit::Nice(100)))),
        (&["numcpus", "reqprocs"], || Field::Cpus),
        (&["numtasks"], || As("ntasks", None)),
        (&["numnodes", "reqnodes"], || As("nodes", None)),
        (&["partition"], || As("partition", None)),
        (&["priority"], || Field::Priority),
        (&["qos"], || As("qos", Some(Edit::Qos(None)))),
        (&["requeue"], || Field::Requeue),
        (&["reservationname"], || {
            As("reservation", Some(Edit::Reservation(None)))
        }),
        (&["timemin"], || As("time-min", None)),
        (&["timelimit"], || Field::Limit),
    ];
    let lower = name.to_ascii_lowercase();
    let exact = names.iter().find(|(all, _)| all.contains(&lower.as_str()));
    let mut alike = names
        .iter()
        .filter(|(all, _)| lower.len() >= 4 && all.iter().any(|known| known.starts_with(&lower)));
    let found = exact.or_else(|| alike.next().filter(|_| alike.next().is_none()));
    found.map(|(_, make)| make())
}

/// Reads what stands behind `scontrol update`: `JobId=12 TimeLimit=30`, `job 12 Name=x`.
///
/// # Errors
/// What scontrol would say.
pub fn update(words: &[&str]) -> Result<Update, String> {
    let mut update = Update::default();
    let mut options = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let aborted =
            || format!("Update of this parameter is not supported: {word}\nRequest aborted");
        let wrong = || format!("Invalid input: {word}\nRequest aborted");
        let (name, value) = match word.split_once('=') {
            Some(pair) => pair,
            None if matches!(word.to_ascii_lowercase().as_str(), "job" | "jobid") => {
                ("jobid", *words.next().ok_or_else(wrong)?)
            }
            None if word.eq_ignore_ascii_case("nice") => ("nice", ""),
            None => return Err(wrong()),
        };
        let (name, sign) = match name.strip_suffix(['+', '-']) {
            Some(short) => (short, name.chars().next_back()),
            None => (name, None),
        };
        let found = field(name).ok_or_else(aborted)?;
        if sign.is_some() && !matches!(found, Field::Limit) {
            return Err(wrong());
        }
        match found {
            Field::Jobs => update.jobs.extend(value.split(',').map(str::to_owned)),
            Field::As(_, Some(edit)) if value.is_empty() => update.altered.edits.push(edit),
            Field::As(_, None) if value.is_empty() => return Err(wrong()),
            Field::As(option, _) => options.push(format!("--{option}={value}")),
            Field::Requeue => match value {
                "0" => options.push("--no-requeue".into()),
                "1" => options.push("--requeue".into()),
                _ => return Err(wrong()),
            },
            Field::AtOnce => {
                let most = value.parse().map_err(|_| wrong())?;
                let edit = Edit::AtOnce(Some(most).filter(|most| *most > 0));
                update.altered.edits.push(edit);
            }
            Field::Cpus => {
                let cpus = value.parse::<NonZeroU32>().map_err(|_| wrong())?;
                let edit = Edit::Cpus([(Per::Job, cpus.get())].into());
                update.altered.edits.push(edit);
            }
            Field::Priority => match value.parse::<u32>() {
                Ok(0) => update.altered.hold = true,
                Ok(priority) => {
                    let edit = Edit::Priority(Some(priority.into()));
                    update.altered.edits.push(edit);
                }
                Err(_) => return Err(wrong()),
            },
            Field::Limit => {
                let inside = value.strip_prefix(['+', '-']);
                let sign = sign.or_else(|| value.chars().next().filter(|_| inside.is_some()));
                let sign = sign.filter(|_| value != "-1");
                let text = sign.and(inside).unwrap_or(value);
                match (sign, time::slurm(text)) {
                    (None, Some(limit)) => update.altered.edits.push(Edit::Limit(limit)),
                    (Some('+'), Some(TimeLimit::Span(span))) => update.longer = Some(span),
                    (Some(_), Some(TimeLimit::Span(span))) => update.shorter = Some(span),
                    _ => return Err("scontrol: error: Invalid TimeLimit value".into()),
                }
            }
        }
    }
    let more =
        altered(Dialect::Slurm, &options).map_err(|what| format!("{what}\nRequest aborted"))?;
    update.altered.edits.extend(more.edits);
    update.altered.begin = more.begin;
    Ok(update)
}

#[cfg(test)]
mod tests {
    use hyperion_model::Bytes;
    use hyperion_model::submission::{Condition, Event, JobRef, JobWord, Moment};

    use super::*;

    fn says(line: &str) -> Result<Update, String> {
        let words: Vec<&str> = line.split(' ').collect();
        update(&words)
    }

    #[test]
    fn fields_of_scontrol_are_read_as_options_of_sbatch() {
        let read = says("JobId=12,13_[2-3] TimeLimit=5 Name=other Part=long Requeue=0");
        let read = read.expect("read");
        assert_eq!(read.jobs, ["12", "13_[2-3]"]);
        let limit = TimeLimit::Span(Duration::from_secs(300));
        assert_eq!(
            read.altered.edits,
            [
                Edit::Limit(limit),
                Edit::Name("other".into()),
                Edit::Requeue(false),
                Edit::Queues(vec!["long".into()]),
            ]
        );
        let read = says("job 12 Dependency=afterok:7 StartTime=now+1hour ArrayTaskThrottle=0");
        let read = read.expect("read");
        let job = JobWord::Number(7);
        let on = JobRef { job, tasks: None };
        assert_eq!(
            read.altered.edits,
            [
                Edit::AtOnce(None),
                Edit::After(Some(Condition::Job(on, Event::Succeeded)))
            ]
        );
        let hour = Duration::from_secs(3600);
        assert_eq!(read.altered.begin, Some(Moment::In(hour)));
        let read = says("JobId=1 Dependency= Account= Nice Priority=0").expect("read");
        assert_eq!(
            read.altered.edits,
            [Edit::After(None), Edit::Account(None), Edit::Nice(100)]
        );
        assert!(read.altered.hold);
        let read = says("JobId=1 NumCPUs=4 NumTasks=2 MinMemoryNode=100").expect("read");
        let memory = Edit::Memory {
            amounts: [(Per::Node, Bytes(100 << 20))].into(),
            all: false,
        };
        let (cpus, tasks) = ([(Per::Job, 4)].into(), [(Per::Job, 2)].into());
        assert_eq!(
            read.altered.edits,
            [Edit::Cpus(cpus), Edit::Tasks(tasks), memory]
        );
    }

    #[test]
    fn limits_are_set_raised_and_lowered() {
        let read = |line| says(line).map(|read| (read.altered.edits, read.longer, read.shorter));
        let half = Some(Duration::from_secs(1800));
        assert_eq!(read("TimeLimit+=30"), Ok((vec![], half, None)));
        assert_eq!(read("TimeLimit=+30"), Ok((vec![], half, None)));
        assert_eq!(read("timelimit-=30"), Ok((vec![], None, half)));
        let none = vec![Edit::Limit(TimeLimit::Unlimited)];
        assert_eq!(read("TimeLimit=UNLIMITED"), Ok((none.clone(), None, None)));
        assert_eq!(read("TimeLimit=-1"), Ok((none, None, None)));
        assert_eq!(
            read("TimeLimit=soon"),
            Err("scontrol: error: Invalid TimeLimit value".into())
        );
    }

    #[test]
    fn what_scontrol_does_not_change_is_refused_in_its_words() {
        for line in ["MinCPUsNode=4", "Foo=1", "MinTmpDiskNode=100"] {
            let text = format!("Update of this parameter is not supported: {line}");
            assert_eq!(says(line), Err(text + "\nRequest aborted"));
        }
        for line in [
            "JobName=",
            "NumCPUs=0",
            "NumCPUs=2-4",
            "Requeue=2",
            "Nice+=3",
            "12",
        ] {
            let text = format!("Invalid input: {line}\nRequest aborted");
            assert_eq!(says(line), Err(text));
        }
    }
}
