//! Values that several systems write alike.

use hyperion_model::resources::Rlimit;
use hyperion_model::submission::{Part, Per, Resource};

use super::amounts::split;
use super::draft::Draft;
use super::options::{Arg, Wrong};
use super::tell::shown;

/// What comes of reading a value.
pub(super) type Read = Result<(), Wrong>;

/// No name and no path is longer.
const LONGEST_TEXT: usize = 4096;

/// Takes a word that says something.
pub(super) fn text(arg: &Arg<'_>, to: &mut Option<String>) -> Read {
    if arg.text.len() > LONGEST_TEXT {
        return Err(Wrong::new(format!("longer than {LONGEST_TEXT} bytes")));
    }
    if arg.text.chars().any(char::is_control) {
        return Err(Wrong::new("there is a control character in it"));
    }
    *to = Some(arg.text.to_owned()).filter(|text| !text.is_empty());
    Ok(())
}

/// Checks the name of a variable.
pub(super) fn variable(arg: &Arg<'_>, name: &str) -> Result<String, Wrong> {
    let name = name.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match !name.is_empty() && name.chars().all(is_name) {
        true => Ok(name.to_owned()),
        false => Err(
            Wrong::new(format!("{} is not the name of a variable", shown(name))).at(arg.text, name),
        ),
    }
}

/// Makes a resource.
pub(super) fn device(family: &str, kind: Option<String>, count: u64, per: Per) -> Resource {
    Resource {
        family: family.to_owned(),
        kind,
        count,
        per,
    }
}

/// Puts a resource in the place of others of its family.
pub(super) fn set_resource(part: &mut Part, resource: Resource) {
    part.resources
        .retain(|known| known.family != resource.family);
    part.resources.push(resource);
}

/// Tells whether a resource is room for temporary files by its name.
pub(super) fn is_scratch(name: &str) -> bool {
    [
        "scratch",
        "tmpfs",
        "tmp",
        "tmpspace",
        "tmp_free",
        "scratch_free",
        "scratch_local",
        "ddisk",
        "lscratch",
    ]
    .contains(&name)
}

/// Tells that nobody gets mail.
pub(super) fn no_mail(draft: &mut Draft, arg: &Arg<'_>) {
    let told = "no mail is sent".to_owned();
    if !draft.told.notes.iter().any(|note| note.what == told) {
        draft.told.note(arg.span(None), told, None);
    }
}

/// Reads a whole number, below zero too.
pub(super) fn integer(text: &str) -> Result<i64, Wrong> {
    let number = text
        .parse()
        .ok()
        .filter(|number: &i64| number.abs() <= 1 << 32);
    number.ok_or_else(|| Wrong::new(format!("{} is not a whole number", shown(text))))
}

/// Takes the path of a file, without the host in front of it.
pub(super) fn path(arg: &Arg<'_>, to: &mut Option<String>) -> Read {
    text(arg, to)?;
    if let Some((host, path)) = arg.text.split_once(':')
        && !host.contains('/')
    {
        *to = Some(path.to_owned()).filter(|path| !path.is_empty());
    }
    Ok(())
}

/// Takes the first path of a list of interpreters.
pub(super) fn shell(arg: &Arg<'_>, to: &mut Option<String>) -> Read {
    let first = arg.text.split(',').next().unwrap_or_default();
    let path = first.split('@').next().unwrap_or_default();
    let path = path.rsplit_once(':').map_or(path, |(_, path)| path);
    if !path.starts_with('/') {
        return Err(Wrong::new(format!(
            "{} is not the whole path of an interpreter",
            shown(path)
        )));
    }
    *to = Some(path.to_owned());
    Ok(())
}

/// Reads `y`, `yes`, `true` and their opposites.
pub(super) fn yes(text: &str) -> Result<bool, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "true" | "t" | "1" => Ok(true),
        "n" | "no" | "false" | "f" | "0" => Ok(false),
        _ => Err(Wrong::new(format!("{} is not y or n", shown(text)))),
    }
}

/// No node has more, in bytes.
const MOST_FEATURES: usize = 4096;

/// Adds something that nodes must have.
pub(super) fn feature(part: &mut Part, feature: &str) -> Read {
    let known = part.features.get_or_insert_default();
    if known.len() + feature.len() > MOST_FEATURES {
        return Err(Wrong::new("more features than any node has"));
    }
    if !known.split('&').any(|one| one == feature) {
        if !known.is_empty() {
            known.push('&');
        }
        known.push_str(feature);
    }
    Ok(())
}

/// The most resources of one option.
const MOST_FIELDS: usize = 200;

/// Splits a list of resources.
pub(super) fn fields(text: &str, separator: char) -> Result<Vec<&str>, Wrong> {
    let fields = split(text, separator);
    match fields.len() <= MOST_FIELDS {
        true => Ok(fields),
        false => Err(Wrong::new(format!("more than {MOST_FIELDS} resources"))),
    }
}

/// Reads an array.
pub(super) fn array(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    let read = arg.text.parse();
    let wrong = |error: hyperion_model::indices::IndexError| Wrong::new(error.to_string());
    draft.job.array = Some(read.map_err(wrong)?);
    Ok(())
}

/// Limits each process, softly and hard.
pub(super) fn set_limit(draft: &mut Draft, name: &str, value: u64) {
    draft.job.rlimits.retain(|limit| limit.name != name);
    draft.job.rlimits.push(Rlimit {
        name: name.to_owned(),
        soft: Some(value),
        hard: Some(value),
    });
}
