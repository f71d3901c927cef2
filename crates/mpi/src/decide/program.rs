//! Whether the program itself can start.

use hyperion_model::Level;

use super::HostFacts;
use super::plan::Notes;
use super::refusal::{Refusal, RefusalKind, refuse};
use crate::preflight::{Binary, Facts, Lookup};

/// Can the program itself start?
pub(super) fn program(facts: &Facts, host: &HostFacts, notes: &mut Notes) -> Result<(), Refusal> {
    let name = &facts.name;
    let inside = match host.level {
        Level::Process => "on this host",
        Level::Container | Level::Vm => "in the image",
    };
    let path = match &facts.lookup {
        Lookup::Found(path) => path,
        Lookup::NotExecutable(path) => {
            return refuse(
                RefusalKind::NotExecutable,
                format!("{name} cannot be executed"),
                format!("{path} is a folder, or no one may execute it"),
                format!("chmod +x {path}, or name its interpreter: sh {path}"),
            );
        }
        Lookup::Missing(near) => {
            let fix = match near.is_empty() {
                true => "check the spelling, or add the package that has it".to_owned(),
                false => format!("did you mean {}?", near.join(" or ")),
            };
            return refuse(
                RefusalKind::CommandNotFound,
                format!("the command {name:?} was not found {inside}"),
                match name.contains('/') {
                    true => "there is no such file".to_owned(),
                    false => "it is in no folder of PATH".to_owned(),
                },
                fix,
            );
        }
    };
    if let Some(interpreter) = &facts.missing_interpreter
        && facts.binary.is_none()
    {
        return refuse(
            RefusalKind::LoaderMissing,
            format!("{path} cannot be started"),
            format!("its interpreter {interpreter} is not {inside}"),
            "add the interpreter's package, or name another one on the command line",
        );
    }
    let Some(binary) = &facts.binary else {
        return refuse(
            RefusalKind::NotExecutable,
            format!("{path} cannot be started"),
            "it is neither an ELF program nor a script with a #! line",
            format!("name its interpreter: sh {path}"),
        );
    };
    can_load(binary, facts, host)?;
    let glibc = binary.glibc_needed.as_ref();
    let glibc = glibc.map_or(String::new(), |v| format!(", glibc {v} or newer"));
    let linked = if binary.loader.is_none() {
        ", static"
    } else {
        ""
    };
    notes.add(
        "program",
        format!("{} for {}{linked}{glibc}", binary.path, binary.arch),
        "ELF header",
    );
    if let Some(script) = &facts.script {
        if !script.present {
            return refuse(
                RefusalKind::ScriptNotFound,
                format!("the script {} was not found {inside}", script.path),
                "the interpreter would end with this error in every rank",
                match host.level {
                    Level::Process => "check the path; it is taken from the working folder",
                    Level::Container | Level::Vm => {
                        "give the folder to the container: -v \"$PWD:/work\" -w /work"
                    }
                },
            );
        }
        notes.add("script", &script.path, "");
    }
    for (library, needed_by) in facts.missing_libraries.iter().take(5) {
        notes.warn(
            "library",
            format!("{library} is not {inside}; the program may fail to load"),
            format!("needed by {needed_by}"),
        );
    }
    Ok(())
}

fn can_load(binary: &Binary, facts: &Facts, host: &HostFacts) -> Result<(), Refusal> {
    let (path, arch) = (&binary.path, &binary.arch);
    // An x86-64 kernel runs 32-bit programs where their loader is there.
    let native = *arch == host.arch || (arch == "i686" && host.arch == "x86_64");
    if !native && !host.foreign_archs.contains(arch) {
        return refuse(
            RefusalKind::WrongArchitecture,
            format!("{path} cannot run on this processor"),
            format!("it is built for {arch}, and this host is {}", host.arch),
            format!(
                "take an image for {}, or install qemu-user-static with binfmt-support",
                host.arch
            ),
        );
    }
    if let Some((loader, false)) = &binary.loader {
        return refuse(
            RefusalKind::LoaderMissing,
            format!("{path} cannot be started"),
            format!("its loader {loader} is not there: it was built for another libc"),
            "build it for this image's libc, link it statically, or take the image it was built in",
        );
    }
    if let (Some(needed), Some(offered)) = (&binary.glibc_needed, &facts.glibc)
        && needed > offered
    {
        return refuse(
            RefusalKind::GlibcTooOld,
            format!("{path} cannot be started"),
            format!("it needs glibc {needed}, and there is {offered}"),
            "build it in this image, or take an image of a newer distribution",
        );
    }
    Ok(())
}
