//! The log line of what happens in the tree: from the very event that clients are told of and that is counted.

use offshoot_actors::WatchTrouble;
use offshoot_actors::ports::{Event, PairingEvent};
use offshoot_actors::types::Terminal;

/// Logs an event. Ends and refusals are worth a line to whoever runs the daemon, the rest to whoever looks closer.
pub(crate) fn happened(event: &Event) {
    match event {
        Event::Spawned { parent, child, label, .. } => tracing::debug!(
            session = %child.session, run = %child.run, %parent, model = %child.model.primary,
            label = label.as_deref().unwrap_or_default(), "a sub-agent was accepted"
        ),
        Event::Refused { parent, code } => {
            tracing::info!(session = %parent, reason = code, "a sub-agent was refused");
        }
        Event::Submitted { session, run, cause, .. } => {
            tracing::debug!(%session, %run, cause = cause.as_str(), "a run was accepted");
        }
        Event::Started { session, run } => tracing::debug!(%session, %run, "a run works"),
        Event::StepStarted { session, run, step, model } => {
            tracing::debug!(%session, %run, step, %model, "a model is called");
        }
        Event::StepRestarted { session, run, step, reason, .. } => {
            tracing::info!(%session, %run, step, reason, "a step is made again");
        }
        Event::StepFinished { session, run, step, spent, .. } => tracing::debug!(
            %session, %run, step, input = spent.input, output = spent.output, cached = spent.cached,
            "a model has answered"
        ),
        Event::ToolStarted { session, run, call, name } => {
            tracing::debug!(%session, %run, tool = &**name, call = &**call, "a tool call has begun");
        }
        Event::ToolFinished { session, run, call, status } => {
            tracing::debug!(%session, %run, call = &**call, ?status, "a tool call has ended");
        }
        Event::Yielded { session, run } => {
            tracing::debug!(%session, %run, "a run waits for sub-agents");
        }
        Event::Announced { session, runs } => {
            tracing::debug!(%session, results = runs.len(), "results of sub-agents have arrived");
        }
        Event::Ended { session, run, outcome, usage, steps } => {
            let (state, reason) = (outcome.state.as_str(), outcome.reason.as_deref().unwrap_or_default());
            let tokens = usage.total();
            if outcome.state == Terminal::Ok {
                tracing::info!(%session, %run, state, steps, tokens, "a run has ended");
            } else {
                tracing::info!(%session, %run, state, reason, steps, tokens, "a run has ended");
            }
        }
        Event::Moved { session, from, to } => {
            let to = to.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::info!(%session, %from, to, "a session has outlived its parent");
        }
        Event::Pairing(event) => pairing(event),
        Event::Watched(trouble) => watched(trouble),
        // Transcripts are no log, and of an actor's failure the kit has logged what became of it.
        Event::Text { .. } | Event::Appended { .. } | Event::Noted(_) => {}
    }
}

fn watched(trouble: &WatchTrouble) {
    match trouble {
        WatchTrouble::Stuck { path, kind, message, .. } => {
            tracing::warn!(path, actor = kind, message, "an actor does not answer");
        }
        WatchTrouble::Answers { path, kind, after } => {
            let after_ms = after.as_millis();
            tracing::info!(path, actor = kind, after_ms, "an actor answers again or has ended");
        }
        WatchTrouble::Silent { session, run, .. } => {
            tracing::warn!(%session, %run, "a run gives no sign of life");
        }
        WatchTrouble::Heard { session, run, after } => {
            let after_ms = after.as_millis();
            tracing::info!(%session, %run, after_ms, "a run gives signs of life again or has ended");
        }
    }
}

fn pairing(event: &PairingEvent) {
    match event {
        PairingEvent::Requested(_) => tracing::info!("a device asks to be paired"),
        PairingEvent::Resolved { .. } => tracing::info!("a request for pairing was decided"),
        PairingEvent::Removed { device, .. } => tracing::info!(%device, "a device was removed"),
        PairingEvent::TokenRotated { device, .. } => tracing::info!(%device, "a device's token was rotated"),
        PairingEvent::TokenRevoked { device, .. } => tracing::info!(%device, "a device's token was revoked"),
    }
}
