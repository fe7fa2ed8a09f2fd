//! Which events are wanted.

use std::str::FromStr;

use serde_json::Value;

/// Conditions, all of which must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    event: Option<String>,
    session: Option<String>,
    run: Option<String>,
    agent: Option<String>,
}

const POSSIBLE: &str =
    "possible are event=, session=, run= and agent=, each once, with a space or a comma between them";

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or(("event", word));
            let place = match key {
                "event" => &mut filter.event,
                "session" => &mut filter.session,
                "run" => &mut filter.run,
                "agent" => &mut filter.agent,
                other => return Err(format!("there is no {other}=: {POSSIBLE}")),
            };
            if value.is_empty() {
                return Err(format!("{key}= has no value: {POSSIBLE}"));
            }
            if place.replace(value.to_owned()).is_some() {
                return Err(format!("{key}= is there twice: {POSSIBLE}"));
            }
        }
        Ok(filter)
    }
}

/// The first of these members that is a text.
pub(super) fn text<'a>(payload: &'a Value, names: &[&str]) -> Option<&'a str> {
    names
        .iter()
        .find_map(|name| payload.pointer(name).and_then(Value::as_str))
        .filter(|text| !text.is_empty())
}

/// The session that an event is about.
pub(super) fn session(payload: &Value) -> Option<&str> {
    text(payload, &["/sessionKey", "/key", "/task/childSessionKey", "/task/sessionKey"])
}

/// The run that an event is about.
pub(super) fn run(payload: &Value) -> Option<&str> {
    text(payload, &["/runId", "/task/runId", "/message/runId"])
}

impl Filter {
    /// Whether an event is wanted. A session is named by its key, a run by its id or the beginning of it.
    pub(super) fn takes(&self, name: &str, payload: &Value) -> bool {
        let agent = || text(payload, &["/agentId"]).or_else(|| session(payload)?.split(':').nth(1));
        self.event.as_deref().is_none_or(|begins| name.starts_with(begins))
            && self.session.as_deref().is_none_or(|key| session(payload) == Some(key))
            && self.run.as_deref().is_none_or(|id| run(payload).is_some_and(|run| run.starts_with(id)))
            && self.agent.as_deref().is_none_or(|id| agent() == Some(id))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn takes(filter: &str, name: &str, payload: &Value) -> bool {
        filter.parse::<Filter>().unwrap().takes(name, payload)
    }

    #[test]
    fn every_condition_must_hold() {
        let agent = json!({"runId": "0123-45", "sessionKey": "agent:research:main", "data": {}});
        for filter in [
            "",
            "agent",
            "event=ag",
            "run=0123",
            "agent=research",
            "session=agent:research:main, run=0123-45",
        ] {
            assert!(takes(filter, "agent", &agent), "{filter}");
        }
        for filter in ["chat", "run=123", "agent=main", "session=agent:research", "agent run=9"] {
            assert!(!takes(filter, "agent", &agent), "{filter}");
        }
        assert!(!takes("run=0", "tick", &json!({"ts": 1})));
        assert!(takes("agent=x", "sessions.changed", &json!({"sessionKey": "agent:y:main", "agentId": "x"})));
    }

    #[test]
    fn a_condition_that_there_is_not_is_refused_with_those_that_there_are() {
        for (wrong, why) in
            [("level=1", "there is no level="), ("run=", "has no value"), ("run=a run=b", "twice")]
        {
            let error = wrong.parse::<Filter>().unwrap_err();
            assert!(error.contains(why) && error.contains("event=, session=, run= and agent="), "{error}");
        }
    }
}
