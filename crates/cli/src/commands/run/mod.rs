//! `hyperion run`: from words to a job, and from there to its end.

mod folders;
mod host;
mod huge;
mod ids;
mod image;
mod job;
mod vm;
mod words;

use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use hyperion_image::layer::erofs::Form;
use hyperion_isolation::Isolation;
use hyperion_isolation::container::ContainerIsolation;
use hyperion_isolation::nodes::NodesIsolation;
use hyperion_isolation::process::ProcessIsolation;
use hyperion_isolation::vm::kernel::Kernels;
use hyperion_isolation::vm::{Machine, VmIsolation};
use hyperion_model::report::Phase;
use hyperion_model::{
    Class, JobId, JobSpec, Level, NodePlan, RootSource, RootSpec, SandboxSpec, UsernsMode,
};
use hyperion_node::Jobs;
use hyperion_node::supervisor::{Launch, start};
use hyperion_sys::entry::ExitCode;
use hyperion_sys::rlimit;

use crate::context::Context;
use crate::session::{self, Label, Session};
use crate::{errors, output};

pub(super) use folders::{NINEP, find_virtiofsd};
pub(super) use host::HostSize;
pub(super) use huge::pages as huge_pages;
pub(super) use ids::own_ids;
pub(in crate::commands) use job::variables;
pub(super) use vm::{accelerator, find_qemu, refuse_lacking, refuse_too_little};
pub(crate) use words::{Args, Isolate};

/// Runs the job, attached or not.
pub(crate) fn run(args: Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let (detach, label) = (args.detach, args.label);
    let (input, raw) = (args.interactive, args.tty && args.interactive);
    let report = args.report.clone();
    let id = new_id()?;
    let mut launch = prepare(args, ctx, id.clone(), |_| ())?;
    // What goes with the job and is not asked for now, nobody will read.
    launch.counted = report.is_some() || !launch.plan.job.remove;
    if detach {
        return session::wait_started(start(launch)?, &id);
    }
    // Before the job begins: what comes while it does is the job's.
    let arrived = Some(session::watch_signals()?);
    let client = start(launch)?;
    let session = Session {
        label: Label::brackets(label),
        raw,
        input,
        job: true,
        arrived,
        ..Session::default()
    };
    let code = session.run(client, &id, |end| {
        session::tell_failure(end);
        if let (Some(shape), Some(cost)) = (&report, &end.report) {
            super::report::print_to_stderr(cost, shape == "json")?;
        }
        Ok(())
    })?;
    Ok(ExitCode::from(code))
}

/// Decides all that is to be decided of a job, which `change` may still change.
pub(super) fn prepare(
    mut args: Args,
    ctx: &Context,
    id: JobId,
    change: impl FnOnce(&mut JobSpec),
) -> anyhow::Result<Launch> {
    let began = Instant::now();
    let level = args.level();
    refuse_fences_of_processes(&args)?;
    refuse_shape_as_image(&args)?;
    refuse_hosts_users(&args)?;
    let host = host::HostSize::read();
    let jobs = Jobs::new(&ctx.root);
    let scratch = jobs.place(&id).join("scratch");
    let userns = ids::userns(level, &args, &id);
    let mut keep = Vec::new();
    let kernel = match level {
        Level::Vm => Some(Kernels::new(&ctx.root).default_kernel()?),
        Level::Process | Level::Container => None,
    };
    let mut form = match &kernel {
        Some(kernel) => vm::form(kernel),
        None => Form::Erofs,
    };
    let mut members = args.members.iter();
    let containers = members.any(|member| member.level != Level::Vm);
    let (image, source) = match level {
        Level::Process => (None, RootSource::Host),
        Level::Container | Level::Vm => {
            let name = args.words.remove(0);
            // Containers beside machines mount the file of their image on this host.
            let first = if containers { Form::Erofs } else { form };
            let (record, source, lease) =
                image::find(ctx, &name, &args.pull, &userns, level, first)?;
            if record.is_none() && matches!(source, RootSource::Erofs { .. }) {
                // A file of the host's is what it is.
                form = Form::Erofs;
            }
            keep.extend(lease);
            (Some((name, record)), source)
        }
    };
    let mut job = job::spec(&args, level, image.as_ref())?;
    change(&mut job);
    host.check(&job)?;
    let mut notes = Vec::new();
    let machine = match &kernel {
        Some(kernel) => {
            let folder = match &source {
                RootSource::Layers { layers } => layers.first(),
                RootSource::Erofs { .. } | RootSource::Host => None,
            };
            let folder = folder.map(PathBuf::as_path);
            let mut machine;
            (machine, notes) = vm::machine(ctx, &args, &job, &host, kernel, folder, form)?;
            if let Some(folder) = folder {
                let file = folders::lay_down(ctx, folder, form)?;
                // The supervisor has it open under the same number.
                let name = format!("/proc/self/fd/{}", file.as_raw_fd());
                machine.image = Some(name.into());
                keep.push(file);
            } else if let (true, Form::Ext4, Some((_, Some(record)))) = (containers, form, &image) {
                let (file, lease) = image::as_ext4(ctx, record, &userns)?;
                machine.image = Some(file);
                keep.push(lease);
            }
            Some(machine)
        }
        None => None,
    };
    let resources = job.resources.clone();
    if level == Level::Vm {
        // Those are the host's; the machine numbers its own.
        job.resources.cpuset = None;
    }
    let record = image.and_then(|(_, record)| record);
    // A machine's image is a file, whose owners are mapped nowhere.
    let of_containers = job.has_containers().then_some(&source);
    let plan = NodePlan {
        sandbox: SandboxSpec {
            id: id.clone(),
            level,
            userns: ids::where_mapped(userns, of_containers, &ctx.root),
            root: RootSpec {
                source,
                scratch: (job.has_containers() && !args.read_only).then_some(scratch),
            },
            container: job.container.clone(),
            resources,
            node: None,
            sweeps: job.lane,
            steps: job.lane || job.batch.is_some(),
        },
        image_digest: record.as_ref().map(|r| r.digest.to_string()),
        image_env: record.map(|r| r.config.env).unwrap_or_default(),
        id,
        job,
    };
    warn_of_capped_limits(&plan);
    let phases = vec![Phase {
        name: "image".into(),
        took: began.elapsed(),
    }];
    let facts = match &machine {
        Some(machine) => vm::facts(machine, &host),
        None => host.facts(args.bind),
    };
    let isolation = isolation(&plan.job, machine);
    let terminal = session::terminal_size();
    Ok(Launch {
        plan,
        jobs,
        isolation,
        program: std::env::current_exe().context("cannot find the file of this program")?,
        began,
        phases,
        host: facts,
        attach: (!args.detach).then_some((args.interactive, terminal.filter(|_| args.tty))),
        keep,
        notes,
        counted: true,
    })
}

fn isolation(job: &JobSpec, machine: Option<Machine>) -> Box<dyn Isolation> {
    if job.members.is_empty() {
        return one_node(job.level, machine);
    }
    let members = job.members.iter();
    Box::new(NodesIsolation {
        members: members
            .map(|m| (m.level, one_node(m.level, machine.clone())))
            .collect(),
    })
}

fn one_node(level: Level, machine: Option<Machine>) -> Box<dyn Isolation> {
    match (level, machine) {
        (Level::Vm, Some(machine)) => Box::new(VmIsolation { machine }),
        (Level::Process, _) => Box::new(ProcessIsolation),
        (Level::Container | Level::Vm, _) => Box::new(ContainerIsolation),
    }
}

/// Makes the id of a job that this process starts.
pub(super) fn new_id() -> anyhow::Result<JobId> {
    Ok(JobId::new(std::process::id().into(), random()?))
}

pub(super) fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("the kernel gives no randomness")?;
    Ok(u64::from_le_bytes(bytes))
}

/// Says which limits the sandbox cannot raise as far as asked. The host's root can, and
/// a machine has no limits of this host.
fn warn_of_capped_limits(plan: &NodePlan) {
    let rlimits = &plan.job.rlimits;
    if rlimits.is_empty() || plan.job.level == Level::Vm {
        return;
    }
    if plan.sandbox.userns == UsernsMode::Host && rustix::process::geteuid().is_root() {
        return;
    }
    for limit in rlimits {
        if let Some(cap) = rlimit::cap_of(limit) {
            let name = &limit.name;
            let warning = format!("--ulimit {name} goes up to the hard limit of its caller, {cap}");
            output::talk("warning", warning);
        }
    }
}

/// Only root can do without a user namespace.
fn refuse_hosts_users(args: &Args) -> anyhow::Result<()> {
    if args.userns != "host" || rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(errors::advised(
        Class::Denied,
        "only root can run a container without a user namespace",
        "leave out --userns host",
    ))
}

/// A shape that is written apart from its flag is taken for the image.
fn refuse_shape_as_image(args: &Args) -> anyhow::Result<()> {
    match (&args.report, args.words.first().map(String::as_str)) {
        (Some(_), Some(shape @ ("human" | "json"))) if args.level() != Level::Process => {
            Err(errors::advised(
                Class::User,
                format!("{shape:?} stands where the image is named"),
                format!("--report={shape}; an image of that name: ./{shape} or library/{shape}"),
            ))
        }
        _ => Ok(()),
    }
}

/// What was asked for of a fence is put up or refused, never left out in silence.
fn refuse_fences_of_processes(args: &Args) -> anyhow::Result<()> {
    let of_machines = [
        (
            args.disk.is_some(),
            "--disk is for virtual machines: what other jobs write is on the host's disk",
        ),
        (
            args.machine.is_some(),
            "--machine is for virtual machines: other jobs have none",
        ),
        (
            args.hugepages.is_some(),
            "--hugepages is for virtual machines: other programs ask for such pages themselves",
        ),
        (
            args.folders.is_some(),
            "--folders is for virtual machines: other jobs see the host's folders themselves",
        ),
    ];
    for (given, what) in of_machines {
        if given && args.level() != Level::Vm {
            let hint = "leave it out, or add --isolation vm";
            return Err(errors::advised(Class::User, what, hint));
        }
    }
    let flags = args.of_containers();
    if args.level() != Level::Process || flags.is_empty() {
        return Ok(());
    }
    Err(errors::advised(
        Class::User,
        format!(
            "a process sees the host as it is, so {} cannot be done",
            flags.join(", ")
        ),
        "leave it out, or take --isolation container and name an image",
    ))
}
