//! Durations as people write them in settings: a whole number and its unit.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// Units and their length in milliseconds.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads `200ms`, `10s`, `5m`, `1h`, `30d`. `None`: it is something else, or longer than can be counted.
pub fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, length_ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*length_ms).map(Duration::from_millis)
}

/// For a field of a settings struct: `#[serde(deserialize_with = "portolan_runtime::settings::duration")]`.
///
/// # Errors
/// When the text is no duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| de::Error::custom("no duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_number_with_its_unit_and_nothing_else() {
        let good = [("0s", 0), ("200ms", 200), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("1d", 86_400_000)];
        for (text, expected_ms) in good {
            assert_eq!(parse(text), Some(Duration::from_millis(expected_ms)), "{text}");
        }
        for bad in ["", "10", "s", "10 s", "-1s", "1.5s", "10S", "10seconds", "18446744073709551615d", "١s"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
