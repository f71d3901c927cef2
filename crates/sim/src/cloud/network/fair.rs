use std::collections::BTreeMap;

/// Gives each flow its rate by max-min fairness: no flow can have more unless one that has
/// not more gets less. A flow is the links that it takes; without any its rate is infinite.
///
/// Links are filled together: the one whose flows get least is the first that is full, its
/// flows are done, and the others share what they leave (Bertsekas and Gallager, Data
/// Networks, 6.5.2).
pub(super) fn fair(flows: &[&[u64]], capacity: impl Fn(u64) -> f64) -> Vec<f64> {
    let mut rates = vec![f64::INFINITY; flows.len()];
    // What is left of each link, and how many flows share it.
    let mut links: BTreeMap<u64, (f64, u32)> = BTreeMap::new();
    for link in flows.iter().copied().flatten() {
        links.entry(*link).or_insert_with(|| (capacity(*link), 0)).1 += 1;
    }
    links.retain(|_, (left, _)| left.is_finite());
    loop {
        let shared = links.iter().filter(|(_, (_, flows))| *flows > 0);
        let share = shared.map(|(link, (left, flows))| (left / f64::from(*flows), *link));
        let Some((rate, full)) = share.min_by(|one, two| one.0.total_cmp(&two.0)) else {
            return rates;
        };
        for (flow, had) in flows.iter().zip(&mut rates) {
            if had.is_infinite() && flow.contains(&full) {
                *had = rate;
                for link in *flow {
                    if let Some((left, flows)) = links.get_mut(link) {
                        *left = (*left - rate).max(0.0);
                        *flows -= 1;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(flows: &[&[u64]], capacities: &[f64]) -> Vec<f64> {
        fair(flows, |link| capacities[link as usize])
    }

    #[test]
    fn flows_over_one_link_share_it_and_one_over_none_is_free() {
        assert_eq!(
            rates(&[&[0], &[0], &[0], &[]], &[9.0]),
            [3.0, 3.0, 3.0, f64::INFINITY]
        );
    }

    #[test]
    fn a_flow_that_a_narrow_link_holds_leaves_the_rest_to_others() {
        // The first is held at 2 by link 1, so the second gets 8 of link 0.
        assert_eq!(rates(&[&[0, 1], &[0]], &[10.0, 2.0]), [2.0, 8.0]);
        // The example of Bertsekas and Gallager, figure 6.25: five flows, links of 1.
        let flows: [&[u64]; 5] = [&[0, 1, 2, 3], &[0], &[1], &[1], &[2]];
        let third = 1.0 / 3.0;
        let right = [third, 2.0 * third, third, third, 2.0 * third];
        for (rate, right) in rates(&flows, &[1.0; 4]).iter().zip(right) {
            assert!((rate - right).abs() < 1e-12, "{rate} {right}");
        }
    }

    #[test]
    fn a_chain_of_links_gives_the_long_flow_half_of_each() {
        let flows: [&[u64]; 4] = [&[0, 1, 2], &[0], &[1], &[2]];
        assert_eq!(rates(&flows, &[1.0, 1.0, 1.0]), [0.5; 4]);
    }

    /// Whether each flow has a full link on which none has more.
    fn is_fair(flows: &[&[u64]], capacities: &[f64], rates: &[f64]) -> bool {
        let on = |link: u64| {
            flows
                .iter()
                .zip(rates)
                .filter(move |(flow, _)| flow.contains(&link))
        };
        let full = |link: u64| {
            let sum: f64 = on(link).map(|(_, rate)| rate).sum();
            assert!(sum <= capacities[link as usize] * (1.0 + 1e-9));
            sum >= capacities[link as usize] * (1.0 - 1e-9)
        };
        flows.iter().zip(rates).all(|(flow, rate)| {
            let holds =
                |link: &u64| full(*link) && on(*link).all(|(_, its)| *its <= rate * (1.0 + 1e-9));
            flow.iter().any(holds)
        })
    }

    #[test]
    fn rates_of_any_flows_over_any_links_are_max_min_fair() {
        use rand_distr::{Distribution as _, StandardUniform};
        let mut chance = crate::chance::Seed(11).stream(1);
        let mut draw = |below: f64| -> f64 {
            let share: f64 = StandardUniform.sample(&mut chance);
            share * below
        };
        for _ in 0..200 {
            let capacities: Vec<f64> = (0..6).map(|_| 0.1 + draw(9.0)).collect();
            let flows: Vec<Vec<u64>> = (0..1 + draw(12.0) as usize)
                .map(|_| {
                    let mut links: Vec<u64> = (0..1 + draw(3.0) as usize)
                        .map(|_| draw(6.0) as u64)
                        .collect();
                    links.sort_unstable();
                    links.dedup();
                    links
                })
                .collect();
            let flows: Vec<&[u64]> = flows.iter().map(Vec::as_slice).collect();
            assert!(is_fair(&flows, &capacities, &rates(&flows, &capacities)));
        }
    }
}
