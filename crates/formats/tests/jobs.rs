//! Job scripts as people write them, each with what is read in it beside it.
//!
//! The scripts were written for this project after the manner of public ones.
//! `HYPERION_UPDATE=1` writes the files beside them anew.

use std::fmt::Write as _;
use std::path::Path;

use hyperion_formats::jobs::{Kind, Source, detect, read, table, tell};
use hyperion_model::submission::{Command, Dialect, Submission};
use serde_json::Value;

/// Writes a request as one line for each thing that was said.
fn lines(submission: &Submission) -> String {
    let mut submission = submission.clone();
    if let Command::Script { text, .. } = &mut submission.command {
        text.clear();
    }
    let mut value = serde_json::to_value(&submission).expect("a request is JSON");
    if let Some(all) = value.as_object_mut() {
        all.retain(|name, _| name != "fence" && name != "origin");
    }
    let mut out = String::new();
    write(&mut out, String::new(), &value);
    out
}

fn write(out: &mut String, path: String, value: &Value) {
    let under = |name: &str| match path.is_empty() {
        true => name.to_owned(),
        false => format!("{path}.{name}"),
    };
    match value {
        Value::Null | Value::Bool(false) => {}
        Value::Object(map) if map.contains_key("secs") && map.contains_key("nanos") => {
            let _ = writeln!(out, "{path} = {} s", map["secs"]);
        }
        Value::Object(map) => {
            for (name, value) in map {
                write(out, under(name), value);
            }
        }
        Value::Array(list) if list.iter().all(|one| !one.is_object()) => {
            if !list.is_empty() {
                let _ = writeln!(out, "{path} = {value}");
            }
        }
        Value::Array(list) => {
            for (at, value) in list.iter().enumerate() {
                write(out, format!("{path}[{at}]"), value);
            }
        }
        Value::String(text) if text.is_empty() => {}
        // What nobody said.
        Value::String(text)
            if ["as-usual", "free", "truncate", "submission"].contains(&text.as_str()) => {}
        Value::Number(number) if path == "nice" && number.as_i64() == Some(0) => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = writeln!(out, "{path} = {value}");
        }
    }
}

/// All that is said of a script.
fn told(dialect: Dialect, name: &str, script: &[u8]) -> String {
    let mut out = format!("{}\n\n", detect(script).why);
    let source = Source {
        script: Some(script),
        ..Source::default()
    };
    let notes = match read(dialect, &source) {
        Ok(parsed) => {
            let plain = Submission::new(dialect, parsed.submission.command.clone());
            // Those are no words of a script: whoever submits it says them.
            assert_eq!(parsed.submission.fence, plain.fence);
            assert_eq!(parsed.submission.origin, plain.origin);
            out += &lines(&parsed.submission);
            parsed.notes
        }
        Err(refused) => {
            let _ = writeln!(out, "{refused}");
            out += &tell(&refused.mistakes, Kind::Error, name, script, &[]);
            refused.notes
        }
    };
    if !notes.is_empty() {
        out.push('\n');
        out += &tell(&notes, Kind::Note, name, script, &[]);
    }
    out
}

const DIALECTS: [(Dialect, &str); 4] = [
    (Dialect::Slurm, "slurm"),
    (Dialect::Pbs, "pbs"),
    (Dialect::Lsf, "lsf"),
    (Dialect::Sge, "sge"),
];

fn update() -> bool {
    std::env::var_os("HYPERION_UPDATE").is_some()
}

fn check(file: &Path, text: &str) {
    if update() {
        std::fs::write(file, text).expect("it is written");
    }
    let known = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        known == text,
        "{} is not what is read now (HYPERION_UPDATE=1 writes it anew):\n{text}",
        file.display()
    );
}

#[test]
fn every_script_of_the_corpus_is_read_as_it_is_written_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/jobs");
    for (dialect, folder) in DIALECTS {
        let mut scripts: Vec<_> = std::fs::read_dir(root.join(folder))
            .expect("the corpus")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|end| end == "sh"))
            .collect();
        scripts.sort();
        assert!(scripts.len() >= 100, "{folder} has {}", scripts.len());
        for script in scripts {
            let name = script.file_name().expect("a name").to_string_lossy();
            let text = std::fs::read(&script).expect("a script");
            check(&script.with_extension("txt"), &told(dialect, &name, &text));
        }
    }
}

#[test]
fn every_script_survives_a_record() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/jobs");
    for (dialect, folder) in DIALECTS {
        for entry in std::fs::read_dir(root.join(folder)).expect("the corpus") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|end| end != "sh") {
                continue;
            }
            let text = std::fs::read(&path).expect("a script");
            let source = Source {
                script: Some(&text),
                ..Source::default()
            };
            let Ok(parsed) = read(dialect, &source) else {
                continue;
            };
            let record = serde_json::to_string(&parsed.submission).expect("JSON");
            let back: Submission = serde_json::from_str(&record).expect("a record");
            assert_eq!(back, parsed.submission, "{}", path.display());
        }
    }
}

#[test]
fn the_reference_says_what_the_readers_do() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/job-scripts.md");
    let known = std::fs::read_to_string(&file).expect("the reference");
    let mut text = known.clone();
    for (dialect, name) in DIALECTS {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end {name} -->"));
        let from = text.find(&begin).expect("a mark") + begin.len();
        let to = text.find(&end).expect("a mark");
        text.replace_range(from..to, &format!("\n{}\n", table(dialect)));
    }
    check(&file, &text);
}
