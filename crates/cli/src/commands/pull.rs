//! `hyperion pull`, `hyperion image pull`

use hyperion_image::registry::{self, Platform};
use hyperion_image::{ImageRecord, ImageReference, Store};
use hyperion_sys::entry::ExitCode;

use crate::args::OutputFormat;
use crate::context::Context;
use crate::output;
use crate::registry::{RegistryArgs, Shown};

// Words of `hyperion pull`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    hyperion pull debian:bookworm\n  \
    hyperion pull --platform linux/arm64 registry.example.org/team/solver:2")]
pub(crate) struct Args {
    /// Image to bring, as [HOST[:PORT]/]PATH[:TAG][@DIGEST]
    #[arg(value_name = "NAME")]
    name: String,
    /// Platform, as OS/ARCHITECTURE[/VARIANT] [default: this host's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Brings an image from a registry into the store.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let name: ImageReference = args.name.parse()?;
    let store = Store::open(&ctx.images())?;
    let access = args.registry.access_as_told(ctx)?;
    let shown = Shown::new(ctx.output);
    let pulled = registry::pull(&access, &store, &name, args.platform.as_ref(), &shown)?;
    match ctx.output {
        OutputFormat::Human => output::line(format_args!("{name} {}", pulled.digest))?,
        OutputFormat::Quiet => output::line(pulled.digest)?,
        OutputFormat::Json => output::json(&serde_json::json!({
            "name": name,
            "digest": pulled.digest,
            "target": pulled.target,
            "source": pulled.source,
            "moved_bytes": pulled.moved,
        }))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Brings an image that a job needs, as `hyperion pull` would.
pub(crate) fn bring(ctx: &Context, store: &Store, name: &str) -> anyhow::Result<ImageRecord> {
    let reference: ImageReference = name.parse()?;
    let access = RegistryArgs::default().access(ctx);
    registry::pull(&access, store, &reference, None, &Shown::new(ctx.output))?;
    Ok(store.resolve(name)?)
}
