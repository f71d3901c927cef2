//! Who has used what, and who comes first for it.

use std::collections::BTreeMap;

use hyperion_lifecycle::{Account, End, Event, FairShare, Rules, ShareOf, TaskId, Who};
use hyperion_model::report::Exit;
use hyperion_model::submission::TimeLimit;
use hyperion_sched::{Order, Weights};
use std::time::Duration;

use crate::case::{Case, USER, ledger_of};

const HOUR: u64 = 3600;

fn other() -> Who {
    Who {
        user: 1001,
        operator: false,
    }
}

/// Physics has three parts and chemistry one; in physics, user 1001 has two.
fn rules() -> Rules {
    let account = |shares, users: &[(u32, u64)]| Account {
        parent: Some("science".into()),
        shares,
        users: users.iter().copied().collect(),
    };
    Rules {
        fair_share: FairShare {
            half_life_minutes: 60,
            ..FairShare::default()
        },
        accounts: BTreeMap::from([
            ("science".into(), Account::default()),
            ("physics".into(), account(3, &[(1001, 2)])),
            ("chemistry".into(), account(1, &[])),
        ]),
        ..Rules::default()
    }
}

fn by_fair_share() -> Order {
    Order::Multifactor(Weights {
        fair_share: 1000,
        ..Weights::default()
    })
}

fn case() -> Case {
    Case {
        ledger: ledger_of(1, 4, rules(), by_fair_share()),
        ..Case::new(4)
    }
}

fn submit(case: &mut Case, who: Who, account: &str, cores: u32) -> u64 {
    case.who = who;
    case.submit(cores, |asked| {
        asked.account = Some(account.into());
        asked.time_limit = Some(TimeLimit::Span(Duration::from_secs(10 * HOUR)));
    })
}

fn task(job: u64) -> TaskId {
    TaskId { job, index: 0 }
}

fn over(case: &mut Case, job: u64) {
    case.tell(Event::Over(task(job), End::Exit(Exit::Code(0))));
}

/// What a user, or an account, has used, in core-seconds.
fn used(case: &Case, account: &str, user: Option<u32>) -> f64 {
    let shares = case.ledger.shares(case.now);
    let is = |its: &&ShareOf| its.user == user && its.accounts.last().is_some_and(|a| a == account);
    shares.iter().find(is).expect("a share").used
}

#[test]
fn who_has_used_less_of_his_part_starts_first_and_what_was_used_fades() {
    let mut case = case();
    let first = submit(&mut case, USER, "physics", 4);
    assert_eq!(case.started(), [task(first)]);
    case.at(HOUR);
    // Four cores for a half-life: of that, (1 - 1/2) / ln 2 of an hour counts.
    let right = 4.0 * 3600.0 * 0.5 / std::f64::consts::LN_2;
    for (account, user) in [
        ("physics", Some(1000)),
        ("physics", None),
        ("science", None),
    ] {
        assert!((used(&case, account, user) - right).abs() < 0.1);
    }
    // While it runs the order is known: in the same account who has used nothing comes
    // first, and before both who is in an account that has used nothing.
    let again = submit(&mut case, USER, "physics", 4);
    let mine = submit(&mut case, other(), "physics", 4);
    let chemist = submit(&mut case, other(), "chemistry", 4);
    over(&mut case, first);
    assert_eq!(case.started(), [task(chemist)]);
    // After a minute chemistry has used far less than a third of what physics has.
    case.at(HOUR + 60);
    over(&mut case, chemist);
    assert_eq!(case.started(), [task(mine)]);
    // After six hours it is the other way round.
    case.at(7 * HOUR);
    over(&mut case, mine);
    assert_eq!(case.started(), [task(again)]);
    let faded = used(&case, "physics", Some(1000));
    assert!((faded - right / 64.0).abs() < 1.0, "{faded}");
}

#[test]
fn what_stands_still_is_not_charged_and_other_things_count_as_the_site_has_it() {
    let mut case = case();
    let job = submit(&mut case, USER, "physics", 2);
    case.started();
    case.tell(Event::Up(task(job)));
    case.at(60).tell(Event::Suspend(USER, task(job)));
    let before = used(&case, "physics", Some(1000));
    case.at(120);
    assert!(used(&case, "physics", Some(1000)) < before);
    case.tell(Event::Resume(USER, task(job)));
    case.schedule();
    case.at(180);
    let after = used(&case, "physics", Some(1000));
    assert!(
        after > 1.9 * before && after < 2.0 * before,
        "{before} {after}"
    );
    case.tell(Event::Cancel(USER, job, None));
    case.tell(Event::Over(task(job), End::Exit(Exit::Signal(15))));
    let ended = used(&case, "physics", Some(1000));
    case.at(180 + HOUR);
    let later = used(&case, "physics", Some(1000));
    assert!((later - ended / 2.0).abs() < 0.1, "{ended} {later}");
    // 2 cores, and 8 GiB of which 4 count as one.
    let dear = Rules {
        fair_share: FairShare {
            half_life_minutes: 0,
            memory_per_core_mib: Some(4096),
            ..FairShare::default()
        },
        ..Rules::default()
    };
    let mut case = Case {
        ledger: ledger_of(1, 4, dear, by_fair_share()),
        ..Case::new(4)
    };
    case.submit(2, |asked| {
        asked.account = Some("physics".into());
        let memory = &mut asked.parts[0].memory;
        memory.insert(
            hyperion_model::submission::Per::Node,
            hyperion_model::Bytes(8 << 30),
        );
    });
    case.started();
    case.at(100);
    assert_eq!(used(&case, "physics", Some(1000)), 400.0);
}

#[test]
fn a_journal_that_is_read_gives_the_same_usage() {
    let mut case = case();
    for (at, who, account) in [(0, USER, "physics"), (777, other(), "chemistry")] {
        case.at(at);
        let job = submit(&mut case, who, account, 3);
        case.started();
        case.at(at + 500);
        over(&mut case, job);
    }
    submit(&mut case, USER, "elsewhere", 1);
    case.started();
    let mut replayed = ledger_of(1, 4, rules(), by_fair_share());
    case.journal
        .iter()
        .for_each(|record| replayed.apply(record));
    case.at(5000);
    assert_eq!(replayed.shares(case.now), case.ledger.shares(case.now));
    let elsewhere = used(&case, "elsewhere", None);
    assert!(elsewhere > 2600.0, "{elsewhere}");
}

#[test]
fn accounts_that_lie_nowhere_or_in_themselves_are_told() {
    let check = |accounts: &[(&str, &str)]| {
        let account = |parent: &str| Account {
            parent: Some(parent.into()),
            ..Account::default()
        };
        let accounts = accounts.iter();
        let rules = Rules {
            accounts: accounts.map(|(n, p)| ((*n).into(), account(p))).collect(),
            ..Rules::default()
        };
        rules.check().map_err(|e| e.to_string())
    };
    assert_eq!(check(&[("a", "b")]), Err("there is no account b".into()));
    let round = check(&[("a", "b"), ("b", "a")]);
    assert_eq!(round, Err("account a lies in itself".into()));
    assert_eq!(rules().check(), Ok(()));
}
