//! The reference of all options, made of the tables that the readers use.

use std::fmt::Write as _;

use hyperion_model::submission::Dialect;

use super::detect::name;
use super::grammar;
use super::options::{Does, Opt, Takes};

/// Writes the options of a dialect as a table of Markdown.
pub fn table(dialect: Dialect) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "| {} | becomes |\n|---|---|", name(dialect));
    for option in grammar(dialect).options {
        let _ = writeln!(out, "| {} | {} |", written(option), meaning(option));
    }
    out.push_str(&extra(dialect));
    out
}

/// What stands inside the values of some options.
fn extra(dialect: Dialect) -> String {
    let rows: &[(&str, &str)] = match dialect {
        Dialect::Pbs => super::pbs::RESOURCES,
        Dialect::Lsf => super::lsf::SECTIONS,
        Dialect::Sge => super::sge::RESOURCES,
        Dialect::Slurm => &[],
    };
    let mut out = String::new();
    let cell = |text: &str| text.replace('|', "\\|");
    for (word, meaning) in rows {
        let _ = writeln!(out, "| `{}` | {} |", cell(word), cell(meaning));
    }
    out
}

fn written(option: &Opt) -> String {
    let names: Vec<_> = option
        .names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    let value = match option.takes {
        Takes::Nothing => "",
        Takes::Value | Takes::Perhaps | Takes::Behind(_) => " value",
        Takes::Two => " name value",
        Takes::Attached => "[=value]",
        Takes::Letters(_) => " [letters]",
    };
    format!("{}{value}", names.join(", "))
}

fn meaning(option: &Opt) -> String {
    match option.does {
        Does::Becomes(what, _) => what.to_owned(),
        Does::Reply(what, _) => format!("for the command itself: {what}"),
        Does::Note(why) => format!("note: {why}"),
        Does::Refuse(why) => format!("error: {why}"),
    }
}
