//! The one place where errors become a class, an exit code and a hint.

mod image;

use std::process::ExitCode;

use anyhow::Error;
use hyperion_image::ReferenceError;
use hyperion_image::StoreError;
use hyperion_image::registry::RegistryError;
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
        if let Some(told) = cause.downcast_ref().and_then(of_registry) {
            return told;
        }
        if let Some(reference) = cause.downcast_ref::<ReferenceError>() {
            return Told {
                class: Class::User,
                hint: Some(reference.hint()),
            };
        }
        if let Some(told) = image::classify(cause) {
            return told;
        }
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

/// What to do about a registry; nothing where the cause says more.
fn of_registry(error: &RegistryError) -> Option<Told> {
    use RegistryError as E;
    const AGAIN: &str = "try again: what has come is kept and resumed";
    const WRONG: &str = "the registry, or a proxy on the way, sends wrong content: ask its owner, or another mirror";
    let settings = |host: &str| format!("under [registries.\"{host}\"] in config.toml");
    let (class, hint) = match error {
        E::UnknownHost { host, .. } => (
            Class::NotFound,
            format!("check the spelling of {host}, and the name servers in /etc/resolv.conf"),
        ),
        E::Refused { host, .. } => (
            Class::Unavailable,
            format!("check that the registry runs, and its port: {host} is HOST[:PORT]"),
        ),
        E::PlainHttp { host, .. } => (
            Class::User,
            format!(
                "where the network can be trusted add --insecure, or insecure = true {}",
                settings(host)
            ),
        ),
        E::Certificate { host, .. } => (
            Class::User,
            format!(
                "name the certificate to trust: ca = \"FILE\" {}; or add --insecure",
                settings(host)
            ),
        ),
        E::LoginNeeded { host, .. } => (Class::Denied, format!("hyperion login {host}")),
        E::LoginRefused { host, .. } => {
            (Class::Denied, format!("log in anew: hyperion login {host}"))
        }
        E::Forbidden { host, .. } => (
            Class::Denied,
            format!(
                "ask the repository's owner for the right, or be someone else: hyperion login {host}"
            ),
        ),
        E::UnsafeRealm { .. } => (
            Class::User,
            "where the network can be trusted add --insecure".into(),
        ),
        E::NoImage { host, .. } => (
            Class::NotFound,
            format!("check path and tag; what is private needs: hyperion login {host}"),
        ),
        E::NoPlatform { .. } => (
            Class::NotFound,
            "choose one of these with --platform".into(),
        ),
        E::WrongPlatform { actual, .. } => (Class::NotFound, format!("--platform {actual}")),
        E::SamePlatform(_) => (
            Class::User,
            "an index has one image for each platform".into(),
        ),
        E::Network { .. } | E::Silent { .. } => (Class::Unavailable, AGAIN.into()),
        E::Truncated { .. }
        | E::TooLong { .. }
        | E::TooLarge { .. }
        | E::WrongManifest { .. }
        | E::NoBlob { .. }
        | E::Protocol { .. }
        | E::BadManifest { .. }
        | E::Store(StoreError::WrongDigest { .. }) => (Class::Unavailable, WRONG.into()),
        E::RateLimited { host, .. } => (
            Class::Unavailable,
            format!(
                "wait, or log in (hyperion login {host}), or name a mirror {}",
                settings(host)
            ),
        ),
        E::Status { status: 413, .. } => (
            Class::Unavailable,
            "a proxy before the registry limits what can be sent at once: its owner can raise that"
                .into(),
        ),
        E::Status { .. } => (
            Class::Unavailable,
            "the registry's owner finds more in its log".into(),
        ),
        E::NotAnImage { .. } => {
            return Some(Told {
                class: Class::Unsupported,
                hint: None,
            });
        }
        E::NoSpace { .. } => (
            Class::Unavailable,
            "`hyperion image prune` removes what nothing uses; --root chooses another disk".into(),
        ),
        _ => return None,
    };
    Some(Told {
        class,
        hint: Some(hint),
    })
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
