//! What is changed of a job that was submitted, in the words that submit one: `qalter -l
//! walltime=1:00:00`, `bmod -W 60`, and for Slurm the options of sbatch that the fields of
//! `scontrol update` stand for.

use std::collections::BTreeMap;

use hyperion_model::edit::Edit;
use hyperion_model::submission::{Dialect, Moment, Per, Submission};

use super::{Reply, Source, read};

/// What words change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Altered {
    /// All that needs no clock.
    pub edits: Vec<Edit>,
    /// It does not start before.
    pub begin: Option<Moment>,
    /// It is held.
    pub hold: bool,
}

/// Reads options by which a job is changed.
///
/// # Errors
/// What is wrong with them, or that one of them says what cannot be changed.
pub fn altered(dialect: Dialect, words: &[String]) -> Result<Altered, String> {
    let command: &[&str] = match dialect {
        Dialect::Slurm => &["--wrap=:"],
        Dialect::Pbs => &["--", ":"],
        Dialect::Lsf | Dialect::Sge => &[":"],
    };
    let submitted = |words: &[String]| {
        let command = command.iter().map(|word| (*word).to_owned());
        let words: Vec<String> = words.iter().cloned().chain(command).collect();
        let source = Source {
            script: None,
            words: &words,
            variables: &[],
        };
        read(dialect, &source).map_err(|refused| {
            let first = refused.mistakes.first();
            first.map_or_else(String::new, |mistake| mistake.what.clone())
        })
    };
    let (before, after) = (submitted(&[])?, submitted(words)?);
    if after.reply != Reply::default() {
        return Err("that is for jobs that are submitted".into());
    }
    let altered = difference(&before.submission, &after.submission);
    let mut made = before.submission;
    altered.edits.iter().for_each(|edit| edit.apply(&mut made));
    (made.begin, made.hold) = (altered.begin, altered.hold);
    match made == after.submission {
        true => Ok(altered),
        false => Err("that cannot be changed any more".into()),
    }
}

/// Gives the edits that make one submission of another, as far as there are such.
fn difference(one: &Submission, other: &Submission) -> Altered {
    let (first, part) = (one.parts.first(), other.parts.first());
    let ours = first.zip(part);
    let mut edits = Vec::new();
    let mut unless = |same: bool, edit: Option<Edit>| edits.extend(edit.filter(|_| !same));
    unless(one.name == other.name, other.name.clone().map(Edit::Name));
    unless(
        one.comment == other.comment,
        Some(Edit::Comment(other.comment.clone())),
    );
    unless(
        one.account == other.account,
        Some(Edit::Account(other.account.clone())),
    );
    unless(
        one.project == other.project,
        Some(Edit::Project(other.project.clone())),
    );
    unless(one.qos == other.qos, Some(Edit::Qos(other.qos.clone())));
    unless(
        one.reservation == other.reservation,
        Some(Edit::Reservation(other.reservation.clone())),
    );
    unless(
        one.time_limit == other.time_limit,
        other.time_limit.map(Edit::Limit),
    );
    unless(
        one.least_time == other.least_time,
        Some(Edit::LeastTime(other.least_time)),
    );
    unless(
        one.after == other.after,
        Some(Edit::After(other.after.clone())),
    );
    unless(
        one.requeue == other.requeue,
        other.requeue.map(Edit::Requeue),
    );
    unless(one.nice == other.nice, Some(Edit::Nice(other.nice)));
    unless(
        one.priority == other.priority,
        Some(Edit::Priority(other.priority)),
    );
    if let Some((one, other)) = ours {
        unless(
            one.queues == other.queues,
            Some(Edit::Queues(other.queues.clone())),
        );
        unless(one.nodes == other.nodes, other.nodes.map(Edit::Nodes));
        let tasks = others(&one.tasks, &other.tasks);
        unless(tasks.is_empty(), Some(Edit::Tasks(tasks)));
        let cpus = others(&one.cpus, &other.cpus);
        unless(cpus.is_empty(), Some(Edit::Cpus(cpus)));
        unless(
            (&one.memory, one.all_memory) == (&other.memory, other.all_memory),
            Some(Edit::Memory {
                amounts: other.memory.clone(),
                all: other.all_memory,
            }),
        );
        unless(
            one.features == other.features,
            Some(Edit::Features(other.features.clone())),
        );
        unless(
            one.hosts == other.hosts,
            Some(Edit::Hosts(other.hosts.clone())),
        );
        unless(
            one.without == other.without,
            Some(Edit::Without(other.without.clone())),
        );
    }
    Altered {
        edits,
        begin: other.begin,
        hold: other.hold,
    }
}

/// Gives those counts that are others than they were.
fn others(were: &BTreeMap<Per, u32>, are: &BTreeMap<Per, u32>) -> BTreeMap<Per, u32> {
    let other = are
        .iter()
        .filter(|(per, count)| were.get(per) != Some(count));
    other.map(|(per, count)| (*per, *count)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyperion_model::Bytes;
    use hyperion_model::submission::{NodeCount, TimeLimit};

    use super::*;

    fn says(dialect: Dialect, line: &str) -> Result<Altered, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        altered(dialect, &words)
    }

    #[test]
    fn words_that_submit_say_what_is_changed() {
        let limit = |minutes: u64| Edit::Limit(TimeLimit::Span(Duration::from_secs(60 * minutes)));
        let edits = says(Dialect::Slurm, "--time=5 --partition=long --nodes=2-4");
        let (least, most) = (2, 4);
        assert_eq!(
            edits.map(|its| its.edits),
            Ok(vec![
                limit(5),
                Edit::Queues(vec!["long".into()]),
                Edit::Nodes(NodeCount { least, most })
            ])
        );
        let pbs = says(Dialect::Pbs, "-l walltime=1:00:00 -N name -h").expect("read");
        assert_eq!(pbs.edits, [Edit::Name("name".into()), limit(60)]);
        assert!(pbs.hold);
        let lsf = says(Dialect::Lsf, "-W 30 -J other -q fast").expect("read");
        let queue = Edit::Queues(vec!["fast".into()]);
        assert_eq!(lsf.edits, [Edit::Name("other".into()), limit(30), queue]);
        let tasks = |per, count| Edit::Tasks([(per, count)].into());
        let memory = |per, mib: u64| Edit::Memory {
            amounts: [(per, Bytes(mib << 20))].into(),
            all: false,
        };
        let larger = says(Dialect::Slurm, "-n 4 -c 2 --mem=2G").expect("read");
        let cpus = Edit::Cpus([(Per::Task, 2)].into());
        let expected = [tasks(Per::Job, 4), cpus, memory(Per::Node, 2048)];
        assert_eq!(larger.edits, expected);
        let all = says(Dialect::Slurm, "--mem=0").expect("read");
        assert!(matches!(all.edits[..], [Edit::Memory { all: true, .. }]));
        let lsf = says(Dialect::Lsf, "-n 4").expect("read");
        assert_eq!(lsf.edits, [tasks(Per::Job, 4)]);
    }

    #[test]
    fn what_cannot_be_changed_is_refused() {
        for (dialect, line) in [
            (Dialect::Slurm, "--output=else"),
            (Dialect::Slurm, "--parsable"),
            (Dialect::Pbs, "-l select=2:ncpus=4"),
            (Dialect::Pbs, "-J 1-3"),
            (Dialect::Lsf, "-n 2,4"),
        ] {
            let refused = says(dialect, line).expect_err(line);
            assert!(refused.starts_with("that "), "{line}: {refused}");
        }
        let wrong = says(Dialect::Slurm, "--time=soon").expect_err("no time");
        assert!(wrong.contains("soon"), "{wrong}");
    }
}
