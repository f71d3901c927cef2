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

/// Reads the lines of a text, one after the other.
#[derive(Debug, Clone)]
pub struct Lines<'a>(&'a [u8]);

/// Reads the lines of a text.
///
/// Numbers may have decimals, which count in the processor time only.
pub const fn lines(text: &[u8]) -> Lines<'_> {
    Lines(text)
}

impl<'a> Iterator for Lines<'a> {
    /// What a line says, or why it is none of a log.
    type Item = Result<Said<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let text = after_blanks(self.0);
        let is_job = !matches!(text, [] | [b'\n' | b';', ..]);
        if let Some((job, rest)) = is_job.then(|| job(text)).flatten() {
            self.0 = rest;
            return Some(Ok(Said::Job(job)));
        }
        let end = text.iter().position(|byte| *byte == b'\n');
        let (line, rest) = text.split_at(end.unwrap_or(text.len()));
        self.0 = rest.get(1..).unwrap_or_default();
        Some(match line.first() {
            None => Ok(Said::Nothing),
            Some(b';') => Ok(comment(&line[1..])),
            Some(_) => Err(malformed(line)),
        })
    }
}

/// Reads a job with which a text begins, and gives what comes after its line; `None` where
/// that is malformed.
fn job(text: &[u8]) -> Option<(Line, &[u8])> {
    let ([job, submit, wait, run, allocated], rest) = whole(text)?;
    let (cpu, rest) = real(rest)?;
    let (numbers, rest) = whole(after_blanks(rest))?;
    let [
        memory,
        requested,
        requested_time,
        requested_memory,
        status,
        user,
        group,
        program,
        queue,
        partition,
        preceding,
        think,
    ] = numbers;
    let line = Line {
        job: job.max(0).cast_unsigned(),
        submit,
        wait,
        run,
        allocated,
        cpu,
        memory,
        requested,
        requested_time,
        requested_memory,
        status,
        user,
        group,
        program,
        queue,
        partition,
        preceding,
        think,
    };
    match rest {
        [b'\n', rest @ ..] => Some((line, rest)),
        [] => Some((line, rest)),
        _ => None,
    }
}

/// Reads so many numbers, without their decimals.
fn whole<const N: usize>(mut text: &[u8]) -> Option<([i64; N], &[u8])> {
    let mut numbers = [0; N];
    for place in &mut numbers {
        (*place, text) = match short(text) {
            Some(read) => read,
            None => real(text).map(|(number, rest)| (number as i64, rest))?,
        };
        text = after_blanks(text);
    }
    Some((numbers, text))
}

/// Reads the number with which a text begins, and gives what follows, where it is whole and
/// so short that it is exact as any kind of number: most are.
#[inline]
fn short(text: &[u8]) -> Option<(i64, &[u8])> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        digits => (1, digits),
    };
    let (mut sum, mut rest) = (0_i64, digits);
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        sum = sum.wrapping_mul(10).wrapping_add((digit - b'0').into());
        rest = after;
    }
    let length = digits.len() - rest.len();
    let is_end = rest.first().is_none_or(u8::is_ascii_whitespace);
    (is_end && (1..=15).contains(&length)).then(|| (sign * sum, rest))
}

/// Reads any number.
fn real(text: &[u8]) -> Option<(f64, &[u8])> {
    if let Some((number, rest)) = short(text) {
        return Some((number as f64, rest));
    }
    let word = word(text);
    let number: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    number.is_finite().then_some((number, &text[word.len()..]))
}

/// Gives what stands after the blanks with which a text begins, within its line.
#[inline]
fn after_blanks(mut text: &[u8]) -> &[u8] {
    loop {
        while let [b' ', rest @ ..] = text {
            text = rest;
        }
        match text {
            [b'\t' | b'\r' | b'\x0c', rest @ ..] => text = rest,
            _ => return text,
        }
    }
}

/// Tells why a line is not one of a job.
fn malformed(line: &[u8]) -> Malformed {
    let words = line.split(u8::is_ascii_whitespace);
    let mut count = 0;
    for word in words.filter(|word| !word.is_empty()) {
        count += 1;
        if count <= FIELDS && real(word).is_none() {
            return Malformed::Number {
                number: count,
                text: String::from_utf8_lossy(&word[..word.len().min(40)]).into_owned(),
            };
        }
    }
    Malformed::Fields(count)
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
        let said: Vec<_> = lines(text.as_bytes()).collect();
        assert_eq!(
            said,
            [Ok(Said::Head("MaxProcs", "128")), Ok(Said::Job(line))]
        );
        let blank: Vec<_> = lines(b"  \r\n\n; a remark\n ").collect();
        assert_eq!(blank, [const { Ok(Said::Nothing) }; 4]);
    }

    #[test]
    fn what_is_no_log_is_told_by_its_field() {
        let told = |text: &[u8]| {
            let said: Vec<_> = lines(text).collect();
            let [Err(malformed), Ok(Said::Nothing)] = &said[..] else {
                panic!("{said:?}");
            };
            malformed.to_string()
        };
        assert_eq!(told(b"1 2 3\n;"), "has 3 fields, not 18");
        let long = b"1 0 3 6O 4 1 1 4 3 -1 1 1 -1 1 1 -1 -1 -1\n;";
        assert_eq!(told(long), "field 4 (run time) is no number: \"6O\"");
        let many = b"1 0 3 60 4 1 1 4 3 -1 1 1 -1 1 1 -1 -1 -1 5\n;";
        assert_eq!(told(many), "has 19 fields, not 18");
        let endless = b"1 0 3 60 4 1 1 4 3 -1 1 1 -1 1 1 -1 -1 1e999\n;";
        assert!(told(endless).starts_with("field 18 (think time) is no number"));
        assert!(told(b"\x1f\x8b\x08\x00\n;").contains("no number"));
    }

    #[test]
    fn numbers_of_any_length_are_read_between_blanks_of_any_kind() {
        let numbers = [
            ("0", 0),
            ("-1", -1),
            ("1234567", 1_234_567),
            ("12345678", 12_345_678),
            ("-123456789", -123_456_789),
            ("123456789012345", 123_456_789_012_345),
            // What is not exact as a number with decimals is as near as that comes.
            ("9007199254740993", 9_007_199_254_740_992),
            ("00000000000000000007", 7),
            ("1e30", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("-2.9", -2),
            ("+5", 5),
            ("7.", 7),
        ];
        for (text, number) in numbers {
            for blank in [" ", "\t", "         ", " \r\x0c\t  "] {
                let words = [text; FIELDS].join(blank);
                for line in [format!("{blank}{words}{blank}\n"), words] {
                    let said: Vec<_> = lines(line.as_bytes()).collect();
                    let [Ok(Said::Job(job))] = said[..] else {
                        panic!("{line:?}: {said:?}");
                    };
                    assert_eq!((job.submit, job.think), (number, number), "{line:?}");
                    assert_eq!(Ok(job.cpu), text.parse(), "{line:?}");
                }
            }
        }
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
