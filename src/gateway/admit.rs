//! From a `connect` to a client, or to the reason why not. The checks in their order; each of them decides over values.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use offshoot_actors::Grant;
use offshoot_actors::types::{DeviceId, Role, Scopes, Vouched};
use secrecy::ExposeSecret;

use super::audit;
use super::auth::{Accepted, AuthFailure, Decision, Guess, Presented, RegistryCheck, authenticate};
use super::daemon::Daemon;
use super::device;
use super::identity::{self, Candidate, NoDevice};
use super::limits::{Proof, Who};
use super::peer::Peer;
use super::registry;
use crate::protocol::client::CAP_TOOL_EVENTS;
use crate::protocol::connect::{ClientInfo, ConnectParams};
use crate::protocol::error::ErrorShape;
use crate::protocol::hello::{AuthMethod, GrantedDevice};
use crate::protocol::version::{Protocol, negotiate};

/// A client that asks to come in.
#[derive(Debug)]
pub(crate) struct Applicant {
    /// The connection's number.
    pub(crate) number: u64,
    pub(crate) params: ConnectParams,
    /// That of the challenge.
    pub(crate) nonce: String,
    pub(crate) peer: Arc<Peer>,
    pub(crate) headers: Arc<HeaderMap>,
}

/// What a client came in with.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) protocol: Protocol,
    pub(crate) role: Role,
    pub(crate) scopes: Scopes,
    pub(crate) device: Option<DeviceId>,
    pub(crate) granted_device: Option<GrantedDevice>,
    pub(crate) method: AuthMethod,
    pub(crate) facts: ClientInfo,
    pub(crate) tool_events: bool,
}

/// Why a client is sent away.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) error: ErrorShape,
    /// The code of the close that follows the answer.
    pub(crate) code: u16,
}

impl From<ErrorShape> for Rejected {
    fn from(error: ErrorShape) -> Self {
        Self { error, code: 1008 }
    }
}

/// Decides over a connect. That it is refused is entered into the audit record.
///
/// # Errors
/// What the client is told before it is closed.
pub(crate) async fn admit(daemon: &Daemon, applicant: Applicant) -> Result<Admitted, Rejected> {
    let (number, client) = (applicant.number, applicant.params.client.clone());
    let peer = Arc::clone(&applicant.peer);
    let decided = decide(daemon, applicant).await;
    if let Err(rejected) = &decided {
        audit::turned_away(daemon, number, &peer, &client, &rejected.error);
    }
    decided
}

async fn decide(daemon: &Daemon, applicant: Applicant) -> Result<Admitted, Rejected> {
    let Applicant { number, params, nonce, peer, headers } = applicant;
    let protocol = negotiate(params.min_protocol, params.max_protocol)
        .map_err(|mismatch| Rejected { error: mismatch.error_shape(), code: 1002 })?;
    let role = params.role()?;
    let config = daemon.config();
    let settings = &config.gateway;
    let origins = &settings.control_ui.origins;
    origins.check_connect(&peer, &params.client).map_err(|refused| refused.error_shape())?;
    let policy = settings.control_ui.device;
    let signed = params.device.as_ref().filter(|_| !policy.ignores_device_of(&params.client));
    let verified = match signed {
        None => None,
        Some(device) => {
            let now = daemon.clock.now().0;
            let verified = device::verify(&params, device, role, &nonce, now);
            Some(verified.map_err(|error| error.error_shape())?)
        }
    };
    let presented = Presented::by_connect(&params.auth, verified.is_some());
    let proof = Prove { daemon, protocol, peer: &peer, presented: &presented };
    let (accepted, by_registry) = match proof.shared(&headers).await {
        Proved::Accepted(accepted) => (Some(accepted), None),
        Proved::AskRegistry(check) => (None, Some(check)),
        Proved::Refused(error) => {
            let candidate = candidate(&params, role, &peer, None, presented.has_shared());
            return Err(without_proof(error, &candidate, verified.is_some(), policy));
        }
    };
    let asked = asked_scopes(&params, role)?;
    let Some(verified) = verified else {
        let method = accepted.as_ref().map(|accepted| accepted.method);
        let candidate = candidate(&params, role, &peer, method, presented.has_shared());
        identity::without_device(&candidate, policy).map_err(NoDevice::error_shape)?;
        let kept = identity::effective_scopes(&params.scopes, &candidate, policy, false);
        let scopes = if kept.is_empty() { Scopes::NONE } else { asked };
        let method = method.unwrap_or(AuthMethod::None);
        return Ok(admitted(protocol, role, scopes, method, params, None));
    };
    let entry = |method, vouched| registry::Entry {
        number,
        verified: &verified,
        role,
        scopes: asked,
        client: &params.client,
        remote: peer.client,
        vouched,
        has_token: method == Some(AuthMethod::DeviceToken),
    };
    let method = match by_registry {
        None => accepted.map_or(AuthMethod::None, |accepted| accepted.method),
        Some(check) => match proof.by_registry(&entry(None, Vouched::Stranger), check).await? {
            ByRegistry::Token => AuthMethod::DeviceToken,
            ByRegistry::Code(grant) => {
                let device = Some(registry::granted(*grant));
                return Ok(admitted(protocol, role, asked, AuthMethod::BootstrapToken, params, device));
            }
        },
    };
    let candidate = candidate(&params, role, &peer, Some(method), presented.has_shared());
    if identity::skips_pairing(&candidate) {
        return Ok(admitted(protocol, role, asked, method, params, None));
    }
    let vouched = if identity::approves_silently(&candidate) { Vouched::Local } else { Vouched::Stranger };
    let device = registry::connect(daemon, &entry(Some(method), vouched)).await?;
    Ok(admitted(protocol, role, asked, method, params, Some(device)))
}

fn admitted(
    protocol: Protocol,
    role: Role,
    scopes: Scopes,
    method: AuthMethod,
    params: ConnectParams,
    device: Option<(DeviceId, GrantedDevice)>,
) -> Admitted {
    let (device, granted_device) = device.unzip();
    let tool_events = params.caps.iter().any(|cap| cap == CAP_TOOL_EVENTS);
    let scopes = if role == Role::Node { Scopes::NONE } else { scopes };
    Admitted { protocol, role, scopes, device, granted_device, method, facts: params.client, tool_events }
}

fn candidate<'a>(
    params: &'a ConnectParams,
    role: Role,
    peer: &'a Peer,
    method: Option<AuthMethod>,
    offered_secret: bool,
) -> Candidate<'a> {
    Candidate { client: &params.client, role, peer, method, offered_secret }
}

/// A scope that nobody knows is refused: what it would allow is not known either.
fn asked_scopes(params: &ConnectParams, role: Role) -> Result<Scopes, ErrorShape> {
    if role == Role::Node {
        return Ok(Scopes::NONE);
    }
    Scopes::from_names(&params.scopes)
        .map_err(|error| ErrorShape::invalid(format!("invalid connect params: at /scopes: {error}")))
}

/// The answer to a client that proved nothing: one without a device is told about that first, where it is the reason.
fn without_proof(
    error: ErrorShape,
    candidate: &Candidate<'_>,
    has_device: bool,
    policy: identity::DevicePolicy,
) -> Rejected {
    if has_device {
        return error.into();
    }
    match identity::without_device(candidate, policy) {
        Err(refused @ (NoDevice::ControlUi | NoDevice::Required)) => refused.error_shape().into(),
        Ok(()) | Err(NoDevice::Unauthorized) => error.into(),
    }
}

/// What the registry of devices found.
enum ByRegistry {
    /// The token is the device's.
    Token,
    /// The code let the device in.
    Code(Box<Grant>),
}

enum Proved {
    Accepted(Accepted),
    AskRegistry(RegistryCheck),
    Refused(ErrorShape),
}

/// How a client proves itself, and what becomes of one that keeps failing.
struct Prove<'a> {
    daemon: &'a Daemon,
    protocol: Protocol,
    peer: &'a Peer,
    presented: &'a Presented,
}

impl Prove<'_> {
    async fn shared(&self, headers: &HeaderMap) -> Proved {
        let config = self.daemon.config();
        let who = Who::of(self.peer);
        // All of them before anything is compared: an answer that came after would tell what was right.
        if let Some(locked) = self.presented.proofs().find_map(|proof| self.check(proof, &who).err()) {
            return Proved::Refused(locked);
        }
        match authenticate(&config.gateway.auth, self.presented, self.peer, headers) {
            Decision::Accepted(accepted) => {
                if matches!(accepted.method, AuthMethod::Token | AuthMethod::Password) {
                    self.lock().succeeded(Proof::SharedSecret, &who);
                }
                Proved::Accepted(accepted)
            }
            Decision::AskRegistry(check) => Proved::AskRegistry(check),
            Decision::Refused(failure) => Proved::Refused(self.failed(failure, who).await),
        }
    }

    /// The device's own token or a setup code. However much of it was wrong, the answer is held back once: a client has
    /// only so long for its handshake.
    async fn by_registry(
        &self,
        entry: &registry::Entry<'_>,
        check: RegistryCheck,
    ) -> Result<ByRegistry, Rejected> {
        let mut pause = Duration::ZERO;
        let found = self.ask_registry(entry, check, &mut pause).await;
        self.hold_back(pause).await;
        found
    }

    /// `pause` is for how long the answer is to be held back then.
    async fn ask_registry(
        &self,
        entry: &registry::Entry<'_>,
        check: RegistryCheck,
        pause: &mut Duration,
    ) -> Result<ByRegistry, Rejected> {
        let who = Who::of(self.peer);
        let mut count = |proof| *pause = self.count(proof, who.clone()).max(*pause);
        let RegistryCheck { bootstrap_token, device_token, guess, otherwise } = check;
        if guess == Guess::Wrong {
            // Also where the registry lets it in: a device must not find out the secret.
            count(Proof::SharedSecret);
        }
        if let Some(code) = &bootstrap_token {
            if let Some(grant) = registry::redeem(self.daemon, entry, code.expose_secret()).await? {
                self.lock().succeeded(Proof::BootstrapToken, &who);
                return Ok(ByRegistry::Code(Box::new(grant)));
            }
            count(Proof::BootstrapToken);
        }
        if let Some(token) = &device_token {
            if registry::verify(self.daemon, entry, token.expose_secret()).await? {
                self.lock().succeeded(Proof::DeviceToken, &who);
                return Ok(ByRegistry::Token);
            }
            count(match guess {
                Guess::UnlessKnown => Proof::SharedSecret,
                Guess::None | Guess::Wrong => Proof::DeviceToken,
            });
        }
        Err(otherwise.error_shape(self.protocol).into())
    }

    fn check(&self, proof: Proof, who: &Who) -> Result<(), ErrorShape> {
        let now = self.daemon.clock.monotonic();
        self.lock()
            .check(proof, who, now)
            .map_err(|locked| AuthFailure::locked_out(locked).error_shape(self.protocol))
    }

    /// Counts a failure and holds back the answer.
    async fn failed(&self, failure: AuthFailure, who: Who) -> ErrorShape {
        if let Some(proof) = failure.counts_as() {
            let pause = self.count(proof, who);
            self.hold_back(pause).await;
        }
        failure.error_shape(self.protocol)
    }

    /// Counts a failure and tells for how long the answer to it is held back.
    fn count(&self, proof: Proof, who: Who) -> Duration {
        self.daemon.tell_failure(proof, self.peer.client);
        let now = self.daemon.clock.monotonic();
        self.lock().failed(proof, who, now)
    }

    async fn hold_back(&self, pause: Duration) {
        if !pause.is_zero() {
            self.daemon.clock.sleep(pause).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, super::limits::FailureLimits> {
        self.daemon.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
