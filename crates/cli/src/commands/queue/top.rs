//! `hyperion top`

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use hyperion_api::queue::{Filter, Reply, Request};
use hyperion_model::units::parse_duration;
use hyperion_model::view::{JobView, NodeView};
use hyperion_sys::entry::ExitCode;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::isatty;

use super::Server;
use super::list::{clock, id, why};
use crate::context::Context;
use crate::output;
use crate::session::{RawTerminal, terminal_size};

/// What is assumed of a terminal that does not tell its size.
const SIZE: (usize, usize) = (24, 80);
/// How wide a bar is.
const BAR: usize = 20;

// Words of `hyperion top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long a picture stays
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = parse_duration)]
    every: Duration,
    /// Show one picture, and end
    #[arg(long)]
    once: bool,
}

/// Shows nodes and jobs until `q` or ctrl-C.
pub(crate) fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let mut server = Server::reach(ctx, true)?;
    let live = !args.once && isatty(rustix::stdio::stdout());
    if !live {
        output::line(picture(&mut server, (usize::MAX, SIZE.1))?.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let _raw = RawTerminal::enter()?;
    let mut out = std::io::stdout();
    loop {
        let size = terminal_size().map_or(SIZE, |size| (size.rows.into(), size.columns.into()));
        let text = picture(&mut server, size)?;
        // From the upper left corner, each line to its end, and all below: no flicker.
        let mut screen = String::from("\x1b[H");
        for line in text.lines().take(size.0.saturating_sub(1)) {
            let _ = write!(screen, "{line}\x1b[K\r\n");
        }
        screen.push_str("\x1b[J");
        out.write_all(screen.as_bytes())?;
        out.flush()?;
        if wants_end(args.every)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Waits for a key, but not for ever; tells whether it was one that ends.
fn wants_end(limit: Duration) -> anyhow::Result<bool> {
    let limit = Timespec {
        tv_sec: limit.as_secs().cast_signed(),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    let stdin = rustix::stdio::stdin();
    let mut fds = [PollFd::from_borrowed_fd(stdin, PollFlags::IN)];
    match poll(&mut fds, Some(&limit)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(false),
        Ok(_) => {}
        Err(e) => return Err(e.into()),
    }
    let mut keys = [0; 64];
    let got = rustix::io::read(stdin, &mut keys)?;
    // The end of input, q, ctrl-C, ctrl-D.
    Ok(got == 0 || keys[..got].iter().any(|key| matches!(key, b'q' | 3 | 4)))
}

fn picture(server: &mut Server, size: (usize, usize)) -> anyhow::Result<String> {
    let nodes = match server.ask(&Request::Nodes)? {
        Reply::Nodes(nodes) => nodes,
        _ => Vec::new(),
    };
    let filter = Filter {
        alive: true,
        ..Filter::default()
    };
    let mut jobs = server.jobs(filter)?;
    // What runs first, each in the order of submission.
    jobs.sort_by_key(|view| (view.started.is_none(), view.job));
    Ok(draw(&nodes, &jobs, Timestamp::now(), size))
}

fn draw(
    nodes: &[NodeView],
    jobs: &[JobView],
    now: Timestamp,
    (rows, columns): (usize, usize),
) -> String {
    let mut out = String::new();
    let running = jobs.iter().filter(|view| view.started.is_some()).count();
    let time = now
        .to_zoned(TimeZone::system())
        .strftime("%H:%M:%S")
        .to_string();
    let _ = writeln!(
        out,
        "{time}   {running} running, {} waiting   q ends",
        jobs.len() - running
    );
    for node in nodes {
        let closed = node.closed.as_deref().unwrap_or_default();
        let line = format!(
            "{:<12} cores  {} {} of {}   memory {} {} of {}  {closed}",
            node.name,
            bar(node.cores_used.0, node.cores.0),
            node.cores_used,
            node.cores,
            bar(node.memory_used.0, node.memory.0),
            node.memory_used,
            node.memory,
        );
        let _ = writeln!(out, "{}", cut(line.trim_end(), columns));
    }
    let head = format!(
        "{:<12} {:<16} {:<10} {:<11} {:>9} {:>5}  WHERE OR WHY",
        "JOB", "NAME", "USER", "STATE", "TIME", "CORES"
    );
    let _ = writeln!(out, "\n{}", cut(&head, columns));
    let room = rows.saturating_sub(nodes.len() + 5);
    for view in jobs.iter().take(room) {
        let since = |at: u64| {
            let at = Timestamp::from_microsecond(at.cast_signed()).unwrap_or(now);
            clock(now.duration_since(at).unsigned_abs())
        };
        let place = match &view.reason {
            Some(reason) => why(reason.clone()),
            None => view.hosts.join(","),
        };
        let line = format!(
            "{:<12} {:<16} {:<10} {:<11} {:>9} {:>5}  {place}",
            cut(&id(view), 12),
            cut(&view.name, 16),
            cut(&view.user, 10),
            view.state.to_string(),
            view.started.map_or_else(String::new, since),
            view.cores.to_string(),
        );
        let _ = writeln!(out, "{}", cut(&output::plain(&line), columns));
    }
    if jobs.len() > room {
        let _ = writeln!(out, "and {} more", jobs.len() - room);
    }
    out
}

fn bar(used: u64, all: u64) -> String {
    let share = used as f64 / all.max(1) as f64;
    let full = ((share * BAR as f64).round() as usize).min(BAR);
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR - full))
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use hyperion_model::{Bytes, Cores};

    use super::*;

    #[test]
    fn a_picture_fits_its_terminal() {
        let node = NodeView {
            name: "laptop".into(),
            cores: Cores::whole(8),
            cores_used: Cores::whole(2),
            memory: Bytes(16 << 30),
            memory_used: Bytes(16 << 30),
            devices: Default::default(),
            features: Default::default(),
            tasks: 1,
            closed: None,
            closed_by: None,
            closed_at: None,
        };
        let text = draw(&[node], &[], Timestamp::UNIX_EPOCH, (24, 80));
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(text.contains("[#####...............] 2 of 8"), "{text}");
        assert!(text.contains("0 running, 0 waiting"), "{text}");
    }
}
