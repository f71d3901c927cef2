//! The Standard Workload Format, version 2.2: a line of 18 numbers for each job.
//!
//! Source: D. G. Feitelson and others, the Parallel Workloads Archive,
//! <https://www.cs.huji.ac.il/labs/parallel/workload/swf.html>.

use std::fmt::Write as _;

use thiserror::Error;

/// How many fields a job has.
const FIELDS: usize = 18;

/// What a line of a log says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Said<'a> {
    /// A comment of the head, as `; Label: text`.
    Head(&'a str, &'a str),
    /// A job.
    Job(Line),
    /// Nothing: a blank line, or a comment without a label.
    Nothing,
}

/// Why a line is not one of a log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Malformed {
    /// There are too few fields, or too many.
    #[error("has {0} fields, not {FIELDS}")]
    Fields(usize),
    /// A field is no number.
    #[error("field {number} ({}) is no number: {text:?}", field(*.number))]
    Number {
        /// Which, from 1.
        number: usize,
        /// What stands there.
        text: String,
    },
}

/// Gives the name of a field, counted from 1.
fn field(number: usize) -> &'static str {
    const NAMES: [&str; FIELDS] = [
        "job",
        "submit time",
        "wait time",
        "run time",
        "allocated processors",
        "average processor time",
        "used memory",
        "requested processors",
        "requested time",
        "requested memory",
        "status",
        "user",
        "group",
        "executable",
        "queue",
        "partition",
        "preceding job",
        "think time",
    ];
    NAMES.get(number.wrapping_sub(1)).copied().unwrap_or("none")
}

/// Reads a line.
///
/// Numbers may have decimals, which count in the processor time only.
///
/// # Errors
/// [`Malformed`].
pub fn read(line: &[u8]) -> Result<Said<'_>, Malformed> {
    let line = line.trim_ascii();
    match line.first() {
        None => return Ok(Said::Nothing),
        Some(b';') => return Ok(comment(&line[1..])),
        Some(_) => {}
    }
    let mut numbers = [0.0; FIELDS];
    let (mut count, mut rest) = (0, line);
    while !rest.is_empty() {
        rest = match numbers.get_mut(count) {
            Some(place) => {
                let (number, after) = number(rest).ok_or_else(|| no_number(rest, count + 1))?;
                *place = number;
                after
            }
            None => &rest[word(rest).len()..],
        };
        rest = rest.trim_ascii_start();
        count += 1;
    }
    if count != FIELDS {
        return Err(Malformed::Fields(count));
    }
    let whole = |number: usize| numbers[number - 1] as i64;
    Ok(Said::Job(Line {
        job: whole(1).max(0).cast_unsigned(),
        submit: whole(2),
        wait: whole(3),
        run: whole(4),
        allocated: whole(5),
        cpu: numbers[5],
        memory: whole(7),
        requested: whole(8),
        requested_time: whole(9),
        requested_memory: whole(10),
        status: whole(11),
        user: whole(12),
        group: whole(13),
        program: whole(14),
        queue: whole(15),
        partition: whole(16),
        preceding: whole(17),
        think: whole(18),
    }))
}

/// Reads the number with which a text begins, and gives what follows; most are whole, and
/// short.
fn number(text: &[u8]) -> Option<(f64, &[u8])> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1.0, digits),
        digits => (1.0, digits),
    };
    let (mut sum, mut length) = (0_u64, 0);
    while let Some(digit @ b'0'..=b'9') = digits.get(length)
        && length < 16
    {
        sum = sum * 10 + u64::from(digit - b'0');
        length += 1;
    }
    let rest = &digits[length..];
    if (1..=15).contains(&length) && rest.first().is_none_or(u8::is_ascii_whitespace) {
        return Some((sign * sum as f64, rest));
    }
    let word = word(text);
    let number: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    number.is_finite().then_some((number, &text[word.len()..]))
}

fn no_number(text: &[u8], number: usize) -> Malformed {
    let word = word(text);
    Malformed::Number {
        number,
        text: String::from_utf8_lossy(&word[..word.len().min(40)]).into_owned(),
    }
}

/// Gives what stands before the first blank.
fn word(text: &[u8]) -> &[u8] {
    let end = text.iter().position(u8::is_ascii_whitespace);
    &text[..end.unwrap_or(text.len())]
}

fn comment(text: &[u8]) -> Said<'_> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    match text.split_once(':') {
        Some((label, text)) => Said::Head(label.trim(), text.trim()),
        None => Said::Nothing,
    }
}

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
    fn what_is_written_is_read_again() {
        let line = Line {
            job: 7,
            submit: 1_000_000_000,
            wait: 3,
            run: 60,
            allocated: 4,
            cpu: 12.5,
            memory: 1024,
            requested: 8,
            requested_time: 300,
            requested_memory: -1,
            status: 1,
            user: 2,
            group: 3,
            program: 4,
            queue: 5,
            partition: 6,
            preceding: 1,
            think: 9,
        };
        let text = write(&[("MaxProcs", "128".into())], &[line]);
        let said: Vec<Said<'_>> = text
            .lines()
            .map(|line| read(line.as_bytes()).expect("ours"))
            .collect();
        assert_eq!(said, [Said::Head("MaxProcs", "128"), Said::Job(line)]);
        assert_eq!(read(b"  \r"), Ok(Said::Nothing));
        assert_eq!(read(b"; a remark"), Ok(Said::Nothing));
    }

    #[test]
    fn what_is_no_log_is_told_by_its_field() {
        let told = |text: &[u8]| read(text).expect_err("no job").to_string();
        assert_eq!(told(b"1 2 3"), "has 3 fields, not 18");
        let long = b"1 0 3 6O 4 1 1 4 3 -1 1 1 -1 1 1 -1 -1 -1";
        assert_eq!(told(long), "field 4 (run time) is no number: \"6O\"");
        let many = b"1 0 3 60 4 1 1 4 3 -1 1 1 -1 1 1 -1 -1 -1 5";
        assert_eq!(told(many), "has 19 fields, not 18");
        let endless = b"1 0 3 60 4 1 1 4 3 -1 1 1 -1 1 1 -1 -1 1e999";
        assert!(told(endless).starts_with("field 18 (think time) is no number"));
        assert!(told(b"\x1f\x8b\x08\x00").contains("no number"));
    }

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
