use crate::cluster::{Allocation, Cluster, Running};
use crate::masks::Among;
use crate::place::{Placement, place};
use crate::queue::{JobNumber, Queued};
use crate::space::{Now, Space};

/// A job that runs and is to make room for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preemption {
    /// Which.
    pub job: JobNumber,
    /// For which.
    pub by: JobNumber,
}

/// Chooses whom a job may have out of its way, so that it has room beside what is left:
/// the lowest rank first, and of equals who has run for the shortest time. Nothing where
/// that would not be enough, or is not needed any more, as enough are told to end.
pub(crate) fn preempt(
    cluster: &Cluster,
    mut space: Space,
    among: &Among,
    queued: &Queued,
    placement: Placement,
) -> Vec<Preemption> {
    let rank = queued.standing.rank;
    let fits = |space: &Space| {
        let steps = std::cell::Cell::new(0);
        let room = Now {
            space,
            within: None,
            steps: &steps,
        };
        place(cluster, &room, among, &queued.request, placement)
    };
    let running = cluster.running().iter();
    let (ending, others): (Vec<_>, Vec<_>) = running.partition(|(_, its)| its.ending);
    for (_, its) in ending {
        space.release(&its.allocation);
    }
    if rank == 0 || fits(&space).is_some() {
        return Vec::new();
    }
    let may = |its: &Running| its.standing.yields && its.standing.rank < rank;
    let mut victims: Vec<(&JobNumber, &Running)> =
        others.into_iter().filter(|(_, its)| may(its)).collect();
    victims.sort_by_key(|(job, its)| (its.standing.rank, std::cmp::Reverse((its.since, **job))));
    let mut gone: Vec<(&JobNumber, &Running)> = Vec::new();
    for (job, its) in victims {
        space.release(&its.allocation);
        gone.push((job, its));
        let Some(found) = fits(&space) else { continue };
        // Those who are elsewhere need not go, unless it takes them in another way.
        let mut fewer = space.clone();
        let (needed, spared): (Vec<_>, Vec<_>) = gone
            .iter()
            .partition(|(_, its)| meet(&its.allocation, &found));
        for (_, its) in &spared {
            fewer.take(&its.allocation);
        }
        let all = match fits(&fewer) {
            Some(_) => needed,
            None => gone,
        };
        let by = queued.job;
        return all
            .into_iter()
            .map(|(&job, _)| Preemption { job, by })
            .collect();
    }
    Vec::new()
}

fn meet(a: &Allocation, b: &Allocation) -> bool {
    a.iter()
        .any(|part| b.iter().any(|other| other.node == part.node))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::amounts::Amounts;
    use crate::cluster::{Node, NodeNumber, Part};
    use crate::order::{Order, Standing};
    use crate::plan::{Policy, plan};
    use crate::queue::Queue;
    use crate::request::Request;
    use crate::time::Time;

    fn cluster() -> Cluster {
        let node = |name: &str| Node {
            name: name.into(),
            capacity: Amounts::cores(4000),
        };
        let mut cluster = Cluster::new(vec![node("a"), node("b"), node("c")]);
        // On a: one that stays, one that yields; on b and c: ones that yield.
        for (job, node, rank, yields, since) in [
            (1, 0, 1, false, 0),
            (2, 0, 0, true, 1),
            (3, 1, 0, true, 2),
            (4, 2, 1, true, 3),
            (5, 2, 0, true, 4),
        ] {
            let part = Part::of(NodeNumber(node), Amounts::cores(2000));
            let running = Running {
                allocation: [part].into_iter().collect(),
                since: Time(since),
                until: Time::NEVER,
                standing: Standing {
                    rank,
                    yields,
                    ..Standing::default()
                },
                ending: false,
            };
            cluster.start_as(JobNumber(job), running);
        }
        cluster
    }

    /// Who makes room for a job of so many cores on one node.
    fn victims(cluster: &Cluster, rank: u16, cores: u64) -> Vec<u64> {
        let mut queue = Queue::new(Order::Fifo);
        queue.insert(Queued {
            job: JobNumber(9),
            submitted: Time(9),
            limit: Duration::from_secs(60),
            request: Request::one(Amounts::cores(cores * 1000)).into(),
            standing: Standing {
                rank,
                ..Standing::default()
            },
        });
        let made = plan(Policy::default(), cluster, &queue, Time(10));
        made.preemptions.iter().map(|gone| gone.job.0).collect()
    }

    #[test]
    fn the_lowest_and_the_youngest_make_room_and_no_more_than_needed() {
        let cluster = cluster();
        assert_eq!(victims(&cluster, 1, 2), [0; 0], "there is room");
        // 5 is younger, but 4 would still be there.
        assert_eq!(victims(&cluster, 1, 4), [3]);
        assert_eq!(victims(&cluster, 2, 4), [3]);
        assert_eq!(victims(&cluster, 0, 4), [0; 0]);
        assert_eq!(victims(&cluster, 2, 5), [0; 0], "no node has so many");
    }

    #[test]
    fn nobody_else_is_told_to_go_while_enough_are_on_their_way() {
        let mut cluster = cluster();
        cluster.set_ending(JobNumber(3));
        assert_eq!(victims(&cluster, 1, 4), [0; 0]);
    }

    #[test]
    fn who_may_have_others_out_of_the_way_comes_before_them() {
        let mut queue = Queue::new(Order::Shortest);
        for (job, rank, limit) in [(1, 0, 1), (2, 1, 100), (3, 1, 10)] {
            queue.insert(Queued {
                job: JobNumber(job),
                submitted: Time(job),
                limit: Duration::from_secs(limit),
                request: Request::one(Amounts::cores(1000)).into(),
                standing: Standing {
                    rank,
                    ..Standing::default()
                },
            });
        }
        let order: Vec<u64> = queue.iter().map(|queued| queued.job.0).collect();
        assert_eq!(order, [3, 2, 1]);
    }
}
