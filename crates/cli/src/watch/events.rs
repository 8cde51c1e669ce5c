//! Server-sent events (WHATWG HTML section 9.2), as far as ours need them. What is too long ends the stream.

/// More than any change; a line or an event beyond it is not ours.
const EVENT_OCTETS_MAX: usize = 1 << 20;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name; `message` when it has none.
    pub(super) name: String,
    /// Where to go on after it.
    pub(super) id: String,
    /// Its data.
    pub(super) data: String,
}

/// Bytes to events.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
}

impl Parser {
    /// Takes bytes, gives the events that end in them. `None`: too much for one event.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                if self.line.len() + self.event.data.len() >= EVENT_OCTETS_MAX {
                    return None;
                }
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.is_empty() {
                events.extend(self.end());
            } else {
                self.field(&String::from_utf8_lossy(line));
            }
        }
        Some(events)
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event.name),
            "id" if !value.contains('\0') => value.clone_into(&mut self.event.id),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            // A comment, or a field that we have no use for.
            _ => {}
        }
    }

    fn end(&mut self) -> Option<Event> {
        let event = std::mem::take(&mut self.event);
        let had_data = std::mem::take(&mut self.has_data);
        let name = if event.name.is_empty() { "message".to_owned() } else { event.name };
        had_data.then_some(Event { name, ..event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_events_however_the_bytes_are_cut() {
        let stream = ": hello\n\nevent: change\nid: 7\ndata: {\"a\":\ndata: 1}\r\n\r\ndata:x\n\nid: 8\n\n";
        let expected = vec![
            Event { name: "change".into(), id: "7".into(), data: "{\"a\":\n1}".into() },
            Event { name: "message".into(), id: String::new(), data: "x".into() },
        ];
        for size in [1, 3, 1000] {
            let mut parser = Parser::default();
            let events: Vec<Event> = stream.as_bytes().chunks(size).flat_map(|c| parser.push(c).unwrap()).collect();
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_endless_event_ends_the_stream() {
        let mut parser = Parser::default();
        let piece = [b'x'; 4096];
        assert!((0..1000).any(|_| parser.push(&piece).is_none()));
    }
}
