//! The journal through kills, full disks and broken files.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hyperion_lifecycle::{Carried, Change, Record, Time};
use hyperion_server::journal::{Broken, Journal, JournalError, Text};
use hyperion_testkit::{Dice, requires};
use tempfile::TempDir;

/// Says to a process of this program that it is to write, and where.
const WRITER: &str = "HYPERION_TEST_JOURNAL";

/// What was found when a journal was opened.
#[derive(Debug)]
struct Found {
    records: Vec<Record>,
    broken: Option<Broken>,
}

fn open(path: &Path) -> Result<(Journal, Found), JournalError> {
    let mut records = Vec::new();
    let (journal, broken) = Journal::open(path, |record| records.push(record))?;
    Ok((journal, Found { records, broken }))
}

fn record(number: u64) -> Record {
    Record {
        at: Time(number),
        change: Change::Due { job: number },
    }
}

fn records(numbers: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    numbers.map(record).collect()
}

fn below(folder: &Path, name: &str) -> PathBuf {
    let below = folder.join(name);
    fs::create_dir(&below).expect("a folder");
    below
}

/// Makes a journal of so many records in the folder's file `journal`.
fn made(folder: &Path, count: u64) -> PathBuf {
    let path = folder.join("journal");
    let (mut journal, found) = open(&path).expect("a new one");
    assert_eq!(found.records, []);
    journal.append(&records(1..=count), &[]).expect("written");
    path
}

#[test]
fn what_was_written_is_read() {
    let folder = TempDir::new().expect("a folder");
    let path = made(folder.path(), 3);
    let (mut journal, found) = open(&path).expect("opened");
    assert_eq!(found.records, records(1..=3));
    assert!(found.broken.is_none(), "{:?}", found.broken);
    journal.append(&[], &[]).expect("nothing");
    journal.append(&[record(4)], &[]).expect("written");
    // One at a time.
    let second = open(&path).expect_err("in use");
    assert!(matches!(second, JournalError::InUse(_)), "{second}");
    drop(journal);
    let (_, found) = open(&path).expect("opened");
    assert_eq!(found.records, records(1..=4));
}

#[test]
fn what_is_on_the_disk_is_read_where_nobody_has_closed_the_journal() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("journal");
    let log = folder.path().join("journal-wal");
    let (mut journal, _) = open(&path).expect("a new one");
    for number in 1..=400 {
        journal.append(&[record(number)], &[]).expect("written");
        let written = fs::metadata(&log).expect("a log").len();
        journal.sync().expect("on the disk");
        let on_disk = fs::metadata(&log).expect("a log").len();
        assert!(on_disk >= written);
        if number % 50 != 0 {
            continue;
        }
        let copy = below(folder.path(), &number.to_string());
        for file in [&path, &log] {
            let name = file.file_name().expect("a name");
            fs::copy(file, copy.join(name)).expect("copied");
        }
        let (mut journal, found) = open(&copy.join("journal")).expect("opened");
        assert!(found.broken.is_none(), "{:?}", found.broken);
        assert_eq!(found.records, records(1..=number));
        journal.append(&[record(number + 1)], &[]).expect("written");
        journal.sync().expect("on the disk");
    }
}

#[test]
fn what_is_no_journal_is_left_as_it_is() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("journal");
    let text = b"This is a letter to my aunt, and no journal at all.\n".repeat(200);
    fs::write(&path, &text).expect("written");
    let error = open(&path).expect_err("foreign");
    assert!(matches!(error, JournalError::Foreign(_)), "{error:?}");
    assert_eq!(fs::read(&path).expect("read"), text);
    let newer = made(&below(folder.path(), "newer"), 1);
    let connection = rusqlite::Connection::open(&newer).expect("opened");
    connection
        .pragma_update(None, "user_version", 7)
        .expect("set");
    drop(connection);
    let error = open(&newer).expect_err("newer");
    assert!(
        matches!(error, JournalError::Form { form: 7, .. }),
        "{error:?}"
    );
}

/// Writes groups of three and says how many records are acknowledged, until it is
/// killed or refused.
fn write_on(path: &Path) {
    let (mut journal, found) = open(path).expect("opened");
    let mut last = found.records.len() as u64;
    loop {
        if let Err(e) = journal.append(&records(last + 1..=last + 3), &[]) {
            println!("refused: {e}");
            return;
        }
        last += 3;
        println!("acknowledged {last}");
    }
}

/// This program, as the process that writes.
fn writer(path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args([
            "--exact",
            "nothing_that_was_acknowledged_is_lost_when_the_writer_is_killed",
            "--nocapture",
        ])
        .env(WRITER, path)
        .stdout(Stdio::piped());
    command
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_writer_is_killed() {
    if let Some(path) = std::env::var_os(WRITER) {
        return write_on(Path::new(&path));
    }
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("journal");
    let mut before = 0;
    for round in 1..=10 {
        let mut child = writer(&path).spawn().expect("started");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut told = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok());
        let acknowledged = told.nth(round * 7).expect("some");
        child.kill().expect("killed");
        child.wait().expect("ended");
        let acknowledged = told.last().unwrap_or(acknowledged);
        let (_, found) = open(&path).expect("opened");
        let count = found.records.len() as u64;
        assert!(found.broken.is_none() && count >= acknowledged && acknowledged > before);
        assert!(
            count.is_multiple_of(3),
            "a group is whole or not there: {count}"
        );
        assert_eq!(found.records, records(1..=count));
        before = count;
    }
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    requires!("root");
    let folder = TempDir::new().expect("a folder");
    let script = "mount -t tmpfs -o size=512k none \"$1\" && shift && \"$@\"; \
                  cp \"$HYPERION_TEST_JOURNAL\"* \"$0\"";
    let (inside, kept) = (folder.path().join("disk"), folder.path().join("kept"));
    for folder in [&inside, &kept] {
        fs::create_dir(folder).expect("a folder");
    }
    let plain = writer(&inside.join("journal"));
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .args([&kept, &inside])
        .arg(plain.get_program())
        .args(plain.get_args())
        .env(WRITER, inside.join("journal"));
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("refused: there is no room for the journal"),
        "{output:?}"
    );
    let acknowledged = said
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("acknowledged "));
    let acknowledged: u64 = acknowledged.and_then(|n| n.parse().ok()).expect("some");
    let (mut journal, found) = open(&kept.join("journal")).expect("opened");
    assert_eq!(found.records, records(1..=acknowledged));
    journal
        .append(&[record(acknowledged + 1)], &[])
        .expect("there is room here");
}

#[test]
fn a_broken_journal_is_kept_and_read_as_far_as_it_is_whole() {
    const COUNT: u64 = 400;
    let folder = TempDir::new().expect("a folder");
    let whole = fs::read(made(folder.path(), COUNT)).expect("read");
    let size = whole.len();
    assert!(size > 20_000, "several pages: {size}");
    let (mut broken, mut shortest) = (0, COUNT);
    // Torn pages at many places, and files that were cut short.
    let torn = (4096..size).step_by(1531).map(|at| {
        let mut bytes = whole.clone();
        let end = (at + 700).min(size);
        bytes[at..end].fill(0x5a);
        bytes
    });
    let cut = (4096..size).step_by(2777).map(|at| whole[..at].to_vec());
    for (case, bytes) in torn.chain(cut).enumerate() {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("journal");
        fs::write(&path, &bytes).expect("written");
        let (mut journal, found) = open(&path).expect("opened");
        let count = found.records.len() as u64;
        assert_eq!(found.records, records(1..=count), "case {case}");
        let Some(its) = found.broken else {
            assert_eq!(count, COUNT, "case {case}");
            continue;
        };
        broken += 1;
        shortest = shortest.min(count);
        assert!(!its.why.is_empty());
        assert_eq!(fs::read(&its.copy).expect("kept"), bytes, "case {case}");
        journal
            .append(&[record(count + 1)], &[])
            .expect("it goes on");
        drop(journal);
        let (_, again) = open(&path).expect("opened again");
        assert!(again.broken.is_none());
        assert_eq!(again.records, records(1..=count + 1));
        let names = fs::read_dir(folder.path()).expect("listed");
        let mut names: Vec<_> = names.map(|entry| entry.expect("one").file_name()).collect();
        names.sort();
        assert_eq!(names, ["journal", "journal.broken-1", "journal.lock"]);
    }
    assert!(
        broken > 5 && shortest < COUNT,
        "{broken} broken, {shortest} records at least"
    );
}

#[test]
fn no_record_is_read_as_another_whatever_becomes_of_the_bytes() {
    const COUNT: u64 = 300;
    let folder = TempDir::new().expect("a folder");
    let whole = fs::read(made(folder.path(), COUNT)).expect("read");
    let mut dice = Dice(4);
    let mut broken = 0;
    for case in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..1 + dice.below(3) {
            let at = dice.below(bytes.len());
            match dice.below(4) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = dice.below(256) as u8,
                _ => bytes[at] ^= 1 << dice.below(8),
            }
        }
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("journal");
        fs::write(&path, &bytes).expect("written");
        match open(&path) {
            Ok((_, found)) => {
                let count = found.records.len() as u64;
                assert_eq!(found.records, records(1..=count), "case {case}");
                let is_broken = found.broken.is_some();
                assert!(is_broken || count == COUNT, "case {case}: {count} records");
                broken += u32::from(is_broken);
            }
            // Nothing says any more that it is one of ours: it is left as it is.
            Err(JournalError::Foreign(_) | JournalError::Form { .. }) => {
                assert_eq!(fs::read(&path).expect("read"), bytes, "case {case}");
            }
            Err(error) => panic!("case {case}: {error:?}"),
        }
    }
    assert!(broken > 200, "only {broken} were found to be broken");
}

#[test]
fn a_record_that_is_not_understood_is_told_and_nothing_is_taken_away() {
    let folder = TempDir::new().expect("a folder");
    let path = made(folder.path(), 3);
    let connection = rusqlite::Connection::open(&path).expect("opened");
    // A sum as this version makes it, of words that it does not know.
    let copied = "INSERT INTO record (at, job, change, sum) VALUES (1, 1, '{\"magic\":{}}', ?1)";
    let sum = [1i64, 1].map(i64::to_le_bytes);
    let bytes = sum.as_flattened().iter().chain(b"{\"magic\":{}}");
    let sum = bytes.fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    connection
        .execute(copied, [sum.cast_signed()])
        .expect("written");
    drop(connection);
    let error = open(&path).expect_err("not understood");
    assert!(
        matches!(error, JournalError::Strange { number: 4, .. }),
        "{error:?}"
    );
    assert!(!folder.path().join("journal.broken-1").exists());
}

#[test]
fn a_journal_without_the_records_of_forgotten_jobs_says_the_same_of_the_others() {
    let folder = TempDir::new().expect("a folder");
    let path = made(folder.path(), 9);
    let (mut journal, _) = open(&path).expect("opened");
    let texts = [Text::new(b"one".to_vec()), Text::new(b"two".to_vec())];
    let node = Record {
        at: Time(10),
        change: Change::Unbooked { name: "a".into() },
    };
    let carried = |next| Record {
        at: Time(11),
        change: Change::Carried(Carried {
            began: Time(1),
            next,
            used: Vec::new(),
        }),
    };
    journal
        .append(std::slice::from_ref(&node), &texts)
        .expect("written");
    let kept = BTreeSet::from([texts[1].digest.as_str()]);
    for next in [10, 11] {
        let known = |job: u64| job.is_multiple_of(3);
        journal
            .compact(known, &kept, &carried(next))
            .expect("smaller");
    }
    journal.append(&[record(12)], &[]).expect("it goes on");
    assert_eq!(journal.text(&texts[0].digest).expect("read"), None);
    assert_eq!(
        journal.text(&texts[1].digest).expect("read").as_deref(),
        Some(&b"two"[..])
    );
    drop(journal);
    let (_, found) = open(&path).expect("opened");
    assert!(found.broken.is_none(), "{found:?}");
    let kept = [
        record(3),
        record(6),
        record(9),
        node,
        carried(11),
        record(12),
    ];
    assert_eq!(found.records, kept);
}

#[test]
fn whoever_mends_a_journal_may_be_killed() {
    let folder = TempDir::new().expect("a folder");
    let path = made(folder.path(), 5);
    // The new one is whole and is to be taken; the old one is half gone.
    let new = made(&below(folder.path(), "other"), 3);
    fs::copy(&new, folder.path().join("journal.new")).expect("copied");
    fs::write(folder.path().join("journal.take-new"), "").expect("marked");
    fs::remove_file(&path).expect("removed");
    let (journal, found) = open(&path).expect("opened");
    assert_eq!(found.records, records(1..=3));
    drop(journal);
    // It was not whole yet: the old one is there still.
    fs::write(folder.path().join("journal.new"), "half").expect("written");
    let (_, found) = open(&path).expect("opened");
    assert_eq!(found.records, records(1..=3));
    assert!(!folder.path().join("journal.new").exists());
}

#[test]
fn texts_are_kept_once_and_are_taken_over_from_a_broken_journal() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("journal");
    let texts = [
        Text::new(b"#!/bin/sh\n".to_vec()),
        Text::new(vec![0xff; 5000]),
    ];
    {
        let (mut journal, _) = open(&path).expect("opened");
        journal.append(&records(1..=300), &texts).expect("written");
        journal
            .append(&[record(301)], &texts[..1])
            .expect("the same again");
        journal.sync().expect("on the disk");
        assert_eq!(journal.text("none").expect("read"), None);
    }
    let bytes = fs::read(&path).expect("read");
    let mut whole = 0;
    for at in (4096..bytes.len()).step_by(4096) {
        let mut torn = bytes.clone();
        torn[at..at + 2048].fill(0x5a);
        fs::write(&path, &torn).expect("written");
        let (journal, found) = open(&path).expect("opened");
        if found.broken.is_none() {
            continue;
        }
        let kept = texts.iter().filter(|text| {
            let found = journal.text(&text.digest).expect("read");
            assert!(found.is_none() || found.as_ref() == Some(&text.bytes));
            found.is_some()
        });
        whole += usize::from(kept.count() == 2 && !found.records.is_empty());
    }
    assert!(whole > 0, "a broken page of records takes no text along");
}
