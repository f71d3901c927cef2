//! `sinfo`

use std::fmt::Write as _;

use hyperion_model::view::{Moment, NodeView, PartitionView};

use super::scontrol::available;
use super::{Piece, pieces, short_clock, write};
use crate::listings::words::{Opt, Takes, Words};
use crate::listings::{Site, closed};

use Takes::{Nothing, Value};

/// The options of sinfo.
pub const SINFO: &[Opt] = &[
    Opt(&["--noheader", "-h"], Nothing),
    Opt(&["--format", "-o"], Value),
    Opt(&["--Node", "-N"], Nothing),
    Opt(&["--long", "-l"], Nothing),
    Opt(&["--summarize", "-s"], Nothing),
    Opt(&["--nodes", "-n"], Value),
    Opt(&["--partition", "-p"], Value),
    Opt(&["--states", "-t"], Value),
    Opt(&["--exact", "-e"], Nothing),
    Opt(&["--all", "-a"], Nothing),
    Opt(&["--hide"], Nothing),
    Opt(&["--responding", "-r"], Nothing),
    Opt(&["--dead", "-d"], Nothing),
    Opt(&["--list-reasons", "-R"], Nothing),
    Opt(&["--sort", "-S"], Value),
    Opt(&["--clusters", "--cluster", "-M"], Value),
    Opt(&["--local"], Nothing),
    Opt(&["--federation"], Nothing),
    Opt(&["--reservation", "-T"], Nothing),
    Opt(&["--verbose", "-v"], Nothing),
    Opt(&["--version", "-V"], Nothing),
    Opt(&["--help"], Nothing),
    Opt(&["--usage"], Nothing),
    Opt(&["--iterate", "-i"], Value),
];

const USUAL: &str = "%9P %.5a %.10l %.6D %.6t %N";
const LONG: &str = "%9P %.5a %.10l %.10s %.4r %.8h %.10g %.6D %.11T %N";
const NODES: &str = "%9N %.6D %.9P %6t";
const NODES_LONG: &str = "%9N %.6D %.9P %.11T %4c %.8z %.6m %.8d %.6w %.8f %20E";
const SUMMARY: &str = "%9P %.5a %.10l %.16F %N";
const REASONS: &str = "%20E %9u %19H %N";

const HEADINGS: &[(char, &str)] = &[
    ('a', "AVAIL"),
    ('A', "NODES(A/I)"),
    ('b', "ACTIVE_FEATURES"),
    ('B', "MAX_CPUS_PER_NODE"),
    ('c', "CPUS"),
    ('C', "CPUS(A/I/O/T)"),
    ('d', "TMP_DISK"),
    ('D', "NODES"),
    ('e', "FREE_MEM"),
    ('E', "REASON"),
    ('f', "AVAIL_FEATURES"),
    ('F', "NODES(A/I/O/T)"),
    ('g', "GROUPS"),
    ('G', "GRES"),
    ('h', "OVERSUBSCRIBE"),
    ('H', "TIMESTAMP"),
    ('I', "PRIO_JOB_FACTOR"),
    ('l', "TIMELIMIT"),
    ('L', "DEFAULTTIME"),
    ('m', "MEMORY"),
    ('M', "PREEMPT_MODE"),
    ('n', "HOSTNAMES"),
    ('N', "NODELIST"),
    ('o', "NODE_ADDR"),
    ('O', "CPU_LOAD"),
    ('p', "PRIO_TIER"),
    ('P', "PARTITION"),
    ('r', "ROOT"),
    ('R', "PARTITION"),
    ('s', "JOB_SIZE"),
    ('S', "ALLOCNODES"),
    ('t', "STATE"),
    ('T', "STATE"),
    ('u', "USER"),
    ('U', "USER"),
    ('v', "VERSION"),
    ('w', "WEIGHT"),
    ('X', "SOCKETS"),
    ('Y', "CORES"),
    ('Z', "THREADS"),
    ('z', "S:C:T"),
];

/// The columns that say something of a partition.
const OF_PARTITIONS: [char; 10] = ['a', 'g', 'h', 'I', 'l', 'L', 'p', 'P', 'R', 's'];

/// How nodes are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sinfo {
    head: bool,
    each: bool,
    by_state: bool,
    reasons: bool,
    /// The names of nodes are to fit.
    widen: bool,
    pieces: Vec<Piece>,
}

impl Sinfo {
    /// Reads how nodes are to be listed.
    ///
    /// # Errors
    /// What sinfo would say.
    pub fn read(words: &Words, variable: Option<&str>) -> Result<Self, String> {
        let (each, long) = (words.has("--Node"), words.has("--long"));
        let reasons = words.has("--list-reasons");
        let usual = match (each, long) {
            _ if reasons => REASONS,
            _ if words.has("--summarize") => SUMMARY,
            (false, false) => USUAL,
            (false, true) => LONG,
            (true, false) => NODES,
            (true, true) => NODES_LONG,
        };
        let format = words.value("--format").or(variable).unwrap_or(usual);
        let known = |letter| HEADINGS.iter().any(|(known, _)| *known == letter);
        let pieces = pieces(format, known)
            .map_err(|letter| format!("Invalid node format specification: {letter}"))?;
        let has = |letters: &[char]| {
            pieces.iter().any(
                |piece| matches!(piece, Piece::Column { letter, .. } if letters.contains(letter)),
            )
        };
        Ok(Self {
            head: !words.has("--noheader"),
            each: each || has(&['n', 'o', 'O', 'e']),
            by_state: has(&['t', 'T']),
            reasons,
            widen: each && words.value("--format").or(variable).is_none(),
            pieces,
        })
    }

    /// Writes the list.
    pub fn write(
        &self,
        nodes: &[NodeView],
        partitions: &[PartitionView],
        site: &Site<'_>,
    ) -> String {
        let mut out = String::new();
        let mut shape = self.pieces.clone();
        if let (true, Some(Piece::Column { width, .. })) = (self.widen, shape.first_mut()) {
            let longest = nodes.iter().map(|node| node.name.chars().count()).max();
            *width = (*width).max(longest);
        }
        if self.head {
            let heading = |letter| {
                let found = HEADINGS.iter().find(|(known, _)| *known == letter);
                found.map_or_else(String::new, |(_, heading)| (*heading).to_owned())
            };
            let _ = writeln!(out, "{}", write(&shape, heading));
        }
        // Where nothing of partitions is said, a node is listed once.
        let said = |letter: &char| {
            let is =
                |piece: &Piece| matches!(piece, Piece::Column { letter: l, .. } if l == letter);
            self.pieces.iter().any(is)
        };
        let apart = OF_PARTITIONS.iter().any(said);
        let shown = partitions.iter().filter(|_| apart);
        for partition in shown.chain(partitions.first().filter(|_| !apart)) {
            let is_in = |node: &&NodeView| {
                let mut all = partitions
                    .iter()
                    .filter(|its| !apart || its.name == partition.name);
                all.any(|its| its.nodes.contains(&node.name))
            };
            let nodes = nodes.iter().filter(is_in);
            for group in self.groups(nodes) {
                let line = write(&shape, |letter| value(letter, &group, partition, site));
                let _ = writeln!(out, "{line}");
            }
        }
        out
    }

    /// Puts nodes together that are listed as one.
    fn groups<'a>(&self, nodes: impl Iterator<Item = &'a NodeView>) -> Vec<Vec<&'a NodeView>> {
        let mut groups: Vec<Vec<&NodeView>> = Vec::new();
        for node in nodes.filter(|node| !self.reasons || closed(node).is_some()) {
            let alike = |group: &&mut Vec<&NodeView>| {
                !self.each
                    && group.first().is_some_and(|first| {
                        (!self.by_state || state(first) == state(node))
                            && (!self.reasons || closing(first) == closing(node))
                    })
            };
            match groups.iter_mut().find(alike) {
                Some(group) => group.push(node),
                None => groups.push(vec![node]),
            }
        }
        groups
    }
}

/// Why, by whom and when a node was closed.
fn closing(node: &NodeView) -> (Option<&str>, Option<u32>, Option<Moment>) {
    (node.closed.as_deref(), node.closed_by, node.closed_at)
}

/// How far a node is taken, short and long.
pub(super) fn state(node: &NodeView) -> (&'static str, &'static str) {
    match (closed(node), node.cores_used.0) {
        (Some((true, _)), _) => ("down", "down"),
        (Some((false, _)), _) if node.tasks == 0 => ("drain", "drained"),
        (Some((false, _)), _) => ("drng", "draining"),
        (None, 0) if node.tasks == 0 => ("idle", "idle"),
        (None, used) if used >= node.cores.0 => ("alloc", "allocated"),
        _ => ("mix", "mixed"),
    }
}

/// A range where they are not all the same: `2+`.
fn least(values: impl Iterator<Item = u64> + Clone) -> String {
    let (low, high) = (values.clone().min(), values.max());
    let low_text = low.unwrap_or(0).to_string();
    if low == high {
        low_text
    } else {
        low_text + "+"
    }
}

fn value(letter: char, nodes: &[&NodeView], partition: &PartitionView, site: &Site<'_>) -> String {
    let Some(first) = nodes.first() else {
        return String::new();
    };
    let cores = |node: &&NodeView| node.cores.0 / 1000;
    let used = |node: &&NodeView| node.cores_used.0.div_ceil(1000);
    let count = |states: &[&str]| {
        nodes
            .iter()
            .filter(|node| states.contains(&state(node).0))
            .count()
    };
    let (busy, idle) = (count(&["alloc", "mix", "drng"]), count(&["idle"]));
    let other = nodes.len() - busy - idle;
    match letter {
        'a' => available(partition).to_lowercase(),
        'A' => format!("{busy}/{idle}"),
        'B' => "UNLIMITED".into(),
        'c' => least(nodes.iter().map(cores)),
        'C' => {
            let taken: u64 = nodes.iter().map(used).sum();
            let all: u64 = nodes.iter().map(cores).sum();
            let open = nodes.iter().filter(|node| closed(node).is_none());
            let free: u64 = open
                .map(|node| cores(node).saturating_sub(used(node)))
                .sum();
            let other = all.saturating_sub(taken).saturating_sub(free);
            format!("{taken}/{free}/{other}/{all}")
        }
        'd' => "0".into(),
        'D' => nodes.len().to_string(),
        'e' => (first.memory.0.saturating_sub(first.memory_used.0) >> 20).to_string(),
        'E' => closed(first).map_or("none", |(_, why)| why).to_owned(),
        'F' => format!("{busy}/{idle}/{other}/{}", nodes.len()),
        'g' | 'S' => "all".into(),
        'h' if partition.exclusive => "EXCLUSIVE".into(),
        'h' => "NO".into(),
        'H' => {
            let at = first.closed_at.map(|at| (site.local)(at).iso());
            at.unwrap_or_else(|| "Unknown".into())
        }
        'u' | 'U' => match first.closed_by {
            Some(uid) if letter == 'U' => format!("{}({uid})", (site.user)(uid)),
            Some(uid) => (site.user)(uid),
            None => "Unknown".into(),
        },
        'l' => partition.limit.map_or("infinite".into(), short_clock),
        'L' => partition.usual_limit.map_or("n/a".into(), short_clock),
        'm' => least(nodes.iter().map(|node| node.memory.0 >> 20)),
        'M' => "OFF".into(),
        'n' | 'o' => first.name.clone(),
        'N' => {
            let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            crate::jobs::hosts::compress(&names)
        }
        'O' => {
            let load = first.cores_used.0;
            format!("{}.{:02}", load / 1000, load % 1000 / 10)
        }
        'p' | 'I' => partition.priority.to_string(),
        'w' | 'Y' | 'Z' => "1".into(),
        'P' if partition.default => format!("{}*", partition.name),
        'P' => partition.name.clone(),
        'r' => "no".into(),
        'R' => partition.name.clone(),
        's' => match partition.most_nodes {
            Some(most) => format!("1-{most}"),
            None => "1-infinite".into(),
        },
        't' => state(first).0.into(),
        'T' => state(first).1.into(),
        'v' => "22.05.8".into(),
        'X' => cores(first).to_string(),
        'z' => format!("{}:1:1", cores(first)),
        _ => "(null)".into(),
    }
}
