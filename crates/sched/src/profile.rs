use std::time::Duration;

use crate::cluster::{Allocation, Cluster, Space};
use crate::place::{Placement, place};
use crate::request::Request;
use crate::time::Time;

/// What is free from now on, as far as it is known: a list of moments, each with
/// what is free from it until the next.
pub(crate) struct Profile<'a> {
    cluster: &'a Cluster,
    all: Vec<usize>,
    steps: Vec<(Time, Space)>,
}

impl<'a> Profile<'a> {
    /// Reads it off what runs.
    pub(crate) fn new(cluster: &'a Cluster, now: Time) -> Self {
        let mut steps = vec![(now, cluster.space().clone())];
        for (until, allocation) in cluster.ends() {
            // One that is over its time ends at any moment.
            let until = until.max(Time(now.0 + 1));
            let last = &steps[steps.len() - 1];
            if last.0 < until {
                steps.push((until, last.1.clone()));
            }
            let end = steps.len() - 1;
            steps[end].1.release(allocation);
        }
        let all = (0..cluster.nodes().len()).collect();
        Self {
            cluster,
            all,
            steps,
        }
    }

    /// Finds the earliest moment at which a request has room for as long as it
    /// needs; `None` when it never has.
    pub(crate) fn earliest(
        &self,
        request: &Request,
        cores: u64,
        span: Duration,
        placement: Placement,
    ) -> Option<(Time, Allocation)> {
        let nodes = self.cluster.nodes();
        let mut first = 0;
        'start: while let Some((at, space)) = self.steps.get(first) {
            let end = *at + span;
            let mut window: Option<Space> = None;
            for (number, (step, space)) in self.steps.iter().enumerate().skip(first) {
                if *step >= end && number > first {
                    break;
                }
                // Whoever lacks room here begins after it.
                if space.cores() < cores {
                    first = number + 1;
                    continue 'start;
                }
                if number > first {
                    let window = window.get_or_insert_with(|| self.steps[first].1.clone());
                    window.limit(space);
                }
            }
            let window = window.as_ref().unwrap_or(space);
            match place(nodes, &self.all, window, None, request, placement) {
                Some(allocation) => return Some((*at, allocation)),
                None => first += 1,
            }
        }
        None
    }

    /// Takes room from a moment on for a span.
    pub(crate) fn reserve(&mut self, at: Time, span: Duration, allocation: &Allocation) {
        let (first, last) = (self.split(at), self.split(at + span));
        for (_, space) in &mut self.steps[first..last] {
            space.take(allocation);
        }
    }

    /// Makes a step begin at a moment that is not before the first; gives its number.
    fn split(&mut self, at: Time) -> usize {
        let next = self.steps.partition_point(|(step, _)| *step < at);
        if self.steps.get(next).is_none_or(|(step, _)| *step != at) {
            let before = self.steps[next.saturating_sub(1)].1.clone();
            self.steps.insert(next, (at, before));
        }
        next
    }
}
