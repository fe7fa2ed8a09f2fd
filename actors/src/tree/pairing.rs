//! The registry of devices as its users see it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::TreeHandle;
use crate::kit::Reply;
use crate::pairing::{
    Answer, By, Call, Caller, ConnectRequest, Connected, Grant, PairedDevice, PairingError, PairingList,
    PairingMsg, Rotated, SetupCode, TokenCheck,
};
use crate::shared::Shared;
use crate::types::{DeviceId, Origin, Role, Scopes, Secret, Timestamp};

/// Asks the registry of devices. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PairingHandle {
    shared: Arc<Shared>,
}

impl TreeHandle {
    /// The registry of devices.
    #[must_use]
    pub fn pairing(&self) -> PairingHandle {
        PairingHandle { shared: Arc::clone(&self.shared) }
    }
}

/// Each answers once its change is committed. All fail with [`PairingError::Gone`] while the registry is being
/// restarted, and with [`PairingError::Store`] where the store does not take the change.
impl PairingHandle {
    /// Decides on a device that connects. One that is known, and asks for no more than was approved, waits for no
    /// commit. Comes after the check of its signature, and of its secret or token.
    ///
    /// # Errors
    /// A text is too long, or a limit is reached.
    pub async fn connect(&self, request: ConnectRequest, origin: Origin) -> Result<Connected, PairingError> {
        self.ask(|reply| PairingMsg::Connect(Box::new(call(request, origin, reply)))).await
    }

    /// Says what a device's token is worth, for a role with these scopes.
    ///
    /// # Errors
    /// Only those that all share.
    pub async fn verify_token(
        &self,
        device: DeviceId,
        token: Secret,
        role: Role,
        scopes: Scopes,
    ) -> Result<TokenCheck, PairingError> {
        self.ask(|reply| PairingMsg::Verify { device, token, role, scopes, reply }).await
    }

    /// All devices, those that wait among them.
    ///
    /// # Errors
    /// Only those that all share.
    pub async fn list(&self) -> Result<PairingList, PairingError> {
        self.ask(|reply| PairingMsg::List { reply }).await
    }

    /// Lets a device in that waits, with all that its request names.
    ///
    /// # Errors
    /// The request has lapsed or never was, the caller lacks a scope that it names, or there are too many devices.
    pub async fn approve(
        &self,
        request: Uuid,
        caller: Caller,
        origin: Origin,
    ) -> Result<PairedDevice, PairingError> {
        let by = By { caller, origin };
        self.ask(|reply| PairingMsg::Approve { request, by, reply }).await
    }

    /// Takes a request off the list without letting the device in. Names the device.
    ///
    /// # Errors
    /// The request has lapsed or never was, or the caller lacks the scope.
    pub async fn reject(
        &self,
        request: Uuid,
        caller: Caller,
        origin: Origin,
    ) -> Result<DeviceId, PairingError> {
        let by = By { caller, origin };
        self.ask(|reply| PairingMsg::Reject { request, by, reply }).await
    }

    /// Forgets a device with its tokens.
    ///
    /// # Errors
    /// There is no such device, or it is not the caller's to change.
    pub async fn remove(&self, device: DeviceId, caller: Caller, origin: Origin) -> Result<(), PairingError> {
        let by = By { caller, origin };
        self.ask(|reply| PairingMsg::Remove { device, by, reply }).await
    }

    /// Makes a token in the place of the one that a device has for a role; without `scopes` for the same ones.
    ///
    /// # Errors
    /// There is no such device, it does not have the role, it is not the caller's to change, or more is asked for
    /// than the device was approved for or the caller holds.
    pub async fn rotate(
        &self,
        device: DeviceId,
        role: Role,
        scopes: Option<Scopes>,
        caller: Caller,
        origin: Origin,
    ) -> Result<Rotated, PairingError> {
        let by = By { caller, origin };
        self.ask(|reply| PairingMsg::Rotate { device, role, scopes, by, reply }).await
    }

    /// Takes a role from a device, with its token and all that was approved for it. Says when.
    ///
    /// # Errors
    /// There is no such device, it does not have the role, or it is not the caller's to change.
    pub async fn revoke(
        &self,
        device: DeviceId,
        role: Role,
        caller: Caller,
        origin: Origin,
    ) -> Result<Timestamp, PairingError> {
        let by = By { caller, origin };
        self.ask(|reply| PairingMsg::Revoke { device, role, by, reply }).await
    }

    /// Makes a code with which one device is let in, once, within `ttl` of 1 second to 24 hours.
    ///
    /// # Errors
    /// The caller lacks a scope that the code would give, it would live too long, or there are too many.
    pub async fn issue_code(
        &self,
        role: Role,
        scopes: Scopes,
        ttl: Duration,
        caller: Caller,
        origin: Origin,
    ) -> Result<SetupCode, PairingError> {
        let by = By { caller, origin };
        self.ask(|reply| PairingMsg::IssueCode { role, scopes, ttl, by, reply }).await
    }

    /// Lets a device in that has a setup code, whoever vouches for it, and takes the code.
    ///
    /// # Errors
    /// The code is wrong, has lapsed or was used; the device asks for more than it gives, and may do so again
    /// with less; a text is too long, or there are too many devices.
    pub async fn redeem_code(
        &self,
        code: Secret,
        request: ConnectRequest,
        origin: Origin,
    ) -> Result<Grant, PairingError> {
        self.ask(|reply| PairingMsg::RedeemCode { code, call: Box::new(call(request, origin, reply)) }).await
    }

    async fn ask<T>(&self, message: impl FnOnce(Answer<T>) -> PairingMsg) -> Result<T, PairingError> {
        let (sender, receiver) = oneshot::channel();
        if self.shared.pairing.send(message(Reply::Channel(sender))).is_err() {
            return Err(PairingError::Gone);
        }
        receiver.await.unwrap_or(Err(PairingError::Gone))
    }
}

fn call<T>(request: ConnectRequest, origin: Origin, reply: Answer<T>) -> Call<T> {
    Call { device: request.key.device(), request, origin, reply }
}
