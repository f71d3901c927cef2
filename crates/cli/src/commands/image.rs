//! `hyperion image …`: the store, and images as files.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use hyperion_image::bootstrap::{Bootstrap, bootstrap};
use hyperion_image::layer::pack::Compression;
use hyperion_image::reference::familiar;
use hyperion_image::registry::Platform;
use hyperion_image::store::{HistoryEntry, NewImage, Pruned, RuntimeConfig};
use hyperion_image::{ImageRecord, Store, archive, import};
use hyperion_isolation::vm;
use hyperion_model::{Bytes, Class, UsernsMode};
use hyperion_sys::entry::ExitCode;
use indicatif::ProgressBar;
use serde_json::json;

use super::{pull, push};
use crate::args::OutputFormat;
use crate::context::Context;
use crate::output::Narrow;
use crate::{errors, output};

/// The verbs of `hyperion image`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum ImageCommand {
    /// Bring an image from a registry into the store
    Pull(pull::Args),
    /// Put an image of the store into a registry
    Push(push::Args),
    /// List images
    #[command(visible_alias = "list")]
    Ls,
    /// Print what is known of images, as JSON
    Inspect(Names),
    /// Print how an image was made, the newest step first
    History(OneName),
    /// Give an image another name
    Tag(TagArgs),
    /// Remove images, by name or id
    Rm(RmArgs),
    /// Remove what no name and no running job needs
    Prune,
    /// Write images to an archive that docker, podman and skopeo read
    Save(SaveArgs),
    /// Read images from an OCI or docker archive, or an OCI layout folder
    Load(LoadArgs),
    /// Make an image of a root file system: a tar archive or a folder
    Import(ImportArgs),
    /// Make an image of a distribution's packages, with mmdebstrap
    Bootstrap(BootstrapArgs),
}

// Images, by name or id.
#[derive(Debug, Args)]
pub(crate) struct Names {
    /// Images, as NAME[:TAG], NAME@DIGEST, or the first digits of an id
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

// An image, by name or id.
#[derive(Debug, Args)]
pub(crate) struct OneName {
    /// Image, as NAME[:TAG], NAME@DIGEST, or the first digits of an id
    image: String,
}

// Words of `hyperion image tag`.
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Image that there is
    image: String,
    /// Name that it gets; one that meant another image means this one from now on
    name: String,
}

// Words of `hyperion image rm`.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    names: Names,
    /// Remove all names of an id, and names of images that jobs use
    #[arg(short, long)]
    force: bool,
}

// Words of `hyperion image save`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion image save -o mpi.tar mpi\n  \
    hyperion image save mpi | ssh node7 hyperion image load\n  \
    hyperion image save --layout -o folder mpi solver:2")]
pub(crate) struct SaveArgs {
    #[command(flatten)]
    names: Names,
    /// File to write [default: standard output]
    #[arg(short = 'o', long = "file", value_name = "PATH")]
    file: Option<PathBuf>,
    /// Write an OCI layout folder in place of an archive
    #[arg(long, requires = "file")]
    layout: bool,
}

// Words of `hyperion image load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Archive, plain or compressed, or OCI layout folder [default: standard input]
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// The same, as docker spells it
    #[arg(short = 'i', long, value_name = "PATH", conflicts_with = "path")]
    input: Option<PathBuf>,
    /// Name for an image that has none
    #[arg(long)]
    name: Option<String>,
}

/// How a new layer is compressed.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum CompressionArg {
    /// Read by every tool
    #[default]
    Gzip,
    /// Smaller and faster; read by tools since about 2021
    Zstd,
    /// Not compressed
    None,
}

impl From<CompressionArg> for Compression {
    fn from(arg: CompressionArg) -> Self {
        match arg {
            CompressionArg::Gzip => Self::Gzip,
            CompressionArg::Zstd => Self::Zstd,
            CompressionArg::None => Self::None,
        }
    }
}

// Words of `hyperion image import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion image import root.tar.zst base\n  \
    hyperion image import ./rootfs tool:1 --env LANG=C.UTF-8 --cmd /bin/bash")]
pub(crate) struct ImportArgs {
    /// Tar archive (plain, gzip or zstd; - is standard input) or folder
    source: PathBuf,
    /// Name that it gets
    name: String,
    /// Compression of the layer
    #[arg(long, value_enum, default_value_t)]
    compression: CompressionArg,
    /// Environment, as NAME=VALUE; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Command when none is given, split at spaces
    #[arg(long, value_name = "COMMAND")]
    cmd: Option<String>,
    /// Architecture of its programs [default: this host's]
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
}

// Words of `hyperion image bootstrap`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    hyperion image bootstrap debian:bookworm\n  \
    hyperion image bootstrap debian:bookworm --include mpich,python3-mpi4py mpi\n\n\
    With SOURCE_DATE_EPOCH set the same packages give the same image.")]
pub(crate) struct BootstrapArgs {
    /// Distribution and suite: debian:bookworm, ubuntu:noble
    base: String,
    /// Name that it gets [default: that of the distribution and suite]
    name: Option<String>,
    /// Further packages, separated by commas; may be repeated
    #[arg(long, value_name = "PACKAGES", value_delimiter = ',')]
    include: Vec<String>,
    /// Where packages come from: an address, a `deb` line, or a file of them; may
    /// be repeated [default: this host's sources for the same suite, else the
    /// distribution's]
    #[arg(long, value_name = "MIRROR")]
    mirror: Vec<String>,
    /// Compression of the layer
    #[arg(long, value_enum, default_value_t)]
    compression: CompressionArg,
    /// Make it anew when an image of the same words is there
    #[arg(long)]
    no_cache: bool,
}

/// Carries out a verb of `hyperion image`.
pub(crate) fn run(command: &ImageCommand, ctx: &Context) -> anyhow::Result<ExitCode> {
    use ImageCommand as C;
    match command {
        C::Pull(args) => return pull::run(args, ctx),
        C::Push(args) => return push::run(args, ctx),
        _ => {}
    }
    let store = Store::open(&ctx.images())?;
    match command {
        C::Pull(_) | C::Push(_) => {}
        C::Ls => ls(&store, ctx)?,
        C::Inspect(names) => inspect(&store, names)?,
        C::History(name) => history(&store, name, ctx)?,
        C::Tag(args) => {
            let record = store.resolve(&args.image)?;
            store.tag(&args.name, &record.digest)?;
        }
        C::Rm(args) => {
            return removing(ctx, || {
                for image in &args.names.images {
                    removed(&store.remove(image, args.force)?, ctx)?;
                }
                Ok(())
            });
        }
        C::Prune => {
            return removing(ctx, || {
                let mut pruned = store.prune()?;
                // Those that run have read it; the next begin with their kernels again.
                pruned.bytes += vm::forget_memories(&ctx.warm());
                removed(&pruned, ctx)
            });
        }
        C::Save(args) => save(&store, args, ctx)?,
        C::Load(args) => load(&store, args, ctx)?,
        C::Import(args) => import_root(&store, args, ctx)?,
        C::Bootstrap(args) => bootstrap_image(&store, args, ctx)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn ls(store: &Store, ctx: &Context) -> anyhow::Result<()> {
    let mut rows: Vec<(String, ImageRecord)> = Vec::new();
    let named = store.list()?;
    for reference in &named {
        rows.push((familiar(&reference.name), store.record(&reference.digest)?));
    }
    for digest in store.images()? {
        if !named.iter().any(|reference| reference.digest == digest) {
            rows.push(("<none>".to_owned(), store.record(&digest)?));
        }
    }
    match ctx.output {
        OutputFormat::Quiet => {
            for (name, record) in rows {
                let unnamed = name == "<none>";
                output::line(if unnamed { record.digest.short() } else { name })?;
            }
        }
        OutputFormat::Json => {
            let row = |(name, record): &(String, ImageRecord)| {
                json!({
                    "name": (name != "<none>").then_some(name),
                    "digest": record.digest,
                    "id": record.config_digest,
                    "created": record.created,
                    "size_bytes": record.size,
                    "platform": format!("{}/{}", record.os, record.arch),
                })
            };
            output::json(&rows.iter().map(row).collect::<Vec<_>>())?;
        }
        OutputFormat::Human => {
            let row = |(name, record): (String, ImageRecord)| {
                let created = record.created.as_deref().map_or("", date).to_owned();
                vec![
                    name,
                    record.digest.short(),
                    created,
                    Bytes(record.size).to_string(),
                ]
            };

            output::table_within(
                &["NAME", "DIGEST", "CREATED", "SIZE"],
                rows.into_iter().map(row),
                Narrow {
                    cut: &[0],
                    leave_out: &[2],
                },
            )?;
        }
    }
    Ok(())
}

/// The day and minute of an RFC 3339 time.
fn date(time: &str) -> &str {
    time.get(..16).unwrap_or(time)
}

fn inspect(store: &Store, names: &Names) -> anyhow::Result<()> {
    let all = store.list()?;
    let mut out = Vec::new();
    for text in &names.images {
        let record = store.resolve(text)?;
        let of_it = all.iter().filter(|r| r.digest == record.digest);
        let names: Vec<String> = of_it.map(|r| familiar(&r.name)).collect();
        let mut value = serde_json::to_value(&record)?;
        value["names"] = json!(names);
        value["history"] = json!(store.history(&record)?);
        out.push(value);
    }
    output::json(&out)
}

fn history(store: &Store, name: &OneName, ctx: &Context) -> anyhow::Result<()> {
    let record = store.resolve(&name.image)?;
    let mut layers = record.layers.iter();
    // Only steps that changed files have a layer.
    let steps: Vec<_> = store
        .history(&record)?
        .into_iter()
        .map(|step| {
            let layer = if step.empty_layer {
                None
            } else {
                layers.next()
            };
            (step, layer.map(|layer| layer.blob.size))
        })
        .collect();
    let newest_first = steps.iter().rev();
    match ctx.output {
        OutputFormat::Json => {
            let row = |(step, size): &(HistoryEntry, Option<u64>)| json!({"step": step, "size_bytes": size});
            output::json(&newest_first.map(row).collect::<Vec<_>>())?;
        }
        OutputFormat::Human | OutputFormat::Quiet => {
            let row = |(step, size): &(HistoryEntry, Option<u64>)| {
                let created = step.created.as_deref().map_or("", date).to_owned();
                let by = step.created_by.replace('\t', " ");
                vec![created, Bytes(size.unwrap_or(0)).to_string(), by]
            };
            output::table(&["CREATED", "SIZE", "BY"], newest_first.map(row))?;
        }
    }
    Ok(())
}

/// Removes as the owner of the files: a user's unpacked layers belong to ids
/// that are the user's only inside a user namespace.
fn removing(
    ctx: &Context,
    remove: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let mode = match rustix::process::geteuid().is_root() {
        true => UsernsMode::Host,
        false => super::run::own_ids(),
    };
    if !matches!(mode, UsernsMode::Subordinate { .. }) {
        return remove().map(|()| ExitCode::SUCCESS);
    }
    let inside = hyperion_sys::userns::run_inside(&mode, || {
        remove().map_err(|error| {
            // Only a number comes back from there, so the words are said there.
            let _ = crate::errors::report(&error, ctx.output);
            std::io::Error::other("reported")
        })
    })?;
    Ok(match inside {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(Class::Unavailable.exit_code()),
    })
}

fn removed(pruned: &Pruned, ctx: &Context) -> anyhow::Result<()> {
    match ctx.output {
        OutputFormat::Json => output::json(pruned)?,
        OutputFormat::Quiet => {
            for digest in &pruned.images {
                output::line(digest)?;
            }
        }
        OutputFormat::Human => {
            for name in &pruned.names {
                output::line(format_args!("untagged {}", familiar(name)))?;
            }
            for digest in &pruned.images {
                output::line(format_args!("removed {digest}"))?;
            }
            for digest in &pruned.in_use {
                output::line(format_args!("kept {digest}: it is in use"))?;
            }
            if pruned.bytes > 0 {
                output::line(format_args!("freed {}", Bytes(pruned.bytes)))?;
            }
        }
    }
    Ok(())
}

fn save(store: &Store, args: &SaveArgs, ctx: &Context) -> anyhow::Result<()> {
    let images = &args.names.images;
    let stdout = std::io::stdout();
    if args.file.is_none() && stdout.is_terminal() {
        return Err(errors::advised(
            Class::User,
            "an archive is not written to a terminal",
            "name a file with -o, or pipe it on",
        ));
    }
    let busy = Busy::new(ctx, "saving");
    match (&args.file, args.layout) {
        (Some(folder), true) => archive::save_layout(store, images, folder)?,
        (Some(path), false) => save_file(store, images, path)?,
        (None, _) => {
            let out = File::from(stdout.as_fd().try_clone_to_owned()?);
            archive::save(store, images, out)?;
        }
    }
    drop(busy);
    Ok(())
}

/// Writes an archive under another name first: half of one is never taken for whole.
fn save_file(store: &Store, images: &[String], path: &Path) -> anyhow::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let cannot = || format!("cannot write {}", path.display());
    let file = File::create(&part).with_context(cannot)?;
    let saved = archive::save(store, images, file)
        .map_err(anyhow::Error::from)
        .and_then(|file| file.sync_all().with_context(cannot))
        .and_then(|()| std::fs::rename(&part, path).with_context(cannot));
    if saved.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    saved
}

fn load(store: &Store, args: &LoadArgs, ctx: &Context) -> anyhow::Result<()> {
    let name = args.name.as_deref();
    let path = args.path.as_ref().or(args.input.as_ref());
    let path = path.filter(|path| path.as_os_str() != "-");
    let piped = path.is_none().then(stdin).transpose()?;
    let path = path.map_or(Path::new("standard input"), PathBuf::as_path);
    let busy = Busy::new(ctx, "loading");
    let loaded = match piped {
        Some(stdin) => archive::load_stream(store, stdin, path, name)?,
        None => archive::load(store, path, name)?,
    };
    drop(busy);
    if let Some(name) = name
        && !loaded
            .iter()
            .flat_map(|image| &image.names)
            .any(|own| own == name)
    {
        let hint = "`hyperion image tag` gives another";
        output::talk(
            "note",
            format!("--name {name} is not used: the image has a name; {hint}"),
        );
    }
    if ctx.output == OutputFormat::Json {
        return output::json(&loaded);
    }
    for image in loaded {
        for name in &image.names {
            match ctx.output {
                OutputFormat::Quiet => output::line(familiar(name))?,
                _ => output::line(format_args!("{} {}", familiar(name), image.digest))?,
            }
        }
    }
    Ok(())
}

fn stdin() -> anyhow::Result<File> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(errors::advised(
            Class::User,
            "an archive is not read from a terminal",
            "name a file, or pipe it in",
        ));
    }
    Ok(File::from(stdin.as_fd().try_clone_to_owned()?))
}

fn import_root(store: &Store, args: &ImportArgs, ctx: &Context) -> anyhow::Result<()> {
    for pair in &args.env {
        if !pair.contains('=') {
            return Err(errors::advised(
                Class::User,
                format!("{pair:?} is not NAME=VALUE"),
                "the image's variables are written whole, such as --env LANG=C.UTF-8",
            ));
        }
    }
    let epoch = source_date_epoch()?;
    let created = match epoch {
        Some(epoch) => jiff::Timestamp::from_second(epoch)?,
        None => jiff::Timestamp::now(),
    };
    let words = |text: &String| text.split_whitespace().map(str::to_owned).collect();
    let new = NewImage {
        config: RuntimeConfig {
            env: args.env.clone(),
            cmd: args.cmd.as_ref().map(words).unwrap_or_default(),
            ..RuntimeConfig::default()
        },
        arch: args
            .arch
            .clone()
            .unwrap_or_else(|| Platform::host().architecture),
        created: Some(created.to_string()),
        created_by: format!("hyperion image import {}", args.source.display()),
        comment: String::new(),
    };
    let compression = args.compression.into();
    let busy = Busy::new(ctx, "importing");
    let digest = if args.source.as_os_str() == "-" {
        let path = Path::new("standard input");
        import::import_stream(store, stdin()?, path, &args.name, &new, compression)?
    } else {
        import::import(store, &args.source, &args.name, &new, compression, epoch)?
    };
    drop(busy);
    made(&args.name, digest, None, ctx)
}

fn bootstrap_image(store: &Store, args: &BootstrapArgs, ctx: &Context) -> anyhow::Result<()> {
    let name = args.name.as_ref().unwrap_or(&args.base);
    let wanted = Bootstrap {
        base: args.base.clone(),
        include: args.include.clone(),
        mirrors: args.mirror.clone(),
        epoch: source_date_epoch()?.and_then(|epoch| u64::try_from(epoch).ok()),
        compression: args.compression.into(),
        anew: args.no_cache,
    };
    let busy = Busy::new(ctx, "bootstrapping");
    let made_now = bootstrap(store, &wanted, name, |line| busy.say(line))?;
    drop(busy);
    made(name, made_now.digest, Some(made_now.cached), ctx)
}

fn made(
    name: &str,
    digest: hyperion_image::Digest,
    cached: Option<bool>,
    ctx: &Context,
) -> anyhow::Result<()> {
    match ctx.output {
        OutputFormat::Human => output::line(format_args!("{name} {digest}")),
        OutputFormat::Quiet => output::line(digest),
        OutputFormat::Json => {
            output::json(&json!({"name": name, "digest": digest, "cached": cached}))
        }
    }
}

/// The latest time in what is made, as the Reproducible Builds project names it.
fn source_date_epoch() -> anyhow::Result<Option<i64>> {
    let text = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .filter(|t| !t.is_empty());
    text.map(|text| {
        text.parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH is {text:?} and not a number of seconds"))
    })
    .transpose()
}

/// Shows on a terminal that something takes its time; elsewhere only what is said.
pub(crate) struct Busy {
    bar: ProgressBar,
    talks: bool,
}

impl Busy {
    pub(crate) fn new(ctx: &Context, what: &'static str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let talks = ctx.output == OutputFormat::Human;
        let bar = if terminal && talks {
            let bar = ProgressBar::new_spinner().with_message(what);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        } else {
            ProgressBar::hidden()
        };
        Self { bar, talks }
    }

    fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            if self.talks {
                eprintln!("{line}");
            }
        } else {
            self.bar.set_message(line.to_owned());
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
