//! `scontrol show`

use std::fmt::Write as _;
use std::time::Duration;

use hyperion_model::CpuSet;
use hyperion_model::submission::Dialect;
use hyperion_model::view::{JobView, NodeView, PartitionView, ReservationView, Waits};

use super::{dependency, hosts, licences, listed, reason, state};
use crate::jobs::{Facts, expand};
use crate::listings::{Site, closed, cpus, full_clock, waits};

/// Resources as Slurm counts them.
pub(super) fn tres(job: &JobView) -> String {
    let (cpus, nodes) = (cpus(job), job.nodes);
    let memory = match job.memory.0 {
        0 => String::new(),
        bytes => format!("mem={},", super::megabytes(bytes)),
    };
    format!("cpu={cpus},{memory}node={nodes},billing={cpus}")
}

/// Writes `scontrol show job`.
pub fn job(job: &JobView, site: &Site<'_>) -> String {
    let none = "(null)";
    let terms = &job.terms;
    let at = |moment: Option<u64>| moment.map_or("Unknown".into(), |at| (site.local)(at).iso());
    let started = job.started;
    let limit = job.limit.map_or("UNLIMITED".into(), full_clock);
    let must_end = job.ended.or_else(|| {
        let micros = |limit: Duration| u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        Some(started?.saturating_add(micros(job.limit?)))
    });
    let array = job.index.as_ref().map_or_else(String::new, |index| {
        format!(" ArrayJobId={} ArrayTaskId={index}", job.job)
    });
    let comment = job.comment.as_ref();
    let comment = comment.map_or_else(String::new, |text| format!("   Comment={text} \n"));
    let depends = matches!(job.reason, Some(Waits::Depends | Waits::DependsInVain));
    let begin = terms.begin.filter(|_| waits(job));
    let eligible = match waits(job) && (job.index.is_some() || depends) {
        true => "Unknown".into(),
        false => at(begin.or(Some(job.submitted))),
    };
    let accrues = begin.map_or(eligible.as_str(), |_| "Unknown");
    let list = hosts(job);
    let batch = job.hosts.first();
    let batch = batch.map_or_else(String::new, |host| format!("   BatchHost={host}\n"));
    let cpus = cpus(job);
    let each = (cpus / u64::from(job.tasks.max(1))).max(1);
    let state = state(job.state).1;
    let reason = reason(job);
    let code = super::sacct::code(job);
    let (user, uid, name, number) = (&job.user, job.uid, &job.name, job.job);
    let (account, folder) = (job.account.as_deref().unwrap_or(none), &job.folder);
    let qos = job.qos.as_deref().unwrap_or(none);
    let command = job.command.as_deref().unwrap_or(none);
    let (output, error) = files(job, site);
    let memory = job.memory.0 >> 20;
    let tres = tres(job);
    // What `-d` adds where something of its own was chosen for it.
    let ids = job.cpus.as_ref().map(|cpus| format!(" CPU_IDs={cpus}"));
    let indices = job.devices.iter().map(|(kind, numbers)| {
        let (count, numbers) = (numbers.len(), CpuSet(numbers.clone()));
        format!("{kind}:{count}(IDX:{numbers})")
    });
    let indices: Vec<String> = indices.collect();
    let detail = match ids.is_none() && indices.is_empty() {
        true => String::new(),
        false => format!(
            "     Nodes={list}{} Mem={memory} GRES={}\n",
            ids.unwrap_or_default(),
            indices.join(",")
        ),
    };
    format!(
        "JobId={number}{array} JobName={name}\n   \
           UserId={user}({uid}) GroupId=(null) MCS_label=N/A\n   \
           Priority={} Nice={} Account={account} QOS={qos}\n   \
           JobState={state} Reason={reason} Dependency={}\n   \
           Requeue={} Restarts={} BatchFlag={} Reboot=0 ExitCode={code}\n   \
           RunTime={} TimeLimit={limit} TimeMin={}\n   \
           SubmitTime={} EligibleTime={eligible}\n   \
           AccrueTime={accrues}\n   \
           StartTime={} EndTime={} Deadline={}\n   \
           SuspendTime=None SecsPreSuspend=0 LastSchedEval=Unknown Scheduler=Main\n   \
           Partition={} AllocNode:Sid={}:0\n   \
           ReqNodeList={} ExcNodeList={}\n   \
           NodeList={list}\n\
         {batch}   \
           NumNodes={} NumCPUs={cpus} NumTasks={} CPUs/Task={each} ReqB:S:C:T=0:0:*:*\n   \
           TRES={tres}\n{detail}   \
           Socks/Node=* NtasksPerN:B:S:C=0:0:*:* CoreSpec=*\n   \
           MinCPUsNode=1 MinMemoryNode={memory}M MinTmpDiskNode=0\n   \
           Features={} DelayBoot=00:00:00\n   \
           OverSubscribe=OK Contiguous=0 Licenses={} Network={none}\n   \
           Command={command}\n   \
           WorkDir={folder}\n\
         {comment}   \
           StdErr={error}\n   \
           StdIn=/dev/null\n   \
           StdOut={output}\n   \
           Power=\n   \n",
        terms.priority.unwrap_or(0),
        terms.nice,
        dependency(job).as_deref().unwrap_or(none),
        u8::from(terms.requeue != Some(false)),
        job.starts.saturating_sub(1),
        u8::from(job.script),
        full_clock(site.ran(job)),
        terms.least_time.map_or("N/A".into(), full_clock),
        at(Some(job.submitted)),
        at(started.or(begin)),
        at(must_end),
        terms.deadline.map_or("N/A".into(), |_| at(terms.deadline)),
        job.queue,
        site.host,
        listed(&terms.with).as_deref().unwrap_or(none),
        listed(&terms.without).as_deref().unwrap_or(none),
        job.nodes,
        job.tasks,
        terms.features.as_deref().unwrap_or(none),
        licences(terms).as_deref().unwrap_or(none),
    )
}

/// Writes `scontrol show reservation`.
pub fn reservation(its: &ReservationView, site: &Site<'_>) -> String {
    let at = |moment: u64| (site.local)(moment).iso();
    let list = |names: &[String]| match names.is_empty() {
        true => "(null)".to_owned(),
        false => names.join(","),
    };
    let lasts = Duration::from_micros(its.until.saturating_sub(its.from));
    let maintained = its.users.is_empty() && its.accounts.is_empty();
    let flags = if maintained {
        "MAINT,SPEC_NODES"
    } else {
        "SPEC_NODES"
    };
    let active = (its.from..its.until).contains(&site.now);
    let cores = its.cores.0 / 1000;
    format!(
        "ReservationName={} StartTime={} EndTime={} Duration={}\n   \
           Nodes={} NodeCnt={} CoreCnt={cores} Features=(null) PartitionName=(null) Flags={flags}\n   \
           TRES=cpu={cores}\n   \
           Users={} Groups=(null) Accounts={} Licenses=(null) State={} BurstBuffer=(null) Watts=n/a\n   \
           MaxStartDelay=(null)\n",
        its.name,
        at(its.from),
        at(its.until),
        full_clock(lasts),
        crate::jobs::hosts::compress(&its.nodes),
        its.nodes.len(),
        list(&its.users),
        list(&its.accounts),
        if active { "ACTIVE" } else { "INACTIVE" },
    )
}

/// Gives the devices of a node as Slurm does: `gpu:h100:2`.
pub(super) fn gres(node: &NodeView) -> Vec<String> {
    let has_kinds = |name: &str| {
        let mut names = node.devices.keys();
        names.any(|other| other.strip_prefix(name).is_some_and(|k| k.starts_with(':')))
    };
    let told = node.devices.iter().filter(|(name, _)| !has_kinds(name));
    told.map(|(name, (all, _))| format!("{name}:{all}"))
        .collect()
}

/// Gives the files of a job's output and errors, whole.
fn files(job: &JobView, site: &Site<'_>) -> (String, String) {
    let index = job.index.as_ref().and_then(|index| index.parse().ok());
    let facts = Facts {
        job: job.job,
        array: index.map(|index| (job.job, index)),
        name: &job.name,
        user: &job.user,
        host: job.hosts.first().map_or(site.host, String::as_str),
        ..Facts::default()
    };
    let usual = match job.index {
        Some(_) => "slurm-%A_%a.out",
        None => "slurm-%j.out",
    };
    let whole = |pattern: &str| {
        let name = expand(Dialect::Slurm, pattern, &facts);
        match name.starts_with('/') {
            true => name,
            false => format!("{}/{name}", job.folder),
        }
    };
    let output = job.files.0.as_deref().unwrap_or(usual);
    let error = job.files.1.as_deref().unwrap_or(output);
    (whole(output), whole(error))
}

/// Writes `scontrol show node`.
pub fn node(node: &NodeView, partitions: &[PartitionView], site: &Site<'_>) -> String {
    let name = &node.name;
    let among = partitions.iter().filter(|its| its.nodes.contains(name));
    let among: Vec<&str> = among.map(|its| its.name.as_str()).collect();
    let among = among.join(",");
    let all = node.cores.0 / 1000;
    let used = node.cores_used.0.div_ceil(1000);
    let (memory, taken) = (node.memory.0 >> 20, node.memory_used.0 >> 20);
    let free = memory.saturating_sub(taken);
    let busy = match (used, node.tasks) {
        (0, 0) => "IDLE",
        (used, _) if used >= all => "ALLOCATED",
        _ => "MIXED",
    };
    let who = node.closed_by.zip(node.closed_at).map(|(by, at)| {
        let (user, at) = ((site.user)(by), (site.local)(at).iso());
        format!(" [{user}@{at}]")
    });
    let reason = |why| format!("   Reason={why}{}\n", who.unwrap_or_default());
    let (state, reason) = match closed(node) {
        None => (busy.to_owned(), String::new()),
        Some((true, why)) => ("DOWN".to_owned(), reason(why)),
        Some((false, why)) => (format!("{busy}+DRAIN"), reason(why)),
    };
    let alloc = match used {
        0 => String::new(),
        used => format!("cpu={used},mem={taken}M"),
    };
    let or_null = |words: Vec<String>| match words.is_empty() {
        true => "(null)".to_owned(),
        false => words.join(","),
    };
    // Facts with values are asked for in other systems' words.
    let features = node.features.iter().filter(|name| !name.contains('='));
    let features = or_null(features.cloned().collect());
    let gres = or_null(gres(node));
    format!(
        "NodeName={name} Arch=x86_64 CoresPerSocket=1 \n   \
           CPUAlloc={used} CPUEfctv={all} CPUTot={all} CPULoad=N/A\n   \
           AvailableFeatures={features}\n   \
           ActiveFeatures={features}\n   \
           Gres={gres}\n   \
           NodeAddr={name} NodeHostName={name} Version=22.05.8\n   \
           RealMemory={memory} AllocMem={taken} FreeMem={free} Sockets={all} Boards=1\n   \
           State={state} ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A\n   \
           Partitions={among} \n   \
           CfgTRES=cpu={all},mem={memory}M,billing={all}\n   \
           AllocTRES={alloc}\n{reason}\n"
    )
}

/// Slurm's word for what may be done with a partition.
pub(super) fn available(partition: &PartitionView) -> &'static str {
    match (partition.takes, partition.starts) {
        (true, true) => "UP",
        (true, false) => "DOWN",
        (false, true) => "DRAIN",
        (false, false) => "INACT",
    }
}

/// Writes `scontrol show partition`.
pub fn partition(partition: &PartitionView, nodes: &[NodeView]) -> String {
    let in_it = |node: &&NodeView| partition.nodes.contains(&node.name);
    let nodes: Vec<&NodeView> = nodes.iter().filter(in_it).collect();
    let yes = |is: bool| if is { "YES" } else { "NO" };
    let limit = |limit: Option<Duration>, none: &str| limit.map_or(none.to_owned(), full_clock);
    let (is_default, alone) = (yes(partition.default), yes(partition.exclusive));
    let usual = limit(partition.usual_limit, "NONE");
    let longest = limit(partition.limit, "UNLIMITED");
    let most = partition.most_nodes;
    let most = most.map_or("UNLIMITED".to_owned(), |most| most.to_string());
    let priority = partition.priority;
    let state = match available(partition) {
        "INACT" => "INACTIVE",
        state => state,
    };
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let list = crate::jobs::hosts::compress(&names);
    let cpus: u64 = nodes.iter().map(|node| node.cores.0 / 1000).sum();
    let memory: u64 = nodes.iter().map(|node| node.memory.0 >> 20).sum();
    let count = nodes.len();
    let mut out = format!("PartitionName={}\n", partition.name);
    for line in [
        "AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL",
        &format!("AllocNodes=ALL Default={is_default} QoS=N/A"),
        &format!("DefaultTime={usual} DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO"),
        &format!("MaxNodes={most} MaxTime={longest} MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED"),
        &format!("Nodes={list}"),
        &format!(
            "PriorityJobFactor={priority} PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe={}",
            if alone == "YES" { "EXCLUSIVE" } else { "NO" }
        ),
        "OverTimeLimit=NONE PreemptMode=OFF",
        &format!("State={state} TotalCPUs={cpus} TotalNodes={count} SelectTypeParameters=NONE"),
        "JobDefaults=(null)",
        "DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED",
        &format!("TRES=cpu={cpus},mem={memory}M,node={count},billing={cpus}"),
    ] {
        let _ = writeln!(out, "   {line}");
    }
    out.push('\n');
    out
}
