//! What ran, and on what: the history of the own queue, or a log.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use hyperion_api::queue::{Filter, JobView, NodeView, PartitionView, Reply, Request as Asked};
use hyperion_model::Class;
use hyperion_sched::{Amounts, Arrangement, Node, Request, Time};
use hyperion_sim::batch::{Job, Named, Past, Site, take_too_large};

use super::trace;
use super::waits::Known;
use crate::commands::queue::{self, Server};
use crate::context::Context;
use crate::errors::advised;
use crate::output;

/// A history.
pub(super) struct History {
    pub(super) name: String,
    pub(super) site: Site,
    /// By what nodes can be called: their names, partitions, features and devices.
    names: Vec<BTreeSet<String>>,
    /// By their submission.
    pub(super) jobs: Vec<Past>,
    /// By which rules it was scheduled, where that is known.
    pub(super) policy: Option<Named>,
}

impl History {
    /// Reads a log in the Standard Workload Format.
    pub(super) fn of_log(
        path: &Path,
        processors: Option<u64>,
        skip_malformed: bool,
    ) -> anyhow::Result<Self> {
        let trace = trace::read(path, processors, skip_malformed)?;
        let all = trace.processors;
        let of_node = trace.nodes.filter(|nodes| all.is_multiple_of(*nodes));
        let jobs = trace.jobs.iter().zip(0..);
        Ok(Self {
            name: path.display().to_string(),
            site: Site::pool(all, of_node.map(|nodes| all / nodes)),
            names: vec![BTreeSet::new()],
            jobs: jobs
                .map(|(found, number)| Past::of(number, found.job, found.started()))
                .collect(),
            policy: None,
        })
    }

    /// Asks the server of the own queue.
    pub(super) fn of_queue(ctx: &Context) -> anyhow::Result<Self> {
        let (mut views, mut nodes, mut partitions) = (Vec::new(), Vec::new(), Vec::new());
        if !queue::is_empty(ctx) {
            let mut server = Server::reach(ctx, true)?;
            views = server.jobs(Filter {
                ended: true,
                past: true,
                ..Filter::default()
            })?;
            if let Reply::Nodes(all) = server.ask(&Asked::Nodes)? {
                nodes = all;
            }
            if let Reply::Partitions(all) = server.ask(&Asked::Partitions)? {
                partitions = all;
            }
        }
        let (order, policy) = queue::order_and_policy(ctx)?;
        let mut history = Self::of_views(&views, &nodes, &partitions);
        history.policy = Some(Named {
            name: "as ruled".into(),
            order,
            backfill: policy.backfill,
        });
        Ok(history)
    }

    fn of_views(views: &[JobView], nodes: &[NodeView], partitions: &[PartitionView]) -> Self {
        let asked = views.iter().flat_map(|view| view.asks.keys());
        let had = nodes.iter().flat_map(|node| node.devices.keys());
        let kinds: BTreeSet<&String> = asked.chain(had).collect();
        let amounts = |cores: u64, memory: u64, count: &dyn Fn(&String) -> u64| {
            let devices = kinds.iter().map(|kind| count(kind));
            Amounts::new([cores, memory].into_iter().chain(devices))
        };
        let of_node = |node: &NodeView| {
            let count = |kind: &String| node.devices.get(kind).map_or(0, |(all, _)| *all);
            Node {
                name: node.name.clone(),
                capacity: amounts(node.cores.0, node.memory.0, &count),
            }
        };
        let place = |name: &String| nodes.iter().position(|node| node.name == *name);
        let inside = |partition: &PartitionView| {
            let its = partition.nodes.iter().filter_map(place);
            (partition.name.clone(), its.collect::<BTreeSet<usize>>())
        };
        let site = Site {
            nodes: nodes.iter().map(of_node).collect(),
            partitions: partitions.iter().map(inside).collect(),
            pooled: None,
        };
        let names = nodes.iter().zip(0..).map(|(node, at)| {
            let its = site.partitions.iter().filter(|its| its.1.contains(&at));
            let called = its.map(|(name, _)| name).chain([&node.name]);
            let has = node.features.iter().chain(node.devices.keys());
            called.chain(has).cloned().collect()
        });
        let names = names.collect();
        let request = |view: &JobView| {
            let asks = |kind: &String| view.asks.get(kind).copied().unwrap_or(0);
            let all = amounts(view.cores.0, view.memory.0, &asks);
            let (pieces, arrangement) = match u64::from(view.nodes) {
                pieces @ 2.. => (pieces, Arrangement::Apart),
                _ if site.nodes.iter().any(|node| all.is_within(&node.capacity)) => {
                    (1, Arrangement::Together)
                }
                // As it comes: where a task lies was not said.
                _ => (u64::from(view.tasks.max(1)), Arrangement::Free),
            };
            let each = |amount: u64| amount.div_ceil(pieces);
            let count = |kind: &String| each(asks(kind));
            let each = amounts(each(view.cores.0), each(view.memory.0), &count);
            Request {
                arrangement,
                ..Request::of(pieces, each)
            }
        };
        let first = views.iter().map(|view| view.submitted).min().unwrap_or(0);
        let since = |moment: u64| Time(moment.saturating_sub(first));
        let known = Known::of(views);
        let past = |(view, number): (&JobView, u64)| {
            let (started, ended) = (view.started?, view.ended?);
            let run = Duration::from_micros(ended.saturating_sub(started));
            let limit = view.limit.unwrap_or(run);
            (!run.is_zero()).then(|| Past {
                number,
                job: Job {
                    submit: since(view.submitted),
                    run,
                    estimate: limit.max(run),
                    processors: view.cores.0.div_ceil(1000).max(1),
                },
                request: request(view),
                partition: site.partitions.iter().position(|its| its.0 == view.queue),
                level: Some(view.level),
                after: Some(known.after(view)),
                started: Some(since(started)),
            })
        };
        let mut jobs: Vec<Past> = views.iter().zip(0..).filter_map(past).collect();
        jobs.sort_by_key(|past| past.job.submit);
        note(views.len() - jobs.len(), "left out: never ran");
        let large = take_too_large(&site, &mut jobs).len();
        note(large, "left out: no node has room");
        Self {
            name: "the history of this queue".into(),
            site,
            names,
            jobs,
            policy: None,
        }
    }

    /// Finds a node that is meant by a name, or any where all are alike.
    pub(super) fn like(&self, name: Option<&str>) -> anyhow::Result<usize> {
        let wrong = |what: String, hint: String| Err(advised(Class::User, what, hint));
        let nodes = &self.site.nodes;
        if self.site.pooled.is_none() && self.names.iter().all(BTreeSet::is_empty) {
            return wrong(
                format!("{} does not say how many nodes there were", self.name),
                "its head says it in `; MaxNodes: N`, by which MaxProcs can be divided".into(),
            );
        }
        let known = || {
            let all: BTreeSet<&String> = self.names.iter().flatten().collect();
            match all.is_empty() {
                true => "a log tells nodes not apart: write --add-nodes N".into(),
                false => {
                    let all: Vec<&str> = all.into_iter().map(String::as_str).collect();
                    format!("nodes are called {}", all.join(", "))
                }
            }
        };
        match name {
            Some(name) => match self.names.iter().position(|its| its.contains(name)) {
                Some(at) => Ok(at),
                None => wrong(format!("no node is called {name}"), known()),
            },
            None if nodes.iter().all(|its| its.capacity == nodes[0].capacity) => Ok(0),
            None => wrong("nodes are not alike: which is to be added?".into(), known()),
        }
    }
}

fn note(jobs: usize, why: &str) {
    if jobs > 0 {
        let word = if jobs == 1 { "job" } else { "jobs" };
        output::talk("note", format!("{jobs} {word} {why}"));
    }
}

#[cfg(test)]
mod tests {
    use hyperion_sim::batch::{After, Change, World};
    use serde_json::{Value, json};

    use super::*;

    fn job(number: u64, queue: &str, more: &Value) -> JobView {
        let mut view = json!({
            "job": number, "name": "job", "user": "ada", "uid": 1000, "dialect": "slurm",
            "queue": queue, "level": "process", "state": "completed", "starts": 1, "tasks": 1,
            "nodes": 1, "hosts": [], "cores": 2000, "memory": 0, "folder": "/",
            "submitted": 1_000_000 * number, "started": 20_000_000, "ended": 30_000_000,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            view[key] = value.clone();
        }
        serde_json::from_value(view).expect("a job")
    }

    fn history(jobs: &[JobView]) -> History {
        let node = |name: &str, devices: Value| -> NodeView {
            let node = json!({
                "name": name, "cores": 4000, "cores_used": 0, "memory": 1 << 30,
                "memory_used": 0, "devices": devices, "features": ["avx2"], "tasks": 0,
            });
            serde_json::from_value(node).expect("a node")
        };
        let nodes = [node("a", json!({})), node("b", json!({"gpu": [2, 0]}))];
        let accelerated = PartitionView {
            nodes: vec!["b".into()],
            ..PartitionView::named("accelerated", &nodes)
        };
        let partitions = [PartitionView::named("main", &nodes), accelerated];
        History::of_views(jobs, &nodes, &partitions)
    }

    #[test]
    fn nodes_are_known_by_their_names_partitions_features_and_devices() {
        let history = history(&[]);
        for (name, place) in [
            ("a", 0),
            ("accelerated", 1),
            ("gpu", 1),
            ("avx2", 0),
            ("main", 0),
        ] {
            assert_eq!(history.like(Some(name)).ok(), Some(place), "{name}");
        }
        assert!(history.like(Some("fpga")).is_err());
        assert!(history.like(None).is_err(), "which of two that differ?");
    }

    #[test]
    fn jobs_wait_for_what_they_waited_for() {
        let of_two =
            |event: &str| json!({"after": {"job": [{"job": {"number": 2}, "tasks": null}, event]}});
        let again = json!({"all": [{"job": [{"job": {"number": 1}, "tasks": null}, "ended"]}, "singleton"]});
        let jobs = [
            job(1, "main", &json!({"name": "first"})),
            job(2, "main", &json!({"index": "7"})),
            job(2, "main", &json!({"index": "8", "ended": 90_000_000})),
            job(
                3,
                "main",
                &json!({"index": "7", "terms": of_two("same-ended")}),
            ),
            job(4, "main", &json!({"terms": of_two("succeeded")})),
            job(5, "main", &json!({"terms": {"after": again}})),
            job(
                6,
                "main",
                &json!({"name": "late", "terms": {"begin": 99_000_000}}),
            ),
        ];
        let history = history(&jobs);
        let after = |place: usize| history.jobs[place].after.clone();
        let ended =
            |places: &[u64]| After::All(places.iter().map(|at| After::Ended(*at)).collect());
        assert_eq!(after(0), Some(After::All(Vec::new())));
        assert_eq!(after(3), Some(After::All(vec![ended(&[1])])));
        assert_eq!(after(4), Some(After::All(vec![ended(&[1, 2])])));
        let both = After::All(vec![ended(&[0]), ended(&[4])]);
        assert_eq!(after(5), Some(After::All(vec![both])));
        let begin = After::Submitted(Duration::from_secs(93));
        assert_eq!(after(6), Some(After::All(vec![begin])));
    }

    #[test]
    fn jobs_have_what_they_asked_for_where_they_may_and_those_that_cannot_are_out() {
        let jobs = [
            job(1, "accelerated", &json!({"asks": {"gpu": 2}})),
            job(
                2,
                "accelerated",
                &json!({"asks": {"gpu": 2}, "limit": {"secs": 60, "nanos": 0}}),
            ),
            job(3, "main", &json!({"nodes": 2, "cores": 4000})),
            job(4, "main", &json!({"asks": {"gpu": 3}})),
            job(5, "main", &json!({"started": null})),
        ];
        let history = history(&jobs);
        assert_eq!(history.jobs.len(), 3);
        let second = &history.jobs[1];
        assert_eq!(
            (second.job.submit, second.job.run.as_secs()),
            (Time::seconds(1), 10)
        );
        assert_eq!(
            (second.job.estimate.as_secs(), second.job.processors),
            (60, 2)
        );
        assert_eq!(history.jobs[2].request.arrangement, Arrangement::Apart);
        let starts = |changes: &[Change]| {
            let easy = "easy".parse().expect("a policy");
            let world = World::new(&history.site, &history.jobs, &easy, changes);
            let all = history.jobs.iter().map(|past| past.job.submit).enumerate();
            let all: Vec<_> = all.collect();
            let mut starts = vec![0; history.jobs.len()];
            let see = |ran: hyperion_sim::batch::Ran| {
                starts[ran.number as usize] = ran.start.0 / 1_000_000;
            };
            world.run(&all, see).expect("in order");
            starts
        };
        // Two jobs want both GPUs; the third has two cores on either node.
        assert_eq!(starts(&[]), [0, 10, 2]);
        let gpu = history.like(Some("gpu")).expect("a node");
        assert_eq!(starts(&[Change::Nodes(gpu, 1)]), [0, 1, 2]);
    }
}
