use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::check::Finding;
use super::super::clock::Moment;
use super::super::result::{Ran, Summary};
use super::super::scenario::Scenario;
use super::World;
use crate::snapshot::{self, Kind, SnapshotError};

/// A scenario that happens as far as one lets it, and goes on from there: here, or
/// elsewhere from a snapshot. Either way all is as if it had happened in one go, bit for
/// bit.
///
/// ```no_run
/// use hyperion_sim::cloud::{Scenario, Simulation};
///
/// let scenario = Scenario::read(
///     "datacenter = [{ name = 'east', host = [{ cores = 1, mips = 1000 }] }]
///      [[broker]]
///      name = 'one'
///      vm = [{ mips = 250 }]
///      cloudlet = [{ count = 2, length_mi = 10000 }]",
/// )?;
/// let mut simulation = Simulation::new(scenario).expect("a scenario that was read");
/// assert!(simulation.run(60.0), "something is left to happen");
/// let file = simulation.snapshot()?;
///
/// let mut again = Simulation::resume(&file)?;
/// assert_eq!(again.time(), 60.0);
/// again.run(f64::INFINITY);
/// let (ran, _) = again.finish().into_parts();
/// assert_eq!(ran[1].finish, 80.01, "both share one core of 250 MIPS");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
pub struct Simulation {
    world: World,
    /// All that is before it has happened.
    reached: Moment,
}

impl Simulation {
    /// Begins at 0 s.
    ///
    /// # Errors
    /// What is wrong with the scenario, as [`Scenario::check`] says it, or a trace that
    /// was not read.
    pub fn new(mut scenario: Scenario) -> Result<Self, Finding> {
        scenario.check()?;
        scenario.check_traces()?;
        for its in scenario.measured() {
            its.share();
        }
        Ok(Self {
            world: World::new(Arc::new(scenario)),
            reached: Moment(0.0),
        })
    }

    /// Gives what is simulated.
    pub fn scenario(&self) -> Arc<Scenario> {
        Arc::clone(&self.world.scenario)
    }

    /// Gives until when all has happened, in seconds.
    pub fn time(&self) -> f64 {
        self.reached.0
    }

    /// Lets all happen that is before a moment, in seconds, and before the scenario stops.
    /// Gives whether something is left.
    pub fn run(&mut self, until: f64) -> bool {
        let until = self.reach(until);
        while self.step(until) {}
        self.world.events.any() && self.reached < self.stop()
    }

    /// Gives the cloudlets that have ended so far, as their brokers got them back.
    pub fn ran(&self) -> impl ExactSizeIterator<Item = Ran> {
        self.world.ran()
    }

    /// Ends it: as if the scenario stopped where it is, if something is left.
    pub fn finish(mut self) -> Finished {
        let summary = self.world.end(self.reached);
        let world = self.world;
        Finished { world, summary }
    }

    /// Gives a file from which [`Simulation::resume`] goes on: the clock, what is still to
    /// happen, all entities, their streams of chance, the results so far, and the scenario
    /// with its traces.
    ///
    /// # Errors
    /// [`SnapshotError::Content`]: something that cannot be kept; none that is known.
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        snapshot::seal(Kind::Scenario, self)
    }

    /// Goes on from a snapshot. Its digest tells damage, not a hand that makes a file to
    /// do harm: that can make a simulation panic, or go on without end.
    ///
    /// # Errors
    /// [`SnapshotError`]: why the file is no snapshot of this version.
    pub fn resume(file: &[u8]) -> Result<Self, SnapshotError> {
        let mut simulation: Self = snapshot::open(Kind::Scenario, file)?;
        let whole = simulation.world.give_traces();
        whole.ok_or(SnapshotError::Orphan)?;
        Ok(simulation)
    }

    fn stop(&self) -> Moment {
        self.world.scenario.stop_s.map_or(Moment::NEVER, Moment)
    }

    fn reach(&mut self, until: f64) -> Moment {
        self.reached = Moment(until).min(self.stop()).max(self.reached);
        self.reached
    }

    fn step(&mut self, until: Moment) -> bool {
        let next = self.world.take(until);
        if let Some((to, event)) = next {
            self.world.happen(to, event);
        }
        next.is_some()
    }
}

/// What a scenario came to, and its cloudlets. There may be millions of these: what is told
/// of one is put together when it is asked for.
#[derive(Debug)]
pub struct Finished {
    world: World,
    summary: Summary,
}

impl Finished {
    /// Gives what all came to.
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Gives the cloudlets that have ended, as their brokers got them back.
    pub fn ran(&self) -> impl ExactSizeIterator<Item = Ran> {
        self.world.ran()
    }

    /// Puts those of each broker together, in the order of brokers.
    pub fn sort_by_broker(&mut self) {
        let mut ran = std::mem::take(&mut self.world.ran);
        ran.sort_by_key(|ended| self.world.group(ended.cloudlet).broker);
        self.world.ran = ran;
    }

    /// Gives both.
    pub fn into_parts(self) -> (Vec<Ran>, Summary) {
        (self.ran().collect(), self.summary)
    }
}

/// Lets a scenario happen, and shows each cloudlet when its broker gets it back.
///
/// The same scenario gives the same results, bit for bit.
///
/// # Errors
/// What is wrong with the scenario, as [`Scenario::check`] says it, or a trace that was
/// not read; nothing was run.
pub fn run(scenario: &Scenario, mut see: impl FnMut(Ran)) -> Result<Summary, Finding> {
    let mut simulation = Simulation::new(scenario.clone())?;
    let until = simulation.reach(f64::INFINITY);
    while simulation.step(until) {
        simulation.ran().for_each(&mut see);
        simulation.world.ran.clear();
    }
    Ok(simulation.finish().summary)
}
