//! Numbers and sizes in options.

use hyperion_model::Bytes;

use super::options::Wrong;
use super::tell::shown;

/// The most of anything that is counted: no machine has more, and sums stay small.
const MOST: u32 = 100_000_000;

/// Reads a number that is at least `least`.
pub(super) fn count(text: &str, least: u32) -> Result<u32, Wrong> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text
        .parse()
        .ok()
        .filter(|number| digits && (least..=MOST).contains(number));
    number.ok_or_else(|| {
        let wrong = Wrong::new(format!("{} is not a number from {least} to {MOST}", shown(text)));
        match text.contains('$') {
            true => wrong.hint("no shell reads directives: write the number itself, or give the option on the command line"),
            false => wrong,
        }
    })
}

/// Reads a size whose unit is a letter, with or without `B`: powers of 1024.
/// `bare` is what a number without a unit counts.
pub(super) fn size(text: &str, bare: u64) -> Result<Bytes, Wrong> {
    let bad = || {
        Wrong::new(format!("{} is not a size", shown(text)))
            .hint("write a whole number and a unit, such as 4G or 500M")
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let unit = unit.to_ascii_lowercase();
    let unit = unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b').filter(|u| !u.is_empty()))
        .unwrap_or(&unit);
    let factor = match unit {
        "" => bare,
        "b" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return Err(bad()),
    };
    let bytes = number.checked_mul(factor).filter(|bytes| *bytes <= 1 << 60);
    bytes
        .map(Bytes)
        .ok_or_else(|| Wrong::new(format!("{} is more than any machine has", shown(text))))
}

/// Reads the size of PBS, whose units may also count words of 8 bytes.
pub(super) fn pbs_size(text: &str) -> Result<Bytes, Wrong> {
    let lower = text.to_ascii_lowercase();
    let Some(words) = lower.strip_suffix('w') else {
        return size(text, 1);
    };
    let Bytes(bytes) = size(words, 1)?;
    let wrong = || Wrong::new(format!("{} is more than any machine has", shown(text)));
    bytes.checked_mul(8).map(Bytes).ok_or_else(wrong)
}

/// Splits at a separator outside of brackets and quotes, which stay.
pub(super) fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut deep, mut quote, mut from) = (0usize, None, 0);
    for (at, character) in text.char_indices() {
        match (character, quote) {
            (_, Some(end)) if character == end => quote = None,
            (_, Some(_)) => {}
            ('"' | '\'', None) => quote = Some(character),
            ('[' | '(' | '{', None) => deep += 1,
            (']' | ')' | '}', None) => deep = deep.saturating_sub(1),
            _ if character == separator && deep == 0 => {
                parts.push(&text[from..at]);
                from = at + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// Takes one pair of quotes away.
pub(super) fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}
