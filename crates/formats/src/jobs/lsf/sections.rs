//! The strings of `-R`: their parts, and the sections of each.

use hyperion_model::Bytes;
use hyperion_model::submission::{NodeCount, Part, Per};

use crate::jobs::amounts::{count, size, split};
use crate::jobs::options::Wrong;
use crate::jobs::tell::shown;
use crate::jobs::values::*;

/// What stands in `-R` and `-gpu`, for the reference.
pub(in crate::jobs) const SECTIONS: &[(&str, &str)] = &[
    (
        "-R \"select[…]\"",
        "features of nodes, as written; `type==any` and `type==local` are nothing; note: `mem>` and other loads",
    ),
    ("-R \"order[…]\", \"same[…]\", \"cu[…]\"", "note"),
    (
        "-R \"rusage[mem=N]\"",
        "memory of each node (`/host`, or nothing) or task (`/task`); a number alone counts MiB; tmp is room for temporary files; duration=, decay= and swp= are notes",
    ),
    ("-R \"rusage[ngpus_physical=N]\"", "GPUs of each node"),
    (
        "-R \"rusage[NAME=N]\"",
        "any other counted resource, in all",
    ),
    ("-R \"span[hosts=1]\"", "one node"),
    ("-R \"span[ptile=N]\"", "tasks of each node"),
    ("-R \"span[hosts=-1]\"", "nothing"),
    ("-R \"affinity[core(N)…]\"", "processors for each task"),
    ("-R \"N*{…}+M*{…}\"", "parts of N and M tasks"),
    ("-R \"{…} || {…}\"", "error: alternatives"),
    ("-gpu \"num=N[/task|/host]\"", "GPUs of each node or task"),
    ("-gpu \"gmodel=, gvendor=\"", "the type of GPU"),
    (
        "-gpu \"j_exclusive=yes\"",
        "nothing: a GPU is given to one job",
    ),
    (
        "-gpu \"mode=, mps=, aff=, block=, gpack=, gtile=, glink=, gmem=, mig=\"",
        "note; mps=yes and mig= are errors",
    ),
];

/// Splits `N*{…}+M*{…}`; a plain string is one part without a count.
pub(in crate::jobs) fn compound(text: &str) -> Result<Vec<(&str, Option<u32>)>, Wrong> {
    let trimmed = text.trim();
    if !trimmed.contains('{') {
        return Ok(vec![(trimmed, None)]);
    }
    let alternatives = |behind: &str| {
        let behind = behind.trim_start();
        behind.starts_with("||") || behind.starts_with('@')
    };
    let mut closed = trimmed.match_indices('}');
    if closed.any(|(at, _)| alternatives(&trimmed[at + 1..])) {
        return Err(Wrong::new("there is no choice between requirements").hint("keep one of them"));
    }
    let mut parts = Vec::new();
    for term in split(trimmed, '+') {
        let term = term.trim();
        let (number, braces) = term.split_once('*').unwrap_or(("", term));
        let number = match number.trim() {
            "" => 1,
            number => count(number, 1).map_err(|wrong| wrong.at(text, number))?,
        };
        let inside = braces
            .trim()
            .strip_prefix('{')
            .and_then(|inside| inside.strip_suffix('}'));
        let inside = inside
            .ok_or_else(|| Wrong::new(format!("{} is not N*{{…}}", shown(term))).at(text, term))?;
        parts.push((inside, Some(number)));
    }
    Ok(parts)
}

/// Reads the sections of one string: `select[…] rusage[…] span[…]`.
pub(in crate::jobs) fn sections(text: &str, part: &mut Part, notes: &mut Vec<String>) -> Read {
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        // A blank may stand between the name of a section and its bracket.
        let bracket = match NAMES.contains(&name) {
            true => behind.trim_start(),
            false => behind,
        };
        let Some(inside) = bracket.strip_prefix('[').filter(|_| !name.is_empty()) else {
            // What stands first without a section is `select`.
            if rest.len() < text.trim().len() {
                let wrong = Wrong::new("a section is expected here").at(text, rest);
                return Err(wrong.hint("write && and || inside of select[]"));
            }
            let end = first_section(rest);
            selection(&rest[..end], part, notes)?;
            if end == rest.len() {
                return Ok(());
            }
            rest = rest[end..].trim_start();
            continue;
        };
        let mut deep = 1;
        let close = inside.char_indices().find(|(_, character)| {
            deep += match character {
                '[' => 1,
                ']' => -1,
                _ => 0,
            };
            deep == 0
        });
        let Some((at, _)) = close else {
            return Err(Wrong::new("`]` is missing").at(text, rest));
        };
        let (inside, after) = (&inside[..at], &inside[at + 1..]);
        let place = |wrong: Wrong| match wrong.part {
            Some((from, to)) => wrong.clone().at(text, &inside[from..to]),
            None => wrong.at(text, inside),
        };
        match name {
            "select" => selection(inside, part, notes).map_err(place)?,
            "rusage" => usage(inside, part, notes).map_err(place)?,
            "span" => span(inside, part).map_err(place)?,
            "affinity" => affinity(inside, part, notes).map_err(place)?,
            "order" | "same" | "cu" | "stretch" => {
                notes.push(format!("{name}[]: it means nothing here"))
            }
            _ => {
                let wrong =
                    Wrong::new(format!("there is no section {}", shown(name))).at(text, name);
                return Err(wrong.hint("write select[], rusage[], span[] or affinity[]"));
            }
        }
        rest = after.trim_start();
    }
    Ok(())
}

const NAMES: [&str; 7] = [
    "select", "order", "rusage", "span", "same", "cu", "affinity",
];

/// Finds where the first section begins that stands behind something else.
fn first_section(text: &str) -> usize {
    let begins = |name: &&str| {
        let mut all = text.match_indices(*name).map(|(at, _)| at);
        all.find(|at| {
            let behind = text[at + name.len()..].trim_start();
            text[..*at].ends_with(char::is_whitespace) && behind.starts_with('[')
        })
    };
    let first = NAMES.iter().filter_map(begins).min();
    first.unwrap_or(text.len())
}

/// What hosts tell of their load. It changes, and is no property of a host.
const LOADS: [&str; 12] = [
    "mem", "swp", "tmp", "ut", "r15s", "r1m", "r15m", "pg", "ls", "it", "io", "status",
];

fn selection(text: &str, part: &mut Part, notes: &mut Vec<String>) -> Read {
    for term in split(text, '&') {
        let term = term.trim();
        let plain: String = term.chars().filter(|c| !c.is_whitespace()).collect();
        match plain.trim_matches(['(', ')']) {
            "" | "type==any" | "type==local" | "defined(any)" => {}
            plain if LOADS.contains(&plain.split(['<', '>', '=', '!']).next().unwrap_or(plain)) => {
                notes.push(format!(
                    "select[{term}]: the load of hosts is not looked at"
                ));
            }
            _ => feature(part, term)?,
        }
    }
    Ok(())
}

fn usage(text: &str, part: &mut Part, notes: &mut Vec<String>) -> Read {
    if text.contains("||") {
        return Err(Wrong::new("there is no choice between requirements").hint("keep one of them"));
    }
    let all = text.split([',', ':']).map(str::trim);
    for (at, field) in all.filter(|field| !field.is_empty()).enumerate() {
        if at > 200 {
            return Err(Wrong::new("more than 200 resources"));
        }
        let (name, value) = field
            .split_once('=')
            .ok_or_else(|| Wrong::new(format!("{} is not NAME=N", shown(field))).at(text, field))?;
        let (name, value) = (name.trim(), value.trim());
        let (value, per) = match value.split_once('/') {
            Some((value, "task")) => (value, Some(Per::Task)),
            Some((value, "host")) => (value, Some(Per::Node)),
            Some((value, "job")) => (value, Some(Per::Job)),
            Some(_) => {
                return Err(Wrong::new("`/task`, `/host` or `/job` is expected").at(text, field));
            }
            None => (value, None),
        };
        match name {
            "mem" => {
                let bytes = amount(value).map_err(|wrong| wrong.at(text, value))?;
                part.memory.insert(per.unwrap_or(Per::Node), bytes);
            }
            "tmp" => part.scratch = Some(amount(value).map_err(|wrong| wrong.at(text, value))?),
            "swp" | "decay" | "duration" => {
                notes.push(format!("rusage[{name}=]: it means nothing here"))
            }
            "ngpus_physical" | "ngpus" | "ngpus_excl_p" | "ngpus_shared" => {
                let gpus = u64::from(count(value, 0).map_err(|wrong| wrong.at(text, value))?);
                set_resource(part, device("gpu", None, gpus, per.unwrap_or(Per::Node)));
            }
            _ => {
                let number = u64::from(count(value, 0).map_err(|wrong| wrong.at(text, value))?);
                set_resource(part, device(name, None, number, per.unwrap_or(Per::Job)));
            }
        }
    }
    Ok(())
}

/// Reads an amount of memory; a number alone counts MiB, and may be broken.
fn amount(text: &str) -> Result<Bytes, Wrong> {
    let Some((whole, behind)) = text.split_once('.') else {
        return size(text, 1 << 20);
    };
    let end = behind.find(|c: char| !c.is_ascii_digit());
    let (digits, unit) = behind.split_at(end.unwrap_or(behind.len()));
    // As many digits as a terabyte has bytes say enough.
    let scale = 10u64.checked_pow(digits.len().min(12) as u32).unwrap_or(1);
    let part: u64 = digits[..digits.len().min(12)].parse().unwrap_or(0);
    let Bytes(whole) = size(&format!("{whole}{unit}"), 1 << 20)?;
    let Bytes(one) = size(&format!("1{unit}"), 1 << 20)?;
    let part = u128::from(one) * u128::from(part) / u128::from(scale);
    Ok(Bytes(whole + u64::try_from(part).unwrap_or(one)))
}

fn span(text: &str, part: &mut Part) -> Read {
    for field in split(text, ',')
        .into_iter()
        .map(str::trim)
        .filter(|field| !field.is_empty())
    {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        match (name.trim(), value.trim()) {
            ("hosts", "-1") => {}
            ("hosts", "1") => part.nodes = Some(NodeCount { least: 1, most: 1 }),
            ("ptile", "'!'" | "!") => {}
            ("ptile", value) if value.contains([',', ':']) => {
                let wrong = Wrong::new("the tasks of a node do not depend on its model");
                return Err(wrong.at(text, value).hint("write ptile=N"));
            }
            ("ptile", value) => {
                let tasks = count(value, 1).map_err(|wrong| wrong.at(text, value))?;
                part.tasks.insert(Per::Node, tasks);
            }
            ("block" | "stride", _) => {}
            _ => {
                let wrong = Wrong::new(format!("{} is not a way to span hosts", shown(field)))
                    .at(text, field);
                return Err(wrong.hint("write hosts=1 or ptile=N"));
            }
        }
    }
    Ok(())
}

fn affinity(text: &str, part: &mut Part, notes: &mut Vec<String>) -> Read {
    let first = split(text, ':')[0].trim();
    let (unit, rest) = match first.split_once(['(', '*']) {
        Some((unit, _)) => (unit, &first[unit.len()..]),
        None => (first, ""),
    };
    // `core(2)*3` is three times two, and `core*4` is four.
    let digits = |text: &str| -> String {
        let behind = text.chars().skip(1);
        behind.take_while(char::is_ascii_digit).collect()
    };
    let times = match rest.starts_with('(') {
        true => rest.find(")*").map_or("", |at| &rest[at + 1..]),
        false => "",
    };
    let mut number = 1;
    for text in [digits(rest), digits(times)] {
        if !text.is_empty() {
            number = count(&text, 1)?.saturating_mul(number);
        }
    }
    match unit.trim() {
        "core" | "thread" | "cpu" => drop(part.cpus.insert(Per::Task, number)),
        "numa" | "socket" | "mcm" => {
            notes.push("affinity[]: tasks are not bound to whole sockets".to_owned())
        }
        other => {
            return Err(Wrong::new(format!(
                "{} is not core, thread, socket or numa",
                shown(other)
            )));
        }
    }
    if text.contains([':', ',']) {
        notes.push("affinity[]: how tasks are bound is left to the launcher".to_owned());
    }
    Ok(())
}
