//! `scontrol`

use hyperion_api::queue::{PartitionView, Request};
use hyperion_formats::jobs::hosts;
use hyperion_formats::listings::slurm;
use hyperion_formats::listings::words::{Opt, Takes};
use hyperion_sys::entry::ExitCode;

use super::slurm::{VERSION, read};
use super::update::update;
use super::{Call, Outcome, Stop, is_meant, numbers, print, targets, with_site};

/// The options of scontrol.
const SCONTROL: &[Opt] = &[
    Opt(&["--oneliner", "-o"], Takes::Nothing),
    Opt(&["--details", "-d"], Takes::Nothing),
    Opt(&["--all", "-a"], Takes::Nothing),
    Opt(&["--quiet", "-Q"], Takes::Nothing),
    Opt(&["--verbose", "-v"], Takes::Nothing),
    Opt(&["--cluster", "--clusters", "-M"], Takes::Value),
    Opt(&["--version", "-V"], Takes::Nothing),
    Opt(&["--help", "-h"], Takes::Nothing),
];

pub(super) fn answer(call: &Call) -> Outcome {
    let words = match read(call, SCONTROL)? {
        Ok(words) => words,
        Err(code) => return Ok(code),
    };
    let rest: Vec<&str> = words.rest.iter().map(String::as_str).collect();
    let one_line = words.has("--oneliner");
    match rest[..] {
        ["version"] => print(VERSION),
        ["ping"] => {
            call.nodes()?;
            print(&format!("Slurmctld(primary) at {} is UP", super::host()))
        }
        ["show", what, ref named @ ..] => show(call, what, named, one_line),
        [
            "hold" | "uhold" | "release" | "requeue" | "requeuehold" | "suspend" | "resume",
            ref named @ ..,
        ] if !named.is_empty() => change(call, rest[0], named),
        ["update", ref words @ ..] => update(call, words),
        [] => Err(Stop::new(
            1,
            "scontrol: there is no prompt here; known: update, hold, release, requeue, requeuehold, suspend, resume, show, ping, version",
        )),
        [word, ..] => Err(Stop::new(1, format!("invalid keyword: {word}"))),
    }
}

fn change(call: &Call, verb: &str, named: &[&str]) -> Outcome {
    let mut code = ExitCode::SUCCESS;
    for word in named.iter().flat_map(|words| words.split(',')) {
        let name = word
            .trim_start_matches("jobid=")
            .trim_start_matches("JobId=");
        let wrong = || {
            Stop::new(
                1,
                format!(
                    "Invalid job id specified for job {word}\nslurm_suspend error: Invalid job id specified"
                ),
            )
        };
        let targets = targets(&[name.to_owned()]).map_err(|_| wrong())?;
        let known = call.jobs(numbers(&targets), true)?;
        if known.is_empty() {
            return Err(wrong());
        }
        let request = match verb {
            "hold" | "uhold" => Request::Hold(numbers(&targets)),
            "release" => Request::Release(numbers(&targets)),
            "requeue" => Request::Requeue(targets),
            "requeuehold" if targets.iter().any(|target| target.index.is_some()) => {
                let text = "scontrol: an array is held as a whole";
                return Err(Stop::new(1, text));
            }
            "requeuehold" => Request::RequeueHold(numbers(&targets)),
            "suspend" => Request::Suspend(targets),
            _ => Request::Resume(targets),
        };
        if let Err(stop) = call.ask(&request) {
            eprintln!("{} for job {word}", stop.text);
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn show(call: &Call, what: &str, named: &[&str], one_line: bool) -> Outcome {
    let line = |text: String| match one_line {
        true => text.split_whitespace().collect::<Vec<_>>().join(" ") + "\n",
        false => text,
    };
    match what.to_ascii_lowercase().as_str() {
        "job" | "jobs" => {
            let names: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
            let wanted = targets(&names)
                .map_err(|_| Stop::new(1, "slurm_load_jobs error: Invalid job id specified"))?;
            let mut jobs = call.jobs(numbers(&wanted), true)?;
            jobs.retain(|job| wanted.is_empty() || is_meant(job, &wanted));
            match (jobs.is_empty(), names.is_empty()) {
                (true, true) => print("No jobs in the system"),
                (true, false) => Err(Stop::new(
                    1,
                    "slurm_load_jobs error: Invalid job id specified",
                )),
                _ => print(&with_site(|site| {
                    jobs.iter()
                        .map(|job| line(slurm::job(job, site)) + if one_line { "" } else { "\n" })
                        .collect::<String>()
                })),
            }
        }
        "step" | "steps" => {
            let name = named.first().copied().unwrap_or_default();
            let number = name
                .split_once('.')
                .map(|(_, number)| number.parse::<u32>());
            let wanted = match name {
                "" => Vec::new(),
                name => targets(&[name.to_owned()])
                    .map_err(|_| Stop::new(1, format!("Invalid step id: {name}")))?,
            };
            let mut jobs = call.jobs(numbers(&wanted), false)?;
            jobs.retain(|job| wanted.is_empty() || is_meant(job, &wanted));
            let text: String = with_site(|site| {
                let number = number.and_then(Result::ok);
                jobs.iter()
                    .map(|job| slurm::step(job, number, site))
                    .collect()
            });
            match (text.is_empty(), name) {
                (true, "") => print("No job steps in the system"),
                (true, name) => Err(Stop::new(1, format!("Job step {name} not found"))),
                _ => print(&text),
            }
        }
        "node" | "nodes" => {
            let nodes = call.nodes()?;
            let wanted = named
                .first()
                .map(|text| hosts::expand(text).unwrap_or_default());
            let meant = nodes
                .iter()
                .filter(|node| wanted.as_ref().is_none_or(|all| all.contains(&node.name)));
            let partitions = call.partitions()?;
            let text: String = meant
                .map(|node| line(with_site(|site| slurm::node(node, &partitions, site))))
                .collect();
            match text.is_empty() {
                true => Err(Stop::new(1, format!("Node {} not found", named.join(",")))),
                false => print(&text),
            }
        }
        "partition" | "partitions" => {
            let (nodes, partitions) = (call.nodes()?, call.partitions()?);
            let meant = |its: &&PartitionView| named.first().is_none_or(|name| *name == its.name);
            let text: String = partitions
                .iter()
                .filter(meant)
                .map(|its| line(slurm::partition(its, &nodes)))
                .collect();
            match text.is_empty() {
                true => Err(Stop::new(
                    1,
                    format!("Partition {} not found", named.join(",")),
                )),
                false => print(&text),
            }
        }
        // As Slurm's, any beginning of the word will do.
        word if word.len() >= 3 && "reservations".starts_with(word) => {
            let mut all = call.reservations()?;
            all.retain(|its| named.first().is_none_or(|name| *name == its.name));
            match (all.is_empty(), named.first()) {
                (true, None) => print("No reservations in the system"),
                (true, Some(name)) => Err(Stop::new(1, format!("Reservation {name} not found"))),
                (false, _) => print(&with_site(|site| {
                    all.iter()
                        .map(|its| {
                            line(slurm::reservation(its, site)) + if one_line { "" } else { "\n" }
                        })
                        .collect::<String>()
                })),
            }
        }
        "hostnames" | "hostname" => {
            let given = named.first().map(|text| (*text).to_owned());
            let list = given.or_else(|| std::env::var("SLURM_JOB_NODELIST").ok());
            let list = list.ok_or_else(|| {
                Stop::new(
                    1,
                    "scontrol: show hostnames needs a list, or SLURM_JOB_NODELIST",
                )
            })?;
            let all = hosts::expand(&list)
                .ok_or_else(|| Stop::new(1, format!("Invalid hostlist: {list}")))?;
            print(&all.join("\n"))
        }
        "hostlist" | "hostlistsorted" => {
            let mut all: Vec<String> = named
                .iter()
                .flat_map(|list| hosts::expand(list).unwrap_or_default())
                .collect();
            if what.ends_with("sorted") {
                all.sort();
            }
            print(&hosts::compress(&all))
        }
        "config" => {
            let host = super::host();
            print(&format!(
                "ClusterName             = hyperion\nSlurmctldHost[0]        = {host}\nSLURM_VERSION           = 22.05.8"
            ))
        }
        other => Err(Stop::new(
            1,
            format!(
                "invalid entity:{other} for keyword:show \nknown: job, step, node, partition, reservation, hostnames, hostlist, config"
            ),
        )),
    }
}
