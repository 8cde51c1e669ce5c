//! One line of the matrix, and the packet that it asks.

const TYPE_OPT: u16 = 41;
const ZONE: &str = "ecs.internal";

/// Types by the names that genreport has for them.
const TYPES: &[(&str, u16)] = &[
    ("A", 1),
    ("NS", 2),
    ("MD", 3),
    ("MF", 4),
    ("CNAME", 5),
    ("SOA", 6),
    ("MB", 7),
    ("MG", 8),
    ("MR", 9),
    ("NULL", 10),
    ("WKS", 11),
    ("PTR", 12),
    ("HINFO", 13),
    ("MINFO", 14),
    ("MX", 15),
    ("TXT", 16),
    ("RP", 17),
    ("AFSDB", 18),
    ("X25", 19),
    ("ISDN", 20),
    ("RT", 21),
    ("NSAP", 22),
    ("NSAP-PTR", 23),
    ("SIG", 24),
    ("KEY", 25),
    ("PX", 26),
    ("GPOS", 27),
    ("AAAA", 28),
    ("LOC", 29),
    ("NXT", 30),
    ("EID", 31),
    ("NIMLOC", 32),
    ("SRV", 33),
    ("ATMA", 34),
    ("NAPTR", 35),
    ("KX", 36),
    ("CERT", 37),
    ("A6", 38),
    ("DNAME", 39),
    ("SINK", 40),
    ("APL", 42),
    ("DS", 43),
    ("SSHFP", 44),
    ("IPSECKEY", 45),
    ("RRSIG", 46),
    ("NSEC", 47),
    ("DNSKEY", 48),
    ("DHCID", 49),
    ("NSEC3", 50),
    ("NSEC3PARAM", 51),
    ("TLSA", 52),
    ("SMIMEA", 53),
    ("HIP", 55),
    ("TALINK", 58),
    ("CDS", 59),
    ("CDNSKEY", 60),
    ("OPENPGPKEY", 61),
    ("CSYNC", 62),
    ("ZONEMD", 63),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("DSYNC", 66),
    ("SPF", 99),
    ("UINFO", 100),
    ("UID", 101),
    ("GID", 102),
    ("UNSPEC", 103),
    ("NID", 104),
    ("L32", 105),
    ("L64", 106),
    ("LP", 107),
    ("EUI48", 108),
    ("EUI64", 109),
    ("IXFR", 251),
    ("AXFR", 252),
    ("ANY", 255),
    ("URI", 256),
    ("CAA", 257),
    ("AVC", 258),
    ("DOA", 259),
    ("AMTRELAY", 260),
    ("RESINFO", 261),
    ("TA", 32768),
    ("DLV", 32769),
];

/// A question of the matrix and the reply that is expected.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) expected: String,
    pub(crate) opcode: u8,
    words: Vec<String>,
}

impl Case {
    /// Reads `NAME | ASKED | EXPECTED`.
    pub(crate) fn read(line: &str) -> Case {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        let [name, asked, expected] = parts.as_slice() else { panic!("bad case: {line}") };
        let words: Vec<String> = asked.split_whitespace().map(str::to_owned).collect();
        let mut case = Case { name: (*name).to_owned(), expected: (*expected).to_owned(), opcode: 0, words };
        case.opcode = case.number("opcode").unwrap_or(0) as u8;
        case
    }

    /// Whether a node would forward it.
    pub(crate) fn is_outside(&self) -> bool {
        self.has("outside")
    }

    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn number(&self, key: &str) -> Option<u16> {
        self.value(key).map(|number| number.parse().unwrap())
    }

    /// The packet, with that id.
    pub(crate) fn packet(&self, id: u16) -> Vec<u8> {
        let question = self.question();
        let opts = if self.has_opt() { vec![self.opt(); 1 + usize::from(self.has("twice"))] } else { vec![] };
        let other = self.has("early").then(|| b"\x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x01\x00".to_vec());
        let signature = self.has("signed").then(signature);
        let records: Vec<Vec<u8>> = opts.into_iter().chain(other).chain(signature).collect();
        let additional = records.len() as u16 + u16::from(self.has("lying"));
        let (answers, additional) = if self.has("answer") { (additional, 0) } else { (0, additional) };
        let questions = self.number("count").unwrap_or(u16::from(!question.is_empty()));
        let mut packet = [id, self.flags(), questions, answers, 0, additional].map(u16::to_be_bytes).concat();
        packet.extend(question);
        packet.extend(records.concat());
        if self.has("short") {
            packet.pop();
        }
        packet
    }

    fn flags(&self) -> u16 {
        let bits = [("aa", 10), ("tc", 9), ("rd", 8), ("ra", 7), ("z", 6), ("ad", 5), ("cd", 4)];
        let set = bits.iter().map(|(bit, place)| u16::from(self.has(bit)) << place).sum::<u16>();
        u16::from(self.opcode) << 11 | set
    }

    fn question(&self) -> Vec<u8> {
        if self.has("empty") {
            return Vec::new();
        }
        let record_type = self.words.iter().find_map(|word| type_number(word)).expect("a type");
        let first = &self.words[0];
        let name = if type_number(first).is_some() { ZONE } else { first };
        let mut question = self.value("raw").map_or_else(|| wire_name(name), octets);
        question.extend(record_type.to_be_bytes());
        question.extend(self.number("class").unwrap_or(1).to_be_bytes());
        question
    }

    fn has_opt(&self) -> bool {
        let keys = ["edns", "size", "do", "flags", "code", "option"];
        self.words.iter().any(|word| keys.contains(&word.split('=').next().unwrap()))
    }

    fn opt(&self) -> Vec<u8> {
        let mut opt = if self.has("owner") { wire_name(ZONE) } else { vec![0] };
        opt.extend(TYPE_OPT.to_be_bytes());
        opt.extend(self.number("size").unwrap_or(4096).to_be_bytes());
        opt.extend([self.number("code").unwrap_or(0) as u8, self.number("edns").unwrap_or(0) as u8]);
        let flags = self.value("flags").map_or(0, |hex| u16::from_str_radix(hex, 16).unwrap());
        opt.extend((flags | u16::from(self.has("do")) << 15).to_be_bytes());
        let options: Vec<u8> =
            self.words.iter().filter_map(|word| word.strip_prefix("option=")).flat_map(option).collect();
        opt.extend((options.len() as u16).to_be_bytes());
        opt.extend(options);
        opt
    }
}

/// `CODE:HEX`; `cut`: half an option; `long`: one that says it is longer than the record.
fn option(text: &str) -> Vec<u8> {
    match text.split_once(':') {
        None if text == "cut" => vec![0, 100, 0],
        None => vec![0, 100, 0, 9, 1, 2],
        Some((code, hex)) => {
            let data = octets(hex);
            let mut option = [code.parse().unwrap(), data.len() as u16].map(u16::to_be_bytes).concat();
            option.extend(data);
            option
        }
    }
}

/// A TSIG record: key `.`, hmac-sha256, at some time, with 32 octets of a signature nobody can check.
fn signature() -> Vec<u8> {
    let mut data = wire_name("hmac-sha256");
    data.extend([0, 0, 0x5c, 0xf7, 0x9f, 0x11, 1, 44, 0, 32]);
    data.extend([7; 32]);
    data.extend([0x12, 0x34, 0, 0, 0, 0]);
    let mut record = vec![0, 0, 250, 0, 255, 0, 0, 0, 0, 0, data.len() as u8];
    record.extend(data);
    record
}

fn type_number(word: &str) -> Option<u16> {
    let known = TYPES.iter().find(|(name, _)| *name == word).map(|(_, number)| *number);
    known.or_else(|| word.strip_prefix("TYPE")?.parse().ok())
}

fn wire_name(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut wire: Vec<u8> = labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
