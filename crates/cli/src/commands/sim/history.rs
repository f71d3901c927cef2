//! What ran, and on what: the history of the own queue, or a log.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use hyperion_api::queue::{
    ClosureView, Filter, JobView, NodeView, PartitionView, Reply, Request as Asked, ReservationView,
};
use hyperion_lifecycle::{
    Booked, Booking, Closure, NodeState, Partition, PartitionState, Rules, Shut, Submitted,
};
use hyperion_model::Class;
use hyperion_model::indices::Array;
use hyperion_model::submission::{Command, Part, Submission};
use hyperion_model::task::State;
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
        let jobs = trace.jobs.iter();
        Ok(Self {
            name: path.display().to_string(),
            site: Site::pool(all, of_node.map(|nodes| all / nodes)),
            names: vec![BTreeSet::new()],
            jobs: jobs
                .map(|found| Past::of(found.job, found.started()))
                .collect(),
            policy: None,
        })
    }

    /// Asks the server of the own queue.
    pub(super) fn of_queue(ctx: &Context) -> anyhow::Result<Self> {
        let (mut views, mut told) = (Vec::new(), Told::default());
        let mut is_own = true;
        if !queue::is_empty(ctx) {
            let mut server = Server::reach(ctx, true)?;
            is_own = server.is_own;
            views = server.jobs(Filter {
                ended: true,
                past: true,
                ..Filter::default()
            })?;
            if let Reply::Nodes(all) = server.ask(&Asked::Nodes)? {
                told.nodes = all;
            }
            if let Reply::Partitions(all) = server.ask(&Asked::Partitions)? {
                told.partitions = all;
            }
            if let Reply::Closures(kept, closed) = server.ask(&Asked::Closures)? {
                (told.reservations, told.closures) = (kept, closed);
            }
        }
        let mut policy = None;
        match is_own {
            true => {
                let (order, its, rules) = queue::rules(ctx)?;
                told.rules = Some(rules);
                policy = Some(Named {
                    name: "as ruled".into(),
                    order,
                    backfill: its.backfill,
                });
            }
            false => output::talk(
                "note",
                "the rules of the host's queue are known to root alone",
            ),
        }
        let mut history = Self::of_views(&views, &told);
        history.policy = policy;
        Ok(history)
    }

    fn of_views(views: &[JobView], told: &Told) -> Self {
        let first = views.iter().map(|view| view.submitted).min().unwrap_or(0);
        let site = told.site(views, first);
        let names = told.nodes.iter().map(|node| {
            let its = told.partitions.iter();
            let its = its.filter(|its| its.nodes.contains(&node.name));
            let called = its.map(|its| &its.name).chain([&node.name]);
            let has = node.features.iter().chain(node.devices.keys());
            called.chain(has).cloned().collect()
        });
        let names = names.collect();
        let since = |moment: u64| Time(moment.saturating_sub(first));
        let known = Known::of(views);
        let mut unknown = 0;
        let past = |view: &JobView| {
            let (started, ended) = (view.started?, view.ended?);
            let made_room = view.state == State::Preempted;
            let run = Past::run(Time(started), view.still, Time(ended), made_room);
            if run.is_zero() {
                return None;
            }
            let holds = holds(view, started);
            unknown += usize::from(holds.is_none());
            let mut asked = asked(view, &site);
            asked.begin = view.terms.begin.map(since);
            asked.submission.after = known.after(view);
            Some(Past {
                job: Job {
                    submit: since(view.submitted),
                    run,
                    // As the scheduler knew it: to end takes a while.
                    estimate: view.limit.unwrap_or(Duration::MAX),
                    processors: view.cores.0.div_ceil(1000).max(1),
                },
                asked: Some(Box::new(asked)),
                level: Some(view.level),
                holds: holds.unwrap_or_default(),
                started: Some(since(started) + view.still),
            })
        };
        let mut jobs: Vec<Past> = views.iter().filter_map(past).collect();
        jobs.sort_by_key(|past| past.job.submit);
        note(views.len() - jobs.len(), "left out: never ran");
        note(unknown, "held nobody knows until when: as if never held");
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
        let nodes = &self.site.has.nodes;
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

/// What a server tells of its site.
#[derive(Default)]
struct Told {
    nodes: Vec<NodeView>,
    partitions: Vec<PartitionView>,
    /// Those that were, too.
    reservations: Vec<ReservationView>,
    closures: Vec<ClosureView>,
    /// What its file says, where that can be read.
    rules: Option<Rules>,
}

impl Told {
    /// Gives the site on which jobs ran, at times since a first moment.
    fn site(&self, views: &[JobView], first: u64) -> Site {
        let asked = views.iter().flat_map(|view| view.asks.keys());
        let had = self.nodes.iter().flat_map(|node| node.devices.keys());
        let kinds: BTreeSet<&String> = asked.chain(had).collect();
        let of_node = |node: &NodeView| {
            let count = |kind: &&String| node.devices.get(*kind).map_or(0, |(all, _)| *all);
            let devices = kinds.iter().map(count);
            Node {
                name: node.name.clone(),
                capacity: Amounts::new([node.cores.0, node.memory.0].into_iter().chain(devices)),
            }
        };
        let has = hyperion_lifecycle::Site {
            nodes: self.nodes.iter().map(of_node).collect(),
            features: self
                .nodes
                .iter()
                .map(|node| node.features.clone())
                .collect(),
            kinds: kinds.iter().map(|kind| (*kind).clone()).collect(),
            ..Default::default()
        };
        let of_view = |view: &PartitionView| {
            let partition = Partition {
                nodes: view.nodes.iter().cloned().collect(),
                ..Partition::default()
            };
            (view.name.clone(), partition)
        };
        let rules = self.rules.clone().unwrap_or_else(|| Rules {
            partitions: self.partitions.iter().map(of_view).collect(),
            ..Rules::default()
        });
        let since = |moment: u64| Time(moment.saturating_sub(first));
        let booked = |view: &ReservationView| Booked {
            name: view.name.clone(),
            booking: Booking {
                nodes: match view.nodes.len() == self.nodes.len() {
                    true => BTreeSet::new(),
                    false => view.nodes.iter().cloned().collect(),
                },
                from: since(view.from),
                until: since(view.until),
                // Who had a right to it is known by now.
                users: BTreeSet::new(),
                accounts: BTreeSet::new(),
            },
            made: since(view.made),
            gone: view.gone.map(since),
        };
        let reservations = self.reservations.iter();
        // Nodes that are there no more are kept for nobody.
        let there = reservations.filter(|its| !its.nodes.is_empty());
        let lasted = there.filter(|its| its.until > first && its.gone != Some(first));
        // What is closed to this day was so as long as is told of jobs.
        let last = views.iter().filter_map(|view| view.ended).max();
        let closed = |view: &ClosureView| {
            let why = String::new();
            Closure {
                of: match (view.partition, view.down) {
                    (true, _) => Shut::Partition(view.name.clone(), PartitionState::Down),
                    (_, true) => Shut::Node(view.name.clone(), NodeState::Down(why)),
                    (_, false) => Shut::Node(view.name.clone(), NodeState::Drain(why)),
                },
                from: since(view.from),
                until: view.until.or(last).map(since),
            }
        };
        let closures = self.closures.iter();
        let closures = closures.filter(|its| its.until.is_none_or(|until| until > first));
        Site {
            has,
            rules,
            closed: closures.map(closed).collect(),
            booked: lasted.map(booked).collect(),
            pooled: None,
        }
    }
}

/// Gives what a job asked, as far as a list tells it.
fn asked(view: &JobView, site: &Site) -> Submitted {
    let terms = &view.terms;
    let mut submission = Submission::new(view.dialect, Command::Room { kept: false });
    submission.account.clone_from(&view.account);
    submission.project.clone_from(&terms.project);
    submission.qos.clone_from(&view.qos);
    submission.reservation.clone_from(&terms.reservation);
    (submission.nice, submission.priority) = (terms.nice, terms.fixed);
    submission.requeue = terms.requeue;
    let part = Part {
        features: terms.features.clone(),
        hosts: terms.with.clone(),
        without: terms.without.clone(),
        ..Part::default()
    };
    submission.parts = vec![part].into();
    let index = view.index.as_ref();
    submission.array = index
        .and_then(|index| index.parse().ok())
        .map(|indices| Array {
            indices,
            at_once: terms.at_once,
        });
    Submitted {
        job: view.job,
        user: view.uid,
        submission,
        request: request(view, site).into(),
        limit: view.limit.unwrap_or(Duration::MAX),
        begin: None,
        deadline: None,
        partition: Some(view.queue.clone()),
    }
}

fn request(view: &JobView, site: &Site) -> Request {
    let kinds = &site.has.kinds;
    let amounts = |share: &dyn Fn(u64) -> u64| {
        let asks = kinds.iter().map(|kind| view.asks.get(kind).copied());
        let all = [view.cores.0, view.memory.0].into_iter();
        Amounts::new(all.chain(asks.map(Option::unwrap_or_default)).map(share))
    };
    let all = amounts(&|amount| amount);
    let fits = |node: &Node| all.is_within(&node.capacity);
    let (pieces, arrangement) = match u64::from(view.nodes) {
        pieces @ 2.. => (pieces, Arrangement::Apart),
        _ if site.has.nodes.iter().any(fits) => (1, Arrangement::Together),
        // As it comes: where a task lies was not said.
        _ => (u64::from(view.tasks.max(1)), Arrangement::Free),
    };
    let licences = |name: &String| {
        view.terms
            .licences
            .get(name)
            .map_or(0, |count| (*count).into())
    };
    Request {
        arrangement,
        exclusive: view.terms.exclusive,
        shared: match view.terms.licences.is_empty() {
            true => Amounts::default(),
            false => Amounts::new(site.rules.licences.keys().map(licences)),
        },
        ..Request::of(pieces, amounts(&|amount| amount.div_ceil(pieces)))
    }
}

/// Says when a job was kept from starting before it did; `None` where that is not known.
fn holds(view: &JobView, started: u64) -> Option<Vec<(Duration, Duration)>> {
    let since = |moment: u64| Duration::from_micros(moment.saturating_sub(view.submitted));
    let before = view.terms.held.iter().filter(|(from, _)| *from < started);
    let spans = before.map(|(from, until)| Some((since(*from), since((*until)?))));
    spans.collect()
}

pub(super) fn note(jobs: usize, why: &str) {
    if jobs > 0 {
        let word = if jobs == 1 { "job" } else { "jobs" };
        output::talk("note", format!("{jobs} {word} {why}"));
    }
}

#[cfg(test)]
mod tests {
    use hyperion_model::submission::{Condition, Event, JobRef, JobWord};
    use hyperion_sim::batch::{Change, Workload, World};
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

    fn site() -> (Vec<NodeView>, Vec<PartitionView>) {
        let node = |name: &str, devices: Value| -> NodeView {
            let node = json!({
                "name": name, "cores": 4000, "cores_used": 0, "memory": 1 << 30,
                "memory_used": 0, "devices": devices, "features": ["avx2"], "tasks": 0,
            });
            serde_json::from_value(node).expect("a node")
        };
        let nodes = vec![node("a", json!({})), node("b", json!({"gpu": [2, 0]}))];
        let accelerated = PartitionView {
            nodes: vec!["b".into()],
            ..PartitionView::named("accelerated", &nodes)
        };
        let partitions = vec![PartitionView::named("main", &nodes), accelerated];
        (nodes, partitions)
    }

    fn history(jobs: &[JobView]) -> History {
        let (nodes, partitions) = site();
        let told = Told {
            nodes,
            partitions,
            ..Told::default()
        };
        History::of_views(jobs, &told)
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
            job(
                2,
                "main",
                &json!({"index": "8", "ended": 90_000_000, "terms": {"at_once": 1}}),
            ),
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
        let asked = |place: usize| history.jobs[place].asked.as_ref().expect("it is known");
        let after = |place: usize| asked(place).submission.after.clone();
        let happened = |job: u64, event| {
            let (job, tasks) = (JobWord::Number(job), None);
            Condition::Job(JobRef { job, tasks }, event)
        };
        let ended = |job| happened(job, Event::Ended);
        assert_eq!(after(0), None);
        let same = vec![happened(2, Event::SameEnded), ended(2)];
        assert_eq!(after(3), Some(Condition::Any(same)));
        assert_eq!(after(4), Some(ended(2)));
        assert_eq!(after(5), Some(Condition::All(vec![ended(1), ended(4)])));
        assert_eq!((after(6), asked(6).begin), (None, Some(Time::seconds(98))));
        let array = asked(2).submission.array.as_ref().expect("a task of one");
        assert_eq!((array.indices.first(), array.at_once), (8, Some(1)));
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
        let third = history.jobs[2].asked.as_ref().expect("it is known");
        assert_eq!(third.request.arrangement, Arrangement::Apart);
        let starts = |changes: &[Change]| {
            let easy = "easy".parse().expect("a policy");
            let world = World::new(&history.site, &history.jobs, &easy, changes);
            let submitted: Vec<_> = history.jobs.iter().map(|past| past.job.submit).collect();
            let all = Workload::of(&submitted);
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

    #[test]
    fn what_the_rules_know_of_a_job_is_told_of_it() {
        let held = json!([
            [2_000_000, 5_000_000],
            [6_000_000, 7_000_000],
            [25_000_000, null]
        ]);
        let more = json!({
            "account": "bills", "qos": "good",
            "terms": {
                "nice": 7, "fixed": -3, "project": "p", "reservation": "ada", "features": "avx2",
                "exclusive": true, "licences": {"matlab": 2}, "with": ["a"], "held": held,
            },
        });
        let released = json!({"terms": {"held": [[2_000_000, null]]}});
        let jobs = [
            job(1, "main", &json!({})),
            job(2, "main", &more),
            job(2, "main", &released),
        ];
        let (nodes, partitions) = site();
        let mut reservation = json!({
            "name": "ada", "from": 11_000_000, "until": 21_000_000, "nodes": ["a"], "cores": 4000,
            "users": ["ada"], "accounts": [], "made": 3_000_000, "gone": 15_000_000,
        });
        let ada: ReservationView = serde_json::from_value(reservation.clone()).expect("kept");
        reservation["until"] = 500_000.into();
        let before = serde_json::from_value(reservation).expect("kept");
        let closures = json!([
            {"name": "b", "from": 0, "until": 1_000_000},
            {"name": "b", "down": true, "from": 0, "until": 2_000_000},
            {"name": "main", "partition": true, "from": 4_000_000},
        ]);
        let licences = [("fluent".to_owned(), 1), ("matlab".to_owned(), 5)];
        let told = Told {
            nodes,
            partitions,
            reservations: vec![before, ada],
            closures: serde_json::from_value(closures).expect("closed"),
            rules: Some(Rules {
                licences: licences.into(),
                ..Rules::default()
            }),
        };
        let history = History::of_views(&jobs, &told);
        assert_eq!(history.jobs.len(), 3);
        let past = &history.jobs[1];
        let second = Duration::from_secs;
        assert_eq!(past.holds, [(second(0), second(3)), (second(4), second(5))]);
        assert_eq!(past.job.estimate, Duration::MAX, "it had no limit");
        assert_eq!(history.jobs[2].holds, [], "nobody knows until when");
        let asked = past.asked.as_ref().expect("it is known");
        let submission = &asked.submission;
        let words = [
            &submission.account,
            &submission.project,
            &submission.qos,
            &submission.reservation,
            &submission.parts[0].features,
            &asked.partition,
        ];
        let words = words.map(|word| word.as_deref().unwrap_or_default());
        assert_eq!(words, ["bills", "p", "good", "ada", "avx2", "main"]);
        assert_eq!((submission.nice, submission.priority), (7, Some(-3)));
        assert_eq!(
            (asked.user, &submission.parts[0].hosts[..]),
            (1000, &["a".into()][..])
        );
        assert!(asked.request.exclusive);
        assert_eq!(asked.request.shared, Amounts::new([0, 2]));
        let [kept] = &history.site.booked[..] else {
            panic!("{:?}", history.site.booked);
        };
        let times = (kept.made, kept.booking.from, kept.booking.until, kept.gone);
        let at = Time::seconds;
        assert_eq!(times, (at(2), at(10), at(20), Some(at(14))));
        assert_eq!(kept.booking.nodes, ["a".to_owned()].into());
        let closed = |of, from, until| Closure {
            of,
            from: at(from),
            until: Some(at(until)),
        };
        let down = Shut::Node("b".into(), NodeState::Down(String::new()));
        let main = Shut::Partition("main".into(), PartitionState::Down);
        // The last job ended at 30, when the first had come for 29.
        let all = [closed(down, 0, 1), closed(main, 3, 29)];
        assert_eq!(history.site.closed, all);
    }
}
