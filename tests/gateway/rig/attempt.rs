//! Attempts to connect: a sound one, and what differs from it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Client, Daemon, Device, Heard, TOKEN};

/// A connect that is made up.
#[derive(Clone)]
pub struct Attempt {
    params: Value,
    headers: Vec<(String, String)>,
    /// The device that signs, by name, and the version of its signature: 3 or 2 as the command lines or the Control
    /// UIs sign.
    signer: Option<(String, u8)>,
    /// How far the client's clock is ahead, in milliseconds.
    ahead: u64,
    /// What is changed after the signature.
    forge: fn(&mut Value, &Device),
}

/// How a connect was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The `error` of the answer.
    pub error: Value,
    /// The code of the close.
    pub code: u16,
    /// Its reason.
    pub reason: String,
}

impl Attempt {
    /// The command line, on this machine, with the token and no device.
    pub fn cli() -> Self {
        let params = json!({
            "minProtocol": 4,
            "maxProtocol": 4,
            "client": { "id": "cli", "version": "1.0.0", "platform": "linux", "mode": "cli" },
            "role": "operator",
            "scopes": ["operator.read", "operator.write"],
            "caps": [],
            "auth": { "token": TOKEN },
        });
        Self { params, headers: Vec::new(), signer: None, ahead: 0, forge: |_, _| {} }
    }

    /// The Control UI, in a page of this machine.
    pub fn ui() -> Self {
        Self::cli()
            .with(json!({ "client": { "id": "openclaw-control-ui", "mode": "webchat" } }))
            .header("origin", "http://localhost:5173")
    }

    /// A machine that lends itself.
    pub fn node() -> Self {
        Self::cli()
            .with(json!({ "client": { "id": "node-host", "mode": "node" }, "role": "node", "scopes": null }))
    }

    /// With other parameters: objects are merged, `null` takes a member out.
    pub fn with(mut self, patch: Value) -> Self {
        merge(&mut self.params, patch);
        self
    }

    /// With nothing but this to prove itself.
    pub fn auth(mut self, auth: Value) -> Self {
        self.params["auth"] = auth;
        self
    }

    pub fn scopes(self, scopes: &[&str]) -> Self {
        self.with(json!({ "scopes": scopes }))
    }

    /// Of this generation, unless the parameters say which.
    pub fn speaking(self, protocol: u32) -> Self {
        self.with(json!({ "minProtocol": protocol, "maxProtocol": protocol }))
    }

    /// With a header; one that is there already is replaced, and an empty value takes it out.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Through a proxy of this machine that speaks for another address.
    pub fn proxied(self) -> Self {
        self.header("x-forwarded-for", "203.0.113.5")
    }

    /// Signed by some device.
    pub fn signed(self, version: u8) -> Self {
        self.signed_by("some device", version)
    }

    /// Signed by the device of this name.
    pub fn signed_by(mut self, device: &str, version: u8) -> Self {
        self.signer = Some((device.to_owned(), version));
        self
    }

    /// If it is signed, by the device of this name.
    pub fn with_signer(mut self, device: &str) -> Self {
        if let Some((name, _)) = &mut self.signer {
            device.clone_into(name);
        }
        self
    }

    /// By a client whose clock is ahead by this many milliseconds.
    pub fn ahead(mut self, millis: u64) -> Self {
        self.ahead = millis;
        self
    }

    /// Changed after the signature.
    pub fn forged(mut self, forge: fn(&mut Value, &Device)) -> Self {
        self.forge = forge;
        self
    }
}

impl Daemon {
    /// Makes the attempt.
    ///
    /// # Errors
    /// How it was refused.
    pub async fn attempt(&self, attempt: &Attempt) -> Result<Client, Refused> {
        let mut client = self.socket(&attempt.headers).await;
        let nonce = client.challenged().await;
        let mut params = attempt.params.clone();
        if let Some((name, version)) = &attempt.signer {
            let device = Device::named(name);
            device.sign(&mut params, *version, &nonce, now() + attempt.ahead);
            (attempt.forge)(&mut params, &device);
        }
        let id = client.send("connect", params).await;
        let Heard::Frame(answer) = client.heard().await else { panic!("it was not answered") };
        assert_eq!((&answer["type"], &answer["id"]), (&json!("res"), &json!(id)), "{answer}");
        if answer["ok"] == true {
            client.hello = answer["payload"].clone();
            return Ok(client);
        }
        match client.heard().await {
            Heard::Closed(code, reason) => Err(Refused { error: answer["error"].clone(), code, reason }),
            Heard::Frame(frame) => panic!("it was not closed: {frame}"),
        }
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(members) = patch else {
        *target = patch;
        return;
    };
    for (name, value) in members {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(&name);
        } else if value.is_object() && target[&name].is_object() {
            merge(&mut target[&name], value);
        } else {
            target[&name] = value;
        }
    }
}
