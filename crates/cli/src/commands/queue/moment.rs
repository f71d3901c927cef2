//! From the words for a moment to how long it is until then.

use std::time::Duration;

use hyperion_model::Class;
use hyperion_model::submission::{Day, Moment};
use jiff::civil::{Date, Time};
use jiff::{ToSpan as _, Zoned};

use crate::errors;

/// Says how long it is until a moment; nothing when it is over.
pub(in crate::commands) fn span(moment: Moment, now: &Zoned) -> anyhow::Result<Moment> {
    let Moment::At {
        day,
        hour,
        minute,
        second,
    } = moment
    else {
        return Ok(moment);
    };
    let clock = Time::new(hour as i8, minute as i8, second as i8, 0)?;
    let today = now.date();
    let at = |date: Date| date.to_datetime(clock).to_zoned(now.time_zone().clone());
    let next = |mut date: Date, step: jiff::Span| -> anyhow::Result<Zoned> {
        // The first such day that is not over; February 29th is eight years away at most.
        for _ in 0..100 {
            let then = at(date)?;
            if then >= *now {
                return Ok(then);
            }
            date = date.checked_add(step)?;
        }
        Ok(at(date)?)
    };
    let then = match day {
        Day::Soonest => next(today, 1.day())?,
        Day::Ahead(days) => at(today.checked_add(i64::from(days).days())?)?,
        Day::OfMonth(day) => {
            let fits = |months: i64| {
                let month = today.first_of_month().checked_add(months.months()).ok()?;
                let date = Date::new(month.year(), month.month(), day as i8).ok()?;
                at(date).ok().filter(|then| then >= now)
            };
            (0..24)
                .find_map(fits)
                .ok_or_else(|| never(day.to_string()))?
        }
        Day::OfYear(month, day) => {
            let fits = |years: i16| {
                let date = Date::new(today.year() + years, month as i8, day as i8).ok()?;
                at(date).ok().filter(|then| then >= now)
            };
            let first = (0..9).find_map(fits);
            first.ok_or_else(|| never(format!("{month}/{day}")))?
        }
        Day::Date(year, month, day) => {
            let date = Date::new(year as i16, month as i8, day as i8);
            at(date.map_err(|_| never(format!("{year}-{month}-{day}")))?)?
        }
    };
    let span = then.duration_since(now);
    Ok(Moment::In(Duration::try_from(span).unwrap_or_default()))
}

fn never(day: String) -> anyhow::Error {
    errors::advised(
        Class::User,
        format!("there is no day {day}"),
        "write a day that the calendar has",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(day: Day, hour: u8) -> Option<f64> {
        let now = jiff::civil::date(2026, 11, 21).at(12, 0, 0, 0);
        let now = now.to_zoned(jiff::tz::TimeZone::UTC).expect("a moment");
        let moment = Moment::At {
            day,
            hour,
            minute: 0,
            second: 0,
        };
        match span(moment, &now).ok()? {
            Moment::In(span) => Some(span.as_secs_f64() / 3600.0),
            Moment::At { .. } => None,
        }
    }

    #[test]
    fn a_moment_is_the_first_to_come_of_those_that_are_meant() {
        assert_eq!(hours(Day::Soonest, 14), Some(2.0));
        assert_eq!(hours(Day::Soonest, 11), Some(23.0));
        assert_eq!(hours(Day::Ahead(1), 12), Some(24.0));
        assert_eq!(hours(Day::OfMonth(22), 12), Some(24.0));
        assert_eq!(hours(Day::OfMonth(20), 12), Some(29.0 * 24.0));
        assert_eq!(hours(Day::OfYear(11, 20), 12), Some(364.0 * 24.0));
        assert_eq!(hours(Day::Date(2026, 11, 20), 12), Some(0.0));
        assert_eq!(hours(Day::OfYear(2, 30), 12), None);
        assert_eq!(hours(Day::OfMonth(31), 12), Some(40.0 * 24.0));
    }
}
