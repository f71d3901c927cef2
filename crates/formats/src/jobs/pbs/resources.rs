//! The resources of `-l`: of the whole job, in chunks, and on nodes.

use hyperion_model::Bytes;
use hyperion_model::submission::{Arrangement, Folder, NodeCount, Part, Per, Sharing, TimeLimit};

use crate::jobs::amounts::{count, pbs_size, unquoted};
use crate::jobs::draft::Draft;
use crate::jobs::options::{Arg, Wrong};
use crate::jobs::tell::shown;
use crate::jobs::time;
use crate::jobs::values::*;

/// What stands in `-l` and `-W`, for the reference.
pub(in crate::jobs) const RESOURCES: &[(&str, &str)] = &[
    ("-l walltime=", "time limit"),
    (
        "-l min_walltime=, max_walltime=",
        "least time limit; time limit",
    ),
    (
        "-l select=[N:]…+…",
        "parts of N chunks each; ncpus, mpiprocs, ompthreads, mem, vmem, ngpus, gpu_type, naccelerators, host and vnode are known; any other resource is counted where it is a number or a size, and a feature of nodes where it is a word",
    ),
    (
        "-l place=free|pack|scatter|vscatter[:excl|exclhost|shared]",
        "how chunks are arranged, and who else is there; note: group=; error: two of a kind, or no select beside it",
    ),
    (
        "-l nodes=N[:ppn=P][:gpus=G][:property…]+…",
        "parts of N nodes; hosts by name; properties are features",
    ),
    ("-l ncpus=", "processors in all"),
    (
        "-l procs=, mppwidth=; mppnppn=; mppdepth=, ompthreads=",
        "tasks in all; of each node; processors for each task",
    ),
    ("-l mem=, vmem=", "memory in all"),
    (
        "-l pmem=, mppmem=, pvmem=",
        "memory of each task; vmem as a limit",
    ),
    ("-l ngpus=, gpus=", "GPUs in all"),
    (
        "-l cput=, pcput=",
        "note: processor time is not limited; the time limit is",
    ),
    ("-l file=", "limit of the size of a file"),
    ("-l nice=", "nice value"),
    (
        "-l software=, filesystems=, other=, arch=, opsys=, feature=",
        "features of nodes",
    ),
    (
        "-l naccesspolicy=singlejob|singleuser|shared",
        "who else is on its nodes",
    ),
    ("-l qos=, advres=", "quality of service; reservation"),
    (
        "-l prologue=, epilogue=, trl=",
        "error: call them in the script; write nodes=",
    ),
    (
        "-l cpuclock=, energy=, preempt_targets=, procs_bitmap=, size=, soft_walltime=, start_time=, var=",
        "note",
    ),
    ("-l wd", "begins where it was submitted"),
    (
        "-l NAME=N",
        "any other counted resource, in all; a size counts bytes, and scratch= and the like are room for temporary files",
    ),
    (
        "-W depend=",
        "condition on other jobs; error: before… and on",
    ),
    ("-W block=true", "wait for the end"),
    (
        "-W group_list=, umask=, stagein=, stageout=, sandbox= and the like",
        "note; stagein and stageout are errors: copy files in the script",
    ),
    ("-W x=…", "Moab's words: note"),
];

/// Reads a list of resources.
pub(in crate::jobs) fn resources(draft: &mut Draft, arg: &Arg<'_>) -> Read {
    for part in fields(arg.text, ',')? {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        resource(draft, arg, name.trim(), value.trim()).map_err(|wrong| match wrong.part {
            Some(_) => wrong,
            None => wrong.at(arg.text, part),
        })?;
    }
    Ok(())
}

fn resource(draft: &mut Draft, arg: &Arg<'_>, name: &str, value: &str) -> Read {
    let clock = |value: &str| {
        let wrong = || {
            Wrong::new(format!("{} is not a time", shown(value)))
                .at(arg.text, value)
                .hint("write seconds or HH:MM:SS")
        };
        time::clock(value, false).ok_or_else(wrong)
    };
    let number = |value: &str| count(value, 0).map_err(|wrong| wrong.at(arg.text, value));
    let bytes = |value: &str| pbs_size(value).map_err(|wrong| wrong.at(arg.text, value));
    let here = arg.span(part_of(arg, name, value));
    if let Some((stage, known, _)) = draft.said.get(name)
        && *stage == draft.stage
        && known != value
    {
        let what = format!("{name} is said twice: the last is taken (PBS Pro takes the first)");
        draft.told.note(here.clone(), what, None);
    }
    let said = (draft.stage, value.to_owned(), here);
    draft.said.insert(name.to_owned(), said);
    match name {
        "walltime" | "max_walltime" => draft.job.time_limit = Some(TimeLimit::Span(clock(value)?)),
        "min_walltime" => draft.job.least_time = Some(clock(value)?),
        "select" => select(draft, arg, value)?,
        "place" => place(draft, arg, value)?,
        "nodes" | "neednodes" => nodes(draft, arg, value)?,
        "nodect" => {}
        "ncpus" | "ompthreads" | "mppdepth" => {
            let per = if name == "ncpus" { Per::Job } else { Per::Task };
            let cpus = number(value)?;
            draft.part().cpus.insert(per, cpus);
        }
        "procs" | "mpiprocs" | "mppwidth" | "mppnppn" => {
            let per = if name == "mppnppn" {
                Per::Node
            } else {
                Per::Job
            };
            let tasks = number(value)?;
            draft.part().tasks.insert(per, tasks);
        }
        "mem" | "vmem" => {
            let memory = bytes(value)?;
            let known = draft
                .part()
                .memory
                .get(&Per::Job)
                .copied()
                .unwrap_or_default();
            // Both may be given: the memory itself is the one that is asked for.
            if name == "mem" || known == Bytes(0) {
                draft.part().memory.insert(Per::Job, memory);
            }
        }
        "pmem" | "mppmem" => {
            let memory = bytes(value)?;
            draft.each_part(|part| {
                part.memory.insert(Per::Task, memory);
            });
        }
        "pvmem" => set_limit(draft, "as", bytes(value)?.0),
        "file" => set_limit(draft, "fsize", bytes(value)?.0),
        "ngpus" | "gpus" => {
            let gpus = u64::from(number(value)?);
            set_resource(draft.part(), device("gpu", None, gpus, Per::Job));
        }
        "cput" | "pcput" => {
            clock(value)?;
            let what = format!("{name}: processor time is not limited; the time limit is");
            draft
                .told
                .note(arg.span(part_of(arg, name, value)), what, None);
        }
        "cpuclock" | "energy" | "preempt_targets" | "procs_bitmap" | "size" | "soft_walltime"
        | "start_time" | "var" => {
            let what = format!("-l: {name} means nothing here");
            let here = arg.span(part_of(arg, name, value));
            draft.told.note(here, what, None);
        }
        "prologue" | "epilogue" => {
            let wrong = Wrong::new(format!("{name} is not run"));
            return Err(wrong.hint("call it in the script"));
        }
        "trl" => {
            let wrong = Wrong::new("there is no choice between requests");
            return Err(wrong.hint("write nodes=N:ppn=P"));
        }
        "nice" => draft.job.nice = integer(value)?,
        "qos" => draft.job.qos = Some(value.to_owned()),
        "advres" => draft.job.reservation = Some(value.to_owned()),
        "naccesspolicy" => {
            let sharing = match value.to_ascii_lowercase().as_str() {
                "singlejob" | "singletask" => Sharing::Nobody,
                "singleuser" | "uniqueuser" => Sharing::SameUser,
                "shared" => Sharing::AsUsual,
                other => {
                    return Err(Wrong::new(format!(
                        "{} is not a way to share nodes",
                        shown(other)
                    )));
                }
            };
            draft.each_part(|part| part.sharing = sharing);
        }
        "host" | "vnode" => draft.part().hosts = vec![value.to_owned()],
        // Moab's: what nodes have stands behind it.
        "feature" => draft.features.extend(value.split(':').map(str::to_owned)),
        // `wd` of a large site: it begins where it was submitted.
        "wd" if value.is_empty() => draft.job.folder = Folder::Submission,
        "" => return Err(Wrong::new("a resource is missing")),
        _ if value.is_empty() => draft.features.push(name.to_owned()),
        _ => match count(value, 0) {
            Ok(number) => {
                set_resource(
                    draft.part(),
                    device(name, None, u64::from(number), Per::Job),
                );
            }
            Err(_) => match pbs_size(value) {
                Ok(size) if is_scratch(name) => {
                    draft.each_part(|part| part.scratch = Some(size));
                }
                Ok(size) => set_resource(draft.part(), device(name, None, size.0, Per::Job)),
                Err(_) => draft.features.push(format!("{name}={value}")),
            },
        },
    }
    Ok(())
}

/// Gives where a part of a value stands, from the beginning of one slice to the end of another.
pub(in crate::jobs) fn part_of(arg: &Arg<'_>, name: &str, value: &str) -> Option<(usize, usize)> {
    let from = (name.as_ptr() as usize).checked_sub(arg.text.as_ptr() as usize)?;
    let to = (value.as_ptr() as usize).checked_sub(arg.text.as_ptr() as usize)? + value.len();
    (from <= to && to <= arg.text.len()).then_some((from, to))
}

/// The most parts of a job.
const MOST_PARTS: usize = 1000;

/// Makes room for parts that are described anew, keeping what is said of the whole job.
fn parts<'p>(draft: &mut Draft, value: &'p str) -> Result<Vec<(&'p str, Part)>, Wrong> {
    let first = draft.part().clone();
    let of_job = draft.said.keys().any(|name| is_scratch(name));
    let base = Part {
        scratch: first.scratch.filter(|_| of_job),
        queues: first.queues,
        arrangement: first.arrangement,
        sharing: first.sharing,
        ..Part::default()
    };
    let texts: Vec<&str> = value.split('+').collect();
    if texts.len() > MOST_PARTS {
        return Err(Wrong::new(format!("more than {MOST_PARTS} parts")));
    }
    Ok(texts.into_iter().map(|text| (text, base.clone())).collect())
}

fn select(draft: &mut Draft, arg: &Arg<'_>, value: &str) -> Read {
    let mut all = Vec::new();
    for (text, mut part) in parts(draft, value)? {
        let mut fields = fields(text, ':')?.into_iter().peekable();
        let is_count = |field: &&str| !field.contains('=');
        let chunks = match fields.next_if(is_count) {
            Some(number) => count(number, 1).map_err(|wrong| wrong.at(arg.text, number))?,
            None => 1,
        };
        part.chunks = Some(chunks);
        for field in fields {
            chunk(&mut part, arg, field)?;
        }
        all.push(part);
    }
    settle(draft, all);
    Ok(())
}

/// Puts parts in the place of those that there were; what is counted over the
/// whole job stays with the first.
fn settle(draft: &mut Draft, mut parts: Vec<Part>) {
    let old = std::mem::take(&mut *draft.job.parts);
    let old = old.into_iter().next();
    if let Some(old) = &old {
        for part in &mut parts {
            let of_task = old.memory.get(&Per::Task);
            part.memory
                .extend(of_task.map(|memory| (Per::Task, *memory)));
        }
    }
    if let (Some(first), Some(old)) = (parts.first_mut(), old) {
        let in_all = |per: &Per| *per == Per::Job;
        first
            .cpus
            .extend(old.cpus.into_iter().filter(|(per, _)| in_all(per)));
        first
            .tasks
            .extend(old.tasks.into_iter().filter(|(per, _)| in_all(per)));
        first
            .memory
            .extend(old.memory.into_iter().filter(|(per, _)| in_all(per)));
        first
            .resources
            .extend(old.resources.into_iter().filter(|one| one.per == Per::Job));
    }
    draft.job.parts = parts.into();
}

fn chunk(part: &mut Part, arg: &Arg<'_>, field: &str) -> Read {
    let Some((name, value)) = field.split_once('=') else {
        let wrong = Wrong::new(format!("{} is not NAME=VALUE", shown(field)));
        return Err(wrong.at(arg.text, field));
    };
    let number = |value: &str| count(value, 0).map_err(|wrong| wrong.at(arg.text, value));
    match name {
        "ncpus" => drop(part.cpus.insert(Per::Chunk, number(value)?)),
        "mpiprocs" => drop(part.tasks.insert(Per::Chunk, number(value)?)),
        "ompthreads" => drop(part.cpus.insert(Per::Task, number(value)?)),
        "mem" => {
            let bytes = pbs_size(value).map_err(|wrong| wrong.at(arg.text, value))?;
            part.memory.insert(Per::Chunk, bytes);
        }
        "vmem" => {
            pbs_size(value).map_err(|wrong| wrong.at(arg.text, value))?;
        }
        "ngpus" | "naccelerators" | "gpus" => {
            let gpus = u64::from(number(value)?);
            let kind = part.resources.iter().find_map(|known| known.kind.clone());
            part.resources.retain(|known| known.family != "gpu");
            if gpus > 0 {
                part.resources.push(device("gpu", kind, gpus, Per::Chunk));
            }
        }
        "gpu_type" | "gpu_model" | "accelerator_model" => {
            let kind = Some(unquoted(value).to_ascii_lowercase());
            match part
                .resources
                .iter_mut()
                .find(|known| known.family == "gpu")
            {
                Some(gpu) => gpu.kind = kind,
                None => part.resources.push(device("gpu", kind, 1, Per::Chunk)),
            }
        }
        "host" | "vnode" => part.hosts.push(value.to_owned()),
        _ => match count(value, 0) {
            Ok(number) => part
                .resources
                .push(device(name, None, u64::from(number), Per::Chunk)),
            Err(_) => match pbs_size(value) {
                Ok(size) if is_scratch(name) => part.scratch = Some(size),
                Ok(size) => part.resources.push(device(name, None, size.0, Per::Chunk)),
                Err(_) => feature(part, field)?,
            },
        },
    }
    Ok(())
}

fn place(draft: &mut Draft, arg: &Arg<'_>, value: &str) -> Read {
    let (mut arranged, mut shared) = (false, false);
    for word in value.split(':') {
        let (mut arrangement, mut sharing) = (None, None);
        match word {
            "free" => arrangement = Some(Arrangement::Free),
            "pack" => arrangement = Some(Arrangement::Together),
            "scatter" | "vscatter" => arrangement = Some(Arrangement::Apart),
            "excl" | "exclhost" => sharing = Some(Sharing::Nobody),
            "shared" => sharing = Some(Sharing::AsUsual),
            group if group.starts_with("group=") => {
                let what = "place: nodes are not grouped by what they have".to_owned();
                draft
                    .told
                    .note(arg.span(part_of(arg, word, word)), what, None);
            }
            other => {
                let wrong = Wrong::new(format!("{} is not a way to place chunks", shown(other)));
                return Err(wrong
                    .at(arg.text, word)
                    .hint("write free, pack, scatter, excl or shared"));
            }
        }
        // Of each there is one.
        if (arranged && arrangement.is_some()) || (shared && sharing.is_some()) {
            let what = format!("{} stands beside another of its kind", shown(word));
            return Err(Wrong::new(what).at(arg.text, word));
        }
        arranged |= arrangement.is_some();
        shared |= sharing.is_some();
        draft.each_part(|part| {
            part.arrangement = arrangement.unwrap_or(part.arrangement);
            part.sharing = sharing.unwrap_or(part.sharing);
        });
    }
    Ok(())
}

fn nodes(draft: &mut Draft, arg: &Arg<'_>, value: &str) -> Read {
    // Torque puts what is about all nodes behind a sharp: `2:ppn=4#shared`.
    let (value, modifiers) = value.split_once('#').unwrap_or((value, ""));
    let mut all = Vec::new();
    for (text, mut part) in parts(draft, value)? {
        let mut fields = text.split(':');
        let first = fields.next().unwrap_or_default();
        let least =
            match first.starts_with(|c: char| c.is_ascii_digit() || c == '$') || first.is_empty() {
                true => count(first, 1).map_err(|wrong| wrong.at(arg.text, first))?,
                false => {
                    part.hosts.push(first.to_owned());
                    1
                }
            };
        part.nodes = Some(NodeCount { least, most: least });
        let mut kind = None;
        for field in fields {
            match field.split_once('=') {
                Some(("ppn", number)) => {
                    let tasks = count(number, 1).map_err(|wrong| wrong.at(arg.text, number))?;
                    part.tasks.insert(Per::Node, tasks);
                }
                Some(("gpus" | "ngpus", number)) => {
                    let gpus = count(number, 0).map_err(|wrong| wrong.at(arg.text, number))?;
                    part.resources
                        .push(device("gpu", None, u64::from(gpus), Per::Node));
                }
                Some(("mics", number)) => {
                    let mics = count(number, 0).map_err(|wrong| wrong.at(arg.text, number))?;
                    part.resources
                        .push(device("mic", None, u64::from(mics), Per::Node));
                }
                Some(("ncpus", number)) => {
                    let cpus = count(number, 1).map_err(|wrong| wrong.at(arg.text, number))?;
                    part.cpus.insert(Per::Node, cpus);
                }
                Some(_) => feature(&mut part, field)?,
                None if field.is_empty() => {}
                None if ["shared", "exclusive_process", "default", "exclusive"]
                    .contains(&field) =>
                {
                    kind = Some(field)
                }
                None => feature(&mut part, field)?,
            }
        }
        if let Some(mode) = kind {
            let what =
                format!("nodes: GPUs are not set to {mode}; each task has those that it was given");
            draft
                .told
                .note(arg.span(part_of(arg, text, text)), what, None);
        }
        all.push(part);
    }
    settle(draft, all);
    match modifiers {
        "excl" => draft.each_part(|part| part.sharing = Sharing::Nobody),
        "" | "shared" => {}
        other => {
            return Err(Wrong::new(format!(
                "{} is not a way to share nodes",
                shown(other)
            )));
        }
    }
    Ok(())
}
