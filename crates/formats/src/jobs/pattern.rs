//! The names of a job's files: what in them stands for something else.

use hyperion_model::submission::{Dialect, Joined, Submission};

/// What is known of a job, or of one task of an array, when its files are opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// Its number.
    pub job: u64,
    /// The number of the array that it is of, and its index there.
    pub array: Option<(u64, u32)>,
    /// What it is called.
    pub name: &'a str,
    /// Whose it is.
    pub user: &'a str,
    /// The home of its user.
    pub home: &'a str,
    /// The first of its nodes.
    pub host: &'a str,
    /// The number of a node in it.
    pub node: u32,
    /// The rank of a process in it.
    pub rank: u32,
    /// The number of a step, where one writes.
    pub step: Option<u32>,
}

/// Where a job's streams go, written out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What it reads.
    pub input: Option<String>,
    /// Its output.
    pub output: String,
    /// Its errors; into the file of the output when absent.
    pub error: Option<String>,
}

/// Slurm writes no more leading zeros.
const WIDEST: usize = 10;

/// Writes a name out. What stands for nothing stays as it is.
pub fn expand(dialect: Dialect, pattern: &str, facts: &Facts<'_>) -> String {
    match dialect {
        Dialect::Slurm => percent(pattern, |letter, width| slurm(letter, width, facts), true),
        Dialect::Lsf => percent(pattern, |letter, _| lsf(letter, facts), false),
        Dialect::Pbs => dollars(&array_index(pattern, facts), |name| pbs(name, facts)),
        Dialect::Sge => dollars(pattern, |name| sge(name, facts)),
    }
}

/// Gives all files of a job, with the usual names of its batch system where
/// none were said. A name that ends in `/` is a folder for the usual name.
pub fn paths(job: &Submission, facts: &Facts<'_>) -> Paths {
    let dialect = job.dialect;
    let written = |path: &Option<String>, letter: char| match path {
        Some(path) => {
            let path = expand(dialect, path, facts);
            match path.ends_with('/') {
                true => path + &usual(dialect, letter, facts),
                false => path,
            }
        }
        None => usual(dialect, letter, facts),
    };
    let files = &job.files;
    // Slurm and LSF put errors beside the output unless a file is named for them.
    let together = matches!(dialect, Dialect::Slurm | Dialect::Lsf) && files.error.path.is_none();
    let (output, error) = match files.joined {
        Some(Joined::Output) => (written(&files.output.path, 'o'), None),
        Some(Joined::Error) => (written(&files.error.path, 'e'), None),
        None if together => (written(&files.output.path, 'o'), None),
        None => (
            written(&files.output.path, 'o'),
            Some(written(&files.error.path, 'e')),
        ),
    };
    Paths {
        input: files
            .input
            .as_ref()
            .map(|path| expand(dialect, path, facts)),
        error: error.filter(|error| *error != output),
        output,
    }
}

/// The name of a file that nobody named.
fn usual(dialect: Dialect, letter: char, facts: &Facts<'_>) -> String {
    let Facts { job, name, .. } = facts;
    match (dialect, facts.array) {
        (Dialect::Slurm, Some((array, index))) => format!("slurm-{array}_{index}.out"),
        (Dialect::Slurm, None) => format!("slurm-{job}.out"),
        (Dialect::Pbs, Some((array, index))) => format!("{name}.{letter}{array}.{index}"),
        (Dialect::Sge, Some((array, index))) => format!("{name}.{letter}{array}.{index}"),
        (Dialect::Pbs | Dialect::Sge, None) => format!("{name}.{letter}{job}"),
        // LSF would send a mail.
        (Dialect::Lsf, Some((array, index))) => format!("lsf-{array}_{index}.out"),
        (Dialect::Lsf, None) => format!("lsf-{job}.out"),
    }
}

/// Replaces `%X` and `%4X`; a backslash in front of all keeps everything.
fn percent(
    pattern: &str,
    value: impl Fn(char, Option<usize>) -> Option<String>,
    escapes: bool,
) -> String {
    if let Some(plain) = pattern.strip_prefix('\\').filter(|_| escapes) {
        return plain.to_owned();
    }
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        let digits = behind.len()
            - behind
                .trim_start_matches(|c: char| c.is_ascii_digit())
                .len();
        let width = behind[..digits]
            .parse::<usize>()
            .ok()
            .map(|width| width.min(WIDEST));
        let letter = behind[digits..].chars().next();
        match letter.and_then(|letter| Some((letter, value(letter, width)?))) {
            Some((letter, text)) => {
                out.push_str(&text);
                rest = &behind[digits + letter.len_utf8()..];
            }
            None => {
                out.push('%');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

fn slurm(letter: char, width: Option<usize>, facts: &Facts<'_>) -> Option<String> {
    let width = width.unwrap_or(0);
    let number = |number: u64| Some(format!("{number:0width$}"));
    match letter {
        '%' => Some("%".to_owned()),
        'A' => number(facts.array.map_or(facts.job, |(array, _)| array)),
        // What Slurm puts there outside of an array: its "no value".
        'a' => number(
            facts
                .array
                .map_or(4_294_967_294, |(_, index)| u64::from(index)),
        ),
        'J' => Some(match facts.step {
            Some(step) => format!("{}.{step}", facts.job),
            None => facts.job.to_string(),
        }),
        'j' => number(facts.job),
        'N' => Some(facts.host.split('.').next().unwrap_or_default().to_owned()),
        'n' => number(u64::from(facts.node)),
        's' => match facts.step {
            Some(step) => number(u64::from(step)),
            None => Some("batch".to_owned()),
        },
        't' => number(u64::from(facts.rank)),
        'u' => Some(facts.user.to_owned()),
        'x' => Some(facts.name.to_owned()),
        _ => None,
    }
}

fn lsf(letter: char, facts: &Facts<'_>) -> Option<String> {
    match letter {
        'J' => Some(
            facts
                .array
                .map_or(facts.job, |(array, _)| array)
                .to_string(),
        ),
        'I' => Some(facts.array.map_or(0, |(_, index)| index).to_string()),
        _ => None,
    }
}

/// Replaces PBS's own mark for the index of an array.
fn array_index(pattern: &str, facts: &Facts<'_>) -> String {
    match facts.array {
        Some((_, index)) => pattern.replace("^array_index^", &index.to_string()),
        None => pattern.to_owned(),
    }
}

/// Replaces `$NAME` and `${NAME}`.
fn dollars(pattern: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once('$') {
        out.push_str(before);
        let braced = behind
            .strip_prefix('{')
            .and_then(|inside| inside.split_once('}'));
        let (name, after) = braced.unwrap_or_else(|| {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = behind.find(|c: char| !is_name(c)).unwrap_or(behind.len());
            behind.split_at(end)
        });
        match value(name) {
            Some(text) => {
                out.push_str(&text);
                rest = after;
            }
            None => {
                out.push('$');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

fn pbs(name: &str, facts: &Facts<'_>) -> Option<String> {
    Some(match name {
        "PBS_JOBID" => match facts.array {
            Some((array, index)) => format!("{array}[{index}]"),
            None => facts.job.to_string(),
        },
        "PBS_JOBNAME" => facts.name.to_owned(),
        "PBS_ARRAYID" | "PBS_ARRAY_INDEX" => facts.array?.1.to_string(),
        "HOME" | "PBS_O_HOME" => facts.home.to_owned(),
        "USER" | "PBS_O_LOGNAME" => facts.user.to_owned(),
        _ => return None,
    })
}

fn sge(name: &str, facts: &Facts<'_>) -> Option<String> {
    Some(match name {
        "HOME" => facts.home.to_owned(),
        "USER" => facts.user.to_owned(),
        "JOB_ID" => facts
            .array
            .map_or(facts.job, |(array, _)| array)
            .to_string(),
        "JOB_NAME" => facts.name.to_owned(),
        "HOSTNAME" => facts.host.to_owned(),
        "TASK_ID" | "SGE_TASK_ID" => match facts.array {
            Some((_, index)) => index.to_string(),
            None => "undefined".to_owned(),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyperion_model::submission::Command;
    use proptest::prelude::*;

    const FACTS: Facts<'static> = Facts {
        job: 131,
        array: Some((128, 3)),
        name: "heat",
        user: "ann",
        home: "/home/ann",
        host: "n1.example.org",
        node: 0,
        rank: 2,
        step: None,
    };

    #[test]
    fn slurms_names_are_written_out() {
        let write = |pattern| expand(Dialect::Slurm, pattern, &FACTS);
        assert_eq!(write("logs/%x-%A_%a-%N.out"), "logs/heat-128_3-n1.out");
        assert_eq!(write("job%4j-%2t.out"), "job0131-02.out");
        assert_eq!(write("%20j"), "0000000131");
        assert_eq!(write("100%%_%u_%q%"), "100%_ann_%q%");
        assert_eq!(write("\\%j"), "%j");
        assert_eq!(write("%5x"), "heat");
    }

    #[test]
    fn the_others_have_their_own() {
        assert_eq!(expand(Dialect::Lsf, "o.%J.%I", &FACTS), "o.128.3");
        assert_eq!(
            expand(
                Dialect::Sge,
                "$HOME/$JOB_NAME.${JOB_ID}.$TASK_ID.$X",
                &FACTS
            ),
            "/home/ann/heat.128.3.$X"
        );
        assert_eq!(
            expand(Dialect::Pbs, "out.^array_index^.$PBS_JOBID", &FACTS),
            "out.3.128[3]"
        );
    }

    #[test]
    fn files_that_nobody_named_have_the_usual_names() {
        let alone = Facts {
            array: None,
            ..FACTS
        };
        let job = |dialect| Submission::new(dialect, Command::Program(Vec::new()));
        let name = |dialect| {
            let Paths { output, error, .. } = paths(&job(dialect), &alone);
            (output, error)
        };
        assert_eq!(name(Dialect::Slurm), ("slurm-131.out".into(), None));
        assert_eq!(
            name(Dialect::Pbs),
            ("heat.o131".into(), Some("heat.e131".into()))
        );
        assert_eq!(
            name(Dialect::Sge),
            ("heat.o131".into(), Some("heat.e131".into()))
        );
        assert_eq!(paths(&job(Dialect::Sge), &FACTS).output, "heat.o128.3");
        let mut joined = job(Dialect::Pbs);
        joined.files.joined = Some(Joined::Error);
        joined.files.output.path = Some("x".into());
        assert_eq!(paths(&joined, &alone).output, "heat.e131");
        let mut folder = job(Dialect::Pbs);
        folder.files.output.path = Some("logs/".into());
        assert_eq!(paths(&folder, &alone).output, "logs/heat.o131");
    }

    proptest! {
        #[test]
        fn no_name_makes_the_writer_panic(text in "\\PC{0,40}", near in "[%0-9a-zA-Z\\\\${}_^]{0,30}") {
            for dialect in [Dialect::Slurm, Dialect::Pbs, Dialect::Lsf, Dialect::Sge] {
                let written = expand(dialect, &text, &FACTS);
                prop_assert!(written.len() < 4096);
                let _ = expand(dialect, &near, &FACTS);
            }
        }
    }
}
