//! Several sandboxes of one job on this host, each a node of its own, with a
//! private network between them: to a supervisor they are one sandbox.
//!
//! ```text
//!                    ┌── node 0: machine ── ranks 0, 1
//! supervisor ── Nodes┤        ╎ switch
//!                    └── node 1: machine ── ranks 2, 3
//! ```

mod switch;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use hyperion_model::nodes::node_names;
use hyperion_model::{Level, NodePlace, ProcessSpec, RankSpec, SandboxSpec, Usage, UsernsMode};
use hyperion_sys::{process, signals};
use rustix::event::epoll;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Pid;

use crate::protocol::{Event, FileEntry};
use crate::wire::Wire;
use crate::{Asker, Isolation, Sandbox, SandboxError, SandboxRecord, Spawned, Stage, Taken};

/// The node on which programs and files are looked at: they are all alike.
const FIRST: u32 = 0;

/// How often nodes may tell what is not theirs to tell: a program may ask for
/// another node where none but the launcher is helped to one.
const MOST_UNHEARD: u32 = 100_000;

/// Fences a job with several sandboxes.
pub struct NodesIsolation {
    /// How each of them is fenced, in the order of the nodes.
    pub members: Vec<(Level, Box<dyn Isolation>)>,
}

impl Isolation for NodesIsolation {
    fn create(&self, spec: &SandboxSpec, stage: &Stage) -> Result<Box<dyn Sandbox>, SandboxError> {
        let base = spec.container.hostname.clone();
        let base = base.unwrap_or_else(|| spec.id.to_string());
        let names = node_names(&base, self.members.len() as u32);
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in &self.members {
            let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
            let pair = socketpair(AddressFamily::UNIX, kind, flags, None);
            let (a, b) = pair.map_err(|e| SandboxError::Init(e.into()))?;
            ours.push(a);
            theirs.push(b);
        }
        let id = match spec.userns {
            UsernsMode::Range { base, .. } => Some(base),
            _ => None,
        };
        let watch =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| SandboxError::Init(e.into()))?;
        let mut ports = Vec::new();
        let mut nodes = Nodes {
            switch: None,
            watch,
            names: names.clone(),
            members: Vec::new(),
            folders: Vec::new(),
            places: HashMap::new(),
            unheard: 0,
            collected: 0,
            taken: Taken::default(),
        };
        let pairs = ours.into_iter().zip(theirs);
        let members = (0..).zip(&names).zip(&self.members);
        for (((number, name), (level, isolation)), (our, port)) in members.zip(pairs) {
            let folder = stage.folder.join(format!("node{number}"));
            let made = std::fs::create_dir(&folder);
            made.map_err(|source| SandboxError::Setup {
                step: format!("making the folder of node {number}"),
                source,
            })?;
            nodes.folders.push(folder.clone());
            let mut spec = spec.clone();
            spec.level = *level;
            if *level == Level::Container
                && let Some(scratch) = &mut spec.root.scratch
            {
                *scratch = own_scratch(scratch, number)?;
            }
            spec.node = Some(NodePlace {
                number,
                names: names.clone(),
            });
            spec.container.hostname = Some(name.clone());
            let stage = Stage {
                folder,
                port: Some(Rc::new(port)),
                ..stage.clone()
            };
            let member = isolation.create(&spec, &stage);
            let member = member.map_err(|e| of_node(name, e))?;
            let data = epoll::EventData::new_u64(u64::from(number));
            epoll::add(&nodes.watch, member.fd(), data, epoll::EventFlags::IN)
                .map_err(|e| SandboxError::Init(e.into()))?;
            nodes.members.push(member);
            ports.push(match level {
                // It has made an interface for itself, and has sent the other end.
                Level::Container => switch::Port::Tap(taken(our).map_err(SandboxError::Lost)?),
                Level::Vm | Level::Process => switch::Port::Machine(our),
            });
        }
        // What the machines have sent meanwhile waits in their sockets.
        nodes.switch = Some(switch::start(ports, id).map_err(SandboxError::Init)?);
        Ok(Box::new(nodes))
    }

    fn emulates(&self) -> bool {
        self.members.iter().any(|(_, member)| member.emulates())
    }
}

/// Takes the file that has come through a port.
fn taken(port: OwnedFd) -> std::io::Result<OwnedFd> {
    let mut port = Wire::new(port);
    port.receive::<()>()?;
    port.take_fd()
}

/// Makes a node's part of the folder for what the job writes, out of everybody's reach.
fn own_scratch(scratch: &Path, number: u32) -> Result<PathBuf, SandboxError> {
    let own = scratch.join(format!("node{number}"));
    let made = std::fs::DirBuilder::new().mode(0o700).create(&own);
    made.map_err(|source| SandboxError::Setup {
        step: format!("making the writable layer of node {number}"),
        source,
    })?;
    Ok(own)
}

/// Says which node failed; why a program cannot be started is the same on all.
fn of_node(name: &str, error: SandboxError) -> SandboxError {
    match error {
        SandboxError::Machine(_)
        | SandboxError::Setup { .. }
        | SandboxError::Lost(_)
        | SandboxError::Starved
        | SandboxError::Unwanted => SandboxError::Node {
            name: name.to_owned(),
            source: Box::new(error),
        },
        other => other,
    }
}

/// Tells whether a node may say this: one tells of what was started on it, and a
/// launcher runs on the first only. What a guest makes up of others is not heard.
fn is_its_own(places: &HashMap<u32, u32>, node: u32, event: &Event) -> bool {
    match event {
        Event::Joined { id } | Event::Ended { id, .. } => places.get(id) == Some(&node),
        Event::Remote { .. } | Event::Step(_) => node == 0,
        // The host says so itself.
        Event::Collected(_) => true,
    }
}

/// The sandboxes of one job.
struct Nodes {
    switch: Option<Pid>,
    /// Is readable when one of them has something to say.
    watch: OwnedFd,
    /// Their host names.
    names: Vec<String>,
    members: Vec<Box<dyn Sandbox>>,
    folders: Vec<PathBuf>,
    /// On which node each process is.
    places: HashMap<u32, u32>,
    /// How often a node has told what was not its own to tell.
    unheard: u32,
    /// How many have brought out what was changed on them, or are about to.
    collected: usize,
    /// What came of it so far.
    taken: Taken,
}

impl Nodes {
    /// Lets the next one bring out what was changed on it, one after the other: what
    /// several have changed is a conflict, and told. Tells whether there was one.
    fn collect_next(&mut self) -> Result<bool, SandboxError> {
        while let Some(member) = self.members.get_mut(self.collected) {
            let name = &self.names[self.collected];
            self.collected += 1;
            if member.collects() {
                member.collect().map_err(|e| of_node(name, e))?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Does something on one node, which is named when it fails.
    fn on<T>(
        &mut self,
        number: u32,
        act: impl FnOnce(&mut dyn Sandbox) -> Result<T, SandboxError>,
    ) -> Result<T, SandboxError> {
        let at = number as usize;
        match (self.members.get_mut(at), self.names.get(at)) {
            (Some(member), Some(name)) => act(member.as_mut()).map_err(|e| of_node(name, e)),
            _ => Err(SandboxError::Lost(std::io::ErrorKind::NotFound.into())),
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.destroy();
    }
}

impl Sandbox for Nodes {
    fn is_up(&mut self) -> Result<bool, SandboxError> {
        let mut all = true;
        for (member, name) in self.members.iter_mut().zip(&self.names) {
            let of_it = |e| of_node(name, e);
            if !member.is_up().map_err(of_it)? {
                all = false;
            } else {
                // One that is up already may be gone before the others come. Nothing was
                // started on it that it could tell of.
                member.next_event().map_err(of_it)?;
            }
        }
        Ok(all)
    }

    fn spawn(
        &mut self,
        id: u32,
        process: &ProcessSpec,
        fds: Vec<OwnedFd>,
        asker: &mut dyn Asker,
    ) -> Result<Spawned, SandboxError> {
        let spawned = self.on(process.node, |node| node.spawn(id, process, fds, asker))?;
        self.places.insert(id, process.node);
        Ok(spawned)
    }

    fn adopt(
        &mut self,
        node: u32,
        id: u32,
        rank: RankSpec,
        fds: Vec<OwnedFd>,
    ) -> Result<(), SandboxError> {
        self.places.insert(id, node);
        self.on(node, |sandbox| sandbox.adopt(node, id, rank, fds))
    }

    fn signal(&mut self, id: Option<u32>, signal: i32) -> Result<(), SandboxError> {
        let place = id.map(|id| self.places.get(&id).copied());
        match place {
            Some(Some(node)) => self.on(node, |sandbox| sandbox.signal(id, signal)),
            Some(None) => Ok(()),
            None => {
                let mut members = self.members.iter_mut();
                members.try_for_each(|member| member.signal(None, signal))
            }
        }
    }

    fn step(&mut self, number: u32, signal: Option<i32>) -> Result<(), SandboxError> {
        self.on(FIRST, |node| node.step(number, signal))
    }

    fn resize(&mut self, id: u32, rows: u16, columns: u16) -> Result<(), SandboxError> {
        match self.places.get(&id).copied() {
            Some(node) => self.on(node, |sandbox| sandbox.resize(id, rows, columns)),
            None => Ok(()),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    fn next_event(&mut self) -> Result<Option<Event>, SandboxError> {
        // One that has brought out all is gone.
        let gone = self.collected.saturating_sub(1);
        let members = (0..).zip(&mut self.members).zip(&self.names);
        for ((node, member), name) in members.skip(gone) {
            while let Some(event) = member.next_event().map_err(|e| of_node(name, e))? {
                if let Event::Collected(taken) = event {
                    self.taken.add(taken);
                    let left = epoll::delete(&self.watch, member.fd());
                    left.map_err(|e| SandboxError::Lost(e.into()))?;
                    return match self.collect_next()? {
                        true => Ok(None),
                        false => Ok(Some(Event::Collected(std::mem::take(&mut self.taken)))),
                    };
                }
                if is_its_own(&self.places, node, &event) {
                    if let Event::Ended { id, .. } = &event {
                        self.places.remove(id);
                    }
                    return Ok(Some(event));
                }
                self.unheard += 1;
                if self.unheard > MOST_UNHEARD {
                    return Err(of_node(name, crate::vm::MachineEnd::Nonsense.into()));
                }
            }
        }
        Ok(None)
    }

    fn read_file(
        &mut self,
        path: &str,
        offset: u64,
        len: u32,
        asker: &mut dyn Asker,
    ) -> Result<Option<Vec<u8>>, SandboxError> {
        self.on(FIRST, |node| node.read_file(path, offset, len, asker))
    }

    fn list_folder(
        &mut self,
        path: &str,
        asker: &mut dyn Asker,
    ) -> Result<Vec<String>, SandboxError> {
        self.on(FIRST, |node| node.list_folder(path, asker))
    }

    fn look(
        &mut self,
        path: &str,
        asker: &mut dyn Asker,
    ) -> Result<Option<FileEntry>, SandboxError> {
        self.on(FIRST, |node| node.look(path, asker))
    }

    fn shows_life(&mut self, asker: &mut dyn Asker) -> Result<(), SandboxError> {
        let mut members = self.members.iter_mut().zip(&self.names);
        members
            .try_for_each(|(member, name)| member.shows_life(asker).map_err(|e| of_node(name, e)))
    }

    fn usage(&self) -> Usage {
        let members = self.members.iter();
        members.fold(Usage::default(), |all, one| all.plus(&one.usage()))
    }

    fn usage_now(&self) -> Usage {
        let members = self.usage_of_nodes().into_iter();
        members.fold(Usage::default(), |all, one| all.plus(&one))
    }

    fn usage_of_nodes(&self) -> Vec<Usage> {
        let members = self.members.iter();
        members.map(|member| member.usage_now()).collect()
    }

    fn records(&self) -> Vec<SandboxRecord> {
        let members = self.members.iter();
        members.flat_map(|member| member.records()).collect()
    }

    fn shim_folder(&self) -> PathBuf {
        let first = self.members.first();
        first.map_or_else(PathBuf::new, |member| member.shim_folder())
    }

    fn collects(&self) -> bool {
        self.members.iter().any(|member| member.collects())
    }

    fn collect(&mut self) -> Result<(), SandboxError> {
        self.collect_next().map(drop)
    }

    fn end(&mut self) {
        for member in &mut self.members {
            member.end();
        }
    }

    fn destroy(&mut self) {
        // All at once: those that hang are not waited for one after the other.
        self.end();
        for member in &mut self.members {
            member.destroy();
        }
        if let Some(switch) = self.switch.take() {
            let _ = signals::send(switch, signals::SIGKILL);
            let _ = process::wait_for(switch);
        }
        for folder in self.folders.drain(..) {
            // What was mounted there went with the sandbox.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_heard_of_its_own_only() {
        let places = HashMap::from([(0, 0), (1, 1)]);
        let remote = Event::Remote {
            host: "job-0".into(),
            command: "true".into(),
        };
        for (node, event, heard) in [
            (0, Event::Joined { id: 0 }, true),
            (1, Event::Joined { id: 0 }, false),
            (1, Event::Joined { id: 1 }, true),
            (1, Event::Joined { id: 7 }, false),
            (0, remote.clone(), true),
            (1, remote, false),
        ] {
            assert_eq!(is_its_own(&places, node, &event), heard, "{node} {event:?}");
        }
    }
}
