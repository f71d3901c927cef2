//! `hyperion login`, `hyperion logout`

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};

use anyhow::Context as _;
use hyperion_image::reference::{DEFAULT_REGISTRY, parse_host};
use hyperion_image::registry::{Credentials, auth, verify};
use hyperion_model::Class;
use hyperion_sys::entry::ExitCode;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::args::OutputFormat;
use crate::context::Context;
use crate::registry::RegistryArgs;
use crate::{errors, output};

/// The longest password or token that is read, in bytes.
const MAX_PASSWORD: u64 = 64 << 10;

// Words of `hyperion login`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    hyperion login registry.example.org\n  \
    hyperion login -u robot --password-stdin registry.example.org < token")]
pub(crate) struct LoginArgs {
    /// Registry, as HOST[:PORT]
    #[arg(default_value = DEFAULT_REGISTRY)]
    host: String,
    /// User's name [default: asked for]
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

// Words of `hyperion logout`.
#[derive(Debug, clap::Args)]
pub(crate) struct LogoutArgs {
    /// Registry, as HOST[:PORT]
    #[arg(default_value = DEFAULT_REGISTRY)]
    host: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Checks credentials with the registry and keeps them.
pub(crate) fn login(args: &LoginArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let host = parse_host(&args.host)?;
    let file = args.registry.login_file()?;
    let credentials = credentials(args)?;
    let mut access = args.registry.access(ctx);
    access.credentials = Some(credentials.clone());
    verify(&access, &host)?;
    let helper = auth::keep(&file, &host, &credentials)?;
    match ctx.output {
        OutputFormat::Human => match &helper {
            Some(helper) => eprintln!("logged in to {host}; kept by {helper}"),
            None => eprintln!(
                "logged in to {host}; kept unencrypted in {}",
                file.display()
            ),
        },
        OutputFormat::Quiet => {}
        OutputFormat::Json => output::json(&serde_json::json!({
            "registry": host, "file": file, "helper": helper,
        }))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Forgets the credentials for a registry.
pub(crate) fn logout(args: &LogoutArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let host = parse_host(&args.host)?;
    let file = args.registry.login_file()?;
    let found = auth::forget(&file, &host)?;
    match ctx.output {
        OutputFormat::Human if found => eprintln!("logged out of {host}"),
        OutputFormat::Human => eprintln!("there was no login for {host}"),
        OutputFormat::Quiet => {}
        OutputFormat::Json => {
            output::json(&serde_json::json!({ "registry": host, "found": found }))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn credentials(args: &LoginArgs) -> anyhow::Result<Credentials> {
    if args.password_stdin {
        let user = args.username.clone().unwrap_or_default();
        let mut password = String::new();
        std::io::stdin()
            .lock()
            .take(MAX_PASSWORD)
            .read_to_string(&mut password)
            .context("cannot read the password from standard input")?;
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        return checked(user, password);
    }
    if !std::io::stdin().is_terminal() {
        return Err(errors::advised(
            Class::User,
            "standard input is no terminal to ask for a password",
            "pipe it in: hyperion login -u NAME --password-stdin HOST < FILE",
        ));
    }
    let user = match &args.username {
        Some(user) => user.clone(),
        None => ask("Username: ", true)?,
    };
    checked(user, ask("Password: ", false)?)
}

fn checked(user: String, password: String) -> anyhow::Result<Credentials> {
    let wrong = |what: &str, hint: &str| Err(errors::advised(Class::User, what, hint));
    if user.is_empty() || password.is_empty() {
        return wrong(
            "neither the user's name nor the password may be empty",
            "name the user with -u; with --password-stdin the password comes from standard input",
        );
    }
    if user.contains(':') {
        return wrong(
            "a user's name holds no colon",
            "leave the password out of it",
        );
    }
    Ok(Credentials::Password { user, password })
}

/// Asks on the terminal, where standard input and output may be elsewhere.
fn ask(question: &str, echo: bool) -> anyhow::Result<String> {
    let terminal = File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .context("cannot open the terminal")?;
    (&terminal).write_all(question.as_bytes())?;
    let before = tcgetattr(&terminal)?;
    if !echo {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
    }
    let mut answer = String::new();
    let read = BufReader::new((&terminal).take(MAX_PASSWORD)).read_line(&mut answer);
    if !echo {
        tcsetattr(&terminal, OptionalActions::Flush, &before)?;
        (&terminal).write_all(b"\n")?;
    }
    read.context("cannot read from the terminal")?;
    Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
}
