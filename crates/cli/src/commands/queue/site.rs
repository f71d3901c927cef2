//! The file of a site: who comes first, and who may have what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hyperion_lifecycle::{Account, FairShare, Limits, Partition, Qos, Rules};
use hyperion_model::Class;
use hyperion_sched::{Backfill, Order, Policy, Weights};
use hyperion_server::Keep;
use serde::Deserialize;

use super::host::{Bind, NodeText};
use crate::commands::users;
use crate::context::Context;
use crate::errors;

/// What the file is called, in the folder of the queue.
pub(super) const NAME: &str = "site.toml";

/// The file, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Text {
    order: Order,
    backfill: BackfillWord,
    weights: WeightsText,
    default_minutes: Option<u64>,
    partitions: BTreeMap<String, Partition>,
    qos: BTreeMap<String, Qos>,
    each_user: Limits,
    each_project: Limits,
    users: BTreeMap<u32, Limits>,
    projects: BTreeMap<String, Limits>,
    licences: BTreeMap<String, u64>,
    fair_share: FairShare,
    nodes: BTreeMap<String, NodeText>,
    bind: Bind,
    accounts: BTreeMap<String, Account>,
    operators: Vec<UserWord>,
    private: bool,
    history: HistoryText,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HistoryText {
    keep_days: Option<u64>,
    keep_jobs: u64,
}

impl Default for HistoryText {
    /// A job takes a kilobyte or two: so many fit on every disk.
    fn default() -> Self {
        Self {
            keep_days: None,
            keep_jobs: 1_000_000,
        }
    }
}

/// A user, by number or by name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum UserWord {
    Number(u32),
    Name(String),
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum BackfillWord {
    None,
    #[default]
    Easy,
    Conservative,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WeightsText {
    age: u32,
    oldest_minutes: u64,
    fair_share: u32,
    size: u32,
    favor_small: bool,
    partition: u32,
    qos: u32,
}

impl Default for WeightsText {
    /// A wait of a week counts as much as all of the cluster, and as the highest of the others.
    fn default() -> Self {
        Self {
            age: 1000,
            oldest_minutes: 7 * 24 * 60,
            fair_share: 1000,
            size: 1000,
            favor_small: false,
            partition: 1000,
            qos: 1000,
        }
    }
}

/// What a site says of its queue.
#[derive(Debug)]
pub(super) struct SiteRules {
    pub(super) order: Order,
    pub(super) policy: Policy,
    pub(super) rules: Rules,
    pub(super) usual_limit: Option<Duration>,
    /// Who may touch what is others'.
    pub(super) operators: BTreeSet<u32>,
    /// Users see no jobs but their own.
    pub(super) private: bool,
    pub(super) keep: Keep,
    /// What is said of nodes, by name.
    pub(super) nodes: BTreeMap<String, NodeText>,
    pub(super) bind: Bind,
}

/// Reads the file, where there is one.
pub(super) fn read(ctx: &Context) -> anyhow::Result<SiteRules> {
    let path = super::folder(ctx).join(NAME);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let text: Text = toml::from_str(&text).map_err(|e| wrong(&path, e.to_string().trim_end()))?;
    let number = |word: &UserWord| match word {
        UserWord::Number(number) => Ok(*number),
        UserWord::Name(name) => users::named(name)
            .map(|user| user.uid)
            .ok_or_else(|| wrong(&path, &format!("no user is called {name}"))),
    };
    let operators: anyhow::Result<_> = text.operators.iter().map(number).collect();
    let weights = &text.weights;
    let order = match text.order {
        Order::Multifactor(_) => Order::Multifactor(Weights {
            age: weights.age,
            oldest: Duration::from_secs(weights.oldest_minutes.saturating_mul(60)),
            fair_share: weights.fair_share,
            size: weights.size,
            favor_small: weights.favor_small,
            partition: weights.partition,
            qos: weights.qos,
        }),
        order => order,
    };
    let backfill = match text.backfill {
        BackfillWord::None => Backfill::None,
        BackfillWord::Easy => Backfill::Easy { scan: order },
        BackfillWord::Conservative => Backfill::Conservative,
    };
    let rules = Rules {
        partitions: text.partitions,
        qos: text.qos,
        each_user: text.each_user,
        each_project: text.each_project,
        users: text.users,
        projects: text.projects,
        licences: text.licences,
        fair_share: text.fair_share,
        accounts: text.accounts,
    };
    rules.check().map_err(|e| wrong(&path, &e.to_string()))?;
    Ok(SiteRules {
        operators: operators?,
        private: text.private,
        order,
        policy: Policy {
            backfill,
            ..Policy::default()
        },
        keep: Keep {
            span: text
                .history
                .keep_days
                .map(|days| Duration::from_secs(days.saturating_mul(24 * 60 * 60))),
            jobs: Some(text.history.keep_jobs),
        },
        usual_limit: text
            .default_minutes
            .map(|m| Duration::from_secs(m.saturating_mul(60))),
        rules,
        nodes: text.nodes,
        bind: text.bind,
    })
}

fn wrong(path: &Path, what: &str) -> anyhow::Error {
    errors::advised(
        Class::User,
        format!("{}: {what}", path.display()),
        "correct it, or move it away: then it is first come, first served, without limits",
    )
}
