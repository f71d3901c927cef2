//! Lanes as their agent sees them: supervisors that run short tasks one after the other.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use hyperion_model::JobId;
use hyperion_model::errand::{LaneLine, News, Outcome, Start};
use hyperion_model::report::Exit;
use hyperion_model::task::End;
use hyperion_node::client::Heard;
use hyperion_node::supervisor::start;
use hyperion_node::talk::{Ask, Tell};
use hyperion_node::{Client, JobFolder};

use super::{Agent, batch, end_of, lost, outcome};
use batch::Shape;
use hyperion_sys::failpoint;

/// A lane that has had nothing to do for so long is ended.
const IDLE: Duration = Duration::from_secs(1);

/// A lane.
pub(super) struct Lane {
    /// The connection to its supervisor; none when that has ended.
    pub(super) client: Option<Client>,
    /// It has come up.
    up: bool,
    /// What it can run; nothing more where another agent has started it.
    shape: Option<Shape>,
    /// What it was handed and has not ended.
    handed: VecDeque<Handed>,
    /// What it has run that is not forgotten: its list is needed as long.
    pub(super) open: BTreeSet<JobId>,
    /// Since when it has had nothing to do.
    idle: Instant,
}

/// A task that a lane was handed.
struct Handed {
    id: JobId,
    /// It has begun.
    begun: bool,
    /// It is to end.
    stopped: bool,
    /// What it is, as long as it may have to be started elsewhere.
    asked: Option<Box<Start>>,
}

impl Lane {
    fn new(client: Client, shape: Option<Shape>) -> Self {
        Self {
            client: Some(client),
            up: false,
            shape,
            handed: VecDeque::new(),
            open: BTreeSet::new(),
            idle: Instant::now(),
        }
    }

    /// Tells whether it runs that task, or is about to.
    pub(super) fn runs(&self, id: &JobId) -> bool {
        self.handed.iter().any(|handed| handed.id == *id)
    }

    /// Sees to it that a task is not started elsewhere when this lane ends.
    pub(super) fn withdraw(&mut self, id: &JobId) {
        let mut handed = self.handed.iter_mut();
        if let Some(handed) = handed.find(|handed| handed.id == *id) {
            (handed.stopped, handed.asked) = (true, None);
        }
    }

    fn is_free(&self) -> bool {
        self.client.is_some() && self.handed.is_empty()
    }
}

impl Agent<'_> {
    /// Hands a task to a lane that has nothing to do, or to a new one.
    pub(super) fn start_in_lane(&mut self, shape: Shape, asked: Box<Start>) -> anyhow::Result<()> {
        let task = batch::task(&asked, self.ctx)?;
        let fits = |lane: &Lane| lane.is_free() && lane.shape == Some(shape);
        let mut free = self.lanes.iter().filter(|(_, lane)| fits(lane));
        let id = match free.next() {
            Some((id, _)) => id.clone(),
            None => {
                let id = crate::commands::run::new_id()?;
                let launch = batch::lane(shape, id.clone(), self.ctx)?;
                let client = start(launch)?;
                self.lanes
                    .insert(id.clone(), Lane::new(client, Some(shape)));
                id
            }
        };
        failpoint!("agent-lane-made");
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Ok(());
        };
        lane.open.insert(task.id.clone());
        lane.handed.push_back(Handed {
            id: task.id.clone(),
            begun: false,
            stopped: false,
            asked: Some(asked),
        });
        if let Some(client) = &mut lane.client {
            // One that has just ended is heard of, and the task started elsewhere.
            let _ = client.ask(&Ask::Task(Box::new(task)));
        }
        Ok(())
    }

    /// Looks at a lane that another agent has started: it begins nothing more.
    pub(super) fn adopt_lane(&mut self, job: &JobFolder, wanted: &BTreeSet<&JobId>) {
        let client = Client::reach(job).ok().flatten();
        let client = client.and_then(|mut client| client.seal().is_ok().then_some(client));
        let ended = match &client {
            Some(_) => None,
            None => end_of(job),
        };
        let mut running = None;
        let mut open = BTreeSet::new();
        for line in job.lane_lines() {
            match line {
                LaneLine::Begun(id) => running = Some(id),
                LaneLine::Ended(id, outcome) => {
                    running = None;
                    if wanted.contains(&id) {
                        open.insert(id.clone());
                        self.over.insert(id, *outcome);
                    }
                }
            }
        }
        let running = running.filter(|id| wanted.contains(id));
        open.extend(running.clone());
        let mut lane = Lane {
            client,
            up: true,
            shape: None,
            handed: VecDeque::new(),
            open,
            idle: Instant::now(),
        };
        match running {
            Some(id) if lane.client.is_some() => lane.handed.push_back(Handed {
                id,
                begun: true,
                stopped: false,
                asked: None,
            }),
            Some(id) => {
                let outcome = ended.map_or_else(lost, |end| outcome(&end));
                self.over.insert(id, outcome);
            }
            None => {}
        }
        self.lanes.insert(job.id.clone(), lane);
        self.drop_lane(&job.id);
    }

    /// Hears what a lane has to tell.
    pub(super) fn hear_lane(&mut self, id: &JobId) {
        loop {
            let client = self.lanes.get_mut(id).and_then(|lane| lane.client.as_mut());
            let Some(client) = client else { return };
            match client.try_hear() {
                Ok(Some(Heard::Told(Tell::Started))) => {
                    if let Some(lane) = self.lanes.get_mut(id) {
                        lane.up = true;
                    }
                }
                Ok(Some(Heard::Told(Tell::Task(line)))) => self.hear_line(id, line),
                Ok(Some(Heard::Told(Tell::Step(step)))) => {
                    let mut handed = self.lanes.get(id).into_iter().flat_map(|lane| &lane.handed);
                    if let Some(task) = handed.find(|handed| handed.begun).map(|h| h.id.clone()) {
                        self.tell(&News::Step(task, Box::new(step)));
                    }
                }
                Ok(Some(Heard::Told(Tell::Ended(end)))) => {
                    return self.lane_ended(id, Some(outcome(&end)));
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => {
                    let end = self.folder(id).as_ref().and_then(end_of);
                    return self.lane_ended(id, end.map(|end| outcome(&end)));
                }
            }
        }
    }

    fn hear_line(&mut self, lane: &JobId, line: LaneLine) {
        let Some(its) = self.lanes.get_mut(lane) else {
            return;
        };
        match line {
            LaneLine::Begun(id) => {
                if let Some(handed) = its.handed.iter_mut().find(|handed| handed.id == id) {
                    (handed.begun, handed.asked) = (true, None);
                }
                let within = Some(lane.clone());
                self.tell(&News::Up { id, within });
            }
            LaneLine::Ended(id, outcome) => {
                its.handed.retain(|handed| handed.id != id);
                its.idle = Instant::now();
                self.end(id, *outcome);
            }
        }
    }

    /// Sees to what a lane has not done. `outcome` is how it ended itself.
    fn lane_ended(&mut self, id: &JobId, outcome: Option<Outcome>) {
        // What it could not tell any more, it has written down.
        let lines = self.folder(id).map(|job| job.lane_lines());
        for line in lines.unwrap_or_default() {
            let open = |id: &JobId, lane: &Lane| lane.runs(id);
            let (LaneLine::Begun(task) | LaneLine::Ended(task, _)) = &line;
            if self.lanes.get(id).is_some_and(|lane| open(task, lane)) {
                self.hear_line(id, line);
            }
        }
        let Some(lane) = self.lanes.get_mut(id) else {
            return;
        };
        lane.client = None;
        let came_up = lane.up;
        for handed in std::mem::take(&mut lane.handed) {
            match handed.asked {
                // One that does not come up would not the second time.
                Some(asked) if came_up && !handed.begun => {
                    if let Some(lane) = self.lanes.get_mut(id) {
                        lane.open.remove(&handed.id);
                    }
                    self.start(asked);
                }
                _ => {
                    let outcome = outcome.clone().unwrap_or_else(lost);
                    self.end(handed.id, broken_off(outcome, handed.stopped));
                }
            }
        }
        self.drop_lane(id);
    }

    /// Forgets a task that a lane has run; tells whether one has.
    pub(super) fn forget_in_lane(&mut self, task: &JobId) -> bool {
        let mut lanes = self.lanes.iter_mut();
        let Some((id, _)) = lanes.find_map(|(id, lane)| {
            let was = lane.open.remove(task);
            was.then(|| (id.clone(), lane))
        }) else {
            return false;
        };
        self.drop_lane(&id);
        true
    }

    /// Removes the record of a lane that has ended, when nobody needs its list.
    fn drop_lane(&mut self, id: &JobId) {
        let done = |lane: &Lane| lane.client.is_none() && lane.open.is_empty();
        if self.lanes.get(id).is_some_and(done) {
            self.lanes.remove(id);
            self.forgotten.push_back(id.clone());
        }
    }

    /// Tells when a lane has had nothing to do for too long.
    pub(super) fn next_idle(&self) -> Option<Duration> {
        let free = self.lanes.values().filter(|lane| lane.is_free());
        let since = free.map(|lane| lane.idle).min()?;
        Some(IDLE.saturating_sub(since.elapsed()))
    }

    /// Ends lanes that have had nothing to do for a while.
    pub(super) fn end_idle_lanes(&mut self) {
        for lane in self.lanes.values_mut() {
            if lane.is_free() && lane.idle.elapsed() >= IDLE {
                // Not again while it ends.
                lane.idle = Instant::now() + IDLE;
                lane.shape = None;
                if let Some(client) = &mut lane.client {
                    let _ = client.ask(&Ask::Stop { grace_ms: 0 });
                }
            }
        }
    }
}

/// Says how a task ended that its lane took along. One that ended well was told to,
/// and if for the task's sake, before that had done anything.
fn broken_off(outcome: Outcome, stopped: bool) -> Outcome {
    match outcome.end {
        End::Exit(exit) if exit.is_success() && stopped => Outcome {
            end: End::Exit(Exit::Signal(15)),
            why: None,
            cost: None,
        },
        End::Exit(exit) if exit.is_success() => lost(),
        _ => outcome,
    }
}
