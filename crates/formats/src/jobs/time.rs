//! Spans and points of time as the batch systems write them.

use std::time::Duration;

use hyperion_model::submission::{Day, Moment, TimeLimit};

/// No span is longer: more than a century, and it can be added to any time.
const LONGEST: u64 = 1 << 32;

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| digits && *number <= LONGEST)
}

fn seconds(total: u64) -> Option<Duration> {
    (total <= LONGEST).then_some(Duration::from_secs(total))
}

/// Reads Slurm's limit: `MM`, `MM:SS`, `HH:MM:SS`, `D-HH[:MM[:SS]]`, or a word
/// for none. As Slurm counts it, in minutes, rounded up; 0 is none.
pub fn slurm(text: &str) -> Option<TimeLimit> {
    if ["unlimited", "infinite", "-1"].contains(&text.to_ascii_lowercase().as_str()) {
        return Some(TimeLimit::Unlimited);
    }
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(number(days)?), rest),
        None => (None, text),
    };
    let fields: Vec<u64> = rest.split(':').take(4).map(number).collect::<Option<_>>()?;
    let (h, m, s) = match (days.is_some(), fields.as_slice()) {
        (true, [h]) => (*h, 0, 0),
        (true, [h, m]) => (*h, *m, 0),
        (false, [m]) => (0, *m, 0),
        (false, [m, s]) => (0, *m, *s),
        (_, [h, m, s]) => (*h, *m, *s),
        _ => return None,
    };
    let total = ((days.unwrap_or(0) * 24 + h) * 60 + m) * 60 + s;
    let span = seconds(total.div_ceil(60) * 60)?;
    Some(match span.is_zero() {
        true => TimeLimit::Unlimited,
        false => TimeLimit::Span(span),
    })
}

/// Writes a span as Slurm shows it: `[D-]HH:MM:SS`.
pub fn write_slurm(span: Duration) -> String {
    let total = span.as_secs();
    let (days, rest) = (total / 86_400, total % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    match days {
        0 => clock,
        _ => format!("{days}-{clock}"),
    }
}

/// Reads `SS`, `MM:SS` or `HH:MM:SS` (PBS, Grid Engine); fractions of a second
/// round up, and an empty field is zero where `empty` says so.
pub fn clock(text: &str, empty: bool) -> Option<Duration> {
    let (whole, up) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, u64::from(number(fraction)? > 0)),
        None => (text, 0),
    };
    let field = |text: &str| match text.is_empty() && empty {
        true => Some(0),
        false => number(text),
    };
    let fields: Vec<u64> = whole.split(':').take(5).map(field).collect::<Option<_>>()?;
    let most = if empty { 3 } else { 4 };
    if whole.is_empty() || fields.len() > most {
        return None;
    }
    let mut total = 0u64;
    // Torque has days in front: DD:HH:MM:SS.
    let factors = [1, 60, 3600, 86_400];
    for (field, factor) in fields.iter().rev().zip(factors) {
        total = total.checked_add(field.checked_mul(factor)?)?;
    }
    seconds(total.checked_add(up)?)
}

/// Writes a span as PBS and Grid Engine show it: `HH:MM:SS`.
pub fn write_clock(span: Duration) -> String {
    let total = span.as_secs();
    format!(
        "{:02}:{:02}:{:02}",
        total / 3600,
        total / 60 % 60,
        total % 60
    )
}

/// Reads LSF's `[HH:]MM`, without the host behind a slash.
pub fn lsf(text: &str) -> Option<Duration> {
    let minutes = match text.split_once(':') {
        Some((hours, minutes)) => number(hours)?
            .checked_mul(60)?
            .checked_add(number(minutes)?)?,
        None => number(text)?,
    };
    seconds(minutes.checked_mul(60)?)
}

/// Writes a span as LSF takes it: `HH:MM`, rounded up.
pub fn write_lsf(span: Duration) -> String {
    let minutes = span.as_secs().div_ceil(60);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn small(text: &str, from: u8, to: u8) -> Option<u8> {
    let number = u8::try_from(number(text)?).ok()?;
    (from..=to).contains(&number).then_some(number)
}

/// Reads `[[[[CC]YY]MM]DD]hhmm[.SS]` (PBS, Torque, Grid Engine). A year of two
/// digits is of this century, or of the last from 69 on.
pub fn digits(text: &str) -> Option<Moment> {
    let (text, second) = match text.split_once('.') {
        Some((text, second)) if second.len() == 2 => (text, small(second, 0, 59)?),
        Some(_) => return None,
        None => (text, 0),
    };
    if !text.is_ascii() || !matches!(text.len(), 4 | 6 | 8 | 10 | 12) {
        return None;
    }
    let (date, clock) = text.split_at(text.len() - 4);
    let (hour, minute) = (small(&clock[..2], 0, 23)?, small(&clock[2..], 0, 59)?);
    let of_year = |text: &str| Some((small(&text[..2], 1, 12)?, small(&text[2..], 1, 31)?));
    let day = match date.len() {
        0 => Day::Soonest,
        2 => Day::OfMonth(small(date, 1, 31)?),
        4 => {
            let (month, day) = of_year(date)?;
            Day::OfYear(month, day)
        }
        length => {
            let (year, rest) = date.split_at(length - 4);
            let (month, day) = of_year(rest)?;
            let year = u16::try_from(number(year)?).ok()?;
            let year = match (length, year) {
                (8, _) => year,
                (_, 69..) => 1900 + year,
                _ => 2000 + year,
            };
            Day::Date(year, month, day)
        }
    };
    Some(Moment::At {
        day,
        hour,
        minute,
        second,
    })
}

/// Reads LSF's `[[[year:]month:]day:]hour:minute`.
pub fn lsf_moment(text: &str) -> Option<Moment> {
    let fields: Vec<&str> = text.split(':').take(6).collect();
    let (date, [hour, minute]) = fields.split_last_chunk()?;
    let day = match date {
        [] => Day::Soonest,
        [day] => Day::OfMonth(small(day, 1, 31)?),
        [month, day] => Day::OfYear(small(month, 1, 12)?, small(day, 1, 31)?),
        [year, month, day] => {
            let year = u16::try_from(number(year)?).ok()?;
            Day::Date(year, small(month, 1, 12)?, small(day, 1, 31)?)
        }
        _ => return None,
    };
    Some(Moment::At {
        day,
        hour: small(hour, 0, 23)?,
        minute: small(minute, 0, 59)?,
        second: 0,
    })
}

/// Reads Slurm's `--begin` and `--deadline`: `16:00`, `4pm`, `now+1hour`, `tomorrow`,
/// `noon`, `2030-01-20T12:34:00`, `01/20/30`, `012030`.
pub fn slurm_moment(text: &str) -> Option<Moment> {
    let lower = text.trim().to_ascii_lowercase();
    if let Some(rest) = lower.strip_prefix("now") {
        let rest = rest.trim();
        if rest.is_empty() {
            return Some(Moment::In(Duration::ZERO));
        }
        let rest = rest.strip_prefix('+')?.trim_start();
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (count, unit) = rest.split_at(end);
        let unit = match unit.trim() {
            "" => 1,
            unit if is_unit(unit, "seconds", 1) => 1,
            unit if is_unit(unit, "minutes", 1) => 60,
            unit if is_unit(unit, "hours", 1) => 3600,
            unit if is_unit(unit, "days", 1) => 86_400,
            unit if is_unit(unit, "weeks", 1) => 604_800,
            _ => return None,
        };
        return seconds(number(count)?.checked_mul(unit)?).map(Moment::In);
    }
    let (date, time) = match lower.split_once(['t', ' ']) {
        Some((date, time)) if date.contains(['-', '/']) || is_date_digits(date) => {
            (slurm_day(date)?, time.trim())
        }
        _ if lower.contains(['-', '/']) || is_date_digits(&lower) => (slurm_day(&lower)?, ""),
        _ => match lower.as_str() {
            "today" => (Day::Ahead(0), ""),
            "tomorrow" => (Day::Ahead(1), ""),
            time => (Day::Soonest, time),
        },
    };
    let (hour, minute, second) = match time {
        "" | "midnight" => (0, 0, 0),
        "noon" => (12, 0, 0),
        "fika" => (15, 0, 0),
        "teatime" => (16, 0, 0),
        time => slurm_clock(time)?,
    };
    Some(Moment::At {
        day: date,
        hour,
        minute,
        second,
    })
}

/// `min` and `minute` are minutes.
fn is_unit(text: &str, whole: &str, least: usize) -> bool {
    text.len() >= least && whole.starts_with(text)
}

fn is_date_digits(text: &str) -> bool {
    text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit())
}

fn slurm_day(text: &str) -> Option<Day> {
    let year = |text: &str| {
        let year = u16::try_from(number(text)?).ok()?;
        Some(if text.len() <= 2 { 2000 + year } else { year })
    };
    if is_date_digits(text) {
        let (month, day) = (small(&text[..2], 1, 12)?, small(&text[2..4], 1, 31)?);
        return Some(Day::Date(year(&text[4..])?, month, day));
    }
    let separator = if text.contains('/') { '/' } else { '-' };
    let fields: Vec<&str> = text.split(separator).take(4).collect();
    match (separator, fields.as_slice()) {
        ('-', [y, month, day]) => Some(Day::Date(
            year(y)?,
            small(month, 1, 12)?,
            small(day, 1, 31)?,
        )),
        ('-' | '/', [month, day]) => Some(Day::OfYear(small(month, 1, 12)?, small(day, 1, 31)?)),
        ('/', [month, day, y]) => Some(Day::Date(
            year(y)?,
            small(month, 1, 12)?,
            small(day, 1, 31)?,
        )),
        _ => None,
    }
}

fn slurm_clock(text: &str) -> Option<(u8, u8, u8)> {
    let half = ["am", "pm"].into_iter().find(|half| text.ends_with(half));
    let clock = half
        .map_or(text, |half| &text[..text.len() - half.len()])
        .trim();
    let fields: Vec<&str> = clock.split(':').take(4).collect();
    let (hour, minute, second) = match (fields.as_slice(), half) {
        ([hour], Some(_)) => (*hour, "0", "0"),
        ([hour, minute], _) => (*hour, *minute, "0"),
        ([hour, minute, second], _) => (*hour, *minute, *second),
        _ => return None,
    };
    let hour = match half {
        Some(half) => small(hour, 1, 12)? % 12 + if half == "pm" { 12 } else { 0 },
        None => small(hour, 0, 23)?,
    };
    Some((hour, small(minute, 0, 59)?, small(second, 0, 59)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(seconds: u64) -> Option<TimeLimit> {
        Some(TimeLimit::Span(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_limit_of_slurm_has_all_its_forms() {
        // Each as sbatch 22.05 reports it.
        for (text, limit) in [
            ("5", span(300)),
            ("5:30", span(360)),
            ("24:0:0", span(86_400)),
            ("90:00:00", span(324_000)),
            ("1-12", span(129_600)),
            ("1-2:3", span(93_780)),
            ("2-00:00:01", span(172_860)),
            ("UNLIMITED", Some(TimeLimit::Unlimited)),
            ("0", Some(TimeLimit::Unlimited)),
            ("1:2:3:4", None),
            ("abc", None),
            ("", None),
            ("-5", None),
            ("1-", None),
        ] {
            assert_eq!(slurm(text), limit, "{text}");
        }
    }

    #[test]
    fn other_clocks_have_theirs() {
        assert_eq!(clock("86400", false), Some(Duration::from_secs(86_400)));
        assert_eq!(clock("24:0:0", false), Some(Duration::from_secs(86_400)));
        assert_eq!(
            clock("1:00:00:00", false),
            Some(Duration::from_secs(86_400))
        );
        assert_eq!(clock("00:00:30", false), Some(Duration::from_secs(30)));
        assert_eq!(clock("1::", true), Some(Duration::from_secs(3600)));
        assert_eq!(clock("1::", false), None);
        assert_eq!(lsf("90"), Some(Duration::from_secs(5400)));
        assert_eq!(lsf("2:30"), Some(Duration::from_secs(9000)));
        assert_eq!(lsf("2:30:00"), None);
    }

    #[test]
    fn a_moment_is_kept_until_somebody_has_a_clock() {
        let at = |day, hour, minute, second| {
            Some(Moment::At {
                day,
                hour,
                minute,
                second,
            })
        };
        assert_eq!(
            slurm_moment("now+1hour"),
            Some(Moment::In(Duration::from_secs(3600)))
        );
        assert_eq!(
            slurm_moment("now+60"),
            Some(Moment::In(Duration::from_secs(60)))
        );
        assert_eq!(
            slurm_moment("now + 2 days"),
            Some(Moment::In(Duration::from_secs(172_800)))
        );
        assert_eq!(slurm_moment("16:00"), at(Day::Soonest, 16, 0, 0));
        assert_eq!(slurm_moment("4pm"), at(Day::Soonest, 16, 0, 0));
        assert_eq!(slurm_moment("12:30AM"), at(Day::Soonest, 0, 30, 0));
        assert_eq!(slurm_moment("tomorrow"), at(Day::Ahead(1), 0, 0, 0));
        assert_eq!(slurm_moment("teatime"), at(Day::Soonest, 16, 0, 0));
        assert_eq!(
            slurm_moment("2010-01-20T12:34:00"),
            at(Day::Date(2010, 1, 20), 12, 34, 0)
        );
        assert_eq!(
            slurm_moment("2030-01-20"),
            at(Day::Date(2030, 1, 20), 0, 0, 0)
        );
        assert_eq!(slurm_moment("01/20"), at(Day::OfYear(1, 20), 0, 0, 0));
        assert_eq!(slurm_moment("012030"), at(Day::Date(2030, 1, 20), 0, 0, 0));
        assert_eq!(slurm_moment("foo"), None);
        assert_eq!(slurm_moment("25:00"), None);
        assert_eq!(digits("1030"), at(Day::Soonest, 10, 30, 0));
        assert_eq!(digits("051030.15"), at(Day::OfMonth(5), 10, 30, 15));
        assert_eq!(
            digits("203012051030"),
            at(Day::Date(2030, 12, 5), 10, 30, 0)
        );
        assert_eq!(digits("3012051030"), at(Day::Date(2030, 12, 5), 10, 30, 0));
        assert_eq!(digits("103"), None);
        assert_eq!(lsf_moment("20:00"), at(Day::Soonest, 20, 0, 0));
        assert_eq!(lsf_moment("12:24:20:00"), at(Day::OfYear(12, 24), 20, 0, 0));
        assert_eq!(lsf_moment("20"), None);
    }

    proptest! {
        #[test]
        fn spans_survive_being_written(minutes in 1u64..10_000_000) {
            let span = Duration::from_secs(minutes * 60);
            prop_assert_eq!(slurm(&write_slurm(span)), Some(TimeLimit::Span(span)));
            prop_assert_eq!(clock(&write_clock(span), false), Some(span));
            prop_assert_eq!(clock(&write_clock(span), true), Some(span));
            prop_assert_eq!(lsf(&write_lsf(span)), Some(span));
        }

        #[test]
        fn no_text_makes_the_readers_of_time_panic(text in "\\PC{0,24}", clockish in "[-0-9:.+tTapm/ now]{0,20}") {
            for text in [text, clockish] {
                let _ = (slurm(&text), clock(&text, true), clock(&text, false), lsf(&text));
                let _ = (slurm_moment(&text), digits(&text), lsf_moment(&text));
            }
        }
    }
}
