//! Server-sent events, as far as this protocol uses them: the data of each event, in order.
//!
//! Own code instead of `eventsource-stream`, which has no bound on the size of an event, reads its whole
//! buffer again for every piece that arrives, and holds back what follows a byte that is not UTF-8.

/// An event that is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// Takes bytes as they arrive, split anywhere, and gives the data of the events that they complete.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The line that is not complete.
    line: Vec<u8>,
    /// The data lines of the event that is not complete, joined by line feeds.
    data: Vec<u8>,
    has_data: bool,
    /// The last line ended with a carriage return, so that a line feed now belongs to it.
    after_cr: bool,
    first_line: bool,
    limit: usize,
}

impl Decoder {
    /// A decoder for events of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { line: Vec::new(), data: Vec::new(), has_data: false, after_cr: false, first_line: true, limit }
    }

    /// Takes the next bytes and appends the data of every event that they complete to `events`.
    pub(super) fn feed(&mut self, mut bytes: &[u8], events: &mut Vec<Vec<u8>>) -> Result<(), TooLong> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend(&bytes[..end])?;
            let cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if cr {
                self.after_cr = bytes.is_empty();
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
            self.end_line(events);
        }
        self.extend(bytes)
    }

    /// The event at the end of a stream that ended without the empty line behind it, if there is one.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        let mut events = Vec::new();
        self.end_line(&mut events);
        self.line.clear();
        self.end_line(&mut events);
        events.pop()
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + self.data.len() + bytes.len() > self.limit {
            return Err(TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Vec<u8>>) {
        let mut line = self.line.as_slice();
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                events.push(std::mem::take(&mut self.data));
            }
        } else if let Some(value) = data_value(line) {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.has_data = true;
            self.data.extend_from_slice(value);
        }
        self.line.clear();
    }
}

/// The value of a data line; none for comments and other fields.
fn data_value(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"data")?;
    match rest.split_first() {
        None => Some(rest),
        Some((b':', value)) => Some(value.strip_prefix(b" ").unwrap_or(value)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<String> {
        let mut decoder = Decoder::new(1 << 16);
        let mut events = Vec::new();
        for piece in pieces {
            decoder.feed(piece, &mut events).unwrap();
        }
        events.extend(decoder.finish());
        events.into_iter().map(|event| String::from_utf8(event).unwrap()).collect()
    }

    #[test]
    fn fields_comments_and_line_ends_of_every_kind() {
        let stream = b"\xef\xbb\xbf: hello\r\nevent: x\r\ndata: a\r\n\r\ndata:b\n\n\ndata: c\rdata:  d\r\rdatum: e\n\nid: 1\n\ndata\n\n";
        assert_eq!(decode(&[stream]), ["a", "b", "c\n d", ""]);
    }

    #[test]
    fn a_last_event_needs_no_empty_line() {
        assert_eq!(decode(&[b"data: a\n\ndata: [DONE]"]), ["a", "[DONE]"]);
        assert_eq!(decode(&[b"data: a\n\ndata: b\n"]), ["a", "b"]);
        assert_eq!(decode(&[b"data: a\n\n: bye"]), ["a"]);
    }

    #[test]
    fn an_event_past_the_limit_is_refused_before_it_is_held() {
        let mut decoder = Decoder::new(16);
        let mut events = Vec::new();
        assert_eq!(decoder.feed(b"data: 0123456789", &mut events), Ok(()));
        assert_eq!(decoder.feed(b"x", &mut events), Err(TooLong));
        let mut decoder = Decoder::new(16);
        assert_eq!(decoder.feed(b"data: 01234\ndata: 0123", &mut events), Ok(()));
        assert_eq!(decoder.feed(b"456789", &mut events), Err(TooLong));
        assert!(events.is_empty());
    }

    proptest! {
        #[test]
        fn splits_change_nothing(
            stream in "(data: ?[aé€😀:]{0,5}|: c|id: 7|x)?(\n|\r\n|\r)((data: ?[aé€😀:]{0,5}|: c)?(\n|\r\n|\r)){0,12}",
            cuts in prop::collection::vec(0usize..200, 0..10),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(&pieces), decode(&[bytes]));
        }
    }
}
