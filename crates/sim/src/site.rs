//! A site's queue with all of its rules: the ledger of a server, with a heap of events
//! in place of the clock, the users and the supervisors.
//!
//! A real run and a simulated one of the same submissions write the same records, up to
//! when things happen.

use std::collections::BTreeMap;
use std::time::Duration;

use hyperion_lifecycle::{Change, End, Event, Ledger, Record, Refusal, TaskId, Time};
use hyperion_model::report::Exit;

/// What a start comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasting {
    /// How long until its ranks run.
    pub starts_in: Duration,
    /// How long they run, if nobody ends them before.
    pub runs: Duration,
    /// How they end then.
    pub end: End,
    /// How long they go on when they are told to end.
    pub ends_in: Duration,
}

impl Lasting {
    /// Makes one that starts and ends at once when it is told to, and ends well.
    pub const fn of(runs: Duration) -> Self {
        Self {
            starts_in: Duration::ZERO,
            runs,
            end: End::Exit(Exit::Code(0)),
            ends_in: Duration::ZERO,
        }
    }
}

/// The kernel's number of the signal that asks to end.
const SIGTERM: u8 = 15;

/// Something that will happen.
#[derive(Debug, Clone, PartialEq)]
enum Due {
    /// What comes from outside, by its place in the list.
    Told(usize),
    /// The ranks of a start run, if it is still that start.
    Up(TaskId, u64),
    /// They end.
    Over(TaskId, u64, End),
}

/// A start that has not ended.
#[derive(Debug, Clone, Copy)]
struct Started {
    lasting: Lasting,
    /// What happens to it counts with this number only.
    turn: u64,
    /// What is left of its run, when it went on last.
    left: Duration,
    since: Time,
}

/// Lets things happen to a ledger from outside, each at its time, and shows every record
/// and every refusal; ends when nothing is due any more.
///
/// `lasts` says what a start comes to: the task, and how many there were before. At each
/// instant all that is due happens, in the order in which it became due, then jobs start.
pub fn run(
    ledger: &mut Ledger,
    told: Vec<(Time, Event)>,
    lasts: impl FnMut(TaskId, u32) -> Lasting,
    see: impl FnMut(Result<&Record, (Time, Refusal)>),
) {
    let mut world = World {
        ledger,
        told: Vec::new(),
        due: BTreeMap::new(),
        next: 0,
        started: BTreeMap::new(),
        starts: BTreeMap::new(),
        lasts,
        see,
    };
    for (number, (at, event)) in told.into_iter().enumerate() {
        world.told.push(Some(event));
        world.later(at, Due::Told(number));
    }
    world.live();
}

struct World<'a, L, S> {
    ledger: &'a mut Ledger,
    told: Vec<Option<Event>>,
    /// What will happen, by time and by the order in which it became due.
    due: BTreeMap<(Time, u64), Due>,
    next: u64,
    started: BTreeMap<TaskId, Started>,
    /// How often a task was started.
    starts: BTreeMap<TaskId, u32>,
    lasts: L,
    see: S,
}

impl<L, S> World<'_, L, S>
where
    L: FnMut(TaskId, u32) -> Lasting,
    S: FnMut(Result<&Record, (Time, Refusal)>),
{
    fn later(&mut self, at: Time, due: Due) {
        self.due.insert((at, self.next), due);
        self.next += 1;
    }

    fn live(mut self) {
        let mut last = Time(0);
        loop {
            let first = self.due.first_key_value().map(|((at, _), _)| *at);
            let Some(now) = first.into_iter().chain(self.ledger.wake_at()).min() else {
                return;
            };
            let now = now.max(last);
            last = now;
            while let Some(entry) = self.due.first_entry().filter(|its| its.key().0 <= now) {
                let due = entry.remove();
                if let Some(event) = self.event(due) {
                    self.tell(now, event);
                }
            }
            self.tell(now, Event::Tick);
            let records = self.ledger.schedule(now);
            self.carry_out(now, records);
        }
    }

    /// Gives what is told of something that was due; nothing where it is no more.
    fn event(&mut self, due: Due) -> Option<Event> {
        let still = |task: &TaskId, turn: u64| {
            let its = self.started.get(task);
            its.is_some_and(|its| its.turn == turn)
        };
        match due {
            Due::Told(number) => self.told.get_mut(number)?.take(),
            Due::Up(task, turn) => still(&task, turn).then_some(Event::Up(task)),
            Due::Over(task, turn, end) => still(&task, turn).then_some(Event::Over(task, end)),
        }
    }

    fn tell(&mut self, now: Time, event: Event) {
        match self.ledger.step(now, event) {
            Ok(records) => self.carry_out(now, records),
            Err(refusal) => (self.see)(Err((now, refusal))),
        }
    }

    /// Does what records say, as supervisors do.
    fn carry_out(&mut self, now: Time, records: Vec<Record>) {
        for record in records {
            (self.see)(Ok(&record));
            match record.change {
                Change::Started { task, .. } => self.start(task, now),
                Change::Suspended { task, .. } => {
                    let turn = self.next;
                    if let Some(its) = self.started.get_mut(&task) {
                        its.left = its.left.saturating_sub(now.since(its.since));
                        its.since = now;
                        its.turn = turn;
                        self.next += 1;
                    }
                }
                Change::Resumed { task, .. } => self.go_on(task, now),
                Change::Stopping { task, .. } => self.stop(task, now),
                Change::Ended { task, .. } => {
                    self.started.remove(&task);
                }
                _ => {}
            }
        }
    }

    fn start(&mut self, task: TaskId, now: Time) {
        let starts = self.starts.entry(task).or_default();
        let lasting = (self.lasts)(task, *starts);
        *starts += 1;
        let turn = self.next;
        let since = now + lasting.starts_in;
        let started = Started {
            lasting,
            turn,
            left: lasting.runs,
            since,
        };
        self.started.insert(task, started);
        self.later(since, Due::Up(task, turn));
        self.later(since + lasting.runs, Due::Over(task, turn, lasting.end));
    }

    fn go_on(&mut self, task: TaskId, now: Time) {
        let turn = self.next;
        if let Some(its) = self.started.get_mut(&task) {
            its.since = now;
            its.turn = turn;
            let (left, end) = (its.left, its.lasting.end);
            self.later(now + left, Due::Over(task, turn, end));
        }
    }

    fn stop(&mut self, task: TaskId, now: Time) {
        let turn = self.next;
        if let Some(its) = self.started.get_mut(&task) {
            its.turn = turn;
            let ends_in = its.lasting.ends_in;
            let end = End::Exit(Exit::Signal(SIGTERM));
            self.later(now + ends_in, Due::Over(task, turn, end));
        }
    }
}
