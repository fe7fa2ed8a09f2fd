//! Lists of what does not exist here, and that clients ask for all the same: they are empty, which is the truth.

use serde_json::json;

use super::{APPROVALS, Answer, Call, Method, READ, answer, now};

pub(super) const METHODS: &[Method] = &[
    now("environments.list", READ, environments),
    now("openclaw.approval.list", APPROVALS, approvals),
    now("question.list", READ, questions),
    now("sessions.catalog.list", READ, catalogs),
    now("skills.search", READ, results),
    now("themes.list", READ, themes),
];

fn environments(_: &Call) -> Answer {
    answer(&json!({ "environments": [], "profiles": [] }))
}

fn approvals(_: &Call) -> Answer {
    answer(&json!([]))
}

/// No tool asks people anything.
fn questions(_: &Call) -> Answer {
    answer(&json!({ "questions": [] }))
}

/// Sessions are in one store; there are no catalogs of others.
fn catalogs(_: &Call) -> Answer {
    answer(&json!({ "catalogs": [] }))
}

/// No registry of skills is asked.
fn results(_: &Call) -> Answer {
    answer(&json!({ "results": [] }))
}

fn themes(_: &Call) -> Answer {
    answer(&json!({ "themes": [] }))
}
