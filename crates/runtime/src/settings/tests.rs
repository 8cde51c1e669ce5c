//! Settings as rows: what was given, and what came of it.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Command;
use serde::Deserialize;

use super::*;

const SETTINGS: [Setting; 8] = [
    Setting { key: "zone", kind: Kind::Text("a DNS name"), default: "ecs.internal.", help: "The zone." },
    Setting { key: "http.listen", kind: Kind::Text("an address"), default: "127.0.0.1:8500", help: "The API." },
    Setting { key: "link.grace", kind: Kind::Duration, default: "200ms", help: "Patience." },
    Setting { key: "link.count_max", kind: Kind::Number, default: "5", help: "Bound." },
    Setting { key: "observe", kind: Kind::Switch, default: "false", help: "Only look." },
    Setting { key: "upstreams", kind: Kind::List("an address"), default: "", help: "Resolvers." },
    Setting { key: "log.format", kind: Kind::Choice(&["text", "json"]), default: "text", help: "Log lines." },
    Setting { key: "token", kind: Kind::Secret("eight characters"), default: "", help: "A secret." },
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    zone: String,
    http: Http,
    link: Link,
    observe: bool,
    #[serde(default)]
    upstreams: Vec<IpAddr>,
    log: Log,
    token: Option<Token>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    listen: SocketAddr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    #[serde(deserialize_with = "super::duration")]
    grace: Duration,
    count_max: u8,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    format: String,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Token;

impl TryFrom<String> for Token {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() == 8 { Ok(Token) } else { Err(format!("{text} has not eight characters")) }
    }
}

/// Reads settings from a file's text, `NAME=VALUE` variables and flags.
fn read(file: &str, variables: &[&str], flags: &[&str]) -> Result<Loaded<Program>, String> {
    let mut config = tempfile::NamedTempFile::new().unwrap();
    config.write_all(file.as_bytes()).unwrap();
    let path = config.path().to_str().unwrap().to_owned();
    let mut words = vec!["program", "--config", &path];
    words.extend(flags);
    let matches = Command::new("program").args(super::flags(&SETTINGS)).try_get_matches_from(words);
    let matches = matches.map_err(|error| error.to_string())?;
    let environment = variables.iter().map(|pair| pair.split_once('=').unwrap());
    let environment = environment.map(|(name, value)| (name.into(), value.into()));
    load(&SETTINGS, &matches, environment).map_err(|error| error.to_string().replace(&path, "FILE"))
}

#[test]
fn a_flag_counts_before_the_environment_and_that_before_the_file() {
    let (file, variable, flag) = ("zone = 'file.'", "PORTOLAN_ZONE=variable.", "--zone=flag.");
    let rows: [(&str, &[&str], &[&str], &str); 4] = [
        ("", &[], &[], "ecs.internal. from the default"),
        (file, &[], &[], "file. from file `FILE`"),
        (file, &[variable], &[], "variable. from environment variable `PORTOLAN_ZONE`"),
        (file, &[variable], &[flag], "flag. from flag `--zone`"),
    ];
    for (file, variables, flags, expected) in rows {
        let loaded = read(file, variables, flags).unwrap();
        let (_, value, origin) = loaded.origins.iter().find(|(key, ..)| key == "zone").unwrap();
        let origin = match origin {
            Origin::File(_) => "file `FILE`".to_owned(),
            other => other.to_string(),
        };
        assert_eq!(format!("{value} from {origin}"), expected);
        assert_eq!(loaded.settings.zone, *value);
    }
}

#[test]
fn every_kind_is_read_from_every_place() {
    let file = "upstreams = ['10.0.0.1', '10.0.0.2']\nobserve = true\n[link]\ngrace = '1s'\ncount_max = 7\n[log]\nformat = 'json'\n";
    let flags =
        ["--upstreams=10.0.0.1, 10.0.0.2", "--observe", "--link-grace=1s", "--link-count-max=7", "--log-format=json"];
    let variables = ["PORTOLAN_UPSTREAMS=10.0.0.1,10.0.0.2", "PORTOLAN_OBSERVE=true", "PORTOLAN_LINK__GRACE=1s"];
    let more = ["PORTOLAN_LINK__COUNT_MAX=7", "PORTOLAN_LOG__FORMAT=json"];
    for loaded in [read(file, &[], &[]), read("", &[], &flags), read("", &[&variables[..], &more].concat(), &[])] {
        let Program { http, link, observe, upstreams, log, token, .. } = loaded.unwrap().settings;
        assert_eq!((link.grace, link.count_max, observe), (Duration::from_secs(1), 7, true));
        assert_eq!((upstreams.len(), log.format.as_str(), http.listen.port()), (2, "json", 8500));
        assert!(token.is_none());
    }
}

#[test]
fn what_is_wrong_is_named_with_its_origin_and_what_is_accepted() {
    let rows: [(&str, &[&str], &[&str], &str); 11] = [
        ("[link]\ngrase = '1s'", &[], &[], "unknown setting `link.grase` in file `FILE`: did you mean `link.grace`?"),
        ("qqqq = 1", &[], &[], "unknown setting `qqqq` in file `FILE`"),
        ("zone.x = 1", &[], &[], "unknown setting `zone.x` in file `FILE`: did you mean `zone`?"),
        ("link = 1", &[], &[], "unknown setting `link` in file `FILE`"),
        (
            "link.grace = 5",
            &[],
            &[],
            "setting `link.grace`: `5` from file `FILE` is not accepted (no unit): give a number with its unit (ms, s, m, h, d), such as 200ms or 10s",
        ),
        (
            "",
            &["PORTOLAN_HTTP__LISTEN=here"],
            &[],
            "setting `http.listen`: `here` from environment variable `PORTOLAN_HTTP__LISTEN` is not accepted (invalid socket address syntax): give an address",
        ),
        (
            "",
            &[],
            &["--link-count-max=300"],
            "setting `link.count_max`: `300` from flag `--link-count-max` is not accepted (invalid value: integer `300`, expected u8): give a whole number",
        ),
        (
            "",
            &[],
            &["--link-count-max=-"],
            "setting `link.count_max`: `-` from flag `--link-count-max` is not accepted (not a whole number): give a whole number",
        ),
        (
            "",
            &[],
            &["--log-format=xml"],
            "setting `log.format`: `xml` from flag `--log-format` is not accepted (none of them): give one of text, json",
        ),
        (
            "",
            &["PORTOLAN_UPSTREAMS=10.0.0.1,x"],
            &[],
            "setting `upstreams`: `10.0.0.1,x` from environment variable `PORTOLAN_UPSTREAMS` is not accepted (invalid IP address syntax): give an address; several are separated by commas",
        ),
        (
            "",
            &["PORTOLAN_TOKEN=hush"],
            &[],
            "setting `token`: `(hidden)` from environment variable `PORTOLAN_TOKEN` is not accepted (it cannot be read): give eight characters",
        ),
    ];
    for (file, variables, flags, expected) in rows {
        let error = read(file, variables, flags).expect_err(expected);
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
    assert!(read("", &[], &["--link-grase=1s"]).unwrap_err().contains("--link-grace"));
    assert!(read("zone = ", &[], &[]).unwrap_err().starts_with("parse settings in `FILE`"));
}

#[test]
fn a_variable_that_is_no_setting_is_a_warning() {
    let loaded = read("", &["PORTOLAN_ZON=x", "PORTOLAN_LOG=debug", "OTHER=x"], &[]).unwrap();
    let expected = "environment variable `PORTOLAN_ZON` is no setting: did you mean `PORTOLAN_ZONE`?";
    assert_eq!(loaded.warnings, [expected]);
}

#[test]
fn help_names_the_flag_the_variable_the_default_and_what_is_accepted() {
    let help = Command::new("program").args(super::flags(&SETTINGS)).term_width(200).render_help().to_string();
    let expected = [
        "--link-grace <DURATION>",
        "Patience. Accepts a number with its unit",
        "[default: 200ms]",
        "[env: PORTOLAN_LINK__GRACE]",
    ];
    for expected in expected {
        assert!(help.contains(expected), "{help}");
    }
}
