//! What a check of the host says.

use serde::{Deserialize, Serialize};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Present and usable.
    Ok,
    /// Usable with a restriction that the consequence names.
    Limited,
    /// Not there.
    Missing,
    /// Cannot be told from here.
    Unknown,
}

/// One check of what a host can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// A stable name in kebab case, such as `user-namespaces`.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen, and where.
    pub evidence: String,
    /// What follows for the user; empty when nothing does.
    pub consequence: String,
    /// What to do about it on this distribution; empty when there is nothing to do.
    pub fix: String,
}
