//! The one place where errors become a class, an exit code and a hint.

mod image;
mod queue;
mod vm;

use std::fmt;
use std::path::Path;

use anyhow::Error;
use clap::error::{ContextKind, ContextValue};
use hyperion_image::registry::{AuthError, RegistryError};
use hyperion_image::{ReferenceError, StoreError};
use hyperion_model::mount::MountError;
use hyperion_model::resources::ResourceError;
use hyperion_model::{Class, JobId, Mount, Rlimit};
use hyperion_node::JobError;
use hyperion_sys::entry::ExitCode;
use hyperion_sys::signals;
use hyperion_sys::userns::UsernsError;

use crate::args::OutputFormat;
use crate::commands::NoSignal;
use crate::output;

/// What is told of an error besides its words.
struct Told {
    class: Class,
    hint: Option<String>,
}

/// An error of the command line itself, with what to do about it.
#[derive(Debug)]
struct Advised {
    what: String,
    class: Class,
    hint: String,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Advised {}

/// Makes an error of the command line itself.
pub(crate) fn advised(class: Class, what: impl ToString, hint: impl Into<String>) -> Error {
    Error::new(Advised {
        what: what.to_string(),
        class,
        hint: hint.into(),
    })
}

/// Says what is wrong with a file in TOML, and which word was likely meant.
pub(crate) fn unusable(file: &Path, error: &toml::de::Error, otherwise: &str) -> Error {
    let message = error.message();
    // serde: unknown field `raot`, expected `root` or `registries`
    let mut quoted = message.split('`').skip(1).step_by(2);
    let meant = match (message.starts_with("unknown "), quoted.next()) {
        (true, Some(word)) => likely(word, quoted),
        _ => None,
    };
    let hint = match meant {
        Some(word) => format!("did you mean {word:?}?"),
        None => otherwise.into(),
    };
    advised(Class::User, error.to_string().trim_end(), hint)
        .context(format!("cannot use {}", file.display()))
}

/// Says that a job lost its supervisor before it could say how it ended.
pub(crate) fn supervisor_gone(job: &JobId) -> Error {
    advised(
        Class::Unavailable,
        format!("the supervisor of job {job} ended unexpectedly"),
        format!(
            "it was killed from outside, or for want of memory; `hyperion rm {job}` removes what is left"
        ),
    )
}

/// Finds the name that was likely meant, if any is near.
pub(crate) fn likely<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(name, written);
    let best = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.75).then_some(best)
}

/// Verbs of docker and podman that have another name here.
const DOCKERS: [(&str, &str); 10] = [
    ("build", "image bootstrap"),
    ("history", "image history"),
    ("images", "image ls"),
    ("import", "image import"),
    ("load", "image load"),
    ("pause", "suspend"),
    ("rmi", "image rm"),
    ("save", "image save"),
    ("tag", "image tag"),
    ("unpause", "resume"),
];

/// Finds what was likely meant by a verb that there is not, or by a value that a flag refused.
pub(crate) fn likely_of(error: &clap::Error) -> Option<String> {
    if let Some(ContextValue::String(verb)) = error.get(ContextKind::InvalidSubcommand) {
        let ours = DOCKERS.iter().find(|(theirs, _)| theirs == verb);
        return ours.map(|&(_, ours)| ours.to_owned());
    }
    let source = std::error::Error::source(error)?;
    if let Some(NoSignal(name)) = source.downcast_ref() {
        let upper = name.to_uppercase();
        let short = upper.strip_prefix("SIG").unwrap_or(&upper);
        return likely(short, signals::names()).map(str::to_owned);
    }
    let ResourceError::RlimitName(name) = source.downcast_ref()? else {
        return None;
    };
    likely(name, Rlimit::NAMES.into_iter()).map(str::to_owned)
}

/// Finds the class of an error.
pub(crate) fn class_of(error: &Error) -> Class {
    classify(error).class
}

/// Finds the class and the hint of the first known error in the chain.
fn classify(error: &Error) -> Told {
    for cause in error.chain() {
        if let Some(advised) = cause.downcast_ref::<Advised>() {
            return Told {
                class: advised.class,
                hint: Some(advised.hint.clone()),
            };
        }
        let known = cause.downcast_ref().and_then(of_job);
        let known = known.or_else(|| cause.downcast_ref().map(of_mount));
        if let Some(told) = known.or_else(|| cause.downcast_ref().and_then(of_userns)) {
            return told;
        }
        if let Some(told) = cause.downcast_ref().and_then(of_registry) {
            return told;
        }
        if let Some(reference) = cause.downcast_ref::<ReferenceError>() {
            return Told {
                class: Class::User,
                hint: Some(reference.hint()),
            };
        }
        if let Some(told) = image::classify(cause)
            .or_else(|| vm::classify(cause))
            .or_else(|| queue::classify(cause))
        {
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

/// What to do about a job; nothing where the cause says more.
fn of_job(error: &JobError) -> Option<Told> {
    use JobError as E;
    let (class, hint) = match error {
        E::NotFound(_) => (Class::NotFound, "`hyperion ps -a` lists all jobs".into()),
        E::Ambiguous(..) => (Class::User, "write more of the id".into()),
        E::NameTaken { name, .. } => (
            Class::Conflict,
            format!("choose another name, or give this one back: hyperion rm {name}"),
        ),
        E::Running(job) => (
            Class::Conflict,
            format!("end it first: hyperion stop {job}; `rm -f` does both"),
        ),
        E::NotRunning(job) => (
            Class::Conflict,
            format!(
                "`hyperion logs {job}` shows what it wrote, `hyperion report {job}` what it cost"
            ),
        ),
        E::Damaged { .. } => (
            Class::Internal,
            "`hyperion rm` removes the job with its record".into(),
        ),
        E::Io { source, .. } => return of_root(source),
    };
    Some(Told {
        class,
        hint: Some(hint),
    })
}

/// What to do about a folder of jobs or images that cannot be used.
fn of_root(error: &std::io::Error) -> Option<Told> {
    use std::io::ErrorKind as K;
    let hint = match error.kind() {
        K::PermissionDenied | K::ReadOnlyFilesystem | K::NotADirectory | K::NotFound => {
            "name a folder that you can write to with --root or HYPERION_ROOT"
        }
        K::StorageFull | K::QuotaExceeded => {
            "the disk is full: `hyperion rm --ended` and `hyperion image prune` remove what nothing uses; --root chooses another disk"
        }
        _ => return None,
    };
    Some(Told {
        class: class_of_io(error),
        hint: Some(hint.into()),
    })
}

fn of_mount(error: &MountError) -> Told {
    let hint = match error {
        MountError::Option(written) => match likely(written, Mount::OPTIONS.into_iter()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("there are {}", Mount::OPTIONS.join(", ")),
        },
        MountError::Value { option, .. } => match *option {
            "size" => "a size is a number and a unit, such as 64MiB".into(),
            "mode" => "a mode is in octal digits, such as 1777".into(),
            _ => "there are private, slave and shared, with an r before it or not".into(),
        },
        MountError::Twice(_) => "leave one of them out, or give it another target".into(),
        MountError::Volume(_) => "for example -v /data:/data:ro".into(),
        MountError::Target(_) => "write where it is to be seen inside, such as /data".into(),
        MountError::Mount(_) | MountError::Source(_) => {
            "for example --mount type=bind,source=/data,target=/data,readonly".into()
        }
    };
    Told {
        class: Class::User,
        hint: Some(hint),
    }
}

fn of_userns(error: &UsernsError) -> Option<Told> {
    let hint = match error {
        UsernsError::Map { .. } => {
            "`hyperion doctor` says what this host lacks for containers without root"
        }
        _ => "check /etc/subuid and /etc/subgid: `hyperion doctor` says what they lack",
    };
    Some(Told {
        class: Class::Unsupported,
        hint: Some(hint.into()),
    })
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
        E::NoCertificate(_) => (
            Class::User,
            "`ca` names a file of certificates in PEM: -----BEGIN CERTIFICATE-----".into(),
        ),
        E::Proxy(_) => (
            Class::User,
            "correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY: http://HOST:PORT".into(),
        ),
        E::LoginNeeded { host, .. } => (Class::Denied, format!("hyperion login {host}")),
        E::LoginRefused { host, .. } => (
            Class::Denied,
            format!("check name and password, and log in anew: hyperion login {host}"),
        ),
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
        E::Auth(AuthError::Malformed { .. } | AuthError::Entry { .. }) => (
            Class::User,
            "correct the file, or name another with --authfile".into(),
        ),
        E::Auth(AuthError::HelperStart { helper, .. }) => (
            Class::User,
            format!(
                "install {helper}, or take it out of credsStore and credHelpers in docker's config.json"
            ),
        ),
        E::NotAnImage { .. } => (Class::Unsupported, image::NO_IMAGE.into()),
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
        std::io::ErrorKind::NotFound => Some("check the path".to_owned()),
        std::io::ErrorKind::IsADirectory => Some("name a file, not a folder".to_owned()),
        std::io::ErrorKind::ReadOnlyFilesystem => Some(
            "nothing can be written there: name another place, for images and jobs with --root or HYPERION_ROOT"
                .to_owned(),
        ),
        std::io::ErrorKind::PermissionDenied => {
            Some("check who may use the path, and the folders above it".to_owned())
        }
        _ => None,
    }
}

/// Gives the hint of an error.
#[cfg(test)]
pub(crate) fn hint_of(error: &Error) -> String {
    classify(error).hint.unwrap_or_default()
}

/// What the HTTP client says of itself where its cause says what happened.
const IN_BETWEEN: [&str; 4] = [
    "error sending request",
    "client error (Connect)",
    "client error (SendRequest)",
    "tcp connect error",
];

/// Prints an error with its causes and a hint, and gives the exit code.
pub(crate) fn report(error: &Error, format: OutputFormat) -> ExitCode {
    let told = classify(error);
    let mut causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
    // Some libraries say in each error what its cause says again, or only that they are in between.
    causes.dedup_by(|cause, before| before.ends_with(cause.as_str()));
    let last = causes.len().saturating_sub(1);
    let mut at = 0..;
    causes.retain(|cause| at.next() == Some(last) || !IN_BETWEEN.contains(&cause.as_str()));
    if format == OutputFormat::Json {
        let value = serde_json::json!({
            "error": error.to_string(), "causes": causes, "class": told.class, "hint": told.hint,
        });
        eprintln!("{value}");
    } else {
        output::talk("error", error);
        for cause in causes {
            output::talk("cause", cause);
        }
        if let Some(hint) = told.hint {
            output::talk("hint", hint);
        }
    }
    ExitCode::from(told.class.exit_code())
}
