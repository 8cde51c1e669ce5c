//! When something that was listed before counts as missing: after two complete listings that both lack it.
//!
//! Pure. AWS's listings are eventually consistent, and one may lack what is there; what fails or is incomplete never gets
//! here.

/// How far the ends of those two listings are apart at least, milliseconds.
const APART_MS: u64 = 10_000;

/// Whether something was lacking lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Absence {
    /// When the first listing in a row that lacks it ended, Unix milliseconds.
    first_ms: Option<u64>,
    /// Since when it is missing.
    since_ms: Option<u64>,
}

impl Absence {
    /// Of something that was missing before this program started.
    pub(super) fn since(now_ms: u64) -> Absence {
        Absence { first_ms: Some(now_ms), since_ms: Some(now_ms) }
    }

    /// A listing has it, or AWS spoke of it.
    pub(super) fn seen(&mut self) {
        *self = Absence::default();
    }

    /// A complete listing, which ended then, lacks it.
    pub(super) fn lacked(&mut self, ended_ms: u64) {
        let first_ms = *self.first_ms.get_or_insert(ended_ms);
        if ended_ms.saturating_sub(first_ms) >= APART_MS {
            self.since_ms.get_or_insert(ended_ms);
        }
    }

    /// Since when it is missing, if it is.
    pub(super) fn missing_since(self) -> Option<u64> {
        self.since_ms
    }

    pub(super) fn is_missing(self) -> bool {
        self.since_ms.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_listings_ten_seconds_apart_must_lack_it() {
        // Whether each listing has it, when it ends, and whether it is missing then.
        let rows: [&[(bool, u64, bool)]; 4] = [
            &[(false, 1_000, false), (false, 11_000, true), (true, 12_000, false)],
            &[(false, 1_000, false), (false, 10_999, false), (false, 11_000, true), (false, 90_000, true)],
            &[(false, 1_000, false), (true, 5_000, false), (false, 12_000, false), (false, 22_000, true)],
            &[(true, 1_000, false), (true, 60_000, false)],
        ];
        for row in rows {
            let mut absence = Absence::default();
            for (has, ended_ms, expected) in row {
                if *has {
                    absence.seen()
                } else {
                    absence.lacked(*ended_ms)
                }
                assert_eq!(absence.is_missing(), *expected, "{row:?} at {ended_ms}");
            }
        }
    }
}
