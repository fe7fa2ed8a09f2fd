//! The registry of devices, asked as the edge asks it.

mod codes;
mod connects;
#[cfg(feature = "faults")]
mod faults;
mod limits;
mod manages;
mod tokens;

use std::time::Duration;

use offshoot_actors::ports::{Answer, AuditRecord, Event, ModelError, PairRequestRow, PairingEvent};
use offshoot_actors::types::{ClientInfo, DeviceId, Origin, PublicKey, Role, Scope, Scopes, Secret, Vouched};
use offshoot_actors::{
    Caller, ConnectRequest, Connected, Grant, PairingError, PairingHandle, Pending, TokenCheck,
};

use crate::rig::{Call, Rig, setup, soon};

const READ: Scopes = Scopes::NONE.with(Scope::Read);
const WRITE: Scopes = Scopes::NONE.with(Scope::Write);
const ADMIN: Scopes = Scopes::NONE.with(Scope::Admin);

async fn script(call: Call) -> Result<Answer, ModelError> {
    Ok(Answer::text(call.task()))
}

async fn rig() -> Rig {
    setup().start(script).await
}

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

fn id(number: u8) -> DeviceId {
    key(number).device()
}

/// A stranger that wants to read.
fn stranger(number: u8) -> ConnectRequest {
    ConnectRequest {
        key: key(number),
        role: Role::Operator,
        scopes: READ,
        client: ClientInfo {
            id: "cli".to_owned(),
            mode: "cli".to_owned(),
            name: None,
            platform: "linux".to_owned(),
            family: None,
        },
        remote: Some("192.0.2.1".to_owned()),
        vouched: Vouched::Stranger,
        has_token: false,
    }
}

/// Somebody at this machine who wants to read.
fn local(number: u8) -> ConnectRequest {
    ConnectRequest { remote: Some("127.0.0.1".to_owned()), vouched: Vouched::Local, ..stranger(number) }
}

fn origin() -> Origin {
    Origin::Client { connection: 7, device: None, scopes: Vec::new() }
}

/// A client of the registry that expects to be answered.
struct Door {
    handle: PairingHandle,
}

impl Door {
    async fn try_connect(&self, request: ConnectRequest) -> Result<Connected, PairingError> {
        soon("a connect", self.handle.connect(request, origin())).await
    }

    async fn admit(&self, request: ConnectRequest) -> Grant {
        match self.try_connect(request).await.unwrap() {
            Connected::Admitted(grant) => grant,
            Connected::Pending(pending) => panic!("waits: {pending:?}"),
        }
    }

    async fn pend(&self, request: ConnectRequest) -> Pending {
        match self.try_connect(request).await.unwrap() {
            Connected::Pending(pending) => *pending,
            Connected::Admitted(grant) => panic!("was let in: {grant:?}"),
        }
    }

    async fn approve(&self, request: &PairRequestRow) {
        self.handle.approve(request.id, Caller::OPERATOR, Origin::Operator).await.unwrap();
    }

    async fn verify(&self, device: DeviceId, token: &Secret, scopes: Scopes) -> TokenCheck {
        self.handle.verify_token(device, token.clone(), Role::Operator, scopes).await.unwrap()
    }
}

fn door(rig: &Rig) -> Door {
    Door { handle: rig.handle.pairing() }
}

/// The lines of the audit record about devices and setup codes.
fn audit(rig: &Rig) -> Vec<AuditRecord> {
    let mut lines = rig.storage.audit();
    lines.retain(|line| line.event.starts_with("device.") || line.event.starts_with("setup_code."));
    lines
}

fn fact(line: &AuditRecord, name: &str) -> Option<String> {
    line.facts.iter().find(|(known, _)| *known == name).map(|(_, fact)| fact.clone())
}

/// What was told of devices, in short.
fn told(rig: &Rig) -> Vec<String> {
    let events = rig.events.all().into_iter().filter_map(|event| match event {
        Event::Pairing(event) => Some(event),
        _ => None,
    });
    let lines = events.map(|event| match event {
        PairingEvent::Requested(row) => format!("requested {}", row.reason),
        PairingEvent::Resolved { verdict, .. } => verdict.as_str().to_owned(),
        PairingEvent::Removed { .. } => "removed".to_owned(),
        PairingEvent::TokenRotated { role, .. } => format!("rotated {role}"),
        PairingEvent::TokenRevoked { role, .. } => format!("revoked {role}"),
    });
    lines.collect()
}

/// I8: what the registry knows is what is stored. Stops the tree.
async fn finish(rig: Rig) {
    let list = rig.handle.pairing().list().await.unwrap();
    let mut stored = rig.storage.devices();
    stored.requests.sort_by_key(|row| (row.created_at, row.id));
    assert_eq!(list.pending, stored.requests);
    assert_eq!(
        list.paired.iter().map(|paired| &paired.device).collect::<Vec<_>>(),
        stored.devices.iter().collect::<Vec<_>>()
    );
    assert_eq!(list.paired.iter().map(|paired| paired.tokens.len()).sum::<usize>(), stored.tokens.len());
    assert_eq!(list.codes.len(), stored.bootstraps.len());
    rig.stop().await;
}

const MINUTE: Duration = Duration::from_secs(60);
