//! `hyperion sim generate`

use std::path::PathBuf;

use clap::ValueEnum;
use hyperion_formats::swf::{self, Line};
use hyperion_model::Class;
use hyperion_sim::Seed;
use hyperion_sim::batch::{Downey, Habits, Job, Kinds, LogUniform, Lublin};
use hyperion_sys::entry::ExitCode;

use super::trace;
use crate::errors::advised;
use crate::output;

/// So many lines are written at once.
const AT_ONCE: usize = 4096;

/// Models of workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Lublin and Feitelson 2003: all jobs of one kind
    Lublin,
    /// The same with batch jobs and interactive ones
    LublinBatch,
    /// Downey 1997, as the SP2 at KTH had it, or the log of --like
    Downey,
}

// The words of that.
#[derive(Debug, clap::Args)]
pub(super) struct Words {
    /// The model
    #[arg(value_enum)]
    model: Name,
    /// Let jobs of downey be as in this log, plain or gzipped: its work, its sizes, and how
    /// many come in each half of a day, for a machine of its size
    #[arg(long, value_name = "LOG")]
    like: Option<PathBuf>,
    /// Leave out lines of it that are none of a log
    #[arg(long, requires = "like")]
    skip_malformed: bool,
}

impl Words {
    /// Gives the model, with the parameters of the log where one is given.
    ///
    /// # Errors
    /// A log for a model that has its own parameters; one that cannot be read, or tells too
    /// little.
    pub(super) fn model(&self) -> anyhow::Result<Model> {
        let Some(log) = &self.like else {
            return Ok(Model {
                kind: match self.model {
                    Name::Lublin => Kind::Lublin(Kinds::Generic),
                    Name::LublinBatch => Kind::Lublin(Kinds::BatchAndInteractive),
                    Name::Downey => Kind::Downey(Habits::SP2),
                },
                processors: 128,
            });
        };
        if self.model != Name::Downey {
            return Err(advised(
                Class::User,
                "--like is for the model downey",
                "that of Lublin and Feitelson has the parameters that they published",
            ));
        }
        let trace = trace::read(log, None, self.skip_malformed)?;
        let habits = Habits::of(trace.jobs.iter().map(|found| &found.job)).map_err(|why| {
            advised(
                Class::User,
                format!("{} gives no model: {why}", log.display()),
                "without --like it is that of the SP2 at KTH",
            )
        })?;
        Ok(Model {
            kind: Kind::Downey(habits),
            processors: trace.processors,
        })
    }
}

/// A model with its parameters.
#[derive(Debug)]
pub(super) struct Model {
    kind: Kind,
    /// For a machine of so many, where nobody says another number.
    pub(super) processors: u64,
}

#[derive(Debug)]
enum Kind {
    Lublin(Kinds),
    Downey(Habits),
}

impl Model {
    /// Gives its jobs, without end.
    pub(super) fn jobs(&self, processors: u64, seed: Seed) -> Box<dyn Iterator<Item = Job>> {
        match self.kind {
            Kind::Lublin(kinds) => Box::new(Lublin::new(processors, kinds, seed)),
            Kind::Downey(habits) => Box::new(Downey::new(processors, habits, seed)),
        }
    }

    fn source(&self) -> String {
        let range = |its: LogUniform| format!("{:.1} to {:.1}", its.least, its.most);
        match self.kind {
            Kind::Lublin(Kinds::Generic) => "Lublin and Feitelson 2003".to_owned(),
            Kind::Lublin(Kinds::BatchAndInteractive) => {
                "Lublin and Feitelson 2003, batch and interactive".to_owned()
            }
            Kind::Downey(its) => format!(
                "Downey 1997, log-uniform: {} processor seconds, {} processors; {:.1} and {:.1} \
                 jobs in the halves of a day",
                range(its.work),
                its.parallelism.map_or_else(|| "1 to all".to_owned(), range),
                its.arrivals[0],
                its.arrivals[1],
            ),
        }
    }
}

// The words of `hyperion sim generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: Words,
    /// How many jobs
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    jobs: u64,
    /// The size of the machine: 128, or that of the log of --like
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    processors: Option<u64>,
    /// The same seed gives the same jobs
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Carries it out.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let model = args.model.model()?;
    let processors = args.processors.unwrap_or(model.processors);
    let head = [
        ("Version", "2.2".to_owned()),
        (
            "Note",
            format!(
                "synthetic: {}; hyperion sim generate, seed {}",
                model.source(),
                args.seed
            ),
        ),
        ("MaxJobs", args.jobs.to_string()),
        ("MaxNodes", processors.to_string()),
        ("MaxProcs", processors.to_string()),
    ];
    output::line(swf::write(&head, &[]).trim_end())?;
    let jobs = model.jobs(processors, Seed(args.seed));
    let mut lines = (1..=args.jobs)
        .zip(jobs)
        .map(|(number, job)| line(number, &job));
    loop {
        let some: Vec<Line> = lines.by_ref().take(AT_ONCE).collect();
        if some.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        output::line(swf::write(&[], &some).trim_end())?;
    }
}

/// Gives the line of a job that has not started.
pub(super) fn line(number: u64, job: &Job) -> Line {
    let processors = job.processors.cast_signed();
    let seconds = |span: std::time::Duration| span.as_secs().cast_signed();
    Line {
        job: number,
        submit: (job.submit.0 / 1_000_000).cast_signed(),
        wait: -1,
        run: seconds(job.run),
        allocated: processors,
        cpu: -1.0,
        memory: -1,
        requested: processors,
        requested_time: seconds(job.estimate),
        requested_memory: -1,
        status: 1,
        user: -1,
        group: -1,
        program: -1,
        queue: -1,
        partition: -1,
        preceding: -1,
        think: -1,
    }
}
