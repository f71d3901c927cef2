//! Policies and loads, as words of the command line.

use hyperion_model::Class;
use hyperion_sim::batch::Named;

use crate::errors::advised;

/// Reads the name of a policy.
pub(super) fn policy(name: &str) -> anyhow::Result<Named> {
    name.parse().map_err(|error| unknown(&error, name))
}

fn unknown(error: &impl ToString, name: &str) -> anyhow::Error {
    let names: Vec<String> = Named::names().collect();
    let near = names
        .iter()
        .max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
    let near = near.filter(|near| strsim::jaro(near, name) > 0.7);
    advised(
        Class::User,
        error.to_string(),
        match near {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are {}", names.join(", ")),
        },
    )
}

/// Reads a load: how many times as fast jobs come.
pub(super) fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (0.001..=1000.0).contains(&factor) => Ok(factor),
        _ => Err("a load is a number from 0.001 to 1000, 1 as it was".into()),
    }
}
