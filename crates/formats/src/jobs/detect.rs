//! Whose directives a script has.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use hyperion_model::submission::Dialect;

use super::words::{self, Found};

/// What a script's directives say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    /// The dialect to read it in; none when it has no directives.
    pub dialect: Option<Dialect>,
    /// Why, in one sentence.
    pub why: String,
    /// How many directives it has of each dialect.
    pub counts: BTreeMap<Dialect, usize>,
}

/// Finds whose script it is: of those whose directives it has, the one with
/// the most; where two have as many, the one that comes first.
pub fn detect(script: &[u8]) -> Detection {
    let all = counted(script);
    let mut best: Option<(usize, u32, Dialect)> = None;
    for &(dialect, count, first) in &all {
        let earlier = |(most, line, _)| (count, Reverse(first)) > (most, Reverse(line));
        if best.is_none_or(earlier) {
            best = Some((count, first, dialect));
        }
    }
    let counts: BTreeMap<_, _> = all
        .iter()
        .map(|(dialect, count, _)| (*dialect, *count))
        .collect();
    let why = match (best, counts.len()) {
        (None, _) => "it has no directives".to_owned(),
        (Some((_, line, dialect)), 1) => {
            format!(
                "its directives are those of {}, from line {line} on",
                name(dialect)
            )
        }
        (Some((count, _, dialect)), _) => {
            let others: Vec<_> = counts
                .keys()
                .filter(|d| **d != dialect)
                .map(|d| name(*d))
                .collect();
            format!(
                "it has {} of {}, and others of {}",
                directives(count),
                name(dialect),
                others.join(", ")
            )
        }
    };
    Detection {
        dialect: best.map(|(_, _, dialect)| dialect),
        why,
        counts,
    }
}

/// Counts the directives of each dialect, and gives the line of the first.
pub(super) fn counted(script: &[u8]) -> Vec<(Dialect, usize, u32)> {
    let script = script.strip_prefix(b"\xef\xbb\xbf").unwrap_or(script);
    let of = |dialect: Dialect| {
        let mut lines = words::directives(dialect, script, None).filter_map(|found| match found {
            Found::Directive(directive) => directive.line(),
            Found::Ignored { .. } | Found::Unreadable { .. } => None,
        });
        let first = lines.next()?;
        Some((dialect, lines.count() + 1, first))
    };
    let all = [Dialect::Slurm, Dialect::Pbs, Dialect::Lsf, Dialect::Sge];
    all.into_iter().filter_map(of).collect()
}

/// Lines at the head of a script that other programs read: what they begin
/// with, whose they are, and whether the job is another without them.
const OTHERS: &[(&str, &str, bool)] = &[
    ("#DW", "a burst buffer", true),
    ("#BB", "a burst buffer", true),
    ("#BB_LUA", "a burst buffer", true),
    ("#COBALT", "Cobalt", false),
    ("#MSUB", "Moab", false),
    ("#OAR", "OAR", false),
    ("#PJM", "PJM", false),
    ("#flux:", "Flux", false),
    ("#FLUX:", "Flux", false),
];

/// Gives the first line of each of those, and what of [`OTHERS`] it is.
pub(super) fn others(script: &[u8]) -> Vec<(u32, &'static str, bool)> {
    let mut found: Vec<(u32, &str, bool)> = Vec::new();
    let lines = (1..).zip(script.split(|&b| b == b'\n'));
    let head = lines.take_while(|(_, line)| line.trim_ascii().first().is_none_or(|&b| b == b'#'));
    for (number, line) in head {
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let Some(first) = words.next() else { continue };
        let own = OTHERS
            .iter()
            .find(|(begins, ..)| begins.as_bytes() == first);
        if let Some((_, name, changes)) = own
            && words.next().is_some()
            && !found.iter().any(|(_, known, _)| known == name)
        {
            found.push((number, name, *changes));
        }
    }
    found
}

fn directives(count: usize) -> String {
    match count {
        1 => "1 directive".to_owned(),
        _ => format!("{count} directives"),
    }
}

/// What people call a dialect.
pub(super) fn name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Slurm => "Slurm",
        Dialect::Pbs => "PBS",
        Dialect::Lsf => "LSF",
        Dialect::Sge => "Grid Engine",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_of_those_whose_directives_it_has() {
        let of = |script: &str| detect(script.as_bytes()).dialect;
        assert_eq!(of("#!/bin/sh\n#SBATCH -n 4\ntrue\n"), Some(Dialect::Slurm));
        assert_eq!(of("#!/bin/sh\n#PBS -l nodes=1\ntrue\n"), Some(Dialect::Pbs));
        assert_eq!(of("#!/bin/sh\ntrue\n#BSUB -n 4\n"), Some(Dialect::Lsf));
        assert_eq!(of("#!/bin/sh\n#$ -cwd\n"), Some(Dialect::Sge));
        assert_eq!(
            of("#!/bin/sh\n#$HOME/bin/x\n##PBS -l a\n#SBATCH_X\n"),
            Some(Dialect::Slurm)
        );
        assert_eq!(of("#!/bin/sh\n# SBATCH -n 4\ntrue\n#SBATCH -n 4\n"), None);
    }

    #[test]
    fn of_several_the_one_with_the_most_directives_is_taken() {
        let script = b"#!/bin/sh\n#PBS -N x\n#SBATCH -n 4\n#SBATCH -t 5\ntrue\n";
        let found = detect(script);
        assert_eq!(found.dialect, Some(Dialect::Slurm));
        assert_eq!(found.why, "it has 2 directives of Slurm, and others of PBS");
        let found = detect(b"#PBS -N x\n#SBATCH -n 4\n");
        assert_eq!(found.dialect, Some(Dialect::Pbs));
    }
}
