use std::str::FromStr;

use hyperion_sched::{Backfill, Order};
use thiserror::Error;

/// Which jobs come first, and which may pass them, by a name of the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// What it is called.
    pub name: String,
    /// Which jobs come first.
    pub order: Order,
    /// Which may pass them.
    pub backfill: Backfill,
}

/// Orders, by their names.
const ORDERS: [(&str, Order); 8] = [
    ("fifo", Order::Fifo),
    ("sjf", Order::Shortest),
    ("wfp3", Order::Wfp3),
    ("unicep", Order::Unicep),
    ("f1", Order::F1),
    ("f2", Order::F2),
    ("f3", Order::F3),
    ("f4", Order::F4),
];

/// There is no such policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no policy {0:?}")]
pub struct UnknownPolicy(String);

impl Named {
    /// Gives the names of all policies.
    pub fn names() -> impl Iterator<Item = String> {
        let plain = ORDERS.iter().map(|(name, _)| (*name).to_owned());
        let passing = ORDERS
            .iter()
            .skip(1)
            .map(|(name, _)| format!("{name}-easy"));
        let others = ["easy", "easy-sjbf", "conservative"].map(str::to_owned);
        plain.chain(others).chain(passing)
    }
}

impl FromStr for Named {
    type Err = UnknownPolicy;

    /// Reads `fifo`, `sjf`, `wfp3`, `unicep`, `f1` to `f4`; the same with `-easy`, where
    /// both the queue and what may pass its head are looked at in that order; `easy`,
    /// `easy-sjbf` (the shortest passes first) and `conservative`, in the order of
    /// submission.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let order = |name: &str| {
            let named = ORDERS.iter().find(|(its, _)| *its == name);
            named.map(|(_, order)| *order)
        };
        let easy = |scan| Backfill::Easy { scan };
        let (first, backfill) = match name {
            "fcfs" => (Some(Order::Fifo), Backfill::None),
            "easy" => (Some(Order::Fifo), easy(Order::Fifo)),
            "easy-sjbf" => (Some(Order::Fifo), easy(Order::Shortest)),
            "conservative" => (Some(Order::Fifo), Backfill::Conservative),
            _ => match name.strip_suffix("-easy").map(order) {
                Some(first) => (first, first.map_or(Backfill::None, easy)),
                None => (order(name), Backfill::None),
            },
        };
        Ok(Self {
            name: name.to_owned(),
            order: first.ok_or_else(|| UnknownPolicy(name.to_owned()))?,
            backfill,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_read() {
        for name in Named::names() {
            let policy: Named = name.parse().expect("a policy");
            assert_eq!(policy.name, name);
        }
        let sjf_easy: Named = "sjf-easy".parse().expect("a policy");
        assert_eq!(sjf_easy.order, Order::Shortest);
        let scan = Order::Shortest;
        assert_eq!(sjf_easy.backfill, Backfill::Easy { scan });
        assert!("easy-easy".parse::<Named>().is_err());
        assert!("".parse::<Named>().is_err());
    }
}
