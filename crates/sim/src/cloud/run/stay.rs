use serde::{Deserialize, Serialize};

use super::super::clock::Moment;
use super::super::host::{Host, Lies};
use super::super::power::Share;
use super::super::scenario::{self, Sharing};
use super::super::work::Work;

/// What a VM is while it is there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stay {
    pub(super) datacenter: u32,
    pub(super) host: u32,
    pub(super) lies: Lies,
    /// How many VMs were made before it.
    pub(super) nth: u32,
    cores: Pool,
    gpus: Option<Box<Pool>>,
    /// From when on something in it is over.
    pub(super) ripe: Moment,
    /// Cloudlets that wait for its host to work again.
    pub(super) lost: Vec<u32>,
}

/// The cores of a VM, or its GPUs, and what works on them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pool {
    pub(super) work: Work,
    pub(super) share: Share,
}

impl Pool {
    fn new(work: Work) -> Self {
        let share = Share::default();
        Self { work, share }
    }
}

impl Stay {
    pub(super) fn new(
        datacenter: u32,
        (host, lies): (u32, Lies),
        nth: u32,
        cores: Work,
        gpus: Option<Work>,
    ) -> Self {
        Self {
            datacenter,
            host,
            lies,
            nth,
            cores: Pool::new(cores),
            gpus: gpus.map(|work| Box::new(Pool::new(work))),
            ripe: Moment::NEVER,
            lost: Vec::new(),
        }
    }

    /// Gives its cores, or its GPUs.
    pub(super) fn pool(&mut self, gpus: bool) -> &mut Pool {
        match &mut self.gpus {
            Some(pool) if gpus => pool,
            _ => &mut self.cores,
        }
    }

    /// Gives both, and which of them is of GPUs.
    pub(super) fn pools(&mut self) -> impl Iterator<Item = (bool, &mut Pool)> {
        let gpus = self.gpus.as_deref_mut().map(|pool| (true, pool));
        std::iter::once((false, &mut self.cores)).chain(gpus)
    }

    fn works(&self) -> impl Iterator<Item = &Work> {
        let gpus = self.gpus.as_ref().map(|pool| &pool.work);
        std::iter::once(&self.cores.work).chain(gpus)
    }

    /// MIPS of its cores that are in use.
    pub(super) fn used(&self) -> f64 {
        self.cores.work.used()
    }

    /// From when on a look finds something that is over.
    pub(super) fn over_from(&self) -> Moment {
        let first = self.works().map(Work::ripe).min();
        first.unwrap_or(Moment::NEVER)
    }

    /// When the first is over, as a look sees it now.
    pub(super) fn expected(&self, now: Moment) -> Moment {
        let first = self.works().map(|work| work.expected(now)).min();
        first.unwrap_or(Moment::NEVER)
    }

    /// Whether another look finds something else than the last one, whenever it is.
    pub(super) fn unsettled(&self) -> bool {
        self.works().any(Work::unsettled)
    }

    /// Is on another host from now on, with nothing to do.
    pub(super) fn move_to(&mut self, (host, lies): (u32, Lies), cores: Work, gpus: Option<Work>) {
        (self.host, self.lies) = (host, lies);
        self.cores.work = cores;
        if let (Some(pool), Some(work)) = (&mut self.gpus, gpus) {
            pool.work = work;
        }
    }
}

/// What works on GPUs of a VM: each cloudlet has some alone, and the others wait.
pub(super) fn gpus(like: &scenario::Vm, host: &Host, now: Moment) -> Option<Work> {
    let space = Sharing::SpaceShared;
    (like.gpus > 0).then(|| Work::new(space, like.gpus, host.gpu_mips, 1.0, now))
}
