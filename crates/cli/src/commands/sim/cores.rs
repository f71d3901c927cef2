//! Several simulations side by side, on all cores, and how far they are.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal as _;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

use crate::args::OutputFormat;
use crate::context::Context;

/// Does what there is to do for each of several, as many at a time as there are processors.
pub(super) fn on_all_cores<C: Sync, T: Send>(
    cases: &[C],
    work: impl Fn(&C) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    // Alone it needs no thread, and with one less memory is had sooner.
    if let [only] = cases {
        return work(only).map(|done| vec![done]);
    }
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (next, work) = (&AtomicUsize::new(0), &work);
    let (done, all) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers.min(cases.len()) {
            let done = done.clone();
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else { break };
                    // It is heard until all are done.
                    let _ = done.send((number, work(case)));
                }
            });
        }
    });
    drop(done);
    let all: BTreeMap<usize, anyhow::Result<T>> = all.into_iter().collect();
    all.into_values().collect()
}

/// How far simulations are: a bar with events per second and the time that is left, on a
/// terminal; nothing elsewhere.
pub(super) struct Progress(ProgressBar);

/// A job that comes is an event, and so is its end.
const EVENTS: u64 = 2;
/// So many jobs are told of at once.
const AT_ONCE: u64 = 1024;

impl Progress {
    /// Begins, where so many jobs are to be simulated.
    pub(super) fn new(ctx: &Context, jobs: u64) -> Self {
        if ctx.output == OutputFormat::Quiet || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let style =
            ProgressStyle::with_template("{wide_bar} {percent:>3} %  {rate:>20}  {eta:>4} left");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
            // A terminal that is gone has no use for it.
            let _ = write!(out, "{} events/s", HumanCount(state.per_sec() as u64));
        };
        let bar = ProgressBar::new(EVENTS * jobs);
        bar.set_style(style.with_key("rate", rate));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// Counts the jobs of one simulation.
    pub(super) fn counter(&self) -> Counter<'_> {
        Counter {
            bar: &self.0,
            untold: 0,
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Counts what one simulation has done.
pub(super) struct Counter<'a> {
    bar: &'a ProgressBar,
    untold: u64,
}

impl Counter<'_> {
    /// Counts a job.
    pub(super) fn add(&mut self) {
        self.untold += 1;
        if self.untold == AT_ONCE {
            self.tell();
        }
    }

    fn tell(&mut self) {
        self.bar.inc(EVENTS * std::mem::take(&mut self.untold));
    }
}

impl Drop for Counter<'_> {
    fn drop(&mut self) {
        self.tell();
    }
}
