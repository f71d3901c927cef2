//! `hyperion vm kernel …`: the kernels that virtual machines boot.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hyperion_isolation::vm::kernel::{Kernel, KernelError, Kernels, Wanted};
use hyperion_model::Bytes;
use hyperion_sys::entry::ExitCode;
use serde_json::{Value, json};

use crate::args::OutputFormat;
use crate::commands::image::Busy;
use crate::context::Context;
use crate::output;

/// The verbs of `hyperion vm kernel`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum KernelCommand {
    /// Bring a kernel from this host's distribution, or from its packages
    ///
    /// Nothing is installed on the host, and no right is needed.
    Install(InstallArgs),
    /// Add a kernel by its files
    Add(AddArgs),
    /// List kernels, the newest first
    #[command(visible_alias = "list")]
    Ls,
    /// Choose the kernel that is booted when none is named
    Use(OneRelease),
    /// Remove kernels
    Rm(Releases),
}

// Words of `hyperion vm kernel install`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm kernel install\n  \
    hyperion vm kernel install --flavour amd64\n  \
    hyperion vm kernel install --deb linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb")]
pub(crate) struct InstallArgs {
    /// Release, as `uname -r` prints it [default: the newest for virtual machines]
    #[arg(conflicts_with_all = ["deb", "flavour"])]
    release: Option<String>,
    /// Package with the kernel; repeated for one with its modules
    #[arg(long, value_name = "FILE", conflicts_with = "flavour")]
    deb: Vec<PathBuf>,
    /// Kind of kernel, of which the newest is taken: amd64, cloud-amd64, generic
    #[arg(long)]
    flavour: Option<String>,
}

// Words of `hyperion vm kernel add`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion vm kernel add /boot/vmlinuz-6.1.0-9-amd64 --modules /lib/modules/6.1.0-9-amd64\n  \
    hyperion vm kernel add ./linux/vmlinux --release 6.12.1-mine")]
pub(crate) struct AddArgs {
    /// Kernel: a bzImage (vmlinuz), or a vmlinux that starts by PVH
    file: PathBuf,
    /// Folder of its modules, as /lib/modules/RELEASE
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Release [default: what the kernel tells, else the name of the folder of modules]
    #[arg(long)]
    release: Option<String>,
}

// A kernel.
#[derive(Debug, Args)]
pub(crate) struct OneRelease {
    /// Release, as `hyperion vm kernel ls` lists it
    release: String,
}

// Kernels.
#[derive(Debug, Args)]
pub(crate) struct Releases {
    /// Releases, as `hyperion vm kernel ls` lists them
    #[arg(required = true, value_name = "RELEASE")]
    releases: Vec<String>,
}

/// Carries out a verb of `hyperion vm kernel`.
pub(super) fn run(command: &KernelCommand, ctx: &Context) -> anyhow::Result<ExitCode> {
    use KernelCommand as C;
    let kernels = Kernels::new(&ctx.root);
    match command {
        C::Install(args) => {
            let kernel = install(&kernels, args, ctx)?;
            print(&kernels, &kernel, ctx)?;
        }
        C::Add(args) => {
            let busy = Busy::new(ctx, "adding");
            let kernel =
                kernels.add(&args.file, args.modules.as_deref(), args.release.as_deref())?;
            drop(busy);
            print(&kernels, &kernel, ctx)?;
        }
        C::Ls => ls(&kernels, ctx)?,
        C::Use(args) => print(&kernels, &kernels.choose(&args.release)?, ctx)?,
        C::Rm(args) => {
            for release in &args.releases {
                kernels.remove(release)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn install(kernels: &Kernels, args: &InstallArgs, ctx: &Context) -> Result<Kernel, KernelError> {
    let _busy = Busy::new(ctx, "installing");
    if !args.deb.is_empty() {
        let packages: Vec<&Path> = args.deb.iter().map(PathBuf::as_path).collect();
        return kernels.install_all(&packages);
    }
    kernels.download(&match (&args.release, &args.flavour) {
        (Some(release), _) => Wanted::Release(release.clone()),
        (None, Some(flavour)) => Wanted::Flavour(flavour.clone()),
        (None, None) => Wanted::Newest,
    })
}

/// Says what there is now: the release, as the next command takes it.
fn print(kernels: &Kernels, kernel: &Kernel, ctx: &Context) -> anyhow::Result<()> {
    match ctx.output {
        OutputFormat::Json => output::json(&value(kernel, &kernels.default_kernel()?)),
        OutputFormat::Human | OutputFormat::Quiet => output::line(&kernel.release),
    }
}

fn ls(kernels: &Kernels, ctx: &Context) -> anyhow::Result<()> {
    let all = kernels.list()?;
    let default = match all.is_empty() {
        true => None,
        false => Some(kernels.default_kernel()?),
    };
    let is_default = |kernel: &Kernel| {
        default
            .as_ref()
            .is_some_and(|d| d.release == kernel.release)
    };
    match ctx.output {
        OutputFormat::Quiet => all
            .iter()
            .try_for_each(|kernel| output::line(&kernel.release)),
        OutputFormat::Json => {
            let rows = default
                .iter()
                .flat_map(|default| all.iter().map(|kernel| value(kernel, default)));
            output::json(&rows.collect::<Vec<_>>())
        }
        OutputFormat::Human => {
            let row = |kernel: &Kernel| {
                vec![
                    kernel.release.clone(),
                    boot(kernel).to_owned(),
                    Bytes(kernel.size_bytes()).to_string(),
                    if is_default(kernel) { "*" } else { "" }.to_owned(),
                ]
            };
            output::table(&["RELEASE", "BOOT", "SIZE", "DEFAULT"], all.iter().map(row))
        }
    }
}

fn boot(kernel: &Kernel) -> &'static str {
    if kernel.pvh { "pvh" } else { "bzimage" }
}

fn value(kernel: &Kernel, default: &Kernel) -> Value {
    json!({
        "release": kernel.release,
        "boot": boot(kernel),
        "size_bytes": kernel.size_bytes(),
        "default": kernel.release == default.release,
    })
}
