//! I9: the pieces of text that are told add up to what the model said, and a step that is made again begins
//! anew.

use std::collections::BTreeMap;

use offshoot_actors::ports::Event;
use offshoot_actors::types::RunId;

use super::Facts;
use crate::history::What;

pub fn check(facts: &Facts<'_>, broken: &mut Vec<String>) {
    let mut pieces: BTreeMap<RunId, String> = BTreeMap::new();
    let mut answers: BTreeMap<RunId, (&str, bool)> = BTreeMap::new();
    for record in facts.records {
        match &record.what {
            What::ModelAnswered { run, text, streamed, .. } => {
                answers.insert(*run, (text, *streamed));
            }
            What::Event(Event::Text { run, piece, .. }) => {
                pieces.entry(*run).or_default().push_str(piece);
            }
            What::Event(Event::Started { run, .. } | Event::StepRestarted { run, .. }) => {
                pieces.remove(run);
            }
            What::Event(Event::StepFinished { run, step, .. }) => {
                let told = pieces.remove(run).unwrap_or_default();
                match answers.remove(run) {
                    Some((text, true)) if text != told => {
                        broken.push(format!("I9: step {step} of run {run} said {text:?}, told was {told:?}"));
                    }
                    Some((_, false)) if !told.is_empty() => {
                        broken.push(format!("I9: step {step} of run {run} streamed nothing, told was {told:?}"));
                    }
                    None => broken.push(format!("I9: step {step} of run {run} ended without an answer")),
                    Some(_) => {}
                }
            }
            _ => {}
        }
    }
}
