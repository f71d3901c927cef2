//! The job that the words of `hyperion run` and the image together ask for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hyperion_image::ImageRecord;
use hyperion_model::job::{ContainerOptions, Network};
use hyperion_model::nodes::{MOST_NODES, Member, spread};
use hyperion_model::{Class, JobSpec, Level, Mount, MountKind, Parallel, Preflight, Resources};

use super::words::Args;
use crate::errors;

/// Puts the job together from the words and what the image says of itself.
pub(super) fn spec(
    args: &Args,
    level: Level,
    image: Option<&(String, Option<ImageRecord>)>,
) -> anyhow::Result<JobSpec> {
    let config = image
        .and_then(|(_, record)| record.as_ref())
        .map(|r| r.config.clone())
        .unwrap_or_default();
    let mut argv = match &args.entrypoint {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
        None => config.entrypoint.clone(),
    };
    if args.words.is_empty() && args.entrypoint.is_none() {
        argv.extend(config.cmd.iter().cloned());
    } else {
        argv.extend(args.words.iter().cloned());
    }
    if argv.is_empty() {
        return Err(errors::advised(
            Class::User,
            "the image names no command",
            "say which to run after the image's name",
        ));
    }
    let (ranks, members) = nodes(args, level)?;
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .with_context(|| format!("{} has no absolute path", path.display()))
    };
    let here = std::env::current_dir().context("the working folder is gone")?;
    let from_image = (!config.working_dir.is_empty()).then(|| PathBuf::from(&config.working_dir));
    let workdir = match level {
        Level::Process => args
            .workdir
            .as_deref()
            .map(absolute)
            .transpose()?
            .or(Some(here)),
        Level::Container | Level::Vm => args.workdir.clone().or(from_image),
    };
    Ok(JobSpec {
        name: args.name.clone(),
        level,
        image: image.map(|(name, _)| name.clone()),
        argv,
        env: environment(args, level)?,
        workdir,
        user: args
            .user
            .clone()
            .or_else(|| (!config.user.is_empty()).then(|| config.user.clone())),
        tty: args.tty,
        interactive: args.interactive,
        remove: args.rm,
        resources: Resources {
            cpus: args.cpus,
            cpuset: args.cpuset.clone(),
            memory: args.memory,
            pids: args.pids,
        },
        rlimits: args.ulimit.clone(),
        parallel: Parallel {
            ranks,
            cpus_per_rank: args.cpus_per_rank,
            bind: args.bind,
            oversubscribe: args.oversubscribe || !args.members.is_empty(),
            mpi: args.mpi,
            preflight: match args.preflight.as_deref() {
                None => Preflight::Quiet,
                Some("only") => Preflight::Only,
                Some(_) => Preflight::Show,
            },
            keep_going: false,
            linger: None,
        },
        members,
        container: ContainerOptions {
            read_only: args.read_only,
            mounts: mounts(args)?,
            shm_size: args.shm_size,
            cap_add: args.cap_add.clone(),
            cap_drop: args.cap_drop.clone(),
            network: if args.shuts_network() {
                Network::None
            } else {
                Network::Host
            },
            hostname: args.hostname.clone(),
            userns_host: args.userns == "host",
            seccomp_unconfined: args.security_opt.iter().any(|o| o == "seccomp=unconfined"),
        },
        repeat: args.repeat,
        array: args.array.clone(),
        output_dir: args.output_dir.as_deref().map(absolute).transpose()?,
        time_limit: args.time,
        batch: None,
        lane: false,
        for_host: false,
    })
}

/// Gives the number of ranks and, where there are several, the nodes that hold them.
fn nodes(args: &Args, level: Level) -> anyhow::Result<(u32, Vec<Member>)> {
    let wrong = |what: String, hint: &str| Err(errors::advised(Class::User, what, hint));
    if args.shuts_network() && (args.nodes > 1 || !args.members.is_empty()) {
        let what = "nodes reach each other by their network, and --network none takes it".into();
        let hint = "leave out --network: nothing but the job's nodes is in it";
        return wrong(what, hint);
    }
    if args.network.is_some() && !args.shuts_network() && level == Level::Vm {
        let what = "a virtual machine is not in the host's network".into();
        return wrong(what, "leave out --network, or take --isolation container");
    }
    if !args.members.is_empty() {
        if args.members.len() > MOST_NODES as usize {
            let what = format!("a job has at most {MOST_NODES} nodes on one host");
            return wrong(what, "name fewer with --member");
        }
        let containers = args.members.iter().any(|m| m.level == Level::Container);
        if containers && !rustix::process::geteuid().is_root() {
            let what = "only root can join a container to the network between nodes".into();
            return wrong(what, "as root, or make all nodes machines: --member vm:N");
        }
        let ranks = args.members.iter().map(|m| m.ranks);
        let ranks = ranks.fold(0, u32::saturating_add);
        return Ok((ranks, args.members.clone()));
    }
    let per_node = args.ranks_per_node;
    if args.ranks == Some(0) || per_node == Some(0) {
        let hint = "leave out --ranks for one";
        return wrong("a job has at least one rank".into(), hint);
    }
    let nodes = args.nodes;
    let ranks = args.ranks;
    let ranks = ranks.unwrap_or(nodes.saturating_mul(per_node.unwrap_or(1)));
    if let Some(each) = per_node.filter(|each| u64::from(*each) * u64::from(nodes) < ranks.into()) {
        let what =
            format!("{ranks} ranks with {each} on each node need several nodes, more than {nodes}");
        return wrong(
            what,
            "raise --nodes (with --isolation vm), or leave out --ranks-per-node",
        );
    }
    if nodes == 0 || nodes > MOST_NODES {
        let what = format!("a job has 1 to {MOST_NODES} nodes on one host");
        return wrong(what, "leave out --nodes for one");
    }
    if nodes == 1 {
        return Ok((ranks, Vec::new()));
    }
    if level != Level::Vm {
        let what = "several nodes on one host are several virtual machines".into();
        return wrong(what, "add --isolation vm, or leave out --nodes");
    }
    if ranks < nodes {
        let what = format!("{ranks} ranks leave some of {nodes} nodes without any");
        return wrong(what, "ask for fewer with --nodes, or for more with --ranks");
    }
    let member = |ranks| Member { level, ranks };
    Ok((
        ranks,
        spread(ranks, nodes).into_iter().map(member).collect(),
    ))
}

fn mounts(args: &Args) -> anyhow::Result<Vec<Mount>> {
    let mut all = Vec::new();
    for text in &args.volume {
        all.push(Mount::parse_volume(text)?);
    }
    for text in &args.mount {
        all.push(Mount::parse_mount(text)?);
    }
    for text in &args.tmpfs {
        all.push(Mount::parse_tmpfs(text)?);
    }
    for mount in &mut all {
        if let MountKind::Bind { source, .. } = &mut mount.kind {
            *source = std::path::absolute(&*source)?;
        }
    }
    Ok(Mount::in_order(all)?)
}

/// Collects variables: files first, then flags; a bare name passes on the caller's.
fn environment(args: &Args, level: Level) -> anyhow::Result<BTreeMap<String, String>> {
    let mut env = BTreeMap::new();
    if level == Level::Process {
        env.extend(
            std::env::vars_os()
                .filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?))),
        );
    }
    let mut words = Vec::new();
    for file in &args.env_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let lines = text
            .lines()
            .map(str::trim_start)
            .filter(|l| !l.is_empty() && !l.starts_with('#'));
        for line in lines {
            let name = line.split_once('=').map_or(line, |(name, _)| name);
            if name.contains(char::is_whitespace) {
                return Err(errors::advised(
                    Class::User,
                    format!("{name:?} in {} is no name of a variable", file.display()),
                    "write NAME=VALUE without blanks before '=', and # before a remark",
                ));
            }
            words.push(line.to_owned());
        }
    }
    words.extend(args.env.iter().cloned());
    env.extend(variables(words)?);
    Ok(env)
}

/// Reads `NAME=VALUE`, or `NAME` for what the caller has set, if anything.
pub(in crate::commands) fn variables(words: Vec<String>) -> anyhow::Result<Vec<(String, String)>> {
    let mut read = Vec::new();
    for word in words {
        match word.split_once('=') {
            _ if word.is_empty() || word.starts_with('=') => {
                return Err(errors::advised(
                    Class::User,
                    format!("{word:?} has no name before '='"),
                    "write NAME=VALUE, or NAME to pass on the caller's",
                ));
            }
            Some((name, value)) => read.push((name.to_owned(), value.to_owned())),
            None => read.extend(std::env::var(&word).ok().map(|value| (word, value))),
        }
    }
    Ok(read)
}
