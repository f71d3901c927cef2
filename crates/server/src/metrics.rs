//! Numbers for Prometheus, in its text format 0.0.4, and the port on which it asks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use hyperion_api::queue::NodeView;
use hyperion_lifecycle::{Change, Ledger, Record, Time};
use rustix::event::{PollFd, PollFlags};

/// As many may ask at once.
const MOST: usize = 16;
/// Who has not asked by then is not heard any more.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest question, in bytes.
const LONGEST: usize = 8 << 10;

/// What the server counts of itself.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Turns of its loop.
    pub(crate) turns: u64,
    /// Records that were written.
    pub(crate) records: u64,
    /// The time that went into turns.
    pub(crate) busy: Duration,
    /// Tasks that have ended, by state.
    ended: BTreeMap<String, u64>,
    /// How long they waited, and ran.
    waited: Duration,
    ran: Duration,
}

impl Counts {
    /// Sees a record of what the ledger has changed.
    pub(crate) fn see(&mut self, record: &Record, ledger: &Ledger) {
        let (job, index) = match &record.change {
            Change::Ended {
                task, again: false, ..
            } => (task.job, Some(task.index)),
            Change::Dropped { job, index, .. } => (*job, *index),
            _ => return,
        };
        let Some(job) = ledger.jobs().get(&job) else {
            return;
        };
        let all = index.map_or(0..=u32::MAX, |index| index..=index);
        let tasks = job.tasks().range(all).map(|(_, task)| task);
        for task in tasks.filter(|task| task.ended == Some(record.at)) {
            *self.ended.entry(task.state.to_string()).or_default() += 1;
            if let (Some(start), Some(end)) = (task.started, task.ended) {
                self.waited += start.since(job.submitted);
                self.ran += end.since(start);
            }
        }
    }
}

/// Writes all numbers down.
pub(crate) fn text(
    ledger: &Ledger,
    nodes: &[NodeView],
    counts: &Counts,
    (started, now): (Time, Time),
) -> String {
    let mut tasks: BTreeMap<String, u64> = BTreeMap::new();
    for job in ledger.jobs().values() {
        let waiting = job.waiting().count() as u64;
        if let (Some(first), true) = (job.waiting().next(), waiting > 0) {
            let state = job.state(first).map(|state| state.to_string());
            *tasks.entry(state.unwrap_or_default()).or_default() += waiting;
        }
        for (&index, task) in job.tasks() {
            if job.state(index) == Some(task.state) && !task.state.is_end() {
                *tasks.entry(task.state.to_string()).or_default() += 1;
            }
        }
    }
    let mut out = Page::default();
    out.family(
        "hyperion_tasks",
        "gauge",
        "Tasks that have not ended, by state.",
    );
    for (state, count) in &tasks {
        out.value("hyperion_tasks", &[("state", state)], *count as f64);
    }
    out.family(
        "hyperion_tasks_ended_total",
        "counter",
        "Tasks that have ended since the server started, by state.",
    );
    for (state, count) in &counts.ended {
        out.value(
            "hyperion_tasks_ended_total",
            &[("state", state)],
            *count as f64,
        );
    }
    let seconds = Duration::as_secs_f64;
    for (name, help, value) in [
        (
            "hyperion_wait_seconds_total",
            "Time from submission to start of tasks that ended.",
            seconds(&counts.waited),
        ),
        (
            "hyperion_run_seconds_total",
            "Time from start to end of tasks that ended.",
            seconds(&counts.ran),
        ),
        (
            "hyperion_turns_total",
            "Turns of the server's loop.",
            counts.turns as f64,
        ),
        (
            "hyperion_records_total",
            "Records written to the journal.",
            counts.records as f64,
        ),
        (
            "hyperion_busy_seconds_total",
            "Time that went into turns.",
            seconds(&counts.busy),
        ),
    ] {
        out.family(name, "counter", help);
        out.value(name, &[], value);
    }
    type Of = fn(&NodeView) -> f64;
    let of_nodes: [(&str, &str, Of); 5] = [
        ("hyperion_node_cores", "Processors.", |n| n.cores.as_f64()),
        (
            "hyperion_node_cores_used",
            "Processors that tasks have.",
            |n| n.cores_used.as_f64(),
        ),
        ("hyperion_node_memory_bytes", "Memory.", |n| {
            n.memory.0 as f64
        }),
        (
            "hyperion_node_memory_used_bytes",
            "Memory that tasks have asked for.",
            |n| n.memory_used.0 as f64,
        ),
        ("hyperion_node_tasks", "Tasks on the node.", |n| {
            f64::from(n.tasks)
        }),
    ];
    for (name, help, of) in of_nodes {
        out.family(name, "gauge", help);
        for node in nodes {
            out.value(name, &[("node", &node.name)], of(node));
        }
    }
    let name = "hyperion_uptime_seconds";
    out.family(name, "gauge", "Time since the server started.");
    out.value(name, &[], seconds(&now.since(started)));
    out.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let escaped = |text: &str| {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"");
            text.replace('\n', "\\n")
        };
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{}\"", escaped(text)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// A port on which the numbers are asked for by HTTP.
#[derive(Debug)]
pub(crate) struct Port {
    listener: TcpListener,
    asking: Vec<Asking>,
}

#[derive(Debug)]
struct Asking {
    stream: TcpStream,
    since: Instant,
    came: Vec<u8>,
    answer: Option<Vec<u8>>,
}

impl Port {
    /// Takes a socket that listens.
    pub(crate) fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let asking = Vec::new();
        Ok(Self { listener, asking })
    }

    /// Adds what is to be waited for.
    pub(crate) fn poll_set<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let room = self.asking.len() < MOST;
        let flags = if room {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        fds.push(PollFd::new(&self.listener, flags));
        for asking in &self.asking {
            let flags = match asking.answer {
                Some(_) => PollFlags::OUT,
                None => PollFlags::IN,
            };
            fds.push(PollFd::from_borrowed_fd(asking.stream.as_fd(), flags));
        }
    }

    /// Tells whether somebody is waited for, who may say nothing.
    pub(crate) fn is_watched(&self) -> bool {
        !self.asking.is_empty()
    }

    /// Answers who has asked.
    pub(crate) fn serve(&mut self, mut page: impl FnMut() -> String) {
        while self.asking.len() < MOST
            && let Ok((stream, _)) = self.listener.accept()
        {
            if stream.set_nonblocking(true).is_ok() {
                self.asking.push(Asking {
                    stream,
                    since: Instant::now(),
                    came: Vec::new(),
                    answer: None,
                });
            }
        }
        self.asking.retain_mut(|asking| {
            asking.since.elapsed() < PATIENCE && asking.go_on(&mut page).is_some()
        });
    }
}

impl Asking {
    /// Goes on as far as it can; `None` when nothing more is to be done.
    fn go_on(&mut self, page: &mut impl FnMut() -> String) -> Option<()> {
        let mut piece = [0; 1024];
        while self.answer.is_none() {
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(got) => self.came.extend_from_slice(&piece[..got]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Some(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
            if self.came.windows(4).any(|end| end == b"\r\n\r\n") {
                self.answer = Some(answer(&self.came, page));
            } else if self.came.len() > LONGEST {
                return None;
            }
        }
        let answer = self.answer.as_mut()?;
        while !answer.is_empty() {
            match self.stream.write(answer) {
                Ok(0) => return None,
                Ok(sent) => drop(answer.drain(..sent)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Some(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        None
    }
}

fn answer(asked: &[u8], page: &mut impl FnMut() -> String) -> Vec<u8> {
    let (status, body) = if asked.starts_with(b"GET /metrics ") {
        ("200 OK", page())
    } else if asked.starts_with(b"GET ") {
        ("404 Not Found", "there is /metrics\n".to_owned())
    } else {
        (
            "405 Method Not Allowed",
            "there is GET /metrics\n".to_owned(),
        )
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_other_questions_refused() {
        let mut page = Page::default();
        page.value("x", &[("node", "a\"b\\c\nd")], 1.5);
        assert_eq!(page.0, "x{node=\"a\\\"b\\\\c\\nd\"} 1.5\n");
        let mut made = 0;
        let mut ask = |text: &str| {
            let bytes = answer(text.as_bytes(), &mut || {
                made += 1;
                "x 1\n".into()
            });
            String::from_utf8(bytes).expect("text")
        };
        let good = ask("GET /metrics HTTP/1.1\r\n\r\n");
        assert!(good.starts_with("HTTP/1.1 200 OK\r\n") && good.ends_with("\r\n\r\nx 1\n"));
        assert!(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert_eq!(made, 1);
    }
}
