use crate::allocation::{Allocation, Parts};
use crate::cluster::{Cluster, Running};
use crate::masks::Among;
use crate::order::Yields;
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
    /// It stands still; else it ends.
    pub rests: bool,
}

/// Chooses whom a job may have out of its way, so that it has room beside what is left:
/// the lowest rank first, and of equals who has run for the shortest time; gives what is
/// free beside the job when they have gone, too. Nothing where that would not be enough, or
/// is not needed any more, as enough are told to end.
pub(crate) fn preempt(
    cluster: &Cluster,
    mut space: Space,
    among: &Among,
    queued: &Queued,
    placement: Placement,
) -> Option<(Vec<Preemption>, Space)> {
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
        return None;
    }
    let may = |job: &JobNumber, its: &Running| match its.standing.yields {
        _ if its.standing.rank >= rank => false,
        Yields::No => false,
        Yields::Ends => true,
        Yields::Rests => !cluster.rests(*job),
    };
    let gives = |its: &Running| match its.standing.yields {
        Yields::Rests => its.cores(),
        Yields::No | Yields::Ends => its.allocation.clone(),
    };
    let victims = others.into_iter().map(|(job, its)| (job, &**its));
    let victims = victims.filter(|(job, its)| may(job, its));
    let mut victims: Vec<(&JobNumber, &Running)> = victims.collect();
    victims.sort_by_key(|(job, its)| (its.standing.rank, std::cmp::Reverse((its.since, **job))));
    let mut gone: Vec<(&JobNumber, &Running)> = Vec::new();
    for (job, its) in victims {
        space.release(&gives(its));
        gone.push((job, its));
        let Some(found) = fits(&space) else { continue };
        // Those who are elsewhere need not go, unless it takes them in another way.
        let mut fewer = space.clone();
        let (needed, spared): (Vec<_>, Vec<_>) = gone
            .iter()
            .partition(|(_, its)| meet(&its.allocation, &found));
        for (_, its) in &spared {
            fewer.take(&gives(its));
        }
        let (all, mut left, taken) = match fits(&fewer) {
            Some(taken) => (needed, fewer, taken),
            None => (gone, space, found),
        };
        left.take(&taken);
        let by = queued.job;
        let all = all.into_iter().map(|(&job, its)| Preemption {
            job,
            by,
            rests: its.standing.yields == Yields::Rests,
        });
        return Some((all.collect(), left));
    }
    None
}

fn meet(a: &Allocation, b: &Allocation) -> bool {
    let meet = |one: &Parts, other: &Parts| match (one.nodes(), other.nodes()) {
        (Some(one), Some(other)) => one.start < other.end && other.start < one.end,
        (one, other) => one == other,
    };
    a.parts()
        .iter()
        .any(|one| b.parts().iter().any(|other| meet(one, other)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::allocation::Part;
    use crate::amounts::Amounts;
    use crate::cluster::{Node, NodeNumber};
    use crate::order::{Order, Standing};
    use crate::plan::{Backfill, Memory, Policy, plan, plan_on};
    use crate::queue::Queue;
    use crate::request::Request;
    use crate::time::Time;

    const ENDS: Yields = Yields::Ends;

    fn cluster() -> Cluster {
        let node = |name: &str| Node {
            name: name.into(),
            capacity: Amounts::cores(4000),
        };
        let mut cluster = Cluster::new(vec![node("a"), node("b"), node("c")]);
        // On a: one that stays, one that yields; on b and c: ones that yield.
        for (job, node, rank, yields, since) in [
            (1, 0, 1, Yields::No, 0),
            (2, 0, 0, ENDS, 1),
            (3, 1, 0, ENDS, 2),
            (4, 2, 1, ENDS, 3),
            (5, 2, 0, ENDS, 4),
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
            least: None,
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

    /// A node of 4 cores and 10 of memory with a job that stands still for others, and
    /// one that asks for so much of both.
    fn beside(cores: u64, memory: u64) -> (Cluster, Queue) {
        let node = Node {
            name: "a".into(),
            capacity: Amounts::new([4000, 10]),
        };
        let mut cluster = Cluster::new(vec![node]);
        let part = Part::of(NodeNumber(0), Amounts::new([3000, 6]));
        let running = Running {
            allocation: [part].into_iter().collect(),
            since: Time(0),
            until: Time(100),
            standing: Standing {
                yields: Yields::Rests,
                ..Standing::default()
            },
            ending: false,
        };
        cluster.start_as(JobNumber(1), running);
        let mut queue = Queue::new(Order::Fifo);
        queue.insert(Queued {
            job: JobNumber(2),
            submitted: Time(1),
            limit: Duration::from_micros(50),
            least: None,
            request: Request::one(Amounts::new([cores * 1000, memory])).into(),
            standing: Standing {
                rank: 1,
                ..Standing::default()
            },
        });
        (cluster, queue)
    }

    #[test]
    fn what_others_leave_is_for_whom_they_leave_and_others_pass_beside_it_only() {
        let starts = |yields| {
            // One runs on 2 of 4 cores; three are asked for, behind that two and one.
            let (mut cluster, mut queue) = beside(3, 0);
            cluster.end(JobNumber(1));
            let part = Part::of(NodeNumber(0), Amounts::cores(2000));
            let running = Running {
                allocation: [part].into_iter().collect(),
                since: Time(0),
                until: Time(100),
                standing: Standing {
                    yields,
                    ..Standing::default()
                },
                ending: false,
            };
            cluster.start_as(JobNumber(1), running);
            for (job, cores) in [(3, 2), (4, 1)] {
                queue.insert(Queued {
                    job: JobNumber(job),
                    submitted: Time(job),
                    limit: Duration::from_micros(10),
                    least: None,
                    request: Request::one(Amounts::cores(cores * 1000)).into(),
                    standing: Standing::default(),
                });
            }
            let policy = Policy {
                backfill: Backfill::Easy { scan: Order::Fifo },
                ..Policy::default()
            };
            let made = plan(policy, &cluster, &queue, Time(10));
            let started = made.starts.iter().map(|start| start.job.0);
            let gone = made.preemptions.iter().map(|gone| gone.job.0);
            (started.collect::<Vec<_>>(), gone.collect::<Vec<_>>())
        };
        assert_eq!(starts(ENDS), (vec![4], vec![1]));
        assert_eq!(starts(Yields::No), (vec![3], vec![]), "it may pass");
    }

    #[test]
    fn what_is_kept_for_others_is_not_in_the_way_of_whom_others_make_room_for() {
        let (mut cluster, mut queue) = beside(4, 4);
        let first = queue.remove(JobNumber(2)).expect("it waits");
        let low = |job, submitted, limit| Queued {
            job: JobNumber(job),
            submitted: Time(submitted),
            limit: Duration::from_micros(limit),
            least: None,
            request: Request::one(Amounts::cores(4000)).into(),
            standing: Standing::default(),
        };
        // One comes in the midst of the time that is asked for next.
        queue.insert(low(3, 0, 50));
        let policy = Policy {
            backfill: Backfill::Conservative,
            ..Policy::default()
        };
        let (mut memory, now) = (Memory::default(), Time(60));
        let kept = plan_on(policy, &cluster, &queue, now, &mut memory, u64::MAX);
        assert_eq!(kept.reservations[0].at, Time(100));
        queue.insert(first);
        let made = plan_on(policy, &cluster, &queue, now, &mut memory, u64::MAX);
        assert_eq!(made.preemptions.len(), 1);
        cluster.rest(JobNumber(1)).expect("it runs");
        queue.insert(low(1, 0, 40));
        let made = plan_on(policy, &cluster, &queue, now, &mut memory, u64::MAX);
        assert_eq!(
            made.starts[0].job,
            JobNumber(2),
            "and nobody is asked again"
        );
    }

    #[test]
    fn one_that_stands_still_gives_its_cores_and_keeps_its_memory_and_goes_on_later() {
        let policy = Policy::default();
        // Its memory would be needed, too.
        let (cluster, queue) = beside(4, 5);
        assert_eq!(plan(policy, &cluster, &queue, Time(10)).preemptions, []);
        let (mut cluster, mut queue) = beside(4, 4);
        let gone = plan(policy, &cluster, &queue, Time(10)).preemptions;
        let (job, by, rests) = (JobNumber(1), JobNumber(2), true);
        assert_eq!(gone, [Preemption { job, by, rests }]);
        let wants = cluster.rest(job).expect("it runs");
        assert!(cluster.rests(job) && cluster.rest(job).is_none());
        queue.insert(Queued {
            job,
            submitted: Time(0),
            limit: Duration::from_micros(90),
            least: None,
            request: wants.into(),
            standing: Standing::default(),
        });
        let started = plan(policy, &cluster, &queue, Time(10));
        assert_eq!(started.starts.len(), 1);
        assert_eq!(started.starts[0].job, by);
        for start in &started.starts {
            cluster.start(start.job, start.allocation.clone(), start.until);
        }
        queue.remove_started(&started);
        assert_eq!(cluster.free(NodeNumber(0)), &Amounts::new([0, 0]));
        // It goes on when the other has ended, and not before.
        let waits = plan(policy, &cluster, &queue, Time(20));
        assert_eq!((waits.starts.len(), waits.reservations.len()), (0, 0));
        cluster.end(by);
        let again = plan(policy, &cluster, &queue, Time(30));
        assert_eq!(again.starts.len(), 1);
        let start = &again.starts[0];
        cluster.start(start.job, start.allocation.clone(), start.until);
        assert_eq!(cluster.free(NodeNumber(0)), &Amounts::new([1000, 4]));
        assert_eq!(cluster.running()[&job].until, Time(120));
        assert!(cluster.end(job));
        assert_eq!(cluster.free(NodeNumber(0)), &Amounts::new([4000, 10]));
    }

    #[test]
    fn who_may_have_others_out_of_the_way_comes_before_them() {
        let mut queue = Queue::new(Order::Shortest);
        for (job, rank, limit) in [(1, 0, 1), (2, 1, 100), (3, 1, 10)] {
            queue.insert(Queued {
                job: JobNumber(job),
                submitted: Time(job),
                limit: Duration::from_secs(limit),
                least: None,
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
