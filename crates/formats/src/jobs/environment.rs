//! What the script of each system finds in its environment, and the files of
//! hosts that some of the variables name.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hyperion_model::nodes::Seat;
use hyperion_model::submission::{Dialect, Part, Per, Submission, TimeLimit};

use super::hosts::compress;
use super::pattern::{Facts, paths};

/// What a job was given, where it runs, and who submitted it from where.
#[derive(Debug, Clone, Copy)]
pub struct Allocation<'a> {
    /// What is known of the job itself.
    pub facts: Facts<'a>,
    /// Its nodes, in their order; the script runs on the first.
    pub nodes: &'a [NodeShare],
    /// The queue that it came from.
    pub queue: &'a str,
    /// What the cluster is called.
    pub cluster: &'a str,
    /// Where it was submitted.
    pub submit_folder: &'a str,
    /// From which host.
    pub submit_host: &'a str,
    /// The variables of who submitted it, for those that are handed on by another name.
    pub submitter: &'a BTreeMap<String, String>,
    /// A folder for temporary files of its own.
    pub scratch: &'a str,
    /// The file that is to hold [`host_file`].
    pub host_file: &'a str,
    /// How many times it was started before.
    pub restarts: u32,
}

/// What a job has of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeShare {
    /// Its name.
    pub host: String,
    /// Processors there.
    pub cpus: u32,
    /// Tasks there.
    pub tasks: u32,
    /// The numbers of the GPUs there.
    pub gpus: Vec<u32>,
    /// The numbers of the processors to which it is bound there, if it is.
    pub bound: Vec<u32>,
}

/// The variables of one system in the making.
struct Variables(BTreeMap<String, String>);

impl Variables {
    fn set(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    fn set_all(&mut self, names: &[&str], value: impl ToString) {
        let value = value.to_string();
        for name in names {
            self.set(name, &value);
        }
    }

    fn set_some(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Hands variables of the submitter on under another name.
    fn pass(&mut self, from: &BTreeMap<String, String>, prefix: &str, names: &[&str]) {
        for name in names {
            self.set_some(&format!("{prefix}{name}"), from.get(*name));
        }
    }
}

/// Gives the variables that a job's script expects of its batch system.
pub fn variables(job: &Submission, given: &Allocation<'_>) -> BTreeMap<String, String> {
    let mut out = Variables(BTreeMap::new());
    match job.dialect {
        Dialect::Slurm => slurm(&mut out, job, given),
        Dialect::Pbs => pbs(&mut out, job, given),
        Dialect::Lsf => lsf(&mut out, job, given),
        Dialect::Sge => sge(&mut out, job, given),
    }
    let first = given.nodes.first();
    if let Some(node) = first.filter(|node| !node.gpus.is_empty()) {
        let names = ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"];
        out.set_all(&names, listed(&node.gpus, ","));
    }
    if let Some(node) = first.filter(|node| !node.bound.is_empty()) {
        match job.dialect {
            Dialect::Slurm => {
                let mask = mask(&node.bound);
                out.set("SLURM_CPU_BIND_VERBOSE", "quiet");
                out.set("SLURM_CPU_BIND_TYPE", "mask_cpu:");
                out.set("SLURM_CPU_BIND", format!("quiet,mask_cpu:{mask}"));
                out.set("SLURM_CPU_BIND_LIST", mask);
            }
            Dialect::Lsf => out.set("LSB_BIND_CPU_LIST", listed(&node.bound, ",")),
            Dialect::Sge => out.set("SGE_BINDING", listed(&node.bound, " ")),
            Dialect::Pbs => {}
        }
    }
    out.0
}

fn listed(numbers: &[u32], between: &str) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(between)
}

/// Writes processors as Slurm does, a bit each: `0x21` is 0 and 5.
fn mask(cpus: &[u32]) -> String {
    let last = cpus.iter().max().copied().unwrap_or(0);
    let digit = |four: u32| {
        let bit = |at: &u32| cpus.contains(&(four * 4 + at));
        (0..4).filter(bit).map(|at| 1 << at).sum::<u32>()
    };
    let digits = (0..=last / 4)
        .rev()
        .map(|four| format!("{:X}", digit(four)));
    format!("0x{}", digits.collect::<String>())
}

/// Gives the variables that one process expects beside those of its job.
pub fn rank_variables(
    dialect: Dialect,
    rank: u32,
    seat: Seat,
    host: &str,
) -> BTreeMap<String, String> {
    let mut out = Variables(BTreeMap::new());
    match dialect {
        Dialect::Slurm => {
            out.set("SLURM_PROCID", rank);
            out.set("SLURM_LOCALID", seat.local_rank);
            out.set("SLURM_NODEID", seat.node);
            out.set("SLURMD_NODENAME", host);
        }
        Dialect::Pbs => {
            out.set("PBS_TASKNUM", rank + 1);
            out.set_all(&["PBS_NODENUM", "PBS_VNODENUM"], seat.node);
        }
        Dialect::Lsf => out.set("LSF_PM_TASKID", rank + 1),
        Dialect::Sge => {}
    }
    out.0
}

/// Writes the file of hosts that a job's script expects: PBS has a line for
/// each task, LSF one for each slot, Grid Engine one for each host with its
/// slots; Slurm has none.
pub fn host_file(dialect: Dialect, given: &Allocation<'_>) -> Option<String> {
    let mut out = String::new();
    for node in given.nodes {
        let slots = node.tasks.max(1);
        match dialect {
            Dialect::Slurm => return None,
            Dialect::Pbs | Dialect::Lsf => {
                for _ in 0..slots {
                    let _ = writeln!(out, "{}", node.host);
                }
            }
            Dialect::Sge => {
                let queue = given.queue;
                let _ = writeln!(out, "{0} {slots} {queue}@{0} UNDEFINED", node.host);
            }
        }
    }
    Some(out)
}

/// Writes counts as Slurm does: `2(x2),1`.
fn counted(counts: impl Iterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for count in counts {
        match runs.last_mut() {
            Some((same, times)) if *same == count => *times += 1,
            _ => runs.push((count, 1)),
        }
    }
    let written = runs.iter().map(|(count, times)| match times {
        1 => count.to_string(),
        _ => format!("{count}(x{times})"),
    });
    written.collect::<Vec<_>>().join(",")
}

fn tasks(given: &Allocation<'_>) -> u32 {
    given.nodes.iter().map(|node| node.tasks).sum()
}

/// GPUs as Slurm has them in a variable: the count, or `TYPE:COUNT`.
fn gpus(part: &Part, per: Per) -> Option<String> {
    let mut all = part
        .resources
        .iter()
        .filter(|one| one.family == "gpu" && one.per == per);
    let first = all.next()?;
    Some(match &first.kind {
        Some(kind) => format!("{kind}:{}", first.count),
        None => first.count.to_string(),
    })
}

fn slurm(out: &mut Variables, job: &Submission, given: &Allocation<'_>) {
    let Facts {
        job: id,
        name,
        user,
        array,
        ..
    } = given.facts;
    let (part, first) = (&job.parts[0], &given.nodes.first());
    out.set_all(&["SLURM_JOB_ID", "SLURM_JOBID"], id);
    out.set("SLURM_JOB_NAME", name);
    out.set("SLURM_JOB_USER", user);
    out.set("SLURM_CLUSTER_NAME", given.cluster);
    out.set("SLURM_JOB_PARTITION", given.queue);
    out.set_some("SLURM_JOB_ACCOUNT", job.account.as_ref());
    out.set_some("SLURM_JOB_QOS", job.qos.as_ref());
    out.set_some("SLURM_JOB_RESERVATION", job.reservation.as_ref());
    out.set("SLURM_SUBMIT_DIR", given.submit_folder);
    out.set("SLURM_SUBMIT_HOST", given.submit_host);
    let hosts: Vec<&str> = given.nodes.iter().map(|node| node.host.as_str()).collect();
    out.set_all(&["SLURM_JOB_NODELIST", "SLURM_NODELIST"], compress(&hosts));
    out.set_all(&["SLURM_JOB_NUM_NODES", "SLURM_NNODES"], hosts.len());
    let cpus = given.nodes.iter().map(|node| node.cpus);
    out.set("SLURM_JOB_CPUS_PER_NODE", counted(cpus));
    let per_node = given.nodes.iter().map(|node| node.tasks);
    out.set("SLURM_TASKS_PER_NODE", counted(per_node));
    if let Some(node) = first {
        out.set("SLURM_CPUS_ON_NODE", node.cpus);
        out.set("SLURMD_NODENAME", &node.host);
        if !node.gpus.is_empty() {
            out.set("SLURM_JOB_GPUS", listed(&node.gpus, ","));
            out.set("SLURM_GPUS_ON_NODE", node.gpus.len());
        }
    }
    // These are there only when the option was given.
    if part.tasks.contains_key(&Per::Job) || part.tasks.contains_key(&Per::Node) {
        out.set_all(&["SLURM_NTASKS", "SLURM_NPROCS"], tasks(given));
    }
    for (name, per) in [
        ("SLURM_NTASKS_PER_NODE", Per::Node),
        ("SLURM_NTASKS_PER_CORE", Per::Core),
        ("SLURM_NTASKS_PER_SOCKET", Per::Socket),
        ("SLURM_NTASKS_PER_GPU", Per::Gpu),
    ] {
        out.set_some(name, part.tasks.get(&per));
    }
    out.set_some("SLURM_CPUS_PER_TASK", part.cpus.get(&Per::Task));
    out.set_some("SLURM_CPUS_PER_GPU", part.cpus.get(&Per::Gpu));
    for (name, per) in [
        ("SLURM_MEM_PER_NODE", Per::Node),
        ("SLURM_MEM_PER_CPU", Per::Cpu),
        ("SLURM_MEM_PER_GPU", Per::Gpu),
    ] {
        out.set_some(name, part.memory.get(&per).map(|bytes| bytes.0 >> 20));
    }
    for (name, per) in [
        ("SLURM_GPUS", Per::Job),
        ("SLURM_GPUS_PER_SOCKET", Per::Socket),
        ("SLURM_GPUS_PER_TASK", Per::Task),
    ] {
        out.set_some(name, gpus(part, per));
    }
    if job.overcommit {
        out.set("SLURM_OVERCOMMIT", 1);
    }
    if job.parts.len() > 1 {
        out.set("SLURM_HET_SIZE", job.parts.len());
    }
    if given.restarts > 0 {
        out.set("SLURM_RESTART_COUNT", given.restarts);
    }
    if let (Some((master, index)), Some(all)) = (array, &job.array) {
        out.set("SLURM_ARRAY_JOB_ID", master);
        out.set("SLURM_ARRAY_TASK_ID", index);
        out.set("SLURM_ARRAY_TASK_COUNT", all.indices.count());
        out.set("SLURM_ARRAY_TASK_MIN", all.indices.first());
        out.set("SLURM_ARRAY_TASK_MAX", all.indices.last());
        out.set("SLURM_ARRAY_TASK_STEP", all.indices.step().unwrap_or(1));
    }
    rank_of_script(out, Dialect::Slurm, given);
}

/// The script itself is the first process of its job.
fn rank_of_script(out: &mut Variables, dialect: Dialect, given: &Allocation<'_>) {
    let first = given.nodes.first();
    let seat = Seat {
        node: 0,
        local_rank: 0,
        local_size: first.map_or(1, |node| node.tasks),
    };
    let host = first.map_or("", |node| node.host.as_str());
    out.0.extend(rank_variables(dialect, 0, seat, host));
}

fn pbs(out: &mut Variables, job: &Submission, given: &Allocation<'_>) {
    let Facts {
        job: id,
        name,
        array,
        home,
        ..
    } = given.facts;
    // As `qsub` has told whoever submitted it.
    let server = given.submit_host;
    match array {
        Some((master, index)) => {
            out.set("PBS_JOBID", format!("{master}[{index}].{server}"));
            out.set("PBS_ARRAY_ID", format!("{master}[].{server}"));
            out.set_all(&["PBS_ARRAY_INDEX", "PBS_ARRAYID"], index);
        }
        None => out.set("PBS_JOBID", format!("{id}.{server}")),
    }
    out.set("PBS_JOBNAME", name);
    out.set("PBS_ENVIRONMENT", "PBS_BATCH");
    out.set("PBS_QUEUE", given.queue);
    out.set("PBS_NODEFILE", given.host_file);
    out.set("PBS_JOBDIR", home);
    out.set("TMPDIR", given.scratch);
    out.set_all(&["PBS_O_WORKDIR", "PBS_O_INITDIR"], given.submit_folder);
    out.set("PBS_O_HOST", given.submit_host);
    out.set(
        "PBS_O_QUEUE",
        job.parts[0]
            .queues
            .first()
            .map_or(given.queue, String::as_str),
    );
    out.set("PBS_O_SYSTEM", "Linux");
    let handed = ["HOME", "LANG", "LOGNAME", "PATH", "MAIL", "SHELL", "TZ"];
    out.pass(given.submitter, "PBS_O_", &handed);
    let cpus = given.nodes.first().map_or(1, |node| node.cpus);
    let threads = job.parts[0].cpus.get(&Per::Task).copied().unwrap_or(cpus);
    out.set("NCPUS", cpus);
    out.set("OMP_NUM_THREADS", threads);
    out.set("PBS_NP", tasks(given));
    out.set_all(&["PBS_NUM_NODES", "PBS_NNODES"], given.nodes.len());
    out.set_some("PBS_NUM_PPN", given.nodes.first().map(|node| node.tasks));
    if let Some(TimeLimit::Span(span)) = job.time_limit {
        out.set("PBS_WALLTIME", span.as_secs());
    }
    rank_of_script(out, Dialect::Pbs, given);
}

fn lsf(out: &mut Variables, job: &Submission, given: &Allocation<'_>) {
    let Facts {
        job: id,
        name,
        array,
        ..
    } = given.facts;
    out.set("LSB_JOBID", array.map_or(id, |(master, _)| master));
    out.set("LSB_JOBINDEX", array.map_or(0, |(_, index)| index));
    if let (Some((_, index)), Some(all)) = (array, &job.array) {
        out.set("LSB_JOBINDEX_STEP", all.indices.step().unwrap_or(1));
        out.set("LSB_JOBINDEX_END", all.indices.last());
        out.set("LSB_JOBNAME", format!("{name}[{index}]"));
    } else {
        out.set("LSB_JOBNAME", name);
    }
    out.set("LSB_QUEUE", given.queue);
    out.set("LSB_SUB_HOST", given.submit_host);
    out.set("LS_SUBCWD", given.submit_folder);
    let hosts = given
        .nodes
        .iter()
        .flat_map(|node| std::iter::repeat_n(node.host.as_str(), node.tasks.max(1) as usize));
    out.set("LSB_HOSTS", hosts.collect::<Vec<_>>().join(" "));
    let counted = given
        .nodes
        .iter()
        .map(|node| format!("{} {}", node.host, node.tasks.max(1)));
    out.set("LSB_MCPU_HOSTS", counted.collect::<Vec<_>>().join(" "));
    out.set("LSB_DJOB_HOSTFILE", given.host_file);
    out.set("LSB_DJOB_NUMPROC", tasks(given).max(1));
    let most = job.parts[0]
        .most_tasks
        .unwrap_or_else(|| tasks(given).max(1));
    out.set("LSB_MAX_NUM_PROCESSORS", most);
    let files = paths(job, &given.facts);
    out.set("LSB_OUTPUTFILE", files.output);
    out.set_some("LSB_ERRORFILE", files.error);
    if given.restarts > 0 {
        out.set("LSB_RESTART", "Y");
    }
}

fn sge(out: &mut Variables, job: &Submission, given: &Allocation<'_>) {
    let Facts {
        job: id,
        name,
        array,
        ..
    } = given.facts;
    out.set("JOB_ID", array.map_or(id, |(master, _)| master));
    out.set("JOB_NAME", name);
    match (array, &job.array) {
        (Some((_, index)), Some(all)) => {
            out.set("SGE_TASK_ID", index);
            out.set("SGE_TASK_FIRST", all.indices.first());
            out.set("SGE_TASK_LAST", all.indices.last());
            out.set("SGE_TASK_STEPSIZE", all.indices.step().unwrap_or(1));
        }
        _ => out.set_all(
            &[
                "SGE_TASK_ID",
                "SGE_TASK_FIRST",
                "SGE_TASK_LAST",
                "SGE_TASK_STEPSIZE",
            ],
            "undefined",
        ),
    }
    out.set("ENVIRONMENT", "BATCH");
    out.set("QUEUE", given.queue);
    out.set("NQUEUES", 1);
    out.set("NHOSTS", given.nodes.len());
    out.set("NSLOTS", tasks(given).max(1));
    out.set_some("HOSTNAME", given.nodes.first().map(|node| &node.host));
    if job.parts[0].tasks.contains_key(&Per::Job) {
        out.set("PE_HOSTFILE", given.host_file);
    }
    out.set_all(&["TMPDIR", "TMP"], given.scratch);
    out.set("SGE_O_WORKDIR", given.submit_folder);
    out.set("SGE_O_HOST", given.submit_host);
    let handed = ["HOME", "LOGNAME", "MAIL", "PATH", "SHELL", "TZ"];
    out.pass(given.submitter, "SGE_O_", &handed);
    let files = paths(job, &given.facts);
    out.set("SGE_STDOUT_PATH", &files.output);
    out.set(
        "SGE_STDERR_PATH",
        files.error.as_ref().unwrap_or(&files.output),
    );
    out.set(
        "SGE_STDIN_PATH",
        files.input.as_deref().unwrap_or("/dev/null"),
    );
    out.set("RESTARTED", u8::from(given.restarts > 0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{Source, read};

    fn shown(dialect: Dialect, script: &str, array: Option<(u64, u32)>) -> String {
        let source = Source {
            script: Some(script.as_bytes()),
            ..Source::default()
        };
        let job = read(dialect, &source).expect(script).submission;
        let share = |host: &str, tasks: u32| NodeShare {
            host: host.to_owned(),
            cpus: 8,
            tasks,
            gpus: vec![0, 1],
            bound: vec![0, 5],
        };
        let submitter = [("HOME", "/home/ann"), ("PATH", "/bin")];
        let submitter = submitter.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let given = Allocation {
            facts: Facts {
                job: 131,
                array,
                name: "heat",
                user: "ann",
                home: "/home/ann",
                host: "n1",
                ..Facts::default()
            },
            nodes: &[share("n1", 3), share("n2", 3), share("n4", 2)],
            queue: "main",
            cluster: "here",
            submit_folder: "/work",
            submit_host: "login",
            submitter: &submitter.into(),
            scratch: "/tmp/131",
            host_file: "/run/131/hosts",
            restarts: 0,
        };
        let all = variables(&job, &given);
        let mut out: String = all
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        out += &host_file(dialect, &given).unwrap_or_default();
        out
    }

    #[test]
    fn slurms_script_finds_its_variables() {
        let script =
            "#!/bin/sh\n#SBATCH -n 8 -c 2 --mem=4G --array=1-9:2 --gpus-per-task=a100:1 -A lab\n";
        insta::assert_snapshot!(shown(Dialect::Slurm, script, Some((128, 3))), @r"
        CUDA_VISIBLE_DEVICES=0,1
        ROCR_VISIBLE_DEVICES=0,1
        SLURMD_NODENAME=n1
        SLURM_ARRAY_JOB_ID=128
        SLURM_ARRAY_TASK_COUNT=5
        SLURM_ARRAY_TASK_ID=3
        SLURM_ARRAY_TASK_MAX=9
        SLURM_ARRAY_TASK_MIN=1
        SLURM_ARRAY_TASK_STEP=2
        SLURM_CLUSTER_NAME=here
        SLURM_CPUS_ON_NODE=8
        SLURM_CPUS_PER_TASK=2
        SLURM_CPU_BIND=quiet,mask_cpu:0x21
        SLURM_CPU_BIND_LIST=0x21
        SLURM_CPU_BIND_TYPE=mask_cpu:
        SLURM_CPU_BIND_VERBOSE=quiet
        SLURM_GPUS_ON_NODE=2
        SLURM_GPUS_PER_TASK=a100:1
        SLURM_JOBID=131
        SLURM_JOB_ACCOUNT=lab
        SLURM_JOB_CPUS_PER_NODE=8(x3)
        SLURM_JOB_GPUS=0,1
        SLURM_JOB_ID=131
        SLURM_JOB_NAME=heat
        SLURM_JOB_NODELIST=n[1-2,4]
        SLURM_JOB_NUM_NODES=3
        SLURM_JOB_PARTITION=main
        SLURM_JOB_USER=ann
        SLURM_LOCALID=0
        SLURM_MEM_PER_NODE=4096
        SLURM_NNODES=3
        SLURM_NODEID=0
        SLURM_NODELIST=n[1-2,4]
        SLURM_NPROCS=8
        SLURM_NTASKS=8
        SLURM_PROCID=0
        SLURM_SUBMIT_DIR=/work
        SLURM_SUBMIT_HOST=login
        SLURM_TASKS_PER_NODE=3(x2),2
        ");
    }

    #[test]
    fn pbss_script_finds_its_variables() {
        let script = "#PBS -l select=3:ncpus=8:mpiprocs=3:ompthreads=2,walltime=1:00:00\n";
        insta::assert_snapshot!(shown(Dialect::Pbs, script, None), @r"
        CUDA_VISIBLE_DEVICES=0,1
        NCPUS=8
        OMP_NUM_THREADS=2
        PBS_ENVIRONMENT=PBS_BATCH
        PBS_JOBDIR=/home/ann
        PBS_JOBID=131.login
        PBS_JOBNAME=heat
        PBS_NNODES=3
        PBS_NODEFILE=/run/131/hosts
        PBS_NODENUM=0
        PBS_NP=8
        PBS_NUM_NODES=3
        PBS_NUM_PPN=3
        PBS_O_HOME=/home/ann
        PBS_O_HOST=login
        PBS_O_INITDIR=/work
        PBS_O_PATH=/bin
        PBS_O_QUEUE=main
        PBS_O_SYSTEM=Linux
        PBS_O_WORKDIR=/work
        PBS_QUEUE=main
        PBS_TASKNUM=1
        PBS_VNODENUM=0
        PBS_WALLTIME=3600
        ROCR_VISIBLE_DEVICES=0,1
        TMPDIR=/tmp/131
        n1
        n1
        n1
        n2
        n2
        n2
        n4
        n4
        ");
    }

    #[test]
    fn lsfs_script_finds_its_variables() {
        let script = "#BSUB -J a[1-9:2] -n 8 -o o.%J.%I\n";
        insta::assert_snapshot!(shown(Dialect::Lsf, script, Some((128, 3))), @r"
        CUDA_VISIBLE_DEVICES=0,1
        LSB_BIND_CPU_LIST=0,5
        LSB_DJOB_HOSTFILE=/run/131/hosts
        LSB_DJOB_NUMPROC=8
        LSB_HOSTS=n1 n1 n1 n2 n2 n2 n4 n4
        LSB_JOBID=128
        LSB_JOBINDEX=3
        LSB_JOBINDEX_END=9
        LSB_JOBINDEX_STEP=2
        LSB_JOBNAME=heat[3]
        LSB_MAX_NUM_PROCESSORS=8
        LSB_MCPU_HOSTS=n1 3 n2 3 n4 2
        LSB_OUTPUTFILE=o.128.3
        LSB_QUEUE=main
        LSB_SUB_HOST=login
        LS_SUBCWD=/work
        ROCR_VISIBLE_DEVICES=0,1
        n1
        n1
        n1
        n2
        n2
        n2
        n4
        n4
        ");
    }

    #[test]
    fn grid_engines_script_finds_its_variables() {
        let script = "#$ -pe mpi 8 -j y\n";
        insta::assert_snapshot!(shown(Dialect::Sge, script, None), @r"
        CUDA_VISIBLE_DEVICES=0,1
        ENVIRONMENT=BATCH
        HOSTNAME=n1
        JOB_ID=131
        JOB_NAME=heat
        NHOSTS=3
        NQUEUES=1
        NSLOTS=8
        PE_HOSTFILE=/run/131/hosts
        QUEUE=main
        RESTARTED=0
        ROCR_VISIBLE_DEVICES=0,1
        SGE_BINDING=0 5
        SGE_O_HOME=/home/ann
        SGE_O_HOST=login
        SGE_O_PATH=/bin
        SGE_O_WORKDIR=/work
        SGE_STDERR_PATH=heat.o131
        SGE_STDIN_PATH=/dev/null
        SGE_STDOUT_PATH=heat.o131
        SGE_TASK_FIRST=undefined
        SGE_TASK_ID=undefined
        SGE_TASK_LAST=undefined
        SGE_TASK_STEPSIZE=undefined
        TMP=/tmp/131
        TMPDIR=/tmp/131
        n1 3 main@n1 UNDEFINED
        n2 3 main@n2 UNDEFINED
        n4 2 main@n4 UNDEFINED
        ");
    }
}
