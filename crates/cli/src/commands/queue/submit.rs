//! `hyperion submit`

use std::collections::BTreeMap;
use std::io::Read as _;

use anyhow::Context as _;
use hyperion_api::queue::{Foreseen, Reply, Request};
use hyperion_formats::jobs::{self, Kind, Parsed, Source, Wanted};
use hyperion_model::submission::{Command, Dialect, Fence, Origin, Submission};
use hyperion_model::{Class, Level};
use hyperion_sys::entry::ExitCode;
use hyperion_sys::failpoint;
use jiff::Zoned;

use super::{Server, less};
use crate::args::OutputFormat;
use crate::commands::run::Isolate;
use crate::context::Context;
use crate::plain::{self, Next, Plain};
use crate::{errors, output};

// Words of `hyperion submit`.
#[derive(Debug, Default, clap::Args)]
#[command(
    override_usage = "hyperion submit [OPTIONS] [WORDS OF THE BATCH SYSTEM] SCRIPT [ARG]...",
    after_help = "Behind the options above come those of the batch system in whose words the script \
                  is written, as its own command takes them (sbatch, qsub, bsub), then the script \
                  and what it is given. `hyperion submit -` reads the script from standard input."
)]
pub(crate) struct Args {
    /// How the job is fenced [default: process, or container where --image is given]
    #[arg(long, value_enum, value_name = "LEVEL")]
    isolation: Option<Isolate>,
    /// The image, from the store
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// A flag of `hyperion run` for the job's fence, such as --run-flag=--volume=/data:/data
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    run_flag: Vec<String>,
    /// Whose words the script is in: slurm, pbs, lsf or sge [default: those of its directives]
    #[arg(long, value_name = "SYSTEM", value_parser = parse_dialect)]
    dialect: Option<Dialect>,
    /// Wait for the job's end, and end with its exit code
    #[arg(long)]
    wait: bool,
    /// Say when the job would start, and what it asks for (--output json); submit nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not start a server where none runs
    #[arg(long)]
    no_autostart: bool,
    /// Words of the batch system, script and arguments
    #[arg(
        value_name = "SCRIPT",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true
    )]
    words: Vec<String>,
}

impl Args {
    /// Reads them where they are plain.
    pub(crate) fn plain(words: &mut Plain) -> Option<Self> {
        let mut args = Self::default();
        loop {
            let flag = match words.next()? {
                Next::Flag(flag) => flag,
                Next::Rest(rest) => {
                    args.words = rest;
                    return Some(args);
                }
            };
            match flag.as_str() {
                "--isolation" => words.once(&mut args.isolation)?,
                "--image" => words.once(&mut args.image)?,
                "--wait" => plain::on(&mut args.wait)?,
                "--no-autostart" => plain::on(&mut args.no_autostart)?,
                _ => return None,
            }
        }
    }
}

fn parse_dialect(text: &str) -> Result<Dialect, String> {
    match text {
        "slurm" => Ok(Dialect::Slurm),
        "pbs" | "torque" => Ok(Dialect::Pbs),
        "lsf" => Ok(Dialect::Lsf),
        "sge" | "gridengine" => Ok(Dialect::Sge),
        _ => Err("it is one of slurm, pbs, lsf and sge".into()),
    }
}

/// Submits a script.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let (mut parsed, dialect) = read(args.dialect, &args.words)?;
    *parsed.submission.fence = fence(args.isolation, args.image.clone(), args.run_flag.clone())?;
    if args.dry_run || parsed.reply.test_only {
        return tell_if(parsed.submission, ctx, !args.no_autostart);
    }
    let wait = args.wait || parsed.submission.wait;
    let (number, mut server) = send(parsed.submission, ctx, !args.no_autostart)?;
    match ctx.output {
        OutputFormat::Json => {
            output::json(&serde_json::json!({ "job": number, "dialect": dialect }))?
        }
        OutputFormat::Human | OutputFormat::Quiet => output::line(number)?,
    }
    if !wait {
        return Ok(ExitCode::SUCCESS);
    }
    match server.ask(&Request::Wait(vec![number]))? {
        Reply::Ended(code) => Ok(ExitCode::from(code)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Says what would become of a submission.
fn tell_if(mut submission: Submission, ctx: &Context, autostart: bool) -> anyhow::Result<ExitCode> {
    if ctx.output == OutputFormat::Json {
        output::json(&submission)?;
        return Ok(ExitCode::SUCCESS);
    }
    settle(&mut submission)?;
    let mut server = Server::reach(ctx, autostart)?;
    let starts = ask_if(&mut server, &submission)?.starts;
    output::line(super::explain::begins(&starts))?;
    let now = jiff::Timestamp::now().as_microsecond().cast_unsigned();
    for (with, other) in less::than(&submission) {
        // What cannot be had is no help.
        if let Ok(sooner) = ask_if(&mut server, &other)
            && let Some(when) = less::sooner(&sooner.starts, &starts, now)
        {
            output::line(format_args!("  with {with}: {when}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks what would become of a submission.
pub(in crate::commands) fn foresee(
    mut submission: Submission,
    ctx: &Context,
) -> anyhow::Result<Foreseen> {
    settle(&mut submission)?;
    ask_if(&mut Server::reach(ctx, true)?, &submission)
}

fn ask_if(server: &mut Server, submission: &Submission) -> anyhow::Result<Foreseen> {
    match server.ask(&Request::WhatIf(Box::new(submission.clone())))? {
        Reply::Foreseen(foreseen) => Ok(foreseen),
        reply => anyhow::bail!("the server answers something else: {reply:?}"),
    }
}

/// Reads a script with its words, and tells the notes.
pub(super) fn read(asked: Option<Dialect>, words: &[String]) -> anyhow::Result<(Parsed, Dialect)> {
    // Which word is the script depends on whose words they are, and that on the script.
    let guess = asked.unwrap_or(Dialect::Slurm);
    let mut wanted = jobs::wanted(guess, words);
    let (mut name, mut script) = load(&wanted)?;
    let dialect = match (&script, asked) {
        (_, Some(dialect)) => dialect,
        (Some(text), None) => jobs::detect(text).dialect.unwrap_or(Dialect::Slurm),
        (None, None) => Dialect::Slurm,
    };
    if dialect != guess && jobs::wanted(dialect, words) != wanted {
        wanted = jobs::wanted(dialect, words);
        if wanted != Wanted::Command {
            (name, script) = load(&wanted)?;
        }
    }
    let variables: Vec<(String, String)> = variables().into_iter().collect();
    let source = Source {
        script: script.as_deref(),
        words,
        variables: &variables,
    };
    let text = script.as_deref().unwrap_or_default();
    match jobs::read(dialect, &source) {
        Ok(parsed) if parsed.reply.interactive => {
            let what = "a job that is submitted has no terminal";
            let hint = "`qsub -I`, `bsub -Is`, `salloc` and `srun --pty` of install-shims have one";
            Err(errors::advised(Class::User, what, hint))
        }
        Ok(mut parsed) => {
            eprint!(
                "{}",
                jobs::tell(&parsed.notes, Kind::Note, &name, text, words)
            );
            let file = script.as_ref().map(|_| name.as_str());
            call(&mut parsed.submission, file);
            Ok((parsed, dialect))
        }
        Err(refused) => {
            eprint!(
                "{}",
                jobs::tell(&refused.notes, Kind::Note, &name, text, words)
            );
            eprint!(
                "{}",
                jobs::tell(&refused.mistakes, Kind::Error, &name, text, words)
            );
            let count = refused.mistakes.len();
            let what = match count {
                1 => "nothing was submitted, for the mistake above".to_owned(),
                _ => format!("nothing was submitted, for the {count} mistakes above"),
            };
            let hint =
                "correct them, or `hyperion submit --dialect` where the script is in other words";
            Err(errors::advised(Class::User, what, hint))
        }
    }
}

/// Says what a job is called that has no name, and from which file its script was read: `-`
/// for standard input.
pub(in crate::commands) fn call(submission: &mut Submission, script: Option<&str>) {
    let usual = usual_name(submission, script);
    submission.name.get_or_insert(usual);
    let file = script.filter(|script| *script != "-");
    let whole = file.and_then(|file| std::path::absolute(file).ok());
    submission.script = whole.map(|file| file.to_string_lossy().into_owned());
}

/// Gives what each system calls a job that has no name.
fn usual_name(submission: &Submission, script: Option<&str>) -> String {
    let last = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    match (submission.dialect, script, &submission.command) {
        (Dialect::Slurm, None, _) => "wrap".into(),
        (Dialect::Slurm, Some("-"), _) => "sbatch".into(),
        (_, Some("-"), _) => "STDIN".into(),
        (_, Some(script), _) => last(script),
        (Dialect::Lsf, None, Command::Program(words)) => words.join(" "),
        (_, None, Command::Program(words)) if words.is_empty() => "STDIN".into(),
        (_, None, Command::Program(words)) => last(words.first().map_or("", String::as_str)),
        (_, None, Command::Script { .. } | Command::Room { .. }) => "STDIN".into(),
    }
}

pub(in crate::commands) fn load(wanted: &Wanted) -> anyhow::Result<(String, Option<Vec<u8>>)> {
    match wanted {
        Wanted::Command => Ok(("command".into(), None)),
        Wanted::Input => {
            let mut text = Vec::new();
            std::io::stdin()
                .read_to_end(&mut text)
                .context("cannot read the script from standard input")?;
            Ok(("-".into(), Some(text)))
        }
        Wanted::Program(name) => Ok(match script_in(name) {
            Some(text) => (name.clone(), Some(text)),
            None => ("command".into(), None),
        }),
        Wanted::File(name) => {
            let text =
                std::fs::read(name).with_context(|| format!("cannot read the script {name}"))?;
            Ok((name.clone(), Some(text)))
        }
    }
}

/// Reads a program, if it is a script whose directives are read.
fn script_in(name: &str) -> Option<Vec<u8>> {
    let there = std::fs::metadata(name).ok()?;
    if !there.is_file() || there.len() > jobs::MOST_BYTES as u64 {
        return None;
    }
    std::fs::read(name)
        .ok()
        .filter(|text| jobs::is_script(text))
}

/// Settles how a job is fenced.
pub(in crate::commands) fn fence(
    isolation: Option<Isolate>,
    image: Option<String>,
    flags: Vec<String>,
) -> anyhow::Result<Fence> {
    let level = match (isolation, &image) {
        (Some(Isolate::Process), Some(_)) => {
            let hint = "leave out --image, or take --isolation container";
            let what = "a process sees the host as it is, and has no image";
            return Err(errors::advised(Class::User, what, hint));
        }
        (Some(Isolate::Container | Isolate::Vm), None) => {
            let what = "a container or a virtual machine needs an image";
            return Err(errors::advised(Class::User, what, "name one with --image"));
        }
        (Some(Isolate::Vm), _) => Level::Vm,
        (Some(Isolate::Container), _) | (None, Some(_)) => Level::Container,
        (Some(Isolate::Process) | None, None) => Level::Process,
    };
    Ok(Fence {
        level,
        image,
        flags,
    })
}

/// Hands a submission to the server; gives its number.
pub(in crate::commands) fn send(
    mut submission: Submission,
    ctx: &Context,
    autostart: bool,
) -> anyhow::Result<(u64, Server)> {
    settle(&mut submission)?;
    let mut server = Server::reach(ctx, autostart)?;
    if submission.pushes()
        && let Reply::Server(server) = server.ask(&Request::Who)?
        && !server.operator
    {
        let what = "only operators put jobs before others: its priority does not count";
        crate::output::talk("note", what);
    }
    failpoint!("client-connected");
    let answer = server.ask(&Request::Submit(Box::new(submission)))?;
    failpoint!("client-answered");
    match answer {
        Reply::Submitted(number) => Ok((number, server)),
        reply => anyhow::bail!("the server answers something else: {reply:?}"),
    }
}

/// Puts into a submission what only its submitter knows: where, who, when.
fn settle(submission: &mut Submission) -> anyhow::Result<()> {
    let variables = variables();
    let folder = std::env::current_dir().context("the working folder is gone")?;
    let user = variables.get("USER").or_else(|| variables.get("LOGNAME"));
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    *submission.origin = Origin {
        folder: folder.to_string_lossy().into_owned(),
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        user: user.cloned().unwrap_or_else(|| "root".into()),
        home: variables.get("HOME").cloned().unwrap_or_else(|| "/".into()),
        umask: umask.bits(),
        variables,
    };
    for moment in [&mut submission.begin, &mut submission.deadline] {
        if let Some(said) = *moment {
            // What day it is takes files to tell.
            *moment = Some(super::moment::span(said, &Zoned::now())?);
        }
    }
    Ok(())
}

/// Gives the variables of this process that are text.
pub(in crate::commands) fn variables() -> BTreeMap<String, String> {
    let all = std::env::vars_os();
    all.filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)))
        .collect()
}
