//! The methods that clients may call: one file a family, one line a family in the table.

mod absent;
mod agent;
mod agents;
mod approvals;
mod audit;
mod call;
mod channels;
mod chat;
mod configuration;
mod days;
mod deliveries;
mod devices;
mod diagnostics;
mod empty;
pub(crate) mod health;
mod logs;
mod models;
mod nodes;
mod schedules;
mod sessions;
mod status;
mod system;
mod target;
mod tasks;
mod tools;
mod tree;
mod usage;

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use futures::future::BoxFuture;
use offshoot_actors::types::{Role, Scope, Scopes};
use serde_json::json;

pub(crate) use self::call::{Answer, Call, Payload, answer};
use super::client::Client;
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

/// What a caller must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing beyond the handshake.
    Nothing,
    /// An operator's scope.
    Scope(Scope),
    /// The role of a node.
    Node,
}

/// How a method is carried out.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// At once, in the connection's actor: it reads what is in memory.
    Now(fn(&Call) -> Answer),
    /// In a task that the connection owns.
    Later(fn(Call) -> BoxFuture<'static, Answer>),
    /// The same; it waits for a run, and must not keep the client from asking for something else meanwhile.
    Waits(fn(Call) -> BoxFuture<'static, Answer>),
}

/// One method.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) need: Need,
    pub(crate) work: Work,
}

/// A method whose answer is there at once.
pub(crate) const fn now(name: &'static str, need: Need, work: fn(&Call) -> Answer) -> Method {
    Method { name, need, work: Work::Now(work) }
}

/// A method that asks an actor or the store.
pub(crate) const fn later(
    name: &'static str,
    need: Need,
    work: fn(Call) -> BoxFuture<'static, Answer>,
) -> Method {
    Method { name, need, work: Work::Later(work) }
}

/// A method that waits for a run.
pub(crate) const fn waits(
    name: &'static str,
    need: Need,
    work: fn(Call) -> BoxFuture<'static, Answer>,
) -> Method {
    Method { name, need, work: Work::Waits(work) }
}

pub(crate) const READ: Need = Need::Scope(Scope::Read);
pub(crate) const WRITE: Need = Need::Scope(Scope::Write);
pub(crate) const ADMIN: Need = Need::Scope(Scope::Admin);
pub(crate) const PAIRING: Need = Need::Scope(Scope::Pairing);
pub(crate) const APPROVALS: Need = Need::Scope(Scope::Approvals);

/// The families.
const FAMILIES: &[&[Method]] = &[
    agent::METHODS,
    agents::METHODS,
    approvals::METHODS,
    audit::METHODS,
    channels::METHODS,
    chat::METHODS,
    configuration::METHODS,
    deliveries::METHODS,
    devices::METHODS,
    diagnostics::METHODS,
    empty::METHODS,
    health::METHODS,
    logs::METHODS,
    models::METHODS,
    nodes::METHODS,
    schedules::METHODS,
    sessions::METHODS,
    status::METHODS,
    system::METHODS,
    tasks::METHODS,
    tools::METHODS,
    tree::METHODS,
    usage::METHODS,
];

/// A family of methods for those who count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Family(u8);

impl Family {
    /// That of all names that are not here.
    pub(crate) const OTHER: Self = Self(0);

    /// Its place in [`families`].
    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}

/// A method in the table.
pub(crate) struct Listed {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    pub(crate) method: &'static Method,
}

/// What the families are called: by what the names of their methods begin with.
static FAMILY_NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut names: Vec<_> = FAMILIES.iter().copied().flatten().map(|method| prefix(method.name)).collect();
    names.sort_unstable();
    names.dedup();
    names.insert(Family::OTHER.index(), "other");
    names
});

/// By their names: every request looks here. Each place holds the names of that length, of which there are a few.
static TABLE: LazyLock<Vec<Vec<Listed>>> = LazyLock::new(|| {
    let family = |name| {
        let at = FAMILY_NAMES.iter().position(|family| *family == prefix(name));
        at.and_then(|at| u8::try_from(at).ok()).map_or(Family::OTHER, Family)
    };
    let mut table = Vec::new();
    for method in FAMILIES.iter().copied().flatten() {
        let name = method.name;
        if table.len() <= name.len() {
            table.resize_with(name.len() + 1, Vec::new);
        }
        table[name.len()].push(Listed { name, family: family(name), method });
    }
    table.iter_mut().for_each(|same| same.sort_unstable_by_key(|listed| listed.name));
    table
});

static NAMES: LazyLock<Arc<[&'static str]>> = LazyLock::new(|| {
    let mut names: Vec<_> = TABLE.iter().flatten().map(|listed| listed.name).collect();
    names.sort_unstable();
    names.into()
});

fn prefix(name: &'static str) -> &'static str {
    name.split_once('.').map_or(name, |(family, _)| family)
}

fn listed(name: &str) -> Option<&'static Listed> {
    let same = TABLE.get(name.len())?;
    let at = same.binary_search_by(|listed| listed.name.cmp(name)).ok()?;
    Some(&same[at])
}

fn method(name: &str) -> Option<&'static Method> {
    listed(name).map(|listed| listed.method)
}

/// The names of the families, each at its [`Family::index`].
pub(crate) fn families() -> &'static [&'static str] {
    &FAMILY_NAMES
}

/// Whether a call of it may take from the caller's own device what it came in with.
pub(crate) fn manages_devices(method: &Method) -> bool {
    devices::METHODS.iter().any(|own| own.name == method.name)
}

/// The names of all methods, as `hello-ok` lists them.
pub(crate) fn names() -> Arc<[&'static str]> {
    Arc::clone(&NAMES)
}

/// What a call of a method takes, as far as this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeedOf {
    /// Nothing beyond the handshake.
    Nothing,
    /// This scope.
    Scope(Scope),
    /// The role of a node, which is not an operator's.
    Node,
    /// There is no such method here.
    Unknown,
}

/// What a call of the method of that name takes.
#[must_use]
pub fn need_of(name: &str) -> NeedOf {
    match method(name).map(|method| method.need) {
        Some(Need::Nothing) => NeedOf::Nothing,
        Some(Need::Scope(scope)) => NeedOf::Scope(scope),
        Some(Need::Node) => NeedOf::Node,
        None => NeedOf::Unknown,
    }
}

/// Why a method is not carried out.
pub(crate) struct Refused {
    pub(crate) error: ErrorShape,
    pub(crate) family: Family,
    /// Whether the client's role is the reason: it does not know what it is.
    pub(crate) wrong_role: bool,
}

impl From<ErrorShape> for Refused {
    fn from(error: ErrorShape) -> Self {
        Self { error, family: Family::OTHER, wrong_role: false }
    }
}

/// The method of that name, if this client may call it. The scope is checked before it is told whether there is such a
/// method: one that nobody knows needs all rights. One that OpenClaw lists and that is not here tells nobody anything
/// but that.
pub(crate) fn find(name: &str, client: &Client) -> Result<&'static Listed, Refused> {
    let listed = listed(name);
    let (need, family) = match listed {
        Some(listed) => (listed.method.need, listed.family),
        None if is_absent(name) => return Err(absent(name).into()),
        None => (Need::Scope(Scope::Admin), Family::OTHER),
    };
    allowed(need, client.role, client.scopes, client.protocol)
        .map_err(|refused| Refused { family, ..refused })?;
    listed.ok_or_else(|| unknown(name).into())
}

/// Whether somebody in this role and with these scopes has what a method needs.
fn allowed(need: Need, role: Role, scopes: Scopes, protocol: Protocol) -> Result<(), Refused> {
    match (need, role) {
        (Need::Nothing, _) | (Need::Node, Role::Node) => Ok(()),
        (Need::Node, Role::Operator) | (Need::Scope(_), Role::Node) => {
            let error = ErrorShape::invalid(format!("unauthorized role: {role}"));
            Err(Refused { error, family: Family::OTHER, wrong_role: true })
        }
        (Need::Scope(scope), Role::Operator) if scopes.implied().contains(scope) => Ok(()),
        (Need::Scope(scope), Role::Operator) => Err(missing(protocol, scope).into()),
    }
}

/// Whether a release of OpenClaw has a method of this name, and Offshoot has not.
fn is_absent(name: &str) -> bool {
    absent::ABSENT.binary_search(&name).is_ok()
}

/// Begins as the answer to a name that nobody knows: by that, clients tell that they must do without.
fn absent(name: &str) -> ErrorShape {
    ErrorShape::invalid(format!("unknown method: {name} (OpenClaw has it, offshoot does not)"))
        .with_details(json!({ "code": "METHOD_ABSENT", "method": name }))
}

fn missing(protocol: Protocol, scope: Scope) -> ErrorShape {
    ErrorShape::missing_scope(protocol, scope.as_str(), &[scope.as_str()])
}

fn unknown(name: &str) -> ErrorShape {
    let name: String = name.chars().take(128).collect();
    ErrorShape::invalid(format!("unknown method: {name}"))
}
