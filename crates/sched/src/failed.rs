use std::sync::Arc;

use crate::masks::Among;
use crate::request::Request;

/// Requests that found no room, for as long as room becomes only less: whoever
/// asks for as much or more need not look.
#[derive(Default)]
pub(crate) struct Failed<'a>(Vec<(&'a Request, Among)>);

impl<'a> Failed<'a> {
    /// More are not kept: to look at them would take longer than to look for room.
    const MOST: usize = 64;

    /// Keeps a request that is covered by none, in place of those that it covers.
    pub(crate) fn add(&mut self, request: &'a Request, among: Among) {
        if request.chunks.len() > 1 || !request.others.is_empty() {
            return;
        }
        let covered = |failed: &(&Request, Among)| covers((request, &among), (failed.0, &failed.1));
        self.0.retain(|failed| !covered(failed));
        if self.0.len() == Self::MOST {
            // The smallest are the likeliest to cover another.
            self.0.sort_by_key(|(failed, _)| failed.cores());
            self.0.pop();
        }
        self.0.push((request, among));
    }

    /// Tells whether one of them asked for no more.
    pub(crate) fn covers(&self, request: &Request, among: &Among) -> bool {
        let mut all = self.0.iter();
        all.any(|(failed, nodes)| covers((failed, nodes), (request, among)))
    }
}

fn covers((failed, nodes): (&Request, &Among), (request, among): (&Request, &Among)) -> bool {
    Arc::ptr_eq(&nodes[0], &among[0]) && asks_no_less(failed, request)
}

/// Tells whether there is no room for the second where there is none for the first.
pub(crate) fn asks_no_less(first: &Request, second: &Request) -> bool {
    let ([less], [more]) = (&first.chunks[..], &second.chunks[..]) else {
        return false;
    };
    first.arrangement == second.arrangement
        && first.exclusive == second.exclusive
        && first.among == second.among
        && second.others.is_empty()
        && less.count <= more.count
        && less.each.is_within(&more.each)
        && first.shared.is_within(&second.shared)
}
