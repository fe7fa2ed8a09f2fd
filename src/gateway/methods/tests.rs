//! What holds for all methods at once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use offshoot_actors::types::{Role, Scope, Scopes};

use super::absent::ABSENT;
use super::{FAMILIES, Need, TABLE, allowed, is_absent, method};
use crate::protocol::error::ErrorCode;
use crate::protocol::version::Protocol;

/// Every name that one of the two releases lists.
const ADVERTISED: &str = include_str!("advertised.txt");

/// What the methods need in both releases of OpenClaw.
const FACTS: &[(Need, &str)] = &[
    (Need::Nothing, "health"),
    (
        Need::Scope(Scope::Read),
        "status system-presence last-heartbeat gateway.identity.get logs.tail system.info users.self \
         agents.list agents.files.list agents.files.get agent.identity.get chat.history sessions.list \
         sessions.resolve sessions.get sessions.preview sessions.subscribe sessions.unsubscribe sessions.describe \
         sessions.messages.subscribe sessions.messages.unsubscribe sessions.usage node.list node.describe config.get \
         config.schema.lookup models.list models.authStatus tools.catalog tools.effective commands.list skills.status \
         usage.status usage.cost tasks.list tasks.get cron.list cron.status cron.runs channels.status",
    ),
    (
        Need::Scope(Scope::Write),
        "wake agent agent.wait chat.send chat.abort sessions.create sessions.patch sessions.send sessions.steer sessions.abort \
         node.invoke tools.invoke tasks.cancel",
    ),
    (
        Need::Scope(Scope::Admin),
        "system-event set-heartbeats update.status agents.create agents.update agents.delete agents.files.set \
         chat.inject sessions.reset sessions.delete config.set config.patch config.apply cron.add \
         cron.update cron.remove cron.run exec.approvals.get exec.approvals.set channels.logout",
    ),
    (
        Need::Scope(Scope::Pairing),
        "device.pair.list device.pair.approve device.pair.reject device.pair.remove device.token.rotate \
         device.token.revoke node.pair.list node.pair.approve node.pair.reject node.rename",
    ),
    (Need::Scope(Scope::Approvals), "exec.approval.request exec.approval.resolve exec.approval.list"),
    (
        Need::Node,
        "node.event node.invoke.result node.pending.drain node.pending.pull node.pending.ack skills.bins",
    ),
];

#[test]
fn every_name_is_in_the_table_once() {
    let all: Vec<&str> = FAMILIES.iter().copied().flatten().map(|method| method.name).collect();
    let once: BTreeSet<&str> = all.iter().copied().collect();
    assert_eq!(all.len(), once.len(), "a name is in two families");
    assert_eq!(TABLE.iter().flatten().count(), once.len());
}

#[test]
fn every_method_that_openclaw_lists_is_here_or_known_to_be_absent() {
    let advertised: BTreeSet<&str> = ADVERTISED.lines().collect();
    let expected: Vec<&str> = advertised.iter().copied().filter(|name| method(name).is_none()).collect();
    if ABSENT != expected {
        let mut text = String::from(
            "//! The methods that a release of OpenClaw lists and that do not exist here. Made by the test beside it, from\n\
             //! `advertised.txt` and the table of methods.\n\n/// Their names, sorted.\n\
             pub(super) const ABSENT: &[&str] = &[\n",
        );
        for name in &expected {
            let _ = writeln!(text, "    \"{name}\",");
        }
        text.push_str("];\n");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gateway/methods/absent.rs");
        if std::env::var_os("OFFSHOOT_WRITE_TABLES").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let stale: Vec<_> = ABSENT.iter().filter(|name| !expected.contains(name)).collect();
        let new: Vec<_> = expected.iter().filter(|name| !ABSENT.contains(name)).collect();
        panic!(
            "{} is out of date: {stale:?} do not belong in it, {new:?} do; OFFSHOOT_WRITE_TABLES=1 writes it anew",
            path.display()
        );
    }
    assert!(ABSENT.iter().all(|name| is_absent(name) && method(name).is_none()));
    assert!(!is_absent("health") && !is_absent("no.such.method"));
}

#[test]
fn every_method_is_open_to_exactly_those_who_have_what_it_needs() {
    let all: Vec<Scopes> = (0..1_u16 << Scope::ALL.len())
        .map(|bits| {
            let scopes = Scope::ALL.iter().enumerate().filter(|(at, _)| bits & 1 << at != 0);
            scopes.fold(Scopes::NONE, |scopes, (_, scope)| scopes.with(*scope))
        })
        .collect();
    for method in TABLE.iter().flatten().map(|listed| listed.method) {
        for protocol in [Protocol::V3, Protocol::V4] {
            for scopes in &all {
                let names: BTreeSet<&str> = scopes.iter().map(Scope::as_str).collect();
                let has = |scope: &str| {
                    names.contains(scope)
                        || names.contains("operator.admin")
                        || (matches!(scope, "operator.read" | "operator.talk")
                            && names.contains("operator.write"))
                };
                for role in Role::ALL {
                    let expected = match (method.need, role) {
                        (Need::Nothing, _) | (Need::Node, Role::Node) => true,
                        (Need::Node, Role::Operator) | (Need::Scope(_), Role::Node) => false,
                        (Need::Scope(scope), Role::Operator) => has(scope.as_str()),
                    };
                    let got = allowed(method.need, role, *scopes, protocol);
                    assert_eq!(got.is_ok(), expected, "{} for {role} with {names:?}", method.name);
                    let Err(refused) = got else { continue };
                    let wrong_role = matches!((method.need, role), (Need::Node, _) | (_, Role::Node));
                    assert_eq!(refused.wrong_role, wrong_role, "{} for {role}", method.name);
                    let code = if wrong_role || protocol == Protocol::V3 {
                        ErrorCode::InvalidRequest
                    } else {
                        ErrorCode::Forbidden
                    };
                    assert_eq!(refused.error.code, code, "{} for {role}", method.name);
                }
            }
        }
    }
}

#[test]
fn methods_need_what_they_need_in_openclaw() {
    for (need, names) in FACTS {
        for name in names.split_ascii_whitespace() {
            if let Some(method) = method(name) {
                assert_eq!(method.need, *need, "{name}");
            } else {
                assert!(is_absent(name) || !ADVERTISED.lines().any(|listed| listed == name), "{name}");
            }
        }
    }
    let mut open: Vec<&str> = TABLE
        .iter()
        .flatten()
        .map(|listed| listed.method)
        .filter(|method| method.need == Need::Nothing)
        .map(|method| method.name)
        .collect();
    open.sort_unstable();
    assert_eq!(open, ["health"], "anybody may call these");
}
