//! Amounts with their units: bytes, cores and spans of time, as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What is wrong with an amount.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnitError {
    /// Not a size.
    #[error("{0:?} is not a size: write a number and a unit, such as 512MiB, 4G or 100MB")]
    Bytes(String),
    /// Not a number of cores.
    #[error("{0:?} is not a number of cores: write 2 or 0.5")]
    Cores(String),
    /// Not a span of time.
    #[error("{0:?} is not a span of time: write 90s, 10m, 2h30m or 1d")]
    Duration(String),
    /// The amount does not fit its type.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

/// An amount of memory or storage in bytes.
///
/// `KiB`, `MiB`, `GiB`, `TiB` are powers of 1024 and `kB`, `MB`, `GB`, `TB`
/// powers of 1000. A bare letter (`512m`, `4G`) is binary, as docker and Slurm
/// take it; a bare number is bytes.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Makes an amount from mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(s: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::Bytes(s.to_owned());
        let text = s.trim();
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = unit.trim_start();
        let factor: u64 = match unit {
            "" | "b" | "B" => 1,
            "k" | "K" | "Ki" | "KiB" => 1 << 10,
            "m" | "M" | "Mi" | "MiB" => 1 << 20,
            "g" | "G" | "Gi" | "GiB" => 1 << 30,
            "t" | "T" | "Ti" | "TiB" => 1 << 40,
            "kb" | "kB" | "KB" => 1_000,
            "mb" | "MB" => 1_000_000,
            "gb" | "GB" => 1_000_000_000,
            "tb" | "TB" => 1_000_000_000_000,
            _ => return Err(bad()),
        };
        let too_large = || UnitError::TooLarge(s.to_owned());
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(bad());
        }
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| too_large())?
        };
        let mut total = u128::from(whole) * u128::from(factor);
        // Exact decimal arithmetic: 0.1GB is 100,000,000 and not a float's idea of it.
        let mut scale: u128 = 1;
        for digit in fraction.bytes().take(15) {
            scale *= 10;
            total += u128::from(digit - b'0') * u128::from(factor) / scale;
        }
        u64::try_from(total).map(Self).map_err(|_| too_large())
    }
}

impl fmt::Display for Bytes {
    /// Writes the amount in binary units with at most one decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let text = if unit == 0 || value.fract() < 0.05 {
            format!("{value:.0}{}", UNITS[unit])
        } else {
            format!("{value:.1}{}", UNITS[unit])
        };
        f.pad(&text)
    }
}

/// An amount of processor in thousandths of a core: a fixed-point number, so
/// that sums are exact.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Cores(pub u64);

impl Cores {
    /// Makes an amount of whole cores.
    pub const fn whole(n: u64) -> Self {
        Self(n * 1000)
    }

    /// Gives the amount as a number of cores, for display and ratios.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl FromStr for Cores {
    type Err = UnitError;
    fn from_str(s: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::Cores(s.to_owned());
        let (whole, fraction) = s.split_once('.').unwrap_or((s, ""));
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
            return Err(bad());
        }
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| bad())?
        };
        let milli: u64 = format!("{fraction:0<3.3}").parse().map_err(|_| bad())?;
        let total = whole.checked_mul(1000).and_then(|w| w.checked_add(milli));
        total
            .map(Self)
            .ok_or_else(|| UnitError::TooLarge(s.to_owned()))
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Reads a span of time: `90` (seconds), `1.5s`, `250ms`, `10m`, `2h30m`, `1d`.
///
/// # Errors
/// [`UnitError::Duration`] when the text is none of these.
pub fn parse_duration(s: &str) -> Result<Duration, UnitError> {
    let bad = || UnitError::Duration(s.to_owned());
    let mut rest = s.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| bad())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let seconds = match rest[..end].trim() {
            "ms" => 0.001,
            "" | "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(bad()),
        };
        rest = &rest[end..];
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        total = total.checked_add(part).ok_or_else(bad)?;
    }
    // What is longer than any job cannot be added to any time either.
    (total <= LONGEST).then_some(total).ok_or_else(bad)
}

/// More than a century.
const LONGEST: Duration = Duration::from_secs(1 << 32);

/// Writes a span of time for people: three significant digits and a unit.
pub fn format_duration(d: Duration) -> String {
    let s = d.as_secs_f64();
    if s < 0.000_999_5 {
        format!("{:.0} µs", s * 1e6)
    } else if s < 0.099_95 {
        format!("{:.2} ms", s * 1e3)
    } else if s < 0.999_5 {
        format!("{:.0} ms", s * 1e3)
    } else if s < 99.95 {
        format!("{s:.2} s")
    } else {
        let whole = d.as_secs();
        let (h, m, s) = (whole / 3600, whole / 60 % 60, whole % 60);
        if h > 0 {
            format!("{h} h {m:02} min {s:02} s")
        } else {
            format!("{m} min {s:02} s")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn megabytes_are_not_mebibytes() {
        let table = [
            ("4GiB", 4 << 30),
            ("4G", 4 << 30),
            ("4g", 4 << 30),
            ("4GB", 4_000_000_000),
            ("512 MiB", 512 << 20),
            ("512MB", 512_000_000),
            ("1.5GiB", 3 << 29),
            ("0.1GB", 100_000_000),
            ("64k", 65536),
            ("17", 17),
        ];
        for (text, bytes) in table {
            assert_eq!(text.parse::<Bytes>(), Ok(Bytes(bytes)), "{text}");
        }
        for bad in ["", "G", ".", "1.2.3G", "-1", "4XB", "1e9"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
        assert!(matches!(
            "99999999TiB".parse::<Bytes>(),
            Err(UnitError::TooLarge(_))
        ));
    }

    #[test]
    fn cores_are_fixed_point() {
        assert_eq!("0.5".parse::<Cores>(), Ok(Cores(500)));
        assert_eq!("2".parse::<Cores>(), Ok(Cores(2000)));
        assert_eq!(".25".parse::<Cores>(), Ok(Cores(250)));
        assert_eq!(Cores(1500).to_string(), "1.5");
        assert_eq!(Cores(10_000).to_string(), "10");
        assert!("two".parse::<Cores>().is_err());
        assert!("-1".parse::<Cores>().is_err());
    }

    #[test]
    fn spans_of_time_add_up() {
        assert_eq!(parse_duration("2h30m"), Ok(Duration::from_secs(9000)));
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "h", "5x", "-3s", "1..2s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(s in "\\PC{0,24}") {
            let _ = s.parse::<Bytes>();
            let _ = s.parse::<Cores>();
            let _ = parse_duration(&s);
        }

        #[test]
        fn cores_survive_being_written(n in 0u64..1_000_000_000) {
            prop_assert_eq!(Cores(n).to_string().parse::<Cores>(), Ok(Cores(n)));
        }
    }
}
