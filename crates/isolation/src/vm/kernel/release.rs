//! The names of kernels, as `uname -r` prints them.

use std::cmp::Ordering;

/// The longest that a kernel can have, in bytes (`__NEW_UTS_LEN`).
const LONGEST: usize = 64;

/// Says whether this can be a kernel's release; nothing else becomes part of a path.
pub(super) fn is_valid(release: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._+~-".contains(&b);
    release.len() <= LONGEST
        && release.starts_with(|c: char| c.is_ascii_digit())
        && release.bytes().all(allowed)
}

/// Compares as versions are: numbers by their value.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    parts(a).cmp(parts(b))
}

/// Words before numbers, so that a release candidate comes before its release.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Word(&'a str),
    Number(usize, &'a str),
}

fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let first = rest.chars().next()?;
        let digit = first.is_ascii_digit();
        let of_it = |c: char| c.is_ascii_alphanumeric() && c.is_ascii_digit() == digit;
        let end = rest.find(|c| !of_it(c)).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        rest = after;
        let number = part.trim_start_matches('0');
        Some(match digit {
            true => Part::Number(number.len(), number),
            false => Part::Word(part),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_kernel_calls_itself_is_a_release() {
        for good in [
            "6.1.0-56-cloud-amd64",
            "6.12.9+bpo-amd64",
            "5.15.0",
            "6.9~rc1",
        ] {
            assert!(is_valid(good), "{good}");
        }
        let long = "6".repeat(65);
        for bad in [
            "", ".", "..", "../6.1", "6.1/..", "default", ".new-x", "6 1", "6.1\n", "-6", &long,
            "6.1\0",
        ] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_newest_is_found_by_numbers() {
        let mut all = [
            "6.1.0-56-cloud-amd64",
            "5.10.0-9-amd64",
            "6.1.0-6-cloud-amd64",
            "6.12.0-1-amd64",
            "6.1.0-056-cloud-amd64",
        ];
        all.sort_by(|a, b| compare(a, b));
        assert_eq!(
            all,
            [
                "5.10.0-9-amd64",
                "6.1.0-6-cloud-amd64",
                "6.1.0-56-cloud-amd64",
                "6.1.0-056-cloud-amd64",
                "6.12.0-1-amd64",
            ]
        );
    }
}
