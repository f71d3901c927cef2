//! `hyperion sim generate`

use clap::ValueEnum;
use hyperion_formats::swf::{self, Line};
use hyperion_sim::Seed;
use hyperion_sim::batch::{Job, Kinds, Lublin};
use hyperion_sys::entry::ExitCode;

use crate::output;

/// So many lines are written at once.
const AT_ONCE: usize = 4096;

/// Models of workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Model {
    /// Lublin and Feitelson 2003: all jobs of one kind
    Lublin,
    /// The same with batch jobs and interactive ones
    LublinBatch,
}

impl Model {
    /// Gives its jobs, without end.
    pub(super) fn jobs(self, processors: u64, seed: Seed) -> Lublin {
        Lublin::new(processors, self.kinds(), seed)
    }

    const fn kinds(self) -> Kinds {
        match self {
            Self::Lublin => Kinds::Generic,
            Self::LublinBatch => Kinds::BatchAndInteractive,
        }
    }

    const fn source(self) -> &'static str {
        match self {
            Self::Lublin => "Lublin and Feitelson 2003",
            Self::LublinBatch => "Lublin and Feitelson 2003, batch and interactive",
        }
    }
}

// The words of `hyperion sim generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model
    #[arg(value_enum)]
    model: Model,
    /// How many jobs
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    jobs: u64,
    /// The size of the machine
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    processors: u64,
    /// The same seed gives the same jobs
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Carries it out.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let head = [
        ("Version", "2.2".to_owned()),
        (
            "Note",
            format!(
                "synthetic: {}; hyperion sim generate, seed {}",
                args.model.source(),
                args.seed
            ),
        ),
        ("MaxJobs", args.jobs.to_string()),
        ("MaxNodes", args.processors.to_string()),
        ("MaxProcs", args.processors.to_string()),
    ];
    output::line(swf::write(&head, &[]).trim_end())?;
    let jobs = args.model.jobs(args.processors, Seed(args.seed));
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

fn line(number: u64, job: &Job) -> Line {
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
