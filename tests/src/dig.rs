//! Questions by dig, a resolver that is not ours, and its answers as lines a person can read.

use std::net::SocketAddr;

use crate::namespace::Namespace;

/// What dig printed of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dug {
    /// `NOERROR`, `NXDOMAIN`, ...
    pub status: String,
    /// `qr aa rd ...`
    pub flags: Vec<String>,
    /// `name ttl IN TYPE data`, one blank between each, sorted.
    pub answer: Vec<String>,
    /// As `answer`.
    pub authority: Vec<String>,
    /// As `answer`, without the OPT record.
    pub additional: Vec<String>,
    /// Everything, for when a test fails.
    pub text: String,
}

impl Dug {
    /// The data of the answer's records of one type, sorted: addresses for `A`, `priority weight port target` for `SRV`.
    pub fn data(&self, kind: &str) -> Vec<String> {
        data(&self.answer, kind)
    }

    /// As [`Dug::data`], of the additional section.
    pub fn additional_data(&self, kind: &str) -> Vec<String> {
        data(&self.additional, kind)
    }
}

fn data(records: &[String], kind: &str) -> Vec<String> {
    let fields = records.iter().map(|record| record.splitn(5, ' ').collect::<Vec<_>>());
    fields.filter(|fields| fields.get(3) == Some(&kind)).filter_map(|f| f.get(4).map(|&data| data.to_owned())).collect()
}

impl Namespace {
    /// Asks `server` for `question` (`NAME TYPE` and dig's options, such as `+tcp`), once, waiting 2 s.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn dig(&self, server: SocketAddr, question: &str) -> anyhow::Result<Dug> {
        let at = format!("@{}", server.ip());
        let port = server.port().to_string();
        let mut args = vec![at.as_str(), "-p", &port, "+tries=1", "+time=2", "+noidnin", "+nocookie"];
        args.extend(question.split_whitespace());
        parse(&self.run("dig", &args)?)
    }
}

fn parse(text: &str) -> anyhow::Result<Dug> {
    let mut dug = Dug { text: text.to_owned(), ..Dug::default() };
    let mut section = "";
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once("status: ") {
            dug.status = rest.split(',').next().unwrap_or_default().to_owned();
        } else if let Some(rest) = line.strip_prefix(";; flags: ") {
            dug.flags = rest.split(';').next().unwrap_or_default().split(' ').map(str::to_owned).collect();
        } else if let Some(rest) = line.strip_prefix(";; ") {
            section = rest.strip_suffix(" SECTION:").unwrap_or("");
        } else if !line.is_empty() && !line.starts_with(';') {
            let record = line.split_whitespace().collect::<Vec<_>>().join(" ");
            match section {
                "ANSWER" => dug.answer.push(record),
                "AUTHORITY" => dug.authority.push(record),
                "ADDITIONAL" => dug.additional.push(record),
                _ => {}
            }
        }
    }
    anyhow::ensure!(!dug.status.is_empty(), "dig got no answer: {text}");
    [&mut dug.answer, &mut dug.authority, &mut dug.additional].into_iter().for_each(|records| records.sort());
    Ok(dug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_dig_prints() {
        let text = "; <<>> DiG 9.18 <<>>\n;; global options: +cmd\n;; Got answer:\n\
            ;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 4\n;; flags: qr aa rd; QUERY: 1, ANSWER: 2\n\n\
            ;; OPT PSEUDOSECTION:\n; EDNS: version: 0, flags:; udp: 1232\n;; QUESTION SECTION:\n;web.local. IN SRV\n\n\
            ;; ANSWER SECTION:\nweb.local.\t1\tIN\tSRV\t1 10 80 b.local.\nweb.local. 1 IN SRV 1 10 80 a.local.\n\n\
            ;; ADDITIONAL SECTION:\na.local. 1 IN A 10.0.0.1\n\n;; Query time: 0 msec\n";
        let dug = parse(text).unwrap();
        assert_eq!((dug.status.as_str(), dug.flags.join(" ").as_str()), ("NOERROR", "qr aa rd"));
        assert_eq!(dug.data("SRV"), ["1 10 80 a.local.", "1 10 80 b.local."]);
        assert_eq!(dug.additional_data("A"), ["10.0.0.1"]);
        assert!(dug.data("A").is_empty() && dug.authority.is_empty());
    }
}
