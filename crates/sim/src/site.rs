//! A site's queue with all of its rules: the ledger of a server, with a heap of events
//! in place of the clock, the users and the supervisors.
//!
//! A real run and a simulated one of the same submissions write the same records, up to
//! when things happen.

use std::collections::BTreeMap;
use std::iter::Peekable;
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

/// What is told to end when it has just begun takes so long at least.
const SHORTEST: Duration = Duration::from_secs(1);

/// What comes from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Something that happens, and may be refused.
    Event(Event),
    /// What was made of something once: it is not looked at anew.
    Made(Change),
}

impl From<Event> for Told {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

/// Something that will happen.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Due {
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

/// Lets things happen to a ledger from outside, told in the order of their times, and shows
/// every record and every refusal; ends when nothing is due any more.
///
/// `lasts` says what a start comes to: the task, and how many there were before. At each
/// instant all that is told happens, then all that is due, in the order in which it became
/// so, then jobs start. As with a server, jobs that ended long ago are forgotten where there
/// are many.
pub fn run<T: Into<Told>>(
    ledger: &mut Ledger,
    told: impl IntoIterator<Item = (Time, T)>,
    lasts: impl FnMut(TaskId, u32) -> Lasting,
    see: impl FnMut(Result<&Record, (Time, Refusal)>),
) {
    let told = told.into_iter().map(|(at, told)| (at, told.into()));
    let world = World {
        ledger,
        told: told.peekable(),
        due: BTreeMap::new(),
        next: 0,
        started: BTreeMap::new(),
        starts: BTreeMap::new(),
        lasts,
        see,
    };
    world.live();
}

struct World<'a, I: Iterator, L, S> {
    ledger: &'a mut Ledger,
    told: Peekable<I>,
    /// What will happen, by time and by the order in which it became due.
    due: BTreeMap<(Time, u64), Due>,
    next: u64,
    started: BTreeMap<TaskId, Started>,
    /// How often a task was started that is not done.
    starts: BTreeMap<TaskId, u32>,
    lasts: L,
    see: S,
}

impl<I, L, S> World<'_, I, L, S>
where
    I: Iterator<Item = (Time, Told)>,
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
            let told = self.told.peek().map(|(at, _)| *at);
            let due = self.next_due();
            let next = told.into_iter().chain(due).chain(self.ledger.wake_at());
            let Some(now) = next.min() else {
                return;
            };
            let now = now.max(last);
            last = now;
            while let Some((_, told)) = self.told.next_if(|(at, _)| *at <= now) {
                match told {
                    Told::Event(event) => self.tell(now, event),
                    Told::Made(change) => {
                        let record = Record { at: now, change };
                        self.ledger.apply(&record);
                        self.carry_out(now, vec![record]);
                    }
                }
            }
            while self.next_due().is_some_and(|at| at <= now) {
                match self.due.pop_first() {
                    Some((_, Due::Up(task, _))) => self.tell(now, Event::Up(task)),
                    Some((_, Due::Over(task, _, end))) => self.tell(now, Event::Over(task, end)),
                    None => {}
                }
            }
            self.tell(now, Event::Tick);
            let records = self.ledger.schedule(now);
            self.carry_out(now, records);
            for job in self.ledger.leaving() {
                self.tell(now, Event::Forget(job));
            }
        }
    }

    /// Tells when something is due next; what is no more is not.
    fn next_due(&mut self) -> Option<Time> {
        while let Some(entry) = self.due.first_entry() {
            let (Due::Up(task, turn) | Due::Over(task, turn, _)) = *entry.get();
            let its = self.started.get(&task);
            if its.is_some_and(|its| its.turn == turn) {
                return Some(entry.key().0);
            }
            entry.remove();
        }
        None
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
                Change::Ended { task, again, .. } => {
                    self.started.remove(&task);
                    if !again {
                        self.starts.remove(&task);
                    }
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
            // Nothing begins and ends in no time: two that are the next by turns, as what runs
            // for them changes, would have a third begin and make room for ever.
            let least = match its.since >= now {
                true => SHORTEST,
                false => Duration::ZERO,
            };
            let ends_in = its.lasting.ends_in.max(least);
            let end = End::Exit(Exit::Signal(SIGTERM));
            self.later(now + ends_in, Due::Over(task, turn, end));
        }
    }
}
