//! `hyperion explain`, and what `submit --dry-run` says

use std::fmt::Write as _;

use hyperion_api::queue::{
    Explained, Filter, JobView, Lack, Priority, Reply, Request, Starts, Until,
};
use hyperion_model::{Class, CpuSet};
use hyperion_sys::entry::ExitCode;

use super::list::{clock, id, local, why};
use super::{Server, targets};
use crate::args::OutputFormat;
use crate::context::Context;
use crate::{errors, output};

// Words of `hyperion explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A job by number, or a task of an array: 12, 12_7
    job: String,
}

/// Says why a job waits and when it starts, or how far it is.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let target = targets(&args.job)?.remove(0);
    let mut server = Server::reach(ctx, true)?;
    let filter = Filter {
        jobs: vec![target.job],
        ended: true,
        alive: true,
        ..Filter::default()
    };
    let mut views = server.jobs(filter)?;
    if let Some(index) = target.index {
        views.retain(|view| view.index.as_deref().is_none_or(|text| holds(text, index)));
    }
    if views.is_empty() {
        let what = format!("there is no job {}", args.job);
        let hint = "`hyperion queue --all` lists them";
        return Err(errors::advised(Class::NotFound, what, hint));
    }
    let explained = match server.ask(&Request::Explain(target))? {
        Reply::Explained(explained) => explained,
        _ => None,
    };
    if ctx.output == OutputFormat::Json {
        let all = serde_json::json!({ "jobs": views, "explanation": explained });
        output::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    for view in &views {
        let waits = explained.as_deref().filter(|_| view.reason.is_some());
        output::line(words(view, waits).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells whether an index is among those of a view: `7`, or `8-100:2%5`.
fn holds(text: &str, index: u32) -> bool {
    let numbers = text.split_once('%').map_or(text, |(numbers, _)| numbers);
    let indices: Option<hyperion_model::Indices> = numbers.parse().ok();
    indices.is_some_and(|indices| indices.contains(index))
}

fn words(view: &JobView, waits: Option<&Explained>) -> String {
    let mut out = format!("job {} ({}): {}", id(view), view.name, view.state);
    if let Some(explained) = waits {
        let _ = write!(out, ": {}", lacks(explained));
        for until in &explained.until {
            let _ = write!(out, "\n  {}", ends(until));
        }
        let _ = write!(out, "\n  {}", begins(&explained.starts));
        if let Some(priority) = &explained.priority {
            let _ = write!(out, "\n  {}", made_of(priority));
        }
        return out;
    }
    if let Some(reason) = view.reason.clone() {
        let _ = write!(out, ": {}", why(reason));
    }
    match (view.started, view.ended) {
        (Some(started), None) => {
            let _ = write!(out, " on {} since {}", view.hosts.join(","), local(started));
            if let Some(cpus) = &view.cpus {
                let _ = write!(out, "\n  has the processors {cpus}");
            }
            for (kind, numbers) in &view.devices {
                let _ = write!(out, "\n  has {kind} {}", CpuSet(numbers.clone()));
            }
            if let Some(limit) = view.limit {
                let end = started.saturating_add(u64::try_from(limit.as_micros()).unwrap_or(0));
                let _ = write!(
                    out,
                    "\n  ends by {} at the latest, its limit is {}",
                    local(end),
                    clock(limit)
                );
            }
        }
        (_, Some(ended)) => {
            let _ = write!(out, " at {}", local(ended));
        }
        (None, None) => {}
    }
    if let Some(why) = &view.why {
        let _ = write!(out, "\n  {why}");
    }
    out
}

/// Says what a job waits for.
fn lacks(explained: &Explained) -> String {
    let all: Vec<String> = explained.lacks.iter().map(lack).collect();
    if all.is_empty() {
        let ahead = match explained.ahead {
            0 => String::new(),
            1 => ", behind one other".to_owned(),
            ahead => format!(", behind {ahead} others"),
        };
        return why(explained.reason.clone()) + &ahead;
    }
    format!("waits for {}", all.join(" and "))
}

fn lack(lack: &Lack) -> String {
    let plural = |count: u64, what: &str| match count {
        1 => format!("1 more {what}"),
        _ => format!("{count} more {what}s"),
    };
    match lack {
        Lack::Cores(cores) if cores.0 % 1000 == 0 => plural(cores.0 / 1000, "core"),
        Lack::Cores(cores) => format!("{cores} more cores"),
        Lack::Memory(bytes) => format!("{bytes} more memory"),
        Lack::Kind(kind, count) => {
            let name = match kind.strip_prefix("gpu") {
                Some("") => "GPU".to_owned(),
                Some(rest) => format!("GPU{rest}"),
                None => kind.clone(),
            };
            plural(*count, &name)
        }
        Lack::Nodes(count) => plural(*count, "node"),
        Lack::Pieces(count) => format!("room for {} side by side", plural(*count, "piece")),
    }
}

/// Says what a priority is made of: `priority 1250 = age 20 + fair share 1000 + size 250 - nice 20`.
fn made_of(priority: &Priority) -> String {
    let mut text = format!("priority {:.0}", priority.total);
    if priority.fixed.is_some() {
        return text + ", as somebody said";
    }
    let parts = [
        ("age", priority.age),
        ("fair share", priority.fair_share),
        ("size", priority.size),
        ("partition", priority.partition),
        ("quality of service", priority.qos),
    ];
    let counted = parts.iter().filter(|(_, part)| *part > 0.0);
    for (number, (name, part)) in counted.enumerate() {
        let sign = if number == 0 { "=" } else { "+" };
        let _ = write!(text, " {sign} {name} {part:.0}");
    }
    match priority.nice {
        0 => {}
        nice if nice > 0 => text += &format!(" - nice {nice}"),
        nice => text += &format!(" + nice {}", nice.unsigned_abs()),
    }
    text
}

fn ends(until: &Until) -> String {
    let job = match until.index {
        Some(index) => format!("{}_{index}", until.job),
        None => until.job.to_string(),
    };
    match until.at {
        u64::MAX => format!(
            "{} is free when job {job} ends, which has no limit",
            until.node
        ),
        at => format!(
            "{} is free at {} when job {job} ends",
            until.node,
            local(at)
        ),
    }
}

/// Says when a job starts.
pub(super) fn begins(starts: &Starts) -> String {
    match starts {
        Starts::At(at, hosts) => format!("starts about {} on {}", local(*at), hosts.join(",")),
        Starts::NotBefore(at) => format!("starts after {}", local(*at)),
        Starts::Never => "when it starts cannot be told: what it waits for has no known end".into(),
    }
}

#[cfg(test)]
mod tests {
    use hyperion_api::queue::Waits;
    use hyperion_model::{Bytes, Cores};

    use super::*;

    #[test]
    fn what_is_lacking_is_said_in_the_fields_words() {
        let mut explained = Explained {
            reason: Waits::Turn,
            ahead: 3,
            lacks: Vec::new(),
            starts: Starts::Never,
            until: Vec::new(),
            priority: None,
        };
        assert_eq!(lacks(&explained), "waits for its turn, behind 3 others");
        explained.lacks = vec![
            Lack::Cores(Cores(1000)),
            Lack::Kind("gpu:h100".into(), 2),
            Lack::Memory(Bytes(3 << 30)),
        ];
        let said = lacks(&explained);
        assert_eq!(
            said,
            "waits for 1 more core and 2 more GPU:h100s and 3GiB more memory"
        );
        assert!(holds("3-9:2%4", 5) && !holds("3-9:2", 4) && holds("7", 7));
    }
}
