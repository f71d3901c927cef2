//! Numbers, amounts of memory and sets of processors, as libvirt writes them.

use std::collections::BTreeSet;

use hyperion_model::{Bytes, CpuSet};

use super::super::Remedy;
use super::{Reading, shown};
use crate::xml::{Attribute, Element, Place};

impl Reading {
    /// Reads an element that holds an amount; KiB where it names no unit.
    pub(super) fn amount(&mut self, mut element: Element, foreign: &[&str]) -> Option<Bytes> {
        let unit = element.take_attribute("unit");
        let text = std::mem::take(&mut element.text);
        let amount = self.scaled(text.trim(), unit.as_ref(), &element, element.place);
        self.leftovers(element, foreign);
        amount
    }

    pub(super) fn scaled(
        &mut self,
        text: &str,
        unit: Option<&Attribute>,
        element: &Element,
        place: Place,
    ) -> Option<Bytes> {
        let name = &element.name;
        let word = unit.map_or("KiB", |unit| unit.value.as_str());
        let Some(factor) = factor(word) else {
            let ask = "write unit='MiB', or another of KiB, GiB, MB, GB";
            let what = format!("<{name} unit='{}'>: no such unit", shown(word));
            self.wrong(
                unit.map_or(place, |unit| unit.place),
                what,
                Remedy::Ask(ask.into()),
            );
            return None;
        };
        let whole = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let product = text.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
        match product {
            Some(bytes) if whole => {
                if factor.is_multiple_of(1000) {
                    let what = format!(
                        "{text} {word} are {bytes} bytes, not {text} {}iB ({}): <{name}> is carried over as written",
                        &word[..1],
                        Bytes(bytes),
                    );
                    self.note(place, what);
                }
                return Some(Bytes(bytes));
            }
            _ => {}
        }
        // "4GiB" and "1.5" are no whole numbers, and still say an amount.
        let with_unit = if unit.is_none() {
            text.to_owned()
        } else {
            format!("{text}{word}")
        };
        let meant = text
            .parse::<f64>()
            .ok()
            .map(|_| with_unit.as_str())
            .or(unit.is_none().then_some(text));
        let meant = meant
            .filter(|_| !text.is_empty())
            .and_then(|text| text.parse::<Bytes>().ok());
        // A number without a unit is KiB, which the parser of sizes would take for bytes.
        let meant = meant.filter(|_| unit.is_some() || text.ends_with(char::is_alphabetic));
        let what = format!("<{name}>{}: not a whole number", shown(text));
        match meant {
            Some(bytes) => {
                let (number, unit) = exact(bytes);
                let remedy = Remedy::Write(format!("<{name} unit='{unit}'>{number}</{name}>"));
                self.wrong(place, what, remedy);
                Some(bytes)
            }
            None => {
                let ask = format!("write <{name} unit='MiB'> and a number");
                self.wrong(place, what, Remedy::Ask(ask));
                None
            }
        }
    }

    /// Reads a set of processors as libvirt writes it: `0-3,^2,8`.
    pub(super) fn cpuset(&mut self, text: &str, place: Place, what: &str) -> Option<CpuSet> {
        let mut set = BTreeSet::new();
        let mut fine = !text.trim().is_empty();
        for part in text.split(',').map(str::trim) {
            let (out, part) = part
                .strip_prefix('^')
                .map_or((false, part), |part| (true, part));
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Some(first), Some(last)) = (number(first), number(last)) else {
                fine = false;
                break;
            };
            let length = (last as usize + 1).saturating_sub(first as usize);
            if length == 0 || length > self.cpus_left || last > 16_383 {
                fine = false;
                break;
            }
            self.cpus_left -= length;
            for cpu in first..=last {
                if out {
                    set.remove(&cpu);
                } else {
                    set.insert(cpu);
                }
            }
        }
        if fine && !set.is_empty() {
            return Some(CpuSet(set));
        }
        let what = format!(
            "{what}: {} is not a list of processors such as 0-3,8",
            shown(text)
        );
        self.left_out(place, what);
        None
    }
}

/// Reads a number of digits alone.
pub(super) fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// How many bytes libvirt's unit has; it does not look at capitals.
fn factor(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    if matches!(unit.as_str(), "b" | "byte" | "bytes") {
        return Some(1);
    }
    let (letter, rest) = unit.split_at_checked(1)?;
    let power = "kmgtpe".find(letter)? as u32 + 1;
    match rest {
        "" | "ib" => Some(1 << (10 * power)),
        "b" => Some(1000_u64.pow(power)),
        _ => None,
    }
}

/// Writes an amount exactly, in the largest unit of which it is whole.
pub(in crate::domain) fn exact(bytes: Bytes) -> (u64, &'static str) {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = |(shift, _): &&(u32, &str)| bytes.0 != 0 && bytes.0.is_multiple_of(1 << *shift);
    match units.iter().find(fits) {
        Some((shift, unit)) => (bytes.0 >> shift, unit),
        None => (bytes.0, "bytes"),
    }
}
