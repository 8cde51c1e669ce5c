//! Signals by name or number, as Docker writes them.

/// Docker's stop signal where the image names none.
pub(super) const SIGTERM: u8 = 15;
pub(super) const SIGKILL: u8 = 9;

/// Linux's numbers on x86-64 and arm64 (signal(7)), from 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
/// The C library keeps 32 and 33 for itself.
const REALTIME_MIN: u8 = 34;
const REALTIME_MAX: u8 = 64;

/// The number of `SIGTERM`, `term`, `15` or `RTMIN+3`.
pub(super) fn number(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=REALTIME_MAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return u8::try_from(index + 1).ok();
    }
    let realtime = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(REALTIME_MIN),
        (_, Some("")) => Some(REALTIME_MAX),
        (Some(rest), _) => REALTIME_MIN.checked_add(rest.strip_prefix('+')?.parse().ok()?),
        (_, Some(rest)) => REALTIME_MAX.checked_sub(rest.strip_prefix('-')?.parse().ok()?),
        (None, None) => None,
    };
    realtime.filter(|number| (REALTIME_MIN..=REALTIME_MAX).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_signals_as_docker_writes_them() {
        let check = |text: &str, expected: Option<u8>| assert_eq!(number(text), expected, "{text}");
        check("SIGTERM", Some(SIGTERM));
        check("kill", Some(SIGKILL));
        check("3", Some(3));
        check("SIGRTMIN+3", Some(37));
        check("RTMAX-1", Some(63));
        check("SIGSYS", Some(31));
        for text in ["", "0", "65", "SIGNOPE", "RTMIN+99", "RTMIN+", "-1"] {
            check(text, None);
        }
    }
}
