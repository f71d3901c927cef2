//! A request in the making.

use std::collections::BTreeMap;

use hyperion_model::submission::{Command, Dialect, Folder, Part, Per, Submission};

use super::options::{Grammar, Style, apply};
use super::words::Word;
use super::{Remark, Reply, Span};

/// Where an option was given; the later is the stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Script,
    Variables,
    Words,
}

/// A request in the making.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) job: Submission,
    pub(super) told: Told,
    pub(super) reply: Reply,
    /// Where what is read now stands.
    pub(super) stage: Stage,
    /// Where options were last given, by their first name.
    pub(super) given: BTreeMap<&'static str, (Stage, Span)>,
    /// How many options there were.
    pub(super) count: usize,
    /// How many hosts they named.
    pub(super) hosts: usize,
    /// The part that options are about.
    pub(super) part: usize,
    /// A shell command instead of a script.
    pub(super) wrap: Option<String>,
    /// The command is a program and no script.
    pub(super) binary: bool,
    /// What directives begin with, when the command line says so.
    pub(super) prefix: Option<String>,
    /// The interpreter, when an option says so.
    pub(super) shell: Option<String>,
    /// The strings of LSF's `-R`, with where they were given.
    pub(super) requirements: Vec<(Stage, String, Span)>,
    /// A limit of memory, which is a request where there is no other.
    pub(super) limit_memory: Option<hyperion_model::Bytes>,
    /// A time limit that is told before another ends it.
    pub(super) soft_limit: Option<std::time::Duration>,
    /// What all nodes must have.
    pub(super) features: Vec<String>,
    /// The resources of PBS that were named, with their values and where they were given.
    pub(super) said: BTreeMap<String, (Stage, String, Span)>,
    /// How many tasks of an array may run at once, where that is an option of its own.
    pub(super) at_once: Option<u32>,
}

impl Draft {
    pub(super) fn new(dialect: Dialect) -> Self {
        let mut job = Submission::new(dialect, Command::Program(Vec::new()));
        // PBS and Grid Engine give a fresh login; the others all that there is.
        job.environment.all = matches!(dialect, Dialect::Slurm | Dialect::Lsf);
        if matches!(dialect, Dialect::Pbs | Dialect::Sge) {
            job.folder = Folder::Home;
        }
        Self {
            job,
            told: Told::default(),
            reply: Reply::default(),
            stage: Stage::Script,
            given: BTreeMap::new(),
            count: 0,
            hosts: 0,
            part: 0,
            wrap: None,
            binary: false,
            prefix: None,
            shell: None,
            requirements: Vec::new(),
            limit_memory: None,
            soft_limit: None,
            features: Vec::new(),
            said: BTreeMap::new(),
            at_once: None,
        }
    }

    /// Tells where an option was last given.
    pub(super) fn stage_of(&self, option: &str) -> Option<Stage> {
        self.given.get(option).map(|(stage, _)| *stage)
    }

    /// Gives the part that options are about.
    pub(super) fn part(&mut self) -> &mut Part {
        while self.job.parts.len() <= self.part {
            self.job.parts.push(Part::default());
        }
        &mut self.job.parts[self.part]
    }

    /// Says something of every part that there is, and of one at least.
    pub(super) fn each_part(&mut self, say: impl Fn(&mut Part)) {
        self.part();
        self.job.parts.iter_mut().for_each(say);
    }

    /// Takes a limit of memory as what is asked for, where nothing is.
    pub(super) fn settle_memory(&mut self, per: Per) {
        if let Some(memory) = self.limit_memory {
            for part in self.job.parts.iter_mut() {
                if part.memory.is_empty() {
                    part.memory.insert(per, memory);
                }
            }
        }
    }

    /// Tells every part what all nodes must have.
    pub(super) fn settle_features(&mut self) {
        for feature in std::mem::take(&mut self.features) {
            for part in self.job.parts.iter_mut() {
                if let Err(wrong) = super::values::feature(part, &feature)
                    && let Some((_, span)) = self.given.get("-l").cloned()
                {
                    self.told.mistake(span, wrong.what, None);
                }
            }
        }
    }

    /// Reads the command line; gives what stands behind its options.
    pub(super) fn command_line<'w>(&mut self, grammar: &Grammar, words: &'w [Word]) -> &'w [Word] {
        if grammar.style != Style::Long {
            return apply(grammar, self, words);
        }
        // Without a colon the words are about every part that the script has.
        let parts = self.job.parts.len();
        self.part = 0;
        let mut rest = apply(grammar, self, words);
        let mut several = false;
        while let Some((_, behind)) = rest.split_first().filter(|(word, _)| word.text == ":") {
            several = true;
            self.part += 1;
            self.part();
            rest = apply(grammar, self, behind);
        }
        if !several {
            for part in 1..parts {
                self.part = part;
                rest = apply(grammar, self, words);
            }
        }
        rest
    }

    /// Puts the command together: a script with what it is given, or a program.
    pub(super) fn finish_command(&mut self, script: Option<&[u8]>, rest: &[Word]) {
        let mut words: Vec<String> = rest.iter().map(|word| word.text.clone()).collect();
        if let Some(wrap) = self.wrap.take() {
            if script.is_some() {
                let (_, span) = self.given["--wrap"].clone();
                let what = "--wrap: there is a script too; one of them is run";
                self.told.mistake(span, what.to_owned(), None);
            }
            self.job.command = Command::Script {
                interpreter: Some("/bin/sh".to_owned()),
                text: format!("#!/bin/sh\n{wrap}\n").into_bytes(),
                arguments: words,
            };
            return;
        }
        if let Command::Script {
            interpreter,
            arguments,
            ..
        } = &mut self.job.command
        {
            if let Some(shell) = self.shell.take() {
                *interpreter = Some(shell);
            }
            if !words.is_empty() {
                words.remove(0);
            }
            *arguments = words;
            return;
        }
        if words.first().is_some_and(|word| word == "--") {
            words.remove(0);
        }
        self.job.command = Command::Program(words);
    }
}

/// The most remarks of each kind.
const MOST: usize = 100;

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) mistakes: Vec<Remark>,
    pub(super) notes: Vec<Remark>,
    closed: bool,
}

impl Told {
    /// Tells what lets nothing be submitted.
    pub(super) fn mistake(&mut self, span: Span, what: String, hint: Option<String>) {
        add(&mut self.mistakes, Remark { span, what, hint });
    }

    /// Tells what means nothing here.
    pub(super) fn note(&mut self, span: Span, what: String, hint: Option<String>) {
        add(&mut self.notes, Remark { span, what, hint });
    }

    /// Lets nothing more be read.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Tells whether nobody would read more.
    pub(super) fn is_full(&self) -> bool {
        self.closed || self.mistakes.len() >= MOST
    }
}

fn add(list: &mut Vec<Remark>, remark: Remark) {
    if list.len() < MOST && !list.contains(&remark) {
        list.push(remark);
    }
}
