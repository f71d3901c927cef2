//! What changed between two texts, as `diff -u` tells it.

use std::fmt::Write as _;

/// Lines around a change.
const CONTEXT: usize = 3;
/// Cells of the table of common lines; beyond, the middle is told as changed whole.
const MOST_CELLS: usize = 4 << 20;

#[derive(Clone, Copy, PartialEq)]
enum Step {
    Keep,
    Remove,
    Add,
}

/// Tells how `old` became `new`; empty when they are the same.
pub fn unified(old: &str, new: &str, old_name: &str, new_name: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let steps = steps(&a, &b);
    let mut out = String::new();
    if steps.iter().all(|step| *step == Step::Keep) {
        return out;
    }
    // Writing into a String cannot fail.
    let _ = write!(out, "--- {old_name}\n+++ {new_name}\n");
    for (from, to) in hunks(&steps) {
        let kept = |range: &[Step], but: Step| range.iter().filter(|step| **step != but).count();
        let (mut i, mut j) = (
            kept(&steps[..from], Step::Add),
            kept(&steps[..from], Step::Remove),
        );
        let (n, m) = (
            kept(&steps[from..to], Step::Add),
            kept(&steps[from..to], Step::Remove),
        );
        let _ = writeln!(out, "@@ -{} +{} @@", span(i, n), span(j, m));
        for step in &steps[from..to] {
            let (sign, line) = match step {
                Step::Keep => (' ', a[i]),
                Step::Remove => ('-', a[i]),
                Step::Add => ('+', b[j]),
            };
            i += usize::from(*step != Step::Add);
            j += usize::from(*step != Step::Remove);
            let _ = writeln!(out, "{sign}{line}");
        }
    }
    out
}

fn span(start: usize, count: usize) -> String {
    match count {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        _ => format!("{},{count}", start + 1),
    }
}

/// Groups changes that are near each other, with the lines around them.
fn hunks(steps: &[Step]) -> Vec<(usize, usize)> {
    let mut hunks: Vec<(usize, usize)> = Vec::new();
    for (at, _) in steps
        .iter()
        .enumerate()
        .filter(|(_, step)| **step != Step::Keep)
    {
        let (from, to) = (
            at.saturating_sub(CONTEXT),
            (at + 1 + CONTEXT).min(steps.len()),
        );
        match hunks.last_mut() {
            Some(last) if from <= last.1 => last.1 = to,
            _ => hunks.push((from, to)),
        }
    }
    hunks
}

/// The longest common subsequence, after the ends that agree.
fn steps(a: &[&str], b: &[&str]) -> Vec<Step> {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (rest_a, rest_b) = (&a[head..], &b[head..]);
    let tail = rest_a
        .iter()
        .rev()
        .zip(rest_b.iter().rev())
        .take_while(|(x, y)| x == y)
        .count();
    let (a, b) = (
        &rest_a[..rest_a.len() - tail],
        &rest_b[..rest_b.len() - tail],
    );
    let mut steps = vec![Step::Keep; head];
    if a.len().saturating_mul(b.len()) > MOST_CELLS {
        steps.extend(std::iter::repeat_n(Step::Remove, a.len()));
        steps.extend(std::iter::repeat_n(Step::Add, b.len()));
    } else {
        middle(a, b, &mut steps);
    }
    steps.extend(std::iter::repeat_n(Step::Keep, tail));
    steps
}

fn middle(a: &[&str], b: &[&str], steps: &mut Vec<Step>) {
    let width = b.len() + 1;
    let mut common = vec![0_u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] = if a[i] == b[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            steps.push(Step::Keep);
            (i, j) = (i + 1, j + 1);
        } else if i < a.len()
            && (j == b.len() || common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            steps.push(Step::Remove);
            i += 1;
        } else {
            steps.push(Step::Add);
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_change_is_told_with_the_lines_around_it() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n10\n";
        insta::assert_snapshot!(unified(old, new, "a", "b"), @r"
        --- a
        +++ b
        @@ -2,8 +2,9 @@
         2
         3
         4
        -5
        +five
         6
         7
         8
         9
        +10
        ");
        assert_eq!(unified(old, old, "a", "b"), "");
        assert_eq!(
            unified("", "x\n", "a", "b"),
            "--- a\n+++ b\n@@ -0,0 +1 @@\n+x\n"
        );
    }

    /// Applies a difference, as `patch` does.
    fn patched(old: &str, diff: &str) -> String {
        let old: Vec<&str> = old.lines().collect();
        let (mut out, mut at) = (String::new(), 0);
        for line in diff.lines().skip(2) {
            if let Some(head) = line.strip_prefix("@@ -") {
                let range = head.split(' ').next().expect("a range");
                let (start, count) = range.split_once(',').unwrap_or((range, "1"));
                let start: usize = start.parse().expect("a number");
                let start = if count == "0" { start } else { start - 1 };
                old[at..start]
                    .iter()
                    .for_each(|line| out.push_str(&format!("{line}\n")));
                at = start;
                continue;
            }
            let (sign, text) = line.split_at(1);
            if sign != "+" {
                assert_eq!(old[at], text);
                at += 1;
            }
            if sign != "-" {
                out.push_str(&format!("{text}\n"));
            }
        }
        old[at..]
            .iter()
            .for_each(|line| out.push_str(&format!("{line}\n")));
        out
    }

    proptest! {
        #[test]
        fn the_difference_leads_from_one_to_the_other(a in "([abc]\n){0,30}", b in "([abc]\n){0,30}") {
            prop_assert_eq!(patched(&a, &unified(&a, &b, "a", "b")), b);
        }
    }
}
