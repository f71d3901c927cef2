use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};

use hyperion_isolation::{Asker, FileEntry, Isolation, SandboxRecord, Spawned};
use hyperion_model::errand::{Batch, LaneLine};
use hyperion_model::job::ContainerOptions;
use hyperion_model::nodes::NodePlace;
use hyperion_model::{
    Bytes, JobId, JobSpec, Level, NodePlan, Parallel, Preflight, ProcessSpec, RankSpec, Resources,
    RootSource, RootSpec, SandboxSpec, Usage, UsernsMode,
};
use hyperion_sys::signals::SIGINT;
use rustix::pipe::pipe;

use super::launch::hand_over;
use super::*;
use crate::client::{Client, Heard};
use crate::jobs::Jobs;
use crate::talk::Ask;

/// A fence around nothing.
#[derive(Debug, Clone, Copy)]
enum Fence {
    /// It answers so often, and then hangs.
    Hanging(usize),
    /// What is started ends at once; of a rank that is told when a client was heard, too.
    Brief,
}

impl Isolation for Fence {
    fn create(&self, _: &SandboxSpec, _: &Stage) -> Result<Box<dyn Sandbox>, SandboxError> {
        let (silent, held) = pipe().expect("a pipe");
        Ok(Box::new(Inside {
            fence: *self,
            ended: VecDeque::new(),
            silent,
            _held: held,
        }))
    }
}

struct Inside {
    fence: Fence,
    ended: VecDeque<Event>,
    silent: OwnedFd,
    _held: OwnedFd,
}

impl Inside {
    fn answer<T>(&mut self, answer: T, asker: &mut dyn Asker) -> Result<T, SandboxError> {
        if let Fence::Hanging(left @ 1..) = &mut self.fence {
            *left -= 1;
            return Ok(answer);
        }
        loop {
            self.hear(asker)?;
        }
    }

    /// Waits until something is heard, or for a minute.
    fn hear(&mut self, asker: &mut dyn Asker) -> Result<bool, SandboxError> {
        let minute = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        asker.wait(self.silent.as_fd(), &minute)
    }
}

impl Sandbox for Inside {
    fn spawn(
        &mut self,
        id: u32,
        _: &ProcessSpec,
        _: Vec<OwnedFd>,
        asker: &mut dyn Asker,
    ) -> Result<Spawned, SandboxError> {
        let spawned = Spawned {
            pid: 1,
            terminal: None,
        };
        if !matches!(self.fence, Fence::Brief) {
            return self.answer(spawned, asker);
        }
        if id == 0 {
            self.hear(asker)?;
        }
        self.ended.push_back(Event::Ended {
            id,
            exit: Exit::Code(0),
            user: Duration::ZERO,
            system: Duration::ZERO,
            max_rss: 0,
            io_read: 0,
            io_written: 0,
            starved: false,
            alone: true,
        });
        Ok(spawned)
    }

    fn adopt(&mut self, _: u32, _: u32, _: RankSpec, _: Vec<OwnedFd>) -> Result<(), SandboxError> {
        Ok(())
    }

    fn signal(&mut self, _: Option<u32>, _: i32) -> Result<(), SandboxError> {
        Ok(())
    }

    fn step(&mut self, _: u32, _: Option<i32>) -> Result<(), SandboxError> {
        Ok(())
    }

    fn resize(&mut self, _: u32, _: u16, _: u16) -> Result<(), SandboxError> {
        Ok(())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.silent.as_fd()
    }

    fn next_event(&mut self) -> Result<Option<Event>, SandboxError> {
        Ok(self.ended.pop_front())
    }

    fn read_file(
        &mut self,
        _: &str,
        _: u64,
        _: u32,
        asker: &mut dyn Asker,
    ) -> Result<Option<Vec<u8>>, SandboxError> {
        self.answer(None, asker)
    }

    fn list_folder(&mut self, _: &str, asker: &mut dyn Asker) -> Result<Vec<String>, SandboxError> {
        self.answer(Vec::new(), asker)
    }

    fn look(&mut self, _: &str, asker: &mut dyn Asker) -> Result<Option<FileEntry>, SandboxError> {
        self.answer(None, asker)
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn records(&self) -> Vec<SandboxRecord> {
        Vec::new()
    }

    fn shim_folder(&self) -> PathBuf {
        PathBuf::new()
    }

    fn end(&mut self) {}

    fn destroy(&mut self) {}
}

fn plan() -> NodePlan {
    let id = JobId::new(0, 7);
    NodePlan {
        id: id.clone(),
        job: JobSpec {
            name: None,
            level: Level::Vm,
            image: None,
            argv: vec!["program".into()],
            env: BTreeMap::new(),
            workdir: None,
            user: None,
            tty: false,
            interactive: false,
            remove: false,
            resources: Resources::default(),
            rlimits: Vec::new(),
            parallel: Parallel::default(),
            members: Vec::new(),
            container: ContainerOptions::default(),
            repeat: 1,
            array: None,
            output_dir: None,
            time_limit: None,
            batch: None,
            lane: false,
            for_host: false,
        },
        sandbox: SandboxSpec {
            id,
            level: Level::Vm,
            root: RootSpec {
                source: RootSource::Host,
                scratch: None,
            },
            userns: UsernsMode::Host,
            container: ContainerOptions::default(),
            resources: Resources::default(),
            node: None::<NodePlace>,
            sweeps: false,
            steps: false,
        },
        image_digest: None,
        image_env: Vec::new(),
    }
}

/// A supervisor in a thread of its own.
struct Job {
    client: Client,
    ended: JoinHandle<io::Result<()>>,
    jobs: tempfile::TempDir,
}

impl Job {
    /// Starts that of a job that hangs after so many answers.
    fn start(answers: usize, plan: NodePlan) -> Self {
        Self::behind(Fence::Hanging(answers), plan)
    }

    fn behind(fence: Fence, plan: NodePlan) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let (mut ours, theirs) = Wire::pair().expect("a pair");
        let jobs = Jobs::new(root.path());
        hand_over(&jobs, &plan, &mut ours).expect("made");
        let ended = thread::spawn(move || {
            let launch = Launch {
                plan,
                jobs,
                isolation: Box::new(fence),
                program: "/proc/self/exe".into(),
                began: Instant::now(),
                phases: Vec::new(),
                host: HostFacts {
                    cpus: 1,
                    memory: Looked::new(Box::new(|| Bytes(1 << 30))),
                    allowed: CpuSet([0].into()),
                    nodes: Vec::new(),
                    arch: "x86_64".into(),
                },
                attach: Some((false, None)),
                keep: Vec::new(),
                notes: Vec::new(),
                counted: true,
            };
            supervise(launch, theirs)
        });
        Self {
            client: Client::new(ours),
            ended,
            jobs: root,
        }
    }

    fn ask(&mut self, ask: &Ask) {
        self.client.ask(ask).expect("it listens");
    }

    fn started(mut self) -> Self {
        let heard = self.client.hear().expect("heard");
        assert_eq!(heard, Some(Heard::Told(Tell::Started)));
        self
    }

    /// Asks for a command beside the ranks, by another client.
    fn exec(&self) -> Client {
        let job = Jobs::new(self.jobs.path()).find("0000").expect("one");
        let mut client = Client::connect(&job).expect("connected");
        let process = ProcessSpec {
            node: 0,
            argv: vec!["beside".into()],
            env: Vec::new(),
            cwd: PathBuf::new(),
            user: None,
            tty: false,
            terminal_size: None,
            cpus: None,
            rlimits: Vec::new(),
        };
        let (stdin, size) = (false, None);
        let ask = Ask::Exec {
            process,
            stdin,
            size,
        };
        client.ask(&ask).expect("asked");
        client
    }

    /// Waits for the end, which comes soon.
    fn end(mut self) -> End {
        let since = Instant::now();
        let end = loop {
            match self.client.hear().expect("heard") {
                Some(Heard::Told(Tell::Ended(end))) => break *end,
                Some(_) => {}
                None => panic!("no end was told"),
            }
        };
        // Its own limits together are less than three seconds; of what it waits for, a minute.
        assert!(since.elapsed() < Duration::from_secs(30), "{end:?}");
        self.ended.join().expect("no panic").expect("it went well");
        end
    }
}

fn what(end: &End) -> &str {
    end.failure.as_ref().map_or("", |f| &f.what)
}

const NOW: Ask = Ask::Stop { grace_ms: 0 };
const HANGS: &str = "what runs inside did not answer, and was ended from outside";

#[test]
fn a_job_whose_start_hangs_is_stopped_at_once() {
    for (ask, code) in [(Ask::Signal(SIGINT), 130), (NOW, 143)] {
        let mut job = Job::start(0, plan());
        job.ask(&ask);
        let end = job.end();
        assert_eq!((end.code, what(&end)), (code, NOT_BEGUN), "{ask:?}");
        assert_eq!(end.report, None);
    }
    // It hangs when its files are looked at: nothing is decided by half of them.
    let mut looked = plan();
    looked.job.parallel.preflight = Preflight::Show;
    let mut job = Job::start(0, looked);
    job.ask(&Ask::Signal(SIGINT));
    let end = job.end();
    assert_eq!((end.code, what(&end)), (130, NOT_BEGUN));
}

#[test]
fn a_job_that_hangs_as_it_runs_is_stopped_when_its_grace_is_over() {
    let mut job = Job::start(1, plan()).started();
    job.ask(&NOW);
    let end = job.end();
    assert_eq!((end.code, what(&end)), (137, HANGS));
    assert!(end.report.is_some());
    // By the key, when it is struck again.
    let mut job = Job::start(1, plan()).started();
    job.ask(&Ask::Signal(SIGINT));
    job.ask(&Ask::Signal(SIGINT));
    let end = job.end();
    assert_eq!((end.code, what(&end)), (130, HANGS));
    // While somebody waits for a command beside it.
    let mut job = Job::start(1, plan()).started();
    let beside = job.exec();
    job.ask(&NOW);
    let end = job.end();
    assert_eq!((end.code, what(&end)), (137, HANGS));
    drop(beside);
    // What lives is not taken for what hangs.
    let mut job = Job::start(2, plan()).started();
    job.ask(&Ask::Signal(SIGINT));
    job.ask(&Ask::Stats);
    let told = job.client.hear().expect("heard");
    assert!(matches!(told, Some(Heard::Told(Tell::Stats { .. }))));
    job.ask(&NOW);
    assert_eq!(job.end().code, 137);
}

#[test]
fn the_time_limit_holds_for_what_hangs() {
    let mut limited = plan();
    limited.job.time_limit = Some(Duration::from_millis(300));
    let job = Job::start(1, limited.clone()).started();
    let beside = job.exec();
    let end = job.end();
    assert_eq!(end.code, 124);
    assert!(what(&end).starts_with("the job reached its time limit"));
    drop(beside);
    let end = Job::start(1, limited).started().end();
    assert_eq!(end.code, 124);
}

fn lane() -> NodePlan {
    let mut plan = plan();
    plan.job.lane = true;
    plan
}

#[test]
fn a_lane_ends_whose_agent_goes_while_a_task_is_started() {
    let mut job = Job::behind(Fence::Brief, lane()).started();
    let task = LaneTask {
        id: JobId::new(0, 8),
        argv: vec!["program".into()],
        env: Vec::new(),
        workdir: "/".into(),
        rlimits: Vec::new(),
        cpus: None,
        batch: Batch {
            variables: BTreeMap::new(),
            input: None,
            output: "/dev/null".into(),
            error: None,
            append: (true, true),
            kept: false,
        },
    };
    let begun = Tell::Task(LaneLine::Begun(task.id.clone()));
    job.ask(&Ask::Task(Box::new(task)));
    let heard = job.client.hear().expect("heard");
    assert_eq!(heard, Some(Heard::Told(begun)));
    drop(job.client);
    let since = Instant::now();
    while !job.ended.is_finished() {
        assert!(since.elapsed() < Duration::from_secs(30), "it still waits");
        thread::sleep(Duration::from_millis(1));
    }
    job.ended.join().expect("no panic").expect("it went well");
}

#[test]
fn the_end_of_a_command_is_told_that_came_with_its_start() {
    let mut job = Job::behind(Fence::Brief, lane()).started();
    let mut beside = job.exec();
    let ended = Tell::ExecEnded {
        exit: Exit::Code(0),
    };
    for told in [Tell::Started, ended] {
        let (since, mut heard) = (Instant::now(), None);
        while heard.is_none() {
            assert!(since.elapsed() < Duration::from_secs(30), "no {told:?}");
            thread::sleep(Duration::from_millis(1));
            heard = beside.try_hear().expect("heard");
        }
        assert_eq!(heard, Some(Heard::Told(told)));
    }
    job.ask(&NOW);
    job.end();
}
