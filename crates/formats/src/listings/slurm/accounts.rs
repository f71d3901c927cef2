//! `sacctmgr show` and `sshare`

use hyperion_model::view::{AccountView, QosView, RulesView, ShareView};

use super::table::{Field, Table};
use crate::jobs::time::write_slurm;
use crate::listings::words::{Opt, Takes, Words};

use Takes::{Nothing, Value};

/// The options of sacctmgr.
pub const SACCTMGR: &[Opt] = &[
    Opt(&["--noheader", "-n"], Nothing),
    Opt(&["--parsable2", "-P"], Nothing),
    Opt(&["--parsable", "-p"], Nothing),
    Opt(&["--associations", "-s"], Nothing),
    Opt(&["--immediate", "-i"], Nothing),
    Opt(&["--quiet", "-Q"], Nothing),
    Opt(&["--readonly", "-r"], Nothing),
    Opt(&["--verbose", "-v"], Nothing),
    Opt(&["--version", "-V"], Nothing),
    Opt(&["--help", "-h"], Nothing),
    Opt(&["--usage"], Nothing),
];

/// The options of sshare.
pub const SSHARE: &[Opt] = &[
    Opt(&["--accounts", "-A"], Value),
    Opt(&["--all", "-a"], Nothing),
    Opt(&["--clusters", "--cluster", "-M"], Value),
    Opt(&["--format", "-o"], Value),
    Opt(&["--helpformat", "-e"], Nothing),
    Opt(&["--noheader", "-n", "-h"], Nothing),
    Opt(&["--long", "-l"], Nothing),
    Opt(&["--parsable2", "-P"], Nothing),
    Opt(&["--parsable", "-p"], Nothing),
    Opt(&["--partition", "-m"], Nothing),
    Opt(&["--users", "-u"], Value),
    Opt(&["--Users", "-U"], Nothing),
    Opt(&["--verbose", "-v"], Nothing),
    Opt(&["--version", "-V"], Nothing),
    Opt(&["--help"], Nothing),
    Opt(&["--usage"], Nothing),
];

/// The name of the one cluster.
const CLUSTER: &str = "hyperion";

const ASSOCIATION: &[Field] = &[
    ("Cluster", "Cluster", 10),
    ("Account", "Account", 10),
    ("User", "User", 10),
    ("Partition", "Partition", 10),
    ("Share", "Share", 9),
    ("Fairshare", "Share", 9),
    ("ParentName", "Par Name", 10),
    ("DefaultAccount", "Def Acct", 10),
    ("AdminLevel", "Admin", 9),
    ("GrpJobs", "GrpJobs", 7),
    ("GrpTRES", "GrpTRES", 13),
    ("GrpSubmit", "GrpSubmit", 9),
    ("GrpWall", "GrpWall", 11),
    ("GrpTRESMins", "GrpTRESMins", 13),
    ("MaxJobs", "MaxJobs", 7),
    ("MaxTRES", "MaxTRES", 13),
    ("MaxTRESPerNode", "MaxTRESPerNode", 14),
    ("MaxSubmit", "MaxSubmit", 9),
    ("MaxWall", "MaxWall", 11),
    ("MaxTRESMins", "MaxTRESMins", 13),
    ("QOS", "QOS", 20),
    ("DefaultQOS", "Def QOS", 9),
    ("GrpTRESRunMins", "GrpTRESRunMin", 13),
    ("Descr", "Descr", 20),
    ("Organization", "Org", 20),
];

const QOS: &[Field] = &[
    ("Name", "Name", 10),
    ("Priority", "Priority", 10),
    ("GraceTime", "GraceTime", 10),
    ("Preempt", "Preempt", 10),
    ("PreemptMode", "PreemptMode", 11),
    ("Flags", "Flags", 40),
    ("UsageFactor", "UsageFactor", 11),
    ("GrpTRES", "GrpTRES", 13),
    ("GrpJobs", "GrpJobs", 7),
    ("GrpSubmit", "GrpSubmit", 9),
    ("MaxWall", "MaxWall", 11),
    ("MaxTRESPU", "MaxTRESPU", 13),
    ("MaxTRESPerUser", "MaxTRESPU", 13),
    ("MaxJobsPU", "MaxJobsPU", 9),
    ("MaxJobsPerUser", "MaxJobsPU", 9),
    ("MaxSubmitPU", "MaxSubmitPU", 11),
    ("MaxSubmitJobsPerUser", "MaxSubmitPU", 11),
];

const CLUSTERS: &[Field] = &[
    ("Cluster", "Cluster", 10),
    ("ControlHost", "ControlHost", 15),
    ("ControlPort", "ControlPort", 12),
    ("RPC", "RPC", 5),
];

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Users,
    Accounts,
    Associations,
    Qos,
    Clusters,
}

impl What {
    fn read(word: &str) -> Option<Self> {
        let lower = word.to_ascii_lowercase();
        let all = [
            ("users", Self::Users),
            ("accounts", Self::Accounts),
            ("associations", Self::Associations),
            ("qos", Self::Qos),
            ("clusters", Self::Clusters),
        ];
        let found = all.iter().find(|(name, _)| name.starts_with(&lower));
        found.filter(|_| !lower.is_empty()).map(|(_, what)| *what)
    }

    /// The condition that a name alone stands for.
    const fn own(self) -> &'static str {
        match self {
            Self::Users => "user",
            Self::Accounts => "account",
            Self::Associations | Self::Qos | Self::Clusters => "name",
        }
    }

    /// The fields that there are, and those that are listed where none is named.
    fn fields(self, with: bool) -> (&'static [Field], &'static str) {
        match self {
            Self::Users if with => (
                ASSOCIATION,
                "User,DefaultAccount,AdminLevel,Cluster,Account,Partition,Share,MaxJobs,\
                 MaxTRESPerNode,MaxSubmit,MaxWall,MaxTRESMins,QOS,DefaultQOS",
            ),
            Self::Users => (ASSOCIATION, "User,DefaultAccount,AdminLevel"),
            Self::Accounts if with => (
                ASSOCIATION,
                "Account,Descr,Organization,Cluster,ParentName,User,Share",
            ),
            Self::Accounts => (ASSOCIATION, "Account,Descr,Organization"),
            Self::Associations => (
                ASSOCIATION,
                "Cluster,Account,User,Partition,Share,GrpJobs,GrpTRES,GrpSubmit,GrpWall,\
                 GrpTRESMins,MaxJobs,MaxTRES,MaxTRESPerNode,MaxSubmit,MaxWall,MaxTRESMins,QOS,\
                 DefaultQOS,GrpTRESRunMins",
            ),
            Self::Qos => (
                QOS,
                "Name,Priority,GraceTime,Preempt,PreemptMode,Flags,UsageFactor,GrpTRES,GrpJobs,\
                 GrpSubmit,MaxWall,MaxTRESPU,MaxJobsPU,MaxSubmitPU",
            ),
            Self::Clusters => (CLUSTERS, "Cluster,ControlHost,ControlPort,RPC"),
        }
    }
}

/// What `sacctmgr show` lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sacctmgr {
    what: What,
    /// With the accounts of users, or the users of accounts.
    with: bool,
    table: Table,
    users: Vec<String>,
    accounts: Vec<String>,
    names: Vec<String>,
}

impl Sacctmgr {
    /// Reads what is to be listed: `show user NAME withassoc format=account%20`.
    ///
    /// # Errors
    /// What sacctmgr would say.
    pub fn read(words: &Words) -> Result<Self, String> {
        let mut rest = words.rest.iter().map(String::as_str);
        let verb = rest.next().unwrap_or_default();
        if !["show", "list"].contains(&verb.to_ascii_lowercase().as_str()) {
            return Err(format!(
                "{verb:?} is not known here: accounts and QOS are in site.toml; known: show, list"
            ));
        }
        let entity = rest.next().unwrap_or_default();
        let what = What::read(entity).ok_or_else(|| {
            format!(
                "invalid entity:{entity} for keyword:{verb}\n\
                 known: user, account, association, qos, cluster"
            )
        })?;
        let (mut users, mut accounts, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let (mut format, mut with) = (None, words.has("--associations"));
        for word in rest {
            let lower = word.to_ascii_lowercase();
            if lower == "withassoc" {
                with = true;
            }
            if matches!(
                lower.as_str(),
                "where" | "withassoc" | "tree" | "wolimits" | "wopinfo"
            ) {
                continue;
            }
            let (name, value) = match lower.split_once('=') {
                Some((name, _)) => (name, &word[name.len() + 1..]),
                None => (what.own(), word),
            };
            let list = || {
                value
                    .split(',')
                    .filter(|one| !one.is_empty())
                    .map(str::to_owned)
            };
            match (name, what) {
                ("format", _) => format = Some(value),
                ("user" | "users", _) | ("name" | "names", What::Users) => users.extend(list()),
                ("account" | "accounts", _) | ("name" | "names", What::Accounts) => {
                    accounts.extend(list());
                }
                ("name" | "names", _) => names.extend(list()),
                // There is one cluster, and accounts are those of all partitions.
                ("cluster" | "clusters" | "partition" | "partitions", _) => {}
                _ => return Err(format!("Unknown condition: {word}")),
            }
        }
        let (known, usual) = what.fields(with);
        Ok(Self {
            what,
            with,
            table: Table::read(words, format.unwrap_or(usual), known)?,
            users,
            accounts,
            names,
        })
    }

    /// Writes the list, of these users, on this host.
    pub fn write(&self, rules: &RulesView, users: &[String], host: &str) -> String {
        let among = |list: &[String], name: &String| list.is_empty() || list.contains(name);
        let users: Vec<&String> = users
            .iter()
            .filter(|user| among(&self.users, user))
            .collect();
        let mut out = self.table.head();
        let mut line = |value: &dyn Fn(&str) -> String| out += &self.table.row(value);
        match self.what {
            What::Clusters => line(&|field| match field {
                "Cluster" => CLUSTER.into(),
                "ControlHost" => host.to_owned(),
                _ => "0".into(),
            }),
            What::Qos => {
                let listed = rules.qos.iter().filter(|qos| among(&self.names, &qos.name));
                listed.for_each(|qos| line(&|field| of_qos(qos, field)));
            }
            What::Users if !self.with => {
                users
                    .iter()
                    .for_each(|user| line(&|field| of_user(user, field)));
            }
            what => {
                let qos: Vec<&str> = rules.qos.iter().map(|qos| qos.name.as_str()).collect();
                let qos = qos.join(",");
                let value = |account: &AccountView, user: Option<&String>, field: &str| match field
                {
                    "QOS" => qos.clone(),
                    field => association(account, user, field),
                };
                let all = rules.accounts.iter();
                for account in all.filter(|its| among(&self.accounts, &its.name)) {
                    if what != What::Users && self.users.is_empty() {
                        line(&|field| value(account, None, field));
                    }
                    if what != What::Accounts || self.with {
                        users.iter().for_each(|user| {
                            line(&|field| value(account, Some(user), field));
                        });
                    }
                }
            }
        }
        out
    }
}

fn of_user(user: &str, field: &str) -> String {
    match field {
        "User" => user.to_owned(),
        "AdminLevel" => "None".into(),
        _ => String::new(),
    }
}

/// An account, or a user in one.
fn association(account: &AccountView, user: Option<&String>, field: &str) -> String {
    match (field, user) {
        ("Cluster", _) => CLUSTER.into(),
        ("Account" | "Descr" | "Organization", _) => account.name.clone(),
        ("Share" | "Fairshare", None) => account.shares.to_string(),
        ("Share" | "Fairshare", Some(user)) => {
            let parts = account.users.get(user).copied();
            parts.unwrap_or(1).to_string()
        }
        ("ParentName", None) => account.parent.clone().unwrap_or_else(|| "root".into()),
        (field, Some(user)) => of_user(user, field),
        _ => String::new(),
    }
}

fn of_qos(qos: &QosView, field: &str) -> String {
    let count = |number: Option<u64>| number.map_or_else(String::new, |n| n.to_string());
    let cores = |number: Option<u64>| number.map_or_else(String::new, |n| format!("cpu={n}"));
    match field {
        "Name" => qos.name.clone(),
        "Priority" => qos.priority.to_string(),
        "GraceTime" => write_slurm(qos.grace),
        "PreemptMode" => qos.preempted.clone().unwrap_or_else(|| "cluster".into()),
        "UsageFactor" => "1.000000".into(),
        "GrpTRES" => cores(qos.cores.0),
        "GrpJobs" => count(qos.tasks.0),
        "GrpSubmit" => count(qos.tasks.1),
        "MaxWall" => qos.limit.map_or_else(String::new, write_slurm),
        "MaxTRESPU" | "MaxTRESPerUser" => cores(qos.cores.1),
        "MaxJobsPU" | "MaxJobsPerUser" => count(qos.each_user.0),
        "MaxSubmitPU" | "MaxSubmitJobsPerUser" => count(qos.each_user.1),
        _ => String::new(),
    }
}

const SHARES: &[Field] = &[
    ("Account", "Account", -20),
    ("User", "User", 10),
    ("RawShares", "RawShares", 10),
    ("NormShares", "NormShares", 11),
    ("RawUsage", "RawUsage", 11),
    ("NormUsage", "NormUsage", 11),
    ("EffectvUsage", "EffectvUsage", 13),
    ("FairShare", "FairShare", 10),
    ("LevelFS", "LevelFS", 10),
    ("GrpTRESMins", "GrpTRESMins", 30),
    ("TRESRunMins", "TRESRunMins", 30),
    ("Cluster", "Cluster", 10),
    ("Partition", "Partition", 12),
];

/// How shares are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sshare {
    table: Table,
    only_users: bool,
    users: Option<Vec<String>>,
    accounts: Option<Vec<String>>,
}

impl Sshare {
    /// Reads how shares are to be listed, for this user.
    ///
    /// # Errors
    /// What sshare would say.
    pub fn read(words: &Words, me: &str) -> Result<Self, String> {
        let usual = match words.has("--long") {
            true => {
                "Account,User,RawShares,NormShares,RawUsage,NormUsage,EffectvUsage,FairShare,\
                 LevelFS,GrpTRESMins,TRESRunMins"
            }
            false => "Account,User,RawShares,NormShares,RawUsage,EffectvUsage,FairShare",
        };
        Ok(Self {
            table: Table::read(words, words.value("--format").unwrap_or(usual), SHARES)?,
            only_users: words.has("--Users"),
            users: match words.has("--all") {
                true => None,
                false => Some(words.list("--users").unwrap_or_else(|| vec![me.to_owned()])),
            },
            accounts: words.list("--accounts"),
        })
    }

    /// Names the fields.
    pub fn known() -> String {
        let names: Vec<&str> = SHARES.iter().map(|field| field.0).collect();
        names.join("\n")
    }

    /// Writes the list: `root`, then each account in front of what lies in it.
    pub fn write(&self, shares: &[ShareView]) -> String {
        let outermost = shares.iter().filter(|its| depth(its) == 1);
        let root = ShareView {
            accounts: vec!["root".into()],
            user: None,
            shares: 0,
            promised: 0.0,
            used: outermost.map(|its| its.used).sum(),
            used_of_all: 1.0,
            fair_share: None,
        };
        let is_meant = |its: &ShareView| {
            let user = match (&its.user, &self.users) {
                (None, _) => !self.only_users,
                (Some(user), Some(users)) => users.contains(user),
                (Some(_), None) => true,
            };
            let account = account(its).to_owned();
            user && self
                .accounts
                .as_ref()
                .is_none_or(|all| all.contains(&account))
        };
        let mut out = self.table.head();
        if is_meant(&root) {
            out += &self.table.row(&|field| match field {
                "RawShares" => String::new(),
                field => share(&root, 0, 1.0, field),
            });
        }
        for its in shares.iter().filter(|its| is_meant(its)) {
            // Beside what all in the same account have used.
            let beside = shares.iter().filter(|other| above(other) == above(its));
            let all: f64 = beside.map(|other| other.used).sum();
            let effective = if all > 0.0 { its.used / all } else { 0.0 };
            out += &self
                .table
                .row(&|field| share(its, depth(its), effective, field));
        }
        out
    }
}

fn share(its: &ShareView, depth: usize, effective: f64, field: &str) -> String {
    let number = |number: f64| format!("{number:.6}");
    match field {
        "Account" => " ".repeat(depth) + account(its),
        "User" => its.user.clone().unwrap_or_default(),
        "RawShares" => its.shares.to_string(),
        "NormShares" => number(its.promised),
        "RawUsage" => format!("{:.0}", its.used),
        "NormUsage" => number(its.used_of_all),
        "EffectvUsage" => number(effective),
        "FairShare" => its.fair_share.map_or_else(String::new, number),
        "LevelFS" if effective == 0.0 => "inf".into(),
        "LevelFS" => number(its.promised / effective),
        "Cluster" => CLUSTER.into(),
        _ => String::new(),
    }
}

/// The account that it is, or that it lies in; none of a user's whose jobs name none.
fn account(its: &ShareView) -> &str {
    its.accounts.last().map_or("", String::as_str)
}

/// How deep it lies.
fn depth(its: &ShareView) -> usize {
    its.accounts.len() + usize::from(its.user.is_some())
}

/// The accounts in which it lies.
fn above(its: &ShareView) -> &[String] {
    let own = usize::from(its.user.is_none());
    &its.accounts[..its.accounts.len().saturating_sub(own)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::listings::words::{Style, read};

    fn words(options: &[Opt], line: &str) -> Words {
        let all: Vec<String> = line.split(' ').map(str::to_owned).collect();
        read(options, Style::Long, &all).expect("words")
    }

    fn rules() -> RulesView {
        let account = |name: &str, parent: Option<&str>, shares| AccountView {
            name: name.into(),
            parent: parent.map(str::to_owned),
            shares,
            users: BTreeMap::from([("ada".to_owned(), 7)]),
        };
        let fast = QosView {
            name: "fast".into(),
            priority: 10,
            preempted: Some("requeue".into()),
            grace: Duration::from_secs(60),
            limit: Some(Duration::from_secs(7200)),
            tasks: (Some(4), None),
            each_user: (None, Some(9)),
            cores: (None, Some(16)),
        };
        RulesView {
            accounts: vec![
                account("physics", None, 3),
                account("quarks", Some("physics"), 1),
            ],
            qos: vec![fast],
        }
    }

    fn says(line: &str) -> Result<String, String> {
        let users = ["ada".to_owned(), "bob".to_owned()];
        let list = Sacctmgr::read(&words(SACCTMGR, line))?;
        Ok(list.write(&rules(), &users, "host"))
    }

    #[test]
    fn accounts_are_told_as_workflow_managers_ask_for_them() {
        // Snakemake
        let one = says("-n -s list user ada format=account%12");
        assert_eq!(one, Ok("     physics \n      quarks \n".into()));
        assert_eq!(
            says("-n -s list user eve format=account%12"),
            Ok(String::new())
        );
        let parts = says("-P show assoc user=ada,bob format=account,user,share,qos");
        assert_eq!(
            parts,
            Ok(
                "Account|User|Share|QOS\nphysics|ada|7|fast\nphysics|bob|1|fast\n\
                quarks|ada|7|fast\nquarks|bob|1|fast\n"
                    .into()
            )
        );
        let accounts =
            says("-n -p show account withassoc where name=quarks format=acc,parent,user");
        assert_eq!(
            accounts,
            Ok("quarks|physics||\nquarks||ada|\nquarks||bob|\n".into())
        );
        let qos = says("show qos fast format=Name,Priority%8,MaxWall,MaxTRESPU,MaxSubmitPU");
        assert_eq!(
            qos,
            Ok(
                "      Name Priority     MaxWall     MaxTRESPU MaxSubmitPU \n\
                ---------- -------- ----------- ------------- ----------- \n      \
                fast       10    02:00:00        cpu=16           9 \n"
                    .into()
            )
        );
        assert_eq!(
            says("-nP list cluster format=cluster,controlhost"),
            Ok("hyperion|host\n".into())
        );
        assert_eq!(says("-nP show user"), Ok("ada||None\nbob||None\n".into()));
    }

    #[test]
    fn what_sacctmgr_does_not_do_here_is_refused() {
        for (line, text) in [
            ("add account x", "is not known here"),
            ("show things", "invalid entity:things"),
            ("show user format=colour", "Unknown field 'colour'"),
            ("show user colour=red", "Unknown condition: colour=red"),
        ] {
            let refused = says(line).expect_err(line);
            assert!(refused.contains(text), "{refused}");
        }
    }

    #[test]
    fn shares_are_told_with_the_accounts_above_them() {
        let share = |accounts: &[&str], user: Option<&str>, used, promised| ShareView {
            accounts: accounts.iter().map(|name| (*name).to_owned()).collect(),
            user: user.map(str::to_owned),
            shares: 2,
            promised,
            used,
            used_of_all: used / 40.0,
            fair_share: user.map(|_| 0.5),
        };
        let shares = [
            share(&[], Some("ada"), 10.0, 0.25),
            share(&["physics"], None, 30.0, 0.75),
            share(&["physics"], Some("ada"), 20.0, 0.5),
            share(&["physics"], Some("bob"), 10.0, 0.5),
        ];
        let says = |line: &str| {
            let list = Sshare::read(&words(SSHARE, line), "ada").expect("read");
            list.write(&shares)
        };
        assert_eq!(
            says("-P"),
            "Account|User|RawShares|NormShares|RawUsage|EffectvUsage|FairShare\n\
             root|||0.000000|40|1.000000|\n |ada|2|0.250000|10|0.250000|0.500000\n \
             physics||2|0.750000|30|0.750000|\n  physics|ada|2|0.500000|20|0.666667|0.500000\n"
        );
        assert_eq!(
            says("-U -h -o Account%-9,User%5"),
            "            ada \n  physics   ada \n"
        );
        assert_eq!(
            says("-n -P -a -A physics -o user,levelfs"),
            "|1.000000\nada|0.750000\nbob|1.500000\n"
        );
        let wrong = Sshare::read(&words(SSHARE, "-o Account,Colour"), "ada");
        assert_eq!(wrong.err().as_deref(), Some("Unknown field 'Colour'"));
    }
}
