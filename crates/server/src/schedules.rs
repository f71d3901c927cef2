//! A server, its journal and an agent that are killed at every point, in many random
//! schedules: the server is the real one, and so are its files and sockets; agent,
//! supervisors and clients are played by the test.
//!
//! A kill is played so: when the point is reached the files are copied, what was sent is
//! taken, and all connections are cut; what the server does from then on is seen by nobody.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyperion_api::Lines;
use hyperion_api::queue::{Reply, Request, Target};
use hyperion_engine::Local;
use hyperion_lifecycle::{Job, Rules, Site};
use hyperion_model::errand::{Errand, News, Outcome, Start};
use hyperion_model::report::Exit;
use hyperion_model::submission::{
    Command, Condition, Dialect, Event, JobRef, JobWord, Submission, TimeLimit,
};
use hyperion_model::task::End;
use hyperion_model::{Array, Edit, JobId};
use hyperion_sched::{Amounts, Node, Order, Policy};
use hyperion_testkit::Dice;
use rustix::net::{Shutdown, shutdown};
use tempfile::TempDir;

use crate::history::Keep;
use crate::turn::{Server, Settings};
use crate::{Account, Audience};

/// So many schedules are played; `HYPERION_SCHEDULES` says another number.
const SCHEDULES: u64 = 60;
/// So much happens in each.
const STEPS: usize = 60;

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

fn world<T>(with: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with(|world| with(&mut world.borrow_mut()))
}

/// All that is not the server.
#[derive(Default)]
struct World {
    dice: Dice,
    folder: PathBuf,
    /// In how many points the server is killed.
    fuse: Option<usize>,
    /// Where its files are copied to then.
    rescued: Option<PathBuf>,
    agent: Option<Lines>,
    /// What the agent was asked and has not done.
    asked: VecDeque<Errand>,
    /// Records of starts: they outlive agents and servers.
    runs: BTreeMap<JobId, Run>,
    client: Option<Lines>,
    /// What the client has asked and was not answered.
    open: VecDeque<String>,
    /// Jobs that were acknowledged, by number: their names.
    acknowledged: BTreeMap<u64, String>,
    /// Jobs that somebody wanted to start again.
    requeued: BTreeSet<u64>,
    /// Jobs of which a start was lost.
    lost: BTreeSet<u64>,
    points: BTreeMap<&'static str, u32>,
}

/// A start.
struct Run {
    start: Box<Start>,
    /// How it ended; it runs while that is not known.
    over: Option<Outcome>,
    /// Its record is gone.
    forgotten: bool,
}

fn outcome(end: End) -> Outcome {
    Outcome {
        end,
        why: None,
        cost: None,
    }
}

fn connect(_: u32) -> io::Result<Local> {
    let (ours, theirs) = UnixStream::pair()?;
    let ours = Lines::new(ours)?;
    world(|world| {
        // Another agent waits until the one before has done what it was asked.
        world.work(usize::MAX);
        world.agent = Some(ours);
    });
    Local::over(theirs)
}

fn reached(point: &'static str) {
    world(|world| world.reached(point));
}

impl World {
    fn reached(&mut self, point: &'static str) {
        if self.rescued.is_some() {
            return;
        }
        *self.points.entry(point).or_default() += 1;
        match &mut self.fuse {
            Some(0) => self.kill_server(),
            Some(points) => *points -= 1,
            None => {}
        }
    }

    /// Nobody sees what the server does from now on.
    fn kill_server(&mut self) {
        self.hear();
        self.hear_answers();
        for lines in [&self.agent, &self.client].into_iter().flatten() {
            let _ = shutdown(lines.as_fd(), Shutdown::Both);
        }
        self.open.clear();
        self.client = None;
        // The agent does what it was asked, and ends.
        self.work(usize::MAX);
        self.agent = None;
        let to = self.folder.with_extension(format!("{}", self.dice.0));
        fs::create_dir(&to).expect("a folder");
        for entry in fs::read_dir(&self.folder).expect("listed") {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("a type").is_file() {
                fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
            }
        }
        self.rescued = Some(to);
    }

    /// Takes what the server has sent to its agent.
    fn hear(&mut self) {
        while let Some(agent) = &mut self.agent
            && let Ok(Some(errand)) = agent.try_hear()
        {
            self.asked.push_back(errand);
        }
    }

    /// Lets the agent do so much of what it was asked.
    fn work(&mut self, most: usize) {
        self.hear();
        for _ in 0..most.min(self.asked.len()) {
            if let Some(errand) = self.asked.pop_front() {
                self.run(errand);
            }
        }
    }

    fn tell(&mut self, news: &News) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.say(news);
        }
    }

    /// Says how a start stands.
    fn tell_of(&mut self, id: &JobId) {
        let run = self.runs.get(id).filter(|run| !run.forgotten);
        let news = match run.map(|run| run.over.clone()) {
            None => News::Unknown(id.clone()),
            Some(Some(over)) => News::Over(id.clone(), Box::new(over)),
            Some(None) => News::Up {
                id: id.clone(),
                within: None,
            },
        };
        self.tell(&news);
    }

    fn run(&mut self, errand: Errand) {
        match errand {
            Errand::Start(start) => {
                let id = start.id.clone();
                self.runs.entry(id.clone()).or_insert(Run {
                    start,
                    over: None,
                    forgotten: false,
                });
                self.tell_of(&id);
            }
            Errand::Adopt { ids, .. } => {
                for (id, run) in &mut self.runs {
                    let wanted = ids.contains(id);
                    assert!(wanted || run.over.is_some(), "{id} is an orphan");
                    run.forgotten |= !wanted;
                }
                ids.iter().for_each(|id| self.tell_of(id));
            }
            Errand::Stop(id, _) => self.end(&id, End::Exit(Exit::Signal(15))),
            Errand::Forget(id) => {
                let run = self.runs.get_mut(&id).expect("it was told of");
                assert!(run.over.is_some(), "{id} runs and is forgotten");
                run.forgotten = true;
            }
            Errand::Asked(_)
            | Errand::Signal(..)
            | Errand::Warn(..)
            | Errand::Suspend(_)
            | Errand::Resume(..)
            | Errand::Clear(_) => {}
        }
    }

    fn end(&mut self, id: &JobId, end: End) {
        if let Some(run) = self.runs.get_mut(id)
            && run.over.is_none()
        {
            run.over = Some(outcome(end));
            if end == End::Lost {
                self.lost.insert(run.start.job);
            }
            self.tell_of(id);
        }
    }

    fn running(&self) -> Vec<JobId> {
        let running = self.runs.iter().filter(|(_, run)| run.over.is_none());
        running.map(|(id, _)| id.clone()).collect()
    }

    /// The agent is killed: what it was asked and has not done is lost, and what it has told.
    fn kill_agent(&mut self) {
        self.hear();
        self.asked.clear();
        self.agent = None;
    }

    fn say(&mut self, name: &str, request: &Request) {
        let address = self.folder.join("socket");
        let client = self.client.get_or_insert_with(|| {
            let stream = UnixStream::connect(address).expect("somebody listens");
            Lines::new(stream).expect("a connection")
        });
        client.say(request).expect("said");
        self.open.push_back(name.to_owned());
    }

    fn hear_answers(&mut self) {
        while let Some(client) = &mut self.client
            && let Ok(Some(reply)) = client.try_hear::<Reply>()
        {
            let name = self.open.pop_front().expect("it was asked");
            match reply {
                Reply::Submitted(job) => {
                    let before = self.acknowledged.insert(job, name);
                    assert_eq!(before, None, "job {job} is given twice");
                }
                Reply::Done | Reply::Refused(_) => {}
                reply => panic!("{reply:?}"),
            }
        }
    }

    /// Asks for something.
    fn ask(&mut self, count: usize) {
        let jobs: Vec<u64> = self.acknowledged.keys().copied().collect();
        let some = jobs.get(self.dice.below(jobs.len())).copied();
        match (self.dice.below(8), some) {
            (0, Some(job)) => {
                let targets = vec![Target { job, index: None }];
                self.say("", &Request::Cancel(targets));
            }
            (1, Some(job)) => {
                self.requeued.insert(job);
                let targets = vec![Target { job, index: None }];
                self.say("", &Request::Requeue(targets));
            }
            (4, Some(job)) => {
                let targets = vec![Target { job, index: None }];
                let hour = TimeLimit::Span(Duration::from_secs(3600));
                let edits = vec![Edit::Comment(Some("other".into())), Edit::Limit(hour)];
                self.say("", &Request::Edit(targets, edits));
            }
            (kind, some) => {
                let name = format!("job{count}");
                let command = Command::Program(vec!["true".into()]);
                let mut asked = Submission::new(Dialect::Slurm, command);
                asked.name = Some(name.clone());
                asked.requeue = Some(self.dice.below(2) == 0);
                if kind == 2 {
                    let array: Array = "1-5%2".parse().expect("an array");
                    asked.array = Some(array);
                }
                if let (3, Some(on)) = (kind, some) {
                    let job = JobWord::Number(on);
                    let on = JobRef { job, tasks: None };
                    asked.after = Some(Condition::Job(on, Event::Ended));
                }
                self.say(&name, &Request::Submit(Box::new(asked)));
            }
        }
    }
}

fn settings(folder: &Path) -> Settings {
    let stop = UnixStream::pair().expect("a pair");
    Settings {
        folder: folder.to_owned(),
        agent: connect,
        reached,
        hold: |_, _, _| {},
        parted: |_| {},
        audience: Audience::default(),
        socket: None,
        account: |_| {
            Some(Account {
                name: "user".into(),
                home: "/".into(),
            })
        },
        site: Site {
            nodes: vec![Node {
                name: "here".into(),
                capacity: Amounts::new([3000, 1 << 30]),
            }],
            ..Site::default()
        },
        rules: Rules::default(),
        order: Order::Fifo,
        policy: Policy::default(),
        metrics: None,
        stop: stop.0.into(),
        idle: None,
        keep: Keep {
            span: None,
            jobs: None,
        },
    }
}

fn open(folder: &Path) -> Server {
    world(|world| world.folder = folder.to_owned());
    let (server, remarks) = Server::open(settings(folder)).expect("opened");
    assert_eq!(remarks, [""; 0]);
    server
}

/// Lets the server see what has come; where it is killed at that, another takes its place.
fn round(server: Server) -> Server {
    let mut server = server;
    let went = server.wait(true).and_then(|_| server.round());
    let rescued = world(|world| {
        world.fuse = None;
        world.hear_answers();
        world.rescued.take()
    });
    match rescued {
        None => {
            went.expect("it goes on");
            if world(|world| world.agent.is_none()) {
                server.start_agents().expect("another agent");
            }
            server
        }
        Some(folder) => {
            drop(server);
            open(&folder)
        }
    }
}

/// Plays a schedule; gives how often each point was reached.
fn play(seed: u64) -> BTreeMap<&'static str, u32> {
    let place = TempDir::new().expect("a folder");
    world(|world| {
        *world = World {
            dice: Dice(seed),
            ..World::default()
        };
    });
    let mut server = open(&place.path().join("queue"));
    for step in 0..STEPS {
        world(|world| match world.dice.below(12) {
            0..=3 => world.ask(step),
            4..=6 => {
                let running = world.running();
                if let Some(id) = running.get(world.dice.below(running.len())) {
                    let code = world.dice.below(3) as u8;
                    world.end(id, End::Exit(Exit::Code(code)));
                }
            }
            7 => {
                let running = world.running();
                if let Some(id) = running.get(world.dice.below(running.len())) {
                    world.end(id, End::Lost);
                }
            }
            8 => world.kill_agent(),
            _ => {
                let most = world.dice.below(6);
                world.work(most);
            }
        });
        world(|world| {
            let kills = world.dice.below(4) == 0;
            world.fuse = kills.then(|| world.dice.below(7));
        });
        server = round(server);
    }
    // All comes to an end, now that nobody is killed any more.
    for _ in 0..500 {
        world(|world| {
            world.work(usize::MAX);
            for id in world.running() {
                world.end(&id, End::Exit(Exit::Code(0)));
            }
        });
        server = round(server);
        if server.ledger.jobs().values().all(|job| job.is_over()) {
            break;
        }
    }
    server = round(server);
    world(|world| world.work(usize::MAX));
    check(server)
}

fn check(server: Server) -> BTreeMap<&'static str, u32> {
    let jobs = server.ledger.jobs().clone();
    let folder = server.settings.folder.clone();
    drop(server);
    world(|world| {
        for (number, name) in &world.acknowledged {
            let job: Option<&Box<Job>> = jobs.get(number);
            let job = job.unwrap_or_else(|| panic!("job {number} was acknowledged and is lost"));
            assert_eq!(job.asked.submission.name.as_ref(), Some(name));
        }
        for (number, job) in &jobs {
            assert!(job.is_over(), "job {number} does not end: {job:?}");
        }
        let mut starts: BTreeMap<(u64, Option<u32>), u32> = BTreeMap::new();
        for (id, run) in &world.runs {
            assert!(run.over.is_some(), "{id} runs, and nobody knows it");
            assert!(jobs.contains_key(&run.start.job), "{id} is of no job");
            *starts.entry((run.start.job, run.start.index)).or_default() += 1;
        }
        for ((job, index), count) in starts {
            let may = jobs[&job].asked.submission.requeue == Some(true);
            let again = world.requeued.contains(&job) || (may && world.lost.contains(&job));
            assert!(
                count == 1 || again,
                "{job} {index:?} was started {count} times"
            );
        }
    });
    // What is read is what was in mind.
    let again = open(&folder);
    assert_eq!(again.ledger.jobs(), &jobs);
    drop(again);
    world(|world| std::mem::take(&mut world.points))
}

#[test]
fn nothing_that_was_acknowledged_is_lost_or_done_twice_wherever_server_and_agent_are_killed() {
    let many = std::env::var("HYPERION_SCHEDULES").ok();
    let many = many.and_then(|many| many.parse().ok()).unwrap_or(SCHEDULES);
    let mut points: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..many {
        println!("schedule {seed}");
        for (point, count) in play(seed.wrapping_mul(0x9e37_79b9)) {
            *points.entry(point).or_default() += count;
        }
    }
    println!("{points:?}");
    for point in [
        "server-asked",
        "server-decided",
        "server-written",
        "server-synced",
        "server-acted",
        "server-answered",
    ] {
        assert!(
            points.get(point).is_some_and(|count| *count > 100),
            "{point}"
        );
    }
}
