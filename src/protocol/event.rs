//! Events: the payload is written once, the frame of each client is spliced together around it.

use std::io::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a client compares its copies of presence and health with. Each grows by one with a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateVersion {
    /// Of the presence list.
    pub presence: u64,
    /// Of the health snapshot.
    pub health: u64,
}

/// An event, ready to be sent to any number of clients. A clone shares the text.
#[derive(Debug, Clone)]
pub struct EventText(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    /// The frame up to and with the payload.
    head: String,
    /// What comes after `seq`.
    tail: String,
}

/// Between the payload and the number.
const SEQ: &str = r#","seq":"#;

impl EventText {
    /// The event `event` with a payload that is JSON already.
    ///
    /// # Errors
    /// Never in practice: a name and two numbers can be written as JSON.
    pub fn new(
        event: &str,
        payload: &RawValue,
        state_version: Option<StateVersion>,
    ) -> serde_json::Result<Self> {
        let name = serde_json::to_string(event)?;
        let head = format!(r#"{{"type":"event","event":{name},"payload":{}"#, payload.get());
        let tail = match state_version {
            Some(version) => format!(r#","stateVersion":{}}}"#, serde_json::to_string(&version)?),
            None => "}".to_owned(),
        };
        Ok(Self(Arc::new(Parts { head, tail })))
    }

    /// The event `event` with a payload that is written now.
    ///
    /// # Errors
    /// The payload cannot be written as JSON.
    pub fn of(
        event: &str,
        payload: &impl Serialize,
        state_version: Option<StateVersion>,
    ) -> serde_json::Result<Self> {
        Self::new(event, &serde_json::value::to_raw_value(payload)?, state_version)
    }

    /// The frame for a client up to and with the payload: the same for every client.
    #[must_use]
    pub fn head(&self) -> &str {
        &self.0.head
    }

    /// Writes the rest of the frame for a client for which this is the event number `seq`.
    pub fn write_tail(&self, seq: u64, into: &mut Vec<u8>) {
        into.extend_from_slice(SEQ.as_bytes());
        // Writing to a vector cannot fail.
        let _ = write!(into, "{seq}");
        into.extend_from_slice(self.0.tail.as_bytes());
    }

    /// The length of the frame for a client for which this is the event number `seq`, in bytes.
    #[must_use]
    pub fn bytes_with(&self, seq: u64) -> usize {
        self.bytes() + SEQ.len() + seq.checked_ilog10().unwrap_or(0) as usize + 1
    }

    /// The frame without a number, for the event that precedes every other: `connect.challenge`.
    #[must_use]
    pub fn without_seq(&self) -> String {
        [&*self.0.head, &*self.0.tail].concat()
    }

    /// The length of the frame without a number, in bytes: what a client that waits for it costs.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.head.len() + self.0.tail.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{EventText, StateVersion};

    /// The whole frame for one client.
    fn with_seq(event: &EventText, seq: u64) -> String {
        let mut text = event.head().as_bytes().to_vec();
        event.write_tail(seq, &mut text);
        assert_eq!(text.len(), event.bytes_with(seq));
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_frame_is_written_as_the_real_gateway_writes_it() {
        let tick = EventText::of("tick", &json!({"ts": 1}), None).unwrap();
        assert_eq!(with_seq(&tick, 1), r#"{"type":"event","event":"tick","payload":{"ts":1},"seq":1}"#);
        assert_eq!(with_seq(&tick, u64::MAX).len(), with_seq(&tick, 0).len() + 19);
        let version = Some(StateVersion { presence: 18, health: 25 });
        let health = EventText::of("health", &json!({"ok": true}), version).unwrap();
        assert_eq!(
            with_seq(&health, 67),
            r#"{"type":"event","event":"health","payload":{"ok":true},"seq":67,"stateVersion":{"presence":18,"health":25}}"#
        );
        let challenge = EventText::of("connect.challenge", &json!({"nonce": "n"}), None).unwrap();
        let text = challenge.without_seq();
        assert_eq!(text, r#"{"type":"event","event":"connect.challenge","payload":{"nonce":"n"}}"#);
        assert_eq!(challenge.bytes(), text.len());
    }

    proptest! {
        #[test]
        fn the_spliced_text_is_what_serialising_the_whole_gives(
            name in any::<String>(), text in any::<String>(), number in any::<i64>(), seq in any::<u64>(),
            version in prop::option::of((any::<u32>(), any::<u32>())),
        ) {
            let version = version
                .map(|(presence, health)| StateVersion { presence: presence.into(), health: health.into() });
            let payload = json!({"text": text, "n": [number, null]});
            let event = EventText::of(&name, &payload, version).unwrap();
            let mut whole = json!({"type": "event", "event": name, "payload": payload, "seq": seq});
            if let Some(version) = version {
                whole["stateVersion"] = serde_json::to_value(version).unwrap();
            }
            prop_assert_eq!(serde_json::from_str::<Value>(&with_seq(&event, seq)).unwrap(), whole.clone());
            whole.as_object_mut().unwrap().remove("seq");
            prop_assert_eq!(serde_json::from_str::<Value>(&event.without_seq()).unwrap(), whole);
        }
    }
}
