//! A report of simulated schedules: one HTML file that needs nothing else.

use std::fmt::Write as _;
use std::time::Duration;

use hyperion_sched::Time;
use hyperion_sim::batch::{Curve, Ran, Summary, gantt};

use crate::commands::queue::list::clock;

/// Width of the charts, and of each mean of a curve, in pixels.
const WIDTH: f64 = 960.0;
const SPAN: usize = 2;
/// Heights of the charts.
const USED: f64 = 120.0;
const WANTED: f64 = 60.0;
const GANTT: f64 = 320.0;
/// Height of the line of labels below each.
const LABELS: f64 = 15.0;
/// What neighbours in a trace are told apart by.
const COLOURS: [&str; 8] = [
    "#4e79a7", "#f28e2b", "#76b7b2", "#e15759", "#59a14f", "#edc948", "#b07aa1", "#9c755f",
];
/// So many jobs are drawn one by one.
const DRAWN: u64 = 400;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #d0d7de; --used: #2f6fb0; --wanted: #b5651d; }
@media (prefers-color-scheme: dark) { :root { --ink: #d6dde4; --paper: #14181c; --faint: #3a424a; --used: #6ba6dd; --wanted: #e0a060; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1040px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { text-align: right; padding: .25em .8em; border-bottom: 1px solid var(--faint); font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
svg { display: block; width: 100%; height: auto; margin: .3em 0; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); text-anchor: middle; }
.frame { fill: none; stroke: var(--faint); }
.used { fill: var(--used); }
.wanted { fill: var(--wanted); }
.job { stroke: var(--paper); stroke-width: .4; }
figcaption { font-size: 13px; }
figure { margin: 1em 0 2em; }
";

/// A schedule: its policy, what it came to, and what ran.
pub(super) struct Schedule {
    pub(super) policy: String,
    pub(super) summary: Summary,
    pub(super) ran: Vec<Ran>,
}

/// Writes the page.
pub(super) fn page(trace: &str, processors: u64, schedules: &[Schedule]) -> String {
    let jobs = schedules
        .first()
        .map_or(0, |schedule| schedule.summary.jobs);
    let title = format!("{}: {jobs} jobs, {processors} processors", escaped(trace));
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    out += &table(schedules);
    // All have the same axes, so that one can be held beside another.
    let ran = || schedules.iter().flat_map(|schedule| &schedule.ran);
    let whole = time_of(ran());
    let first = time_of(ran().filter(|ran| ran.number < DRAWN));
    for schedule in schedules {
        let _ = writeln!(out, "<h2>{}</h2>", escaped(&schedule.policy));
        out += &curves(schedule, whole, processors);
        out += &jobs_drawn(&schedule.ran, first, processors);
    }
    out += "</body></html>\n";
    out
}

fn table(schedules: &[Schedule]) -> String {
    let mut out = String::from(
        "<table><tr><th>policy</th><th>mean wait</th><th>longest wait</th>\
         <th>bounded slowdown</th><th>did not wait</th><th>utilization</th><th>makespan</th></tr>\n",
    );
    for Schedule {
        policy, summary, ..
    } in schedules
    {
        let at_once = 100.0 * summary.zero_wait as f64 / summary.jobs.max(1) as f64;
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.2}</td><td>{at_once:.1} %</td>\
             <td>{:.1} %</td><td>{}</td></tr>",
            escaped(policy),
            span(summary.avg_wait),
            span(summary.max_wait.as_f64()),
            summary.avg_bsld,
            100.0 * summary.util,
            span(summary.makespan.as_f64()),
        );
    }
    out + "</table>\n"
}

/// Draws processors in use, and those that were waited for, over time.
fn curves(schedule: &Schedule, time: (Time, Time), processors: u64) -> String {
    let curve = Curve::of(&schedule.ran, time, WIDTH as usize / SPAN);
    let most = curve.wanted.iter().copied().fold(1.0, f64::max);
    let used = area(&curve.used, processors as f64, USED);
    let wanted = area(&curve.wanted, most, WANTED);
    format!(
        "<figure>{}<figcaption>Processors in use, of {processors}</figcaption>\n\
         {}<figcaption>Processors that waiting jobs asked for, {most:.0} at the most\
         </figcaption></figure>\n",
        svg(USED, time, &format!("<path class=\"used\" d=\"{used}\"/>")),
        svg(
            WANTED,
            time,
            &format!("<path class=\"wanted\" d=\"{wanted}\"/>")
        ),
    )
}

/// A chart with a line and a label at each tick of its time.
fn svg(height: f64, (from, until): (Time, Time), inside: &str) -> String {
    let whole = until.since(from).as_secs_f64().max(1e-6);
    let mut ticks = String::new();
    let step = tick(whole, 12.0);
    let mut at = step;
    while at < whole {
        let x = WIDTH * at / whole;
        let _ = write!(
            ticks,
            "<path class=\"frame\" d=\"M{x:.1} 0V{height}\"/><text x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            height + LABELS - 3.0,
            label(at),
        );
        at += step;
    }
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">{inside}{ticks}\
         <rect class=\"frame\" x=\".5\" y=\".5\" width=\"{}\" height=\"{}\"/></svg>",
        height + LABELS,
        WIDTH - 1.0,
        height - 1.0,
    )
}

/// Gives a step of at most so many to a time, in seconds, that people count in.
pub(super) fn tick(whole: f64, most: f64) -> f64 {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 60.0 * MINUTE;
    const DAY: f64 = 24.0 * HOUR;
    let steps = [
        1.0,
        10.0,
        MINUTE,
        10.0 * MINUTE,
        HOUR,
        3.0 * HOUR,
        12.0 * HOUR,
        DAY,
        2.0 * DAY,
        7.0 * DAY,
        30.0 * DAY,
        100.0 * DAY,
    ];
    let fits = steps.into_iter().find(|step| whole / step <= most);
    fits.unwrap_or(whole / most)
}

/// Writes whole minutes, hours or days, or what is in between.
pub(super) fn label(seconds: f64) -> String {
    let seconds = seconds as u64;
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let parts = units.iter().filter_map(|(size, unit)| {
        let count = rest / size;
        rest %= size;
        (count > 0).then(|| format!("{count} {unit}"))
    });
    parts.collect::<Vec<_>>().join(" ")
}

/// The outline of an area of steps, from the lower edge of a chart.
fn area(values: &[f64], most: f64, height: f64) -> String {
    let mut path = format!("M0 {height}");
    let mut last = None;
    for (at, value) in values.iter().enumerate() {
        let y = height * (1.0 - (value / most).clamp(0.0, 1.0));
        let y = (y * 10.0).round() / 10.0;
        // A line that goes on as it was needs no corner.
        if last != Some(y) {
            let _ = write!(path, "H{}V{y}", at * SPAN);
            last = Some(y);
        }
    }
    let _ = write!(path, "H{WIDTH}V{height}Z");
    path
}

/// Draws the first jobs, each as long as it ran and as high as it had processors.
fn jobs_drawn(all: &[Ran], (from, until): (Time, Time), processors: u64) -> String {
    let first = all.iter().filter(|ran| ran.number < DRAWN);
    let ran: Vec<Ran> = first.copied().collect();
    let whole = until.since(from).as_secs_f64().max(1e-6);
    let x = |at: Time| WIDTH * at.since(from).as_secs_f64() / whole;
    let y = |processor: u64| GANTT * processor as f64 / processors as f64;
    let mut bars = String::new();
    for bar in gantt(&ran, processors) {
        let its = &ran[bar.job];
        let (left, right) = (x(its.start), x(its.end()));
        let colour = COLOURS[its.number as usize % COLOURS.len()];
        let _ = write!(
            bars,
            "<rect class=\"job\" fill=\"{colour}\" x=\"{left:.1}\" y=\"{:.1}\" \
             width=\"{:.1}\" height=\"{:.1}\"><title>job {}: {} processors, waited {}, ran {}\
             </title></rect>",
            y(bar.first),
            (right - left).max(0.3),
            y(bar.count),
            its.number,
            its.job.processors,
            clock(its.start.since(its.job.submit)),
            clock(its.job.run),
        );
    }
    format!(
        "<figure>{}<figcaption>The first {} jobs: each as long as it ran, and as high as it \
         had processors</figcaption></figure>\n",
        svg(GANTT, (from, until), &bars),
        ran.len(),
    )
}

/// From the first submission to the last end.
pub(super) fn time_of<'a>(ran: impl Iterator<Item = &'a Ran> + Clone) -> (Time, Time) {
    let from = ran.clone().map(|ran| ran.job.submit).min();
    let until = ran.map(Ran::end).max();
    (from.unwrap_or(Time(0)), until.unwrap_or(Time(0)))
}

fn span(seconds: f64) -> String {
    clock(Duration::from_secs_f64(seconds))
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_is_drawn_with_corners_only_where_it_changes() {
        assert_eq!(
            area(&[1.0, 1.0, 2.0], 2.0, 100.0),
            "M0 100H0V50H4V0H960V100Z"
        );
    }

    #[test]
    fn names_cannot_write_into_the_page() {
        let page = page("<script>alert(\"1\")</script>", 4, &[]);
        assert!(!page.contains("<script>"), "{page}");
    }
}
