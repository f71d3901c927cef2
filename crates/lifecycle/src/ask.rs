//! What a submission takes of a site's nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyperion_model::submission::{Arrangement as Said, Part, Per, Sharing, Submission};
use hyperion_sched::{Amounts, Arrangement, Chunk, Node, Numa, Request};
use thiserror::Error;

/// What the ledger's site has.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// Its nodes, by number.
    pub nodes: Vec<Node>,
    /// What is counted on nodes beside cores and memory, in the order of the amounts:
    /// `gpu`, and `gpu:h100` for each kind. A GPU of a kind counts as both.
    pub kinds: Vec<String>,
    /// Which cores and devices each node has, by its number: those that jobs are given by
    /// number. Of a node that is not there nothing is.
    pub slots: Vec<Vec<Numa>>,
    /// What each node has that jobs ask for by name, by its number: `avx2`, `model=ivy`.
    pub features: Vec<BTreeSet<String>>,
    /// How long a job may run that says nothing of it.
    pub usual_limit: Option<Duration>,
}

/// Why nobody can give what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AskError {
    /// Nothing of that kind is counted here.
    #[error("no node has {0}")]
    Kind(String),
    /// There is no licence of that name.
    #[error("there is no licence {0} here")]
    Licence(String),
    /// So many of something cannot be shared out among so many pieces.
    #[error("{count} of {what} cannot be shared out evenly among {pieces}")]
    Uneven {
        /// How many.
        count: u64,
        /// Of what.
        what: String,
        /// Among how many.
        pieces: u64,
    },
    /// More than can be counted.
    #[error("the job asks for more than can be counted")]
    TooMuch,
}

/// Thousandths of a core.
const CORE: u64 = 1000;

impl Site {
    /// Gives the name of what is counted under a number: `cores` (in thousandths),
    /// `memory` (in bytes), then [`Site::kinds`].
    pub fn kind_name(&self, kind: usize) -> &str {
        match kind {
            0 => "cores",
            1 => "memory",
            kind => self.kinds.get(kind - 2).map_or("", String::as_str),
        }
    }

    /// Gives the number under which something is counted beside cores and memory.
    pub(crate) fn kind(&self, name: &str) -> Option<usize> {
        let at = self.kinds.iter().position(|kind| kind == name)?;
        Some(2 + at)
    }

    /// Gives what each task of a submission takes.
    ///
    /// Each part is a member, and they start together or not at all.
    pub(crate) fn request(
        &self,
        submission: &Submission,
        licences: &BTreeMap<String, u64>,
    ) -> Result<Request, AskError> {
        let members = submission.parts.iter();
        let members = members.map(|part| self.member(part, submission.overcommit, licences));
        let mut members = members.collect::<Result<Vec<Request>, AskError>>()?;
        if members.is_empty() {
            return Ok(Request::default());
        }
        let mut first = members.remove(0);
        first.others = members;
        Ok(first)
    }

    fn member(
        &self,
        part: &Part,
        overcommit: bool,
        licences: &BTreeMap<String, u64>,
    ) -> Result<Request, AskError> {
        let (chunks, arrangement) = match overcommit {
            true => self.chunks(&one_task_a_node(part))?,
            false => self.chunks(part)?,
        };
        let unknown = part
            .licences
            .keys()
            .find(|name| !licences.contains_key(*name));
        if let Some(name) = unknown {
            return Err(AskError::Licence(name.clone()));
        }
        let count = |name: &String| part.licences.get(name).copied().unwrap_or(0);
        let shared = licences.keys().map(|name| u64::from(count(name)));
        Ok(Request {
            chunks,
            arrangement,
            exclusive: part.sharing == Sharing::Nobody,
            shared: match part.licences.is_empty() {
                true => Amounts::default(),
                false => Amounts::new(shared),
            },
            ..Request::default()
        })
    }

    fn chunks(&self, part: &Part) -> Result<(Vec<Chunk>, Arrangement), AskError> {
        let nodes = part.nodes.map(|nodes| u64::from(nodes.least.max(1)));
        let pieces = part.chunks.map(u64::from).or(nodes);
        let per = |of: Per| part.tasks.get(&of).map(|&tasks| u64::from(tasks.max(1)));
        let each = per(Per::Chunk).or(per(Per::Node));
        let tasks = match (per(Per::Job), pieces, each) {
            (Some(tasks), ..) => tasks,
            (None, Some(pieces), each) => pieces.saturating_mul(each.unwrap_or(1)),
            (None, None, each) => each.unwrap_or(1),
        };
        // Whoever says how many go on a node has said how many nodes, too; on as many as
        // there are is as far apart as can be.
        let pieces = pieces.or(each.map(|each| tasks.div_ceil(each)));
        let nodes = self.nodes.len().max(1) as u64;
        let spread = (part.arrangement == Said::Apart).then(|| tasks.min(nodes));
        let pieces = pieces.or(spread);
        let piece = Piece { part, tasks };
        let said = match part.arrangement {
            Said::Free => None,
            Said::Together => Some(Arrangement::Together),
            Said::Apart => Some(Arrangement::Apart),
        };
        let whole = part.memory.contains_key(&Per::Node);
        match pieces {
            Some(pieces) => {
                // Some hold a task more where they do not come out even.
                let (least, more) = (tasks / pieces, tasks % pieces);
                let mut chunks = Vec::new();
                for (count, tasks) in [(more, least + 1), (pieces - more, least)] {
                    if count > 0 {
                        let each = self.amounts(piece, tasks, pieces)?;
                        chunks.push(Chunk { count, each });
                    }
                }
                let apart = match part.chunks {
                    Some(_) => Arrangement::Free,
                    None => Arrangement::Apart,
                };
                Ok((chunks, said.unwrap_or(apart)))
            }
            // Memory for each of nodes that nobody has counted: there is one.
            None if whole || said == Some(Arrangement::Together) => {
                let each = self.amounts(piece, tasks, 1)?;
                Ok((vec![Chunk { count: 1, each }], Arrangement::Together))
            }
            None => {
                let each = self.amounts(piece, 1, tasks)?;
                let chunks = vec![Chunk { count: tasks, each }];
                Ok((chunks, said.unwrap_or_default()))
            }
        }
    }

    /// Gives what a piece with so many tasks takes, as one of so many pieces.
    fn amounts(&self, of: Piece<'_>, tasks: u64, pieces: u64) -> Result<Amounts, AskError> {
        let part = of.part;
        let mut cores: u64 = 0;
        for (&per, &cpus) in &part.cpus {
            cores = cores.max(of.share("processors", per, cpus.into(), tasks, pieces, 0)?);
        }
        if part.cpus.is_empty() {
            cores = tasks;
        }
        // Who says how many there are of a node, of a task and in all speaks of the same.
        let mut in_piece = 0;
        for per in per_of(part) {
            let gpus = part
                .resources
                .iter()
                .filter(|r| r.family == "gpu" && r.per == per);
            let mut of_per: u64 = 0;
            for gpu in gpus {
                let share = of.share("gpu", gpu.per, gpu.count, tasks, pieces, 0)?;
                of_per = share.checked_add(of_per).ok_or(AskError::TooMuch)?;
            }
            in_piece = of_per.max(in_piece);
        }
        let mut memory: u64 = 0;
        for (&per, &bytes) in &part.memory {
            let bytes = match per {
                Per::Cpu | Per::Core => bytes.0.saturating_mul(cores),
                Per::Job => bytes.0.div_ceil(pieces),
                per => of.share("memory", per, bytes.0, tasks, pieces, in_piece)?,
            };
            memory = memory.max(bytes);
        }
        let mut amounts = vec![cores.checked_mul(CORE).ok_or(AskError::TooMuch)?, memory];
        amounts.resize(2 + self.kinds.len(), 0);
        for per in per_of(part) {
            let mut of_per = vec![0u64; amounts.len()];
            for resource in part.resources.iter().filter(|resource| resource.per == per) {
                let family = &resource.family;
                let kind = resource.kind.iter().map(|kind| format!("{family}:{kind}"));
                let count = resource.count;
                let count = of.share(family, per, count, tasks, pieces, in_piece)?;
                for name in std::iter::once(family.clone()).chain(kind) {
                    let at = self.kind(&name).ok_or(AskError::Kind(name))?;
                    let sum = of_per[at].checked_add(count);
                    of_per[at] = sum.ok_or(AskError::TooMuch)?;
                }
            }
            for (amount, of_per) in amounts.iter_mut().zip(of_per) {
                *amount = of_per.max(*amount);
            }
        }
        Ok(Amounts::new(amounts))
    }
}

/// Gives a part as it counts with more tasks than processors: as if each node had one, as
/// Slurm does it.
fn one_task_a_node(part: &Part) -> Part {
    let mut one = part.clone();
    one.tasks.clear();
    if one.nodes.is_none() {
        one.arrangement = Said::Together;
    }
    one
}

/// Gives of what a part says how many devices it has, each once.
fn per_of(part: &Part) -> BTreeSet<Per> {
    part.resources.iter().map(|resource| resource.per).collect()
}

/// A piece of a part that is shared out.
#[derive(Clone, Copy)]
struct Piece<'a> {
    part: &'a Part,
    /// All tasks of the part.
    tasks: u64,
}

impl Piece<'_> {
    /// Gives what of an amount falls to a piece.
    fn share(
        self,
        what: &str,
        per: Per,
        count: u64,
        tasks: u64,
        pieces: u64,
        gpus: u64,
    ) -> Result<u64, AskError> {
        let each = match per {
            Per::Job if count.is_multiple_of(pieces) => return Ok(count / pieces),
            Per::Job if count.is_multiple_of(self.tasks) => count / self.tasks,
            Per::Job => {
                return Err(AskError::Uneven {
                    count,
                    what: what.to_owned(),
                    pieces,
                });
            }
            Per::Node | Per::Chunk | Per::Socket => return Ok(count),
            Per::Task | Per::Core | Per::Cpu => count,
            Per::Gpu => return count.checked_mul(gpus).ok_or(AskError::TooMuch),
        };
        each.checked_mul(tasks).ok_or(AskError::TooMuch)
    }
}

#[cfg(test)]
mod tests {
    use hyperion_model::Bytes;
    use hyperion_model::submission::{NodeCount, Resource};

    use super::*;

    const GIB: u64 = 1 << 30;

    fn site() -> Site {
        Site {
            kinds: vec!["gpu".into(), "gpu:h100".into()],
            ..Site::default()
        }
    }

    /// Says what a part takes: `2 × 4 cores 8 GiB 1 gpu 1 gpu:h100, Apart`.
    fn says(change: impl FnOnce(&mut Part)) -> String {
        let mut part = Part::default();
        change(&mut part);
        let (chunks, arrangement) = match site().chunks(&part) {
            Ok(asked) => asked,
            Err(error) => return error.to_string(),
        };
        let mut text = Vec::new();
        for Chunk { count, each } in chunks {
            let mut words = format!("{count} × {} cores", each.of(0) / CORE);
            for (kind, name) in [(1, "B"), (2, "gpu"), (3, "gpu:h100")] {
                match each.of(kind) {
                    0 => {}
                    bytes if kind == 1 => words += &format!(" {} GiB", bytes / GIB),
                    amount => words += &format!(" {amount} {name}"),
                }
            }
            text.push(words);
        }
        format!("{}, {arrangement:?}", text.join(" + "))
    }

    fn nodes(count: u32) -> Option<NodeCount> {
        let (least, most) = (count, count);
        Some(NodeCount { least, most })
    }

    fn gpus(per: Per, count: u64, kind: Option<&str>) -> Resource {
        Resource {
            family: "gpu".into(),
            kind: kind.map(str::to_owned),
            count,
            per,
        }
    }

    #[test]
    fn words_of_slurm_become_pieces() {
        assert_eq!(says(|_| {}), "1 × 1 cores, Free");
        // -n 4 -c 2 --mem-per-cpu 1G
        let pure = says(|part| {
            part.tasks.insert(Per::Job, 4);
            part.cpus.insert(Per::Task, 2);
            part.memory.insert(Per::Cpu, Bytes(GIB));
        });
        assert_eq!(pure, "4 × 2 cores 2 GiB, Free");
        // -N 2 -n 5 --mem 8G
        let uneven = says(|part| {
            part.nodes = nodes(2);
            part.tasks.insert(Per::Job, 5);
            part.memory.insert(Per::Node, Bytes(8 * GIB));
        });
        assert_eq!(uneven, "1 × 3 cores 8 GiB + 1 × 2 cores 8 GiB, Apart");
        // -n 4 --mem 8G: on one node, or nobody could say how much that is.
        let one = says(|part| {
            part.tasks.insert(Per::Job, 4);
            part.memory.insert(Per::Node, Bytes(8 * GIB));
        });
        assert_eq!(one, "1 × 4 cores 8 GiB, Together");
        // -n 6 --ntasks-per-node 3
        let spread = says(|part| {
            part.tasks.insert(Per::Job, 6);
            part.tasks.insert(Per::Node, 3);
        });
        assert_eq!(spread, "2 × 3 cores, Apart");
        // -N 2 --gres gpu:h100:2 --mem-per-gpu 4G
        let devices = says(|part| {
            part.nodes = nodes(2);
            part.resources.push(gpus(Per::Node, 2, Some("h100")));
            part.memory.insert(Per::Gpu, Bytes(4 * GIB));
        });
        assert_eq!(devices, "2 × 1 cores 8 GiB 2 gpu 2 gpu:h100, Apart");
        // --gpus 4 -n 4
        let all = says(|part| {
            part.tasks.insert(Per::Job, 4);
            part.resources.push(gpus(Per::Job, 4, None));
        });
        assert_eq!(all, "4 × 1 cores 1 gpu, Free");
        // -N 2 --gpus 4 --gpus-per-node h100:2 are four, and not eight.
        let twice = says(|part| {
            part.nodes = nodes(2);
            part.resources.push(gpus(Per::Job, 4, None));
            part.resources.push(gpus(Per::Node, 2, Some("h100")));
        });
        assert_eq!(twice, "2 × 1 cores 2 gpu 2 gpu:h100, Apart");
    }

    #[test]
    fn chunks_of_pbs_lie_where_they_like() {
        // select=3:ncpus=8:mpiprocs=2:mem=4gb:ngpus=1
        let select = says(|part| {
            part.chunks = Some(3);
            part.cpus.insert(Per::Chunk, 8);
            part.tasks.insert(Per::Chunk, 2);
            part.memory.insert(Per::Chunk, Bytes(4 * GIB));
            part.resources.push(gpus(Per::Chunk, 1, None));
        });
        assert_eq!(select, "3 × 8 cores 4 GiB 1 gpu, Free");
    }

    #[test]
    fn what_cannot_be_shared_out_is_said() {
        let uneven = says(|part| {
            part.tasks.insert(Per::Job, 4);
            part.resources.push(gpus(Per::Job, 3, None));
        });
        assert_eq!(uneven, "3 of gpu cannot be shared out evenly among 4");
        let unknown = says(|part| part.resources.push(gpus(Per::Job, 1, Some("a100"))));
        assert_eq!(unknown, "no node has gpu:a100");
        let absurd = says(|part| {
            part.tasks.insert(Per::Node, u32::MAX);
            part.cpus.insert(Per::Cpu, u32::MAX);
            part.nodes = nodes(u32::MAX);
            part.resources.push(gpus(Per::Task, u64::MAX, None));
        });
        assert_eq!(absurd, "the job asks for more than can be counted");
    }
}
