//! How to reach registries, gathered from flags, environment and configuration.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use hyperion_image::Digest;
use hyperion_image::registry::{Access, AuthFiles, Event, Progress, ProxySettings};
use hyperion_model::{Bytes, Class};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::args::OutputFormat;
use crate::context::Context;
use crate::errors;

// Flags of every verb that talks to a registry.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RegistryArgs {
    /// Allow HTTP, and HTTPS with a certificate that cannot be verified
    #[arg(long)]
    pub(crate) insecure: bool,
    /// File of credentials, as docker's config.json [default: docker's, then podman's]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
}

impl RegistryArgs {
    /// Gathers what is needed to reach a registry.
    pub(crate) fn access(&self, ctx: &Context) -> Access {
        Access {
            registries: ctx.config.registries.clone(),
            auth_files: AuthFiles(match &self.authfile {
                Some(file) => vec![file.clone()],
                None => auth_files(),
            }),
            insecure: self.insecure,
            proxy: proxy(),
            ..Access::default()
        }
    }

    /// As [`Self::access`], where credentials are looked up: a file that is named is there.
    pub(crate) fn access_as_told(&self, ctx: &Context) -> anyhow::Result<Access> {
        if let Some(file) = self.authfile.as_ref().filter(|file| !file.exists()) {
            return Err(errors::advised(
                Class::NotFound,
                format!("there is no file of credentials {}", file.display()),
                "check --authfile; `hyperion login --authfile FILE` makes one",
            ));
        }
        Ok(self.access(ctx))
    }

    /// Gives the file in which a login is kept.
    pub(crate) fn login_file(&self) -> anyhow::Result<PathBuf> {
        self.authfile
            .clone()
            .or_else(|| path("REGISTRY_AUTH_FILE"))
            .or_else(docker_file)
            .ok_or_else(|| {
                let hint = "name a file with --authfile";
                errors::advised(Class::User, "HOME is not set", hint)
            })
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn docker_file() -> Option<PathBuf> {
    let folder = path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker")))?;
    Some(folder.join("config.json"))
}

/// The files where docker and podman keep credentials; one that is named comes first.
fn auth_files() -> Vec<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let runtime = path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    let config = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")));
    [
        path("REGISTRY_AUTH_FILE"),
        docker_file(),
        runtime.or_else(|| Some(format!("/run/containers/{uid}/auth.json").into())),
        config.map(|dir| dir.join("containers/auth.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn proxy() -> ProxySettings {
    let either = |lower: &str| variable(lower).or_else(|| variable(&lower.to_uppercase()));
    let all = either("all_proxy");
    ProxySettings {
        http: either("http_proxy").or_else(|| all.clone()),
        https: either("https_proxy").or(all),
        except: either("no_proxy"),
    }
}

/// Shows what moves: bars on a terminal, a line for each part elsewhere.
pub(crate) enum Shown {
    Bars(Bars),
    Lines,
    Nothing,
}

/// A bar for each part of an image.
#[derive(Default)]
pub(crate) struct Bars {
    all: MultiProgress,
    bars: std::cell::RefCell<Vec<(Digest, ProgressBar)>>,
}

impl Shown {
    /// Chooses by what standard error is.
    pub(crate) fn new(output: OutputFormat) -> Self {
        if output == OutputFormat::Quiet {
            Self::Nothing
        } else if std::io::stderr().is_terminal() {
            Self::Bars(Bars::default())
        } else {
            Self::Lines
        }
    }

    fn say(&self, text: &str) {
        let text = crate::output::plain(text);
        match self {
            // Through the bars, so that they do not overwrite it.
            Self::Bars(bars) => drop(bars.all.println(text)),
            Self::Lines => eprintln!("{text}"),
            Self::Nothing => {}
        }
    }
}

impl Progress for Shown {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Retry { error, failures } => {
                self.say(&format!("attempt {failures} failed: {error}; trying again"));
            }
            Event::MirrorFailed { host, error } => {
                self.say(&format!("the mirror {host} could not help: {error}"));
            }
            Event::ForeignPlatform { actual } => {
                self.say(&format!(
                    "warning: the image is for {actual}, not for this host"
                ));
            }
            Event::Finished {
                digest,
                size,
                present,
            } => {
                let what = if *present { "already there" } else { "done" };
                match self {
                    Self::Bars(bars) => bars.finish(digest, *size, what),
                    Self::Lines => {
                        eprintln!("{} {what}, {}", digest.short(), Bytes(*size));
                    }
                    Self::Nothing => {}
                }
            }
            Event::Started { digest, size, done } => {
                if let Self::Bars(bars) = self {
                    let bar = bars.bar(digest, *size);
                    bar.set_position(*done);
                    // Resumed bytes say nothing about the line's speed.
                    bar.reset_eta();
                }
            }
            Event::Moved { digest, done } => {
                if let Self::Bars(bars) = self {
                    bars.bar(digest, 0).set_position(*done);
                }
            }
            _ => {}
        }
    }
}

impl Bars {
    fn bar(&self, digest: &Digest, size: u64) -> ProgressBar {
        let mut bars = self.bars.borrow_mut();
        if let Some((_, bar)) = bars.iter().find(|(other, _)| other == digest) {
            return bar.clone();
        }
        let bar = self.all.add(ProgressBar::new(size));
        let style = "{prefix} {bar:26} {binary_bytes:>11} of {binary_total_bytes:<11} {binary_bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_prefix(digest.short());
        bars.push((*digest, bar.clone()));
        bar
    }

    fn finish(&self, digest: &Digest, size: u64, what: &'static str) {
        let bar = self.bar(digest, size);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {msg}, {binary_total_bytes}") {
            bar.set_style(style);
        }
        bar.finish_with_message(what);
    }
}
