//! Texts that the runtime itself writes to a model.

use std::fmt::Write as _;
use std::sync::Arc;

use super::SessionMeta;

/// Whether a final text says that whoever would get it is to hear nothing: a child's parent, or the user of a run
/// that was started by results of children.
#[must_use]
pub fn is_silent(text: &str) -> bool {
    let text = text.trim();
    text == "ANNOUNCE_SKIP" || text.eq_ignore_ascii_case("NO_REPLY")
}

/// The system prompt of a session's runs.
pub(super) fn system(meta: &SessionMeta, agent: Option<&str>, max_depth: u32) -> Option<Arc<str>> {
    if meta.depth == 0 {
        return agent.map(Into::into);
    }
    let mut text = String::new();
    if let Some(agent) = agent {
        text.push_str(agent);
        text.push_str("\n\n");
    }
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "You work as a sub-agent (depth {} of {max_depth}). The first message is your task, given by another \
         agent. Your last answer is delivered to that agent as your result, so put everything it needs there. \
         Answer ANNOUNCE_SKIP alone if there is nothing to deliver.",
        meta.depth
    );
    Some(text.into())
}

/// What a parent reads that waited for children of which none reported anything.
pub(super) const NOTHING_REPORTED: &str = "All sub-agents have ended. None of them reported a result.";

#[cfg(test)]
mod tests {
    use super::is_silent;

    #[test]
    fn silence_is_a_whole_reply() {
        assert!(is_silent("ANNOUNCE_SKIP\n"));
        assert!(is_silent(" no_reply "));
        assert!(!is_silent("announce_skip"));
        assert!(!is_silent("NO_REPLY, because there is nothing"));
    }
}
