//! How a snapshot keeps its scenario: with the lines of its traces, and checked again when
//! it is read.

use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::scenario::Scenario;
use super::super::utilization::Utilization;

pub(super) fn serialize<S: Serializer>(
    scenario: &Arc<Scenario>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let groups = scenario.broker.iter().flat_map(|its| &its.cloudlet);
    let all = groups.flat_map(|group| group.utilizations());
    let lines = all.filter_map(|(_, one)| match one {
        Utilization::Measured(its) => Some(its.read.iter().map(|file| &**file).collect()),
        Utilization::Share(_) => None,
    });
    let lines: Vec<Vec<&[f64]>> = lines.collect();
    (&**scenario, lines).serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Arc<Scenario>, D::Error> {
    type Lines = Vec<Vec<Vec<f64>>>;
    let (mut scenario, lines): (Scenario, Lines) = Deserialize::deserialize(deserializer)?;
    scenario.check().map_err(D::Error::custom)?;
    for (its, files) in scenario.measured().zip(lines) {
        if files.iter().any(Vec::is_empty) {
            return Err(D::Error::custom("a trace without lines"));
        }
        its.read = files.into_iter().map(Arc::from).collect();
    }
    scenario.check_traces().map_err(D::Error::custom)?;
    Ok(Arc::new(scenario))
}
