//! The words of the command line: global flags and the list of verbs.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use hyperion_sys::entry::ExitCode;

use crate::commands::{self, Command};
use crate::errors;
use crate::plain::Plain;

/// Runs parallel programs as a process or in a container, says beforehand
/// whether that will work, and measures what each level of isolation costs.
#[derive(Debug, Parser)]
#[command(
    name = "hyperion",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The same with the verbs whose start counts: to put all the others together takes
/// longer than to read the words.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Quick {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: QuickCommand,
}

#[derive(Subcommand)]
#[command(defer = true)]
enum QuickCommand {
    Run(Box<commands::RunArgs>),
    Submit(Box<commands::SubmitArgs>),
}

impl From<QuickCommand> for Command {
    fn from(command: QuickCommand) -> Self {
        match command {
            QuickCommand::Run(args) => Self::Run(args),
            QuickCommand::Submit(args) => Self::Submit(args),
        }
    }
}

impl Cli {
    /// Reads the words of this process.
    ///
    /// # Errors
    /// What is wrong with them, or the help that was asked for.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let words = || std::env::args_os();
        if let Some(cli) = plain(words()) {
            return Ok(cli);
        }
        if words().any(|word| word == "run" || word == "submit")
            && let Ok(Quick { global, command }) = parse(words())
        {
            let command = command.into();
            return Ok(Self { global, command });
        }
        // Whatever else it is, an error too, is said with all verbs in view.
        parse(words())
    }
}

/// Reads words that begin with `hyperion run`.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn read_run(words: Vec<String>) -> Result<commands::RunArgs, clap::Error> {
    let words = words.into_iter().map(OsString::from);
    if let Some(Command::Run(args)) = plain(words.clone()).map(|cli| cli.command) {
        return Ok(*args);
    }
    match parse(words)? {
        Quick {
            command: QuickCommand::Run(args),
            ..
        } => Ok(*args),
        _ => Err(clap::Error::new(ErrorKind::InvalidSubcommand)),
    }
}

/// Reads the plainest words of the verbs whose start counts.
fn plain(words: impl Iterator<Item = OsString>) -> Option<Cli> {
    let (verb, mut words) = Plain::new(words)?;
    let command = match verb.as_str() {
        "run" => Command::Run(Box::new(commands::RunArgs::plain(&mut words)?)),
        "submit" => Command::Submit(Box::new(commands::SubmitArgs::plain(&mut words)?)),
        _ => return None,
    };
    let global = Global::default();
    Some(Cli { global, command })
}

/// As [`Parser::try_parse_from`], but leaves what it was parsed with to the end
/// of the process: to free it piece by piece takes a third as long as to make it.
fn parse<T: CommandFactory + FromArgMatches>(
    words: impl Iterator<Item = OsString>,
) -> Result<T, clap::Error> {
    let mut command = std::mem::ManuallyDrop::new(T::command());
    let mut matches = command.try_get_matches_from_mut(words)?;
    T::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Folder of images and jobs [default: /var/lib/hyperion for root,
    /// ~/.local/share/hyperion for others; $HYPERION_ROOT]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub(crate) root: Option<PathBuf>,
    /// Queue that is meant: `own`, `host`, or the socket of a server [default: the own one, or the
    /// host's where its server is there and no own one runs; $HYPERION_SERVER]
    #[arg(
        long,
        global = true,
        value_name = "QUEUE",
        help_heading = "Global options"
    )]
    pub(crate) server: Option<String>,
    /// What is printed on standard output
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        help_heading = "Global options"
    )]
    pub(crate) output: OutputFormat,
}

/// The shapes of standard output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Text and tables for people
    #[default]
    Human,
    /// One JSON document, stable across versions
    Json,
    /// Names or digests only
    Quiet,
}

/// Prints what is wrong with the words, or the help that was asked for.
///
/// Wrong words are 125, as everything that fails before the user's own command starts.
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A closed pipe (`hyperion --help | head -1`) is no error.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprint!("{text}");
        return ExitCode::from(125);
    }
    let likely = errors::likely_of(error);
    eprint!("{}", in_our_shape(&text, likely.as_deref()));
    ExitCode::from(125)
}

/// Puts clap's words in the shape of every other error: `error:`, then `hint:`.
fn in_our_shape(text: &str, likely: Option<&str>) -> String {
    let mut hints: Vec<String> = likely
        .map(|l| format!("did you mean {l}?"))
        .into_iter()
        .collect();
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(tip) = line.trim_start().strip_prefix("tip: ") {
            // "to pass '--now' as a value, use '-- --now'", where nobody wants it to be one.
            if tip.starts_with("to pass ") {
                continue;
            }
            // "a similar argument exists: '--ranks'", "some similar values exist: 'a', 'b'"
            match tip.split_once(" exist") {
                Some((what, _)) if what.contains(" similar ") && likely.is_some() => {}
                Some((what, names)) if what.contains(" similar ") => {
                    let names = names.trim_start_matches('s').trim_start_matches(": ");
                    let names = names.split(", ").filter(|name| !is_hidden(name));
                    let names: Vec<&str> = names.collect();
                    if !names.is_empty() {
                        hints.push(format!("did you mean {}?", names.join(" or ")));
                    }
                }
                _ => hints.push(tip.to_owned()),
            }
        } else if !line.starts_with("For more information") && !line.trim().is_empty() {
            lines.push(numbers_in_words(line));
        }
    }
    if hints.is_empty() {
        hints.push("add --help to see what can be written".into());
    }
    lines.extend(hints.into_iter().map(|h| format!("hint: {h}")));
    lines.join("\n") + "\n"
}

/// Tells whether it is a verb for the program itself, as it stands in a hint.
fn is_hidden(quoted: &str) -> bool {
    let name = quoted.trim_matches('\'');
    let cli = Cli::command();
    cli.find_subcommand(name)
        .is_some_and(|verb| verb.is_hide_set())
}

/// Says what is meant where the standard library says how it failed to read a number.
fn numbers_in_words(line: &str) -> String {
    const SAID: [(&str, &str); 3] = [
        ("invalid digit found in string", "a whole number is meant"),
        (
            "cannot parse integer from empty string",
            "a whole number is meant",
        ),
        (
            "number too large to fit in target type",
            "that is too large a number",
        ),
    ];
    let said = SAID
        .iter()
        .find_map(|(said, meant)| Some((line.strip_suffix(said)?, meant)));
    said.map_or_else(
        || line.to_owned(),
        |(before, meant)| format!("{before}{meant}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    use hyperion_testkit::Dice;

    #[test]
    fn a_misspelt_flag_gets_a_hint_with_the_right_one() {
        let error = Cli::try_parse_from(["hyperion", "run", "--raks", "3", "image"])
            .expect_err("no such flag");
        let told = in_our_shape(&error.render().to_string(), None);
        assert!(
            told.starts_with("error: unexpected argument '--raks'"),
            "{told}"
        );
        assert!(told.contains("\nhint: did you mean '--ranks'?"), "{told}");
    }

    #[test]
    fn a_flag_that_is_like_no_other_gets_the_way_to_those_that_are() {
        let error = Cli::try_parse_from(["hyperion", "vm", "stop", "--now", "web"])
            .expect_err("no such flag");
        let told = in_our_shape(&error.render().to_string(), None);
        assert!(
            told.ends_with("\nhint: add --help to see what can be written\n"),
            "{told}"
        );
    }

    #[test]
    fn dockers_verbs_are_answered_with_ours_and_hidden_ones_are_not_named() {
        let told = |words: &[&str]| {
            let words = ["hyperion"].iter().chain(words);
            let error = Cli::try_parse_from(words).expect_err("no such verb");
            in_our_shape(
                &error.render().to_string(),
                errors::likely_of(&error).as_deref(),
            )
        };
        for (verb, ours) in [("images", "image ls"), ("rmi", "image rm")] {
            let told = told(&[verb]);
            assert!(
                told.ends_with(&format!("\nhint: did you mean {ours}?\n")),
                "{told}"
            );
        }
        assert!(!told(&["agents"]).contains("'agent'"));
        assert!(told(&["image", "lss"]).contains("'ls'"));
    }

    #[test]
    fn a_number_that_is_none_is_told_in_words() {
        let error = Cli::try_parse_from(["hyperion", "run", "--pids", "many", "image"])
            .expect_err("no number");
        let told = in_our_shape(&error.render().to_string(), None);
        assert!(
            told.contains("'--pids <N>': a whole number is meant"),
            "{told}"
        );
    }

    #[test]
    fn the_words_are_consistent() {
        Cli::command().debug_assert();
        Quick::command().debug_assert();
    }

    #[test]
    fn plain_words_are_read_as_all_others_are() {
        let flags = "--rm --rm=1 -d --detach -i -t -it --interactive --tty --read-only --isolation \
                     --isolation=vm --isolation=jail -n --ranks --ranks=3 --ranks=-3 -n4 -m --memory \
                     --memory=1g --name --name= --name=a/b -w --workdir=/w --entrypoint --entrypoint= \
                     -v --volume=/a:/b -e --env -e=A --label --wait --no-autostart --image --image=i";
        let others = "image true 4 -4 - -- 512m process container /a:/b A=1 a=b run -x --nope";
        let flags: Vec<&str> = flags.split_whitespace().chain([""]).collect();
        let others: Vec<&str> = others.split_whitespace().collect();
        let mut dice = Dice(17);
        let mut plain_ones = [0, 0];
        for round in 0..30_000 {
            let verb = round % 2;
            let mut words = vec!["hyperion", ["run", "submit"][verb]];
            for _ in 0..dice.below(4) {
                words.push(flags[dice.below(flags.len())]);
                if dice.below(2) == 0 {
                    words.push(others[dice.below(others.len())]);
                }
            }
            words.push(others[dice.below(others.len())]);
            let words = || words.iter().map(OsString::from);
            let Some(read) = plain(words()) else { continue };
            plain_ones[verb] += 1;
            let Quick { global, command } = match parse(words()) {
                Ok(quick) => quick,
                Err(error) => panic!("{:?} are wrong: {error}", words().collect::<Vec<_>>()),
            };
            assert_eq!(
                format!("{:?}", (read.global, read.command)),
                format!("{:?}", (global, Command::from(command)))
            );
        }
        assert!(
            plain_ones.iter().all(|count| *count > 1500),
            "{plain_ones:?}"
        );
    }

    #[test]
    fn run_and_submit_are_read_alike_with_the_other_verbs_and_without() {
        for words in [
            "hyperion run image true",
            "hyperion run -n 4 -it --rm -v /a:/b -e A=1 --isolation process sh -c run",
            "hyperion --root /r run --output json image --root /x -- -V",
            "hyperion run --output quiet image",
            "hyperion submit --wait -n 4 --array=1-9 job.sh run --root x",
            "hyperion --root /r submit --output json - submit",
        ] {
            let words = || words.split(' ').map(OsString::from);
            let all = Cli::try_parse_from(words()).expect("known to all");
            let Quick { global, command } = parse(words()).expect("known to it");
            assert_eq!(
                format!("{:?}", (global, Command::from(command))),
                format!("{:?}", (all.global, all.command))
            );
        }
    }
}
