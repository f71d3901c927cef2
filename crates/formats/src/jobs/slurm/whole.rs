//! What no single option of sbatch shows: which exclude each other, and how many
//! nodes come of all. As sbatch 22.05 and slurmctld have it.

use std::collections::BTreeSet;

use hyperion_model::submission::{NodeCount, Part, Per, TimeLimit};

use crate::jobs::draft::{Draft, Stage};
use crate::jobs::tell::shown;

/// Options with what may not be said beside them.
const EXCLUDE: &[(&str, &[&str])] = &[
    ("--exclusive", &["--oversubscribe"]),
    ("--core-spec", &["--thread-spec"]),
    ("--cpus-per-gpu", &["--cpus-per-task"]),
    (
        "--ntasks-per-gpu",
        &[
            "--gpus-per-task",
            "--gpus-per-socket",
            "--ntasks-per-node",
            "--tres-per-task",
        ],
    ),
];

/// The options of memory, and what each counts by.
const MEMORY: [(&str, Per); 3] = [
    ("--mem", Per::Node),
    ("--mem-per-cpu", Per::Cpu),
    ("--mem-per-gpu", Per::Gpu),
];

/// Checks what no single option shows.
pub(in crate::jobs) fn finish(draft: &mut Draft) {
    memory(draft);
    exclusions(draft);
    hosts(draft);
    if let (Some(least), Some(TimeLimit::Span(limit))) =
        (draft.job.least_time, draft.job.time_limit)
        && least > limit
    {
        let what = "the least time is more than --time".to_owned();
        mistake(draft, "--time-min", what, "raise --time");
    }
}

/// Tells a mistake where an option was given.
fn mistake(draft: &mut Draft, option: &str, what: String, hint: &str) {
    if let Some((_, span)) = draft.given.get(option).cloned() {
        draft
            .told
            .mistake(span, format!("{option}: {what}"), Some(hint.to_owned()));
    }
}

fn memory(draft: &mut Draft) {
    let given: Vec<_> = MEMORY
        .iter()
        .filter_map(|(name, per)| Some((draft.given.get(name)?.clone(), *per)))
        .collect();
    // A variable gives way, and of all others there is one.
    let by_variable = |stage: Stage| stage == Stage::Variables;
    let by_option = given.iter().any(|((stage, _), _)| !by_variable(*stage));
    for part in draft.job.parts.iter_mut() {
        for ((stage, _), per) in &given {
            if by_option && by_variable(*stage) {
                part.memory.remove(per);
                part.all_memory &= *per != Per::Node;
            }
        }
    }
    let several = |part: &Part| part.memory.len() + usize::from(part.all_memory) > 1;
    if draft.job.parts.iter().any(several)
        && let Some(((_, span), _)) = given.into_iter().max_by_key(|(given, _)| given.clone())
    {
        let what = "--mem, --mem-per-cpu and --mem-per-gpu exclude each other".to_owned();
        let hint = "keep one of them".to_owned();
        draft.told.mistake(span, what, Some(hint));
    }
}

fn exclusions(draft: &mut Draft) {
    // Which of several parts they were said of is not known here.
    if draft.job.parts.len() > 1 {
        return;
    }
    let said =
        |draft: &Draft, name: &str| draft.stage_of(name).is_some_and(|s| s != Stage::Variables);
    for (option, others) in EXCLUDE {
        for other in *others {
            if said(draft, option) && said(draft, other) {
                let what = format!("{other} excludes it");
                mistake(draft, option, what, "keep one of them");
            }
        }
    }
}

fn hosts(draft: &mut Draft) {
    let mut mistakes = Vec::new();
    let mut fewer = None;
    for part in draft.job.parts.iter_mut() {
        let named: BTreeSet<&String> = part.hosts.iter().collect();
        // slurmctld: "Job's required and excluded node lists overlap".
        if let Some(host) = part.without.iter().find(|host| named.contains(host)) {
            let what = format!("the host {} is excluded, too", shown(host));
            mistakes.push((what, "take it out of --nodelist or --exclude"));
        }
        let count = u32::try_from(named.len()).unwrap_or(u32::MAX);
        match part.nodes {
            _ if count == 0 => {}
            Some(nodes) if count > nodes.most => {
                let what = format!("{count} hosts for {} nodes", nodes.most);
                mistakes.push((what, "name as many as there are --nodes"));
            }
            Some(nodes) if count < nodes.least => {
                let what = format!(
                    "{count} hosts for {} nodes; no others are added",
                    nodes.least
                );
                mistakes.push((what, "name all of them, or none"));
            }
            // The job has all that are named.
            _ => {
                part.nodes = Some(NodeCount {
                    least: count,
                    most: count,
                })
            }
        }
        // sbatch: "can't run 4 processes on 8 nodes, setting nnodes to 4".
        if let (Some(nodes), Some(&tasks)) = (&mut part.nodes, part.tasks.get(&Per::Job)) {
            fewer = Some(tasks).filter(|tasks| *tasks < nodes.least).or(fewer);
            nodes.most = nodes.most.min(tasks);
            nodes.least = nodes.least.min(tasks);
        }
    }
    for (what, hint) in mistakes {
        mistake(draft, "--nodelist", what, hint);
    }
    let of_nodes = draft.given.get("--nodes").or(draft.given.get("--nodelist"));
    if let (Some(tasks), Some((_, span))) = (fewer, of_nodes.cloned()) {
        let what = format!("{tasks} tasks have no more than {tasks} nodes");
        draft.told.note(span, what, None);
    }
}
