//! The Standard Workload Format, version 2.2: a line of 18 numbers for each job.
//!
//! Source: D. G. Feitelson and others, the Parallel Workloads Archive,
//! <https://www.cs.huji.ac.il/labs/parallel/workload/swf.html>.

use std::fmt::Write as _;

/// A job; what is not known is −1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Its number, from 1.
    pub job: u64,
    /// Seconds from the beginning of the log to its submission.
    pub submit: i64,
    /// Seconds that it waited.
    pub wait: i64,
    /// Seconds that it ran.
    pub run: i64,
    /// Processors that it had.
    pub allocated: i64,
    /// Processor seconds that it used, per processor.
    pub cpu: f64,
    /// Memory that it used, in kilobytes per processor.
    pub memory: i64,
    /// Processors that it asked for.
    pub requested: i64,
    /// Seconds that it asked for.
    pub requested_time: i64,
    /// Memory that it asked for, in kilobytes per processor.
    pub requested_memory: i64,
    /// How it ended: 0 failed, 1 completed, 5 cancelled.
    pub status: i64,
    /// Its user, by a number from 1.
    pub user: i64,
    /// Its group.
    pub group: i64,
    /// Its program, by a number from 1.
    pub program: i64,
    /// Its queue, by a number from 1.
    pub queue: i64,
    /// Its partition, by a number from 1.
    pub partition: i64,
    /// The number of the job that it waited for.
    pub preceding: i64,
    /// Seconds between that one's end and its own submission.
    pub think: i64,
}

/// Writes a log: comments of the head, as `Label: text`, and jobs.
pub fn write(head: &[(&str, String)], jobs: &[Line]) -> String {
    let mut out = String::new();
    for (label, text) in head {
        // A line that goes on would be a job.
        let _ = writeln!(out, "; {label}: {}", text.replace(['\n', '\r'], " "));
    }
    for job in jobs {
        let cpu = match job.cpu {
            cpu if cpu < 0.0 => "-1".to_owned(),
            cpu => format!("{cpu:.2}"),
        };
        let before = [job.submit, job.wait, job.run, job.allocated].map(|n| n.to_string());
        let after = [
            job.memory,
            job.requested,
            job.requested_time,
            job.requested_memory,
            job.status,
            job.user,
            job.group,
            job.program,
            job.queue,
            job.partition,
            job.preceding,
            job.think,
        ];
        let after = after.map(|n| n.to_string());
        let _ = writeln!(
            out,
            "{} {} {cpu} {}",
            job.job,
            before.join(" "),
            after.join(" ")
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_its_head_and_eighteen_numbers_a_job() {
        let line = Line {
            job: 1,
            submit: 0,
            wait: 3,
            run: 60,
            allocated: 4,
            cpu: 12.5,
            memory: 1024,
            requested: 4,
            requested_time: 300,
            requested_memory: -1,
            status: 1,
            user: 1,
            group: -1,
            program: 1,
            queue: 1,
            partition: -1,
            preceding: -1,
            think: -1,
        };
        let head = [
            ("Version", "2.2".to_owned()),
            ("Note", "two\nlines".to_owned()),
        ];
        let text = write(&head, &[line, Line { cpu: -1.0, ..line }]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["; Version: 2.2", "; Note: two lines"]);
        assert_eq!(
            lines[2],
            "1 0 3 60 4 12.50 1024 4 300 -1 1 1 -1 1 1 -1 -1 -1"
        );
        assert!(lines[2..].iter().all(|line| line.split(' ').count() == 18));
    }
}
