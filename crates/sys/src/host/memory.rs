//! Memory, huge pages and the limit on open files.

use hyperion_model::{Bytes, Check, Verdict};
use serde::Serialize;

use super::{Host, seen};

/// Amounts of `/proc/meminfo`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All memory that the kernel has.
    pub total: Bytes,
    /// What new programs can get without swapping.
    pub available: Bytes,
    /// Swap space.
    pub swap: Bytes,
    /// Pools of huge pages, one for each size.
    pub huge_pages: Vec<HugePages>,
}

/// One pool of huge pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HugePages {
    /// Size of a page.
    pub size: Bytes,
    /// Pages in the pool.
    pub total: u64,
    /// Pages that nobody uses.
    pub free: u64,
}

/// Reads an amount of `/proc/meminfo`, which counts in KiB.
fn amount(meminfo: &str, key: &str) -> Option<Bytes> {
    let rest = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = rest.trim().trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1024).map(Bytes)
}

/// Reads how much memory the host has; `None` when it is not told.
pub fn memory_total(host: &Host) -> Option<Bytes> {
    amount(&host.text("/proc/meminfo")?, "MemTotal")
}

/// Reads the host's memory; amounts that are not told are zero.
pub fn memory(host: &Host) -> Memory {
    let text = host.text("/proc/meminfo").unwrap_or_default();
    let read = |key| amount(&text, key).unwrap_or_default();
    Memory {
        total: read("MemTotal"),
        available: read("MemAvailable"),
        swap: read("SwapTotal"),
        huge_pages: huge_pages(host),
    }
}

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

fn huge_pages(host: &Host) -> Vec<HugePages> {
    let pools = host.list(HUGE_PAGES).into_iter();
    pools
        .filter_map(|name| {
            let kib: u64 = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            let read = |file: &str| host.value(format!("{HUGE_PAGES}/{name}/{file}"));
            Some(HugePages {
                size: Bytes(kib.checked_mul(1024)?),
                total: read("nr_hugepages")?,
                free: read("free_hugepages").unwrap_or_default(),
            })
        })
        .collect()
}

pub(super) fn check_memory(host: &Host) -> Check {
    let memory = memory(host);
    if memory.total == Bytes(0) {
        return seen("memory", Verdict::Unknown, "/proc/meminfo has no MemTotal");
    }
    let evidence = format!(
        "{} in all, {} available, {} swap (/proc/meminfo)",
        memory.total, memory.available, memory.swap
    );
    seen("memory", Verdict::Ok, evidence)
}

pub(super) fn check_hugepages(host: &Host) -> Check {
    let transparent_path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let transparent = host.text(transparent_path).unwrap_or_default();
    let transparent = selected(&transparent).unwrap_or("not offered");
    let pools = huge_pages(host);
    let words: Vec<String> = pools
        .iter()
        .map(|p| format!("{} × {}, {} free", p.total, p.size, p.free))
        .collect();
    let words = if words.is_empty() {
        "none".to_owned()
    } else {
        words.join("; ")
    };
    let evidence = format!("reserved: {words} ({HUGE_PAGES}); transparent: {transparent}");
    if pools.is_empty() && transparent == "not offered" {
        return Check {
            consequence: "large arrays cost more address translation".into(),
            ..seen("hugepages", Verdict::Missing, evidence)
        };
    }
    // With "madvise" programs ask for them; most numerical libraries do not.
    if transparent == "never" && pools.iter().all(|p| p.total == 0) {
        return Check {
            consequence: "large arrays cost more address translation".into(),
            fix: format!("echo madvise > {transparent_path}"),
            ..seen("hugepages", Verdict::Limited, evidence)
        };
    }
    seen("hugepages", Verdict::Ok, evidence)
}

/// Finds the chosen word of `always [madvise] never`.
fn selected(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0)
}

/// A row of `/proc/self/limits`: soft and hard, `None` for unlimited.
pub(super) fn limit(limits: &str, name: &str) -> Option<(Option<u64>, Option<u64>)> {
    let mut words = limits
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace();
    let mut next = || match words.next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some((next()?, next()?))
}

pub(super) fn check_open_files(host: &Host) -> Check {
    let path = "/proc/self/limits";
    let limits = host.text(path).unwrap_or_default();
    let Some((soft, hard)) = limit(&limits, "Max open files") else {
        return seen(
            "open-files",
            Verdict::Unknown,
            format!("{path} has no row of open files"),
        );
    };
    let words = |n: Option<u64>| n.map_or("unlimited".to_owned(), |n| n.to_string());
    let evidence = format!("soft {}, hard {} ({path})", words(soft), words(hard));
    // A rank costs its supervisor three pipes and a PMI connection.
    if hard.is_some_and(|n| n < 4096) {
        return Check {
            consequence: "jobs of several hundred ranks on this host run out of descriptors".into(),
            fix: "set `* hard nofile 65536` in /etc/security/limits.d/hyperion.conf".into(),
            ..seen("open-files", Verdict::Limited, evidence)
        };
    }
    seen("open-files", Verdict::Ok, evidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits_are_read_by_their_row() {
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  unlimited  files";
        assert_eq!(limit(text, "Max open files"), Some((Some(1024), None)));
        assert_eq!(limit(text, "Max processes"), None);
    }

    #[test]
    fn the_chosen_word_stands_in_brackets() {
        assert_eq!(selected("always [madvise] never"), Some("madvise"));
        assert_eq!(selected("]["), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "(MemTotal|\\PC|[:\n \\[\\]]|[0-9]){0,200}") {
            let _ = amount(&text, "MemTotal");
            let _ = selected(&text);
            let _ = limit(&text, "Mem");
        }
    }
}
