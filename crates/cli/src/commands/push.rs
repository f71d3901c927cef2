//! `hyperion push`, `hyperion image push`

use hyperion_image::registry;
use hyperion_image::{ImageReference, Store};
use hyperion_sys::entry::ExitCode;

use crate::args::OutputFormat;
use crate::context::Context;
use crate::output;
use crate::registry::{RegistryArgs, Shown};

// Words of `hyperion push`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    hyperion push registry.example.org/team/solver:2\n  \
    hyperion push registry.example.org/team/solver:2 solver:amd64 solver:arm64")]
pub(crate) struct Args {
    /// Name that the image gets in its registry
    #[arg(value_name = "NAME")]
    name: String,
    /// Images of the store, by name or digest; of several, one for each
    /// platform, an index is made [default: the image called NAME]
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Puts images of the store into a registry.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let name: ImageReference = args.name.parse()?;
    let store = Store::open(&ctx.images())?;
    let itself = [name.to_string()];
    let images = if args.images.is_empty() {
        &itself[..]
    } else {
        &args.images[..]
    };
    let digests = images
        .iter()
        .map(|image| Ok(store.resolve(image)?.digest))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let access = args.registry.access_as_told(ctx)?;
    let shown = Shown::new(ctx.output);
    let pushed = registry::push(&access, &store, &digests, &name, &shown)?;
    match ctx.output {
        OutputFormat::Human => output::line(format_args!("{name} {}", pushed.digest))?,
        OutputFormat::Quiet => output::line(pushed.digest)?,
        OutputFormat::Json => output::json(&serde_json::json!({
            "name": name,
            "digest": pushed.digest,
            "moved_bytes": pushed.moved,
        }))?,
    }
    Ok(ExitCode::SUCCESS)
}
