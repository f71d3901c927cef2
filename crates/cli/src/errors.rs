//! The one place where errors become a class, an exit code and a hint.

use std::process::ExitCode;

use anyhow::Error;
use hyperion_model::Class;

use crate::args::OutputFormat;

/// What is told of an error besides its words.
struct Told {
    class: Class,
    hint: Option<String>,
}

/// Finds the class and the hint of the first known error in the chain.
fn classify(error: &Error) -> Told {
    for cause in error.chain() {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return Told {
                class: class_of_io(io),
                hint: hint_of_io(io),
            };
        }
    }
    Told {
        class: Class::User,
        hint: None,
    }
}

fn class_of_io(error: &std::io::Error) -> Class {
    use std::io::ErrorKind as K;
    match error.kind() {
        K::NotFound => Class::NotFound,
        K::PermissionDenied => Class::Denied,
        K::AlreadyExists => Class::Conflict,
        K::Unsupported => Class::Unsupported,
        _ => Class::Unavailable,
    }
}

fn hint_of_io(error: &std::io::Error) -> Option<String> {
    match error.kind() {
        std::io::ErrorKind::StorageFull => {
            Some("the disk is full: `hyperion image prune` removes what nothing uses".to_owned())
        }
        _ => None,
    }
}

/// Prints an error with its causes and a hint, and gives the exit code.
pub(crate) fn report(error: &Error, output: OutputFormat) -> ExitCode {
    let told = classify(error);
    let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
    if output == OutputFormat::Json {
        let value = serde_json::json!({
            "error": error.to_string(), "causes": causes, "class": told.class, "hint": told.hint,
        });
        eprintln!("{value}");
    } else {
        eprintln!("error: {error}");
        for cause in causes {
            eprintln!("cause: {cause}");
        }
        if let Some(hint) = told.hint {
            eprintln!("hint: {hint}");
        }
    }
    ExitCode::from(told.class.exit_code())
}
