use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use offshoot_actors::types::Role;
use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::{
    DeviceError, MAX_SKEW_MS, SPKI_PREFIX, SignatureVersion, Signed, VerifiedDevice, hash, key_bytes, verify,
};
use crate::protocol::connect::ConnectParams;

const NOW: i64 = 1_795_255_353_788;
const NONCE: &str = "194d5847-92c0-44a1-a8be-c474339e8add";

fn parse(params: &Value) -> ConnectParams {
    let raw = serde_json::value::to_raw_value(params).unwrap();
    ConnectParams::parse(Some(&raw)).unwrap().0
}

fn check(params: &ConnectParams, now: i64) -> Result<VerifiedDevice, DeviceError> {
    verify(params, params.device.as_ref().unwrap(), params.role().unwrap(), NONCE, now)
}

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

/// A connect of the device with the key of `seed`, not signed yet.
fn unsigned(seed: u8) -> ConnectParams {
    let public = key(seed);
    let public = public.public_key().as_ref();
    parse(&json!({"minProtocol": 3, "maxProtocol": 4,
        "client": {"id": "cli", "version": "1", "platform": " LinuX ", "deviceFamily": "Linux", "mode": "cli"},
        "role": "operator", "scopes": ["operator.write", "operator.read"],
        "auth": {"deviceToken": "device", "bootstrapToken": "boot", "password": "never"},
        "device": {"id": hash(public), "publicKey": URL_SAFE_NO_PAD.encode(public), "signature": "-",
            "signedAt": NOW, "nonce": NONCE}}))
}

fn sign(params: &mut ConnectParams, seed: u8, version: SignatureVersion) {
    let device = params.device.clone().unwrap();
    let signed = Signed { params, device: &device, role: Role::Operator, nonce: NONCE };
    let signature = key(seed).sign(signed.payload(version).as_bytes());
    params.device.as_mut().unwrap().signature = URL_SAFE_NO_PAD.encode(signature);
}

fn signed(seed: u8, version: SignatureVersion) -> ConnectParams {
    let mut params = unsigned(seed);
    sign(&mut params, seed, version);
    params
}

#[test]
fn the_payload_is_that_of_both_versions() {
    let mut params = unsigned(1);
    let id = params.device.as_ref().unwrap().id.clone();
    let payload = |params: &ConnectParams, version| {
        let device = params.device.as_ref().unwrap();
        Signed { params, device, role: Role::Operator, nonce: NONCE }.payload(version)
    };
    let base = format!("{id}|cli|cli|operator|operator.write,operator.read|{NOW}|device|{NONCE}");
    assert_eq!(payload(&params, SignatureVersion::V2), format!("v2|{base}"));
    assert_eq!(payload(&params, SignatureVersion::V3), format!("v3|{base}|linux|linux"));
    params.auth.token = Some("shared".into());
    params.client.device_family = None;
    params.scopes.clear();
    let base = format!("{id}|cli|cli|operator||{NOW}|shared|{NONCE}");
    assert_eq!(payload(&params, SignatureVersion::V3), format!("v3|{base}|linux|"));
    params.auth.token = None;
    params.auth.device_token = None;
    assert!(payload(&params, SignatureVersion::V2).ends_with(&format!("|boot|{NONCE}")));
    params.auth.bootstrap_token = None;
    assert!(payload(&params, SignatureVersion::V2).ends_with(&format!("||{NONCE}")));
}

#[test]
fn either_version_is_believed() {
    for version in [SignatureVersion::V2, SignatureVersion::V3] {
        let params = signed(1, version);
        let verified = check(&params, NOW).unwrap();
        assert_eq!(verified.version, version);
        assert_eq!(verified.id, verified.public_key.device().to_string());
        assert_eq!(verified.public_key.to_string(), params.device.unwrap().public_key);
    }
}

#[test]
fn the_second_version_does_not_cover_the_platform_and_the_third_does() {
    for (version, expected) in [(SignatureVersion::V2, true), (SignatureVersion::V3, false)] {
        let mut params = signed(1, version);
        params.client.platform = "darwin".to_owned();
        assert_eq!(check(&params, NOW).is_ok(), expected);
    }
}

#[test]
fn a_captured_connect_of_a_real_client_is_believed() {
    let captured = |id: &str, key: &str, signature: &str, signed_at: i64, nonce: &str| {
        let params = parse(&json!({"minProtocol": 3, "maxProtocol": 4,
            "client": {"id": "cli", "version": "1.0.0", "platform": "linux", "mode": "cli"}, "role": "operator",
            "scopes": ["operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.pairing"],
            "caps": ["tool-events"], "auth": {"token": "tok-secret-123"},
            "device": {"id": id, "publicKey": key, "signature": signature, "signedAt": signed_at, "nonce": nonce}}));
        verify(&params, params.device.as_ref().unwrap(), Role::Operator, nonce, signed_at)
    };
    let older = captured(
        "c92b66eb36fa2bf5dade634dc5f94000d9fd233e76a152b445f87a31505dade8",
        "Yti7gUyK0Bn9euotILYR59mSqcuHsHo7FQ6OhGwnPCk",
        "T62V0OmaDC6UqBAq0GcMkRrHzdpX-5Dp7UE8Ztvl8LwHL-sh9Y-Zi-A4SlkQjxGeRWSfgrHe3NMPfS_kf6QWCA",
        1_795_255_353_788,
        "194d5847-92c0-44a1-a8be-c474339e8add",
    );
    let newer = captured(
        "4fb1bddb0d4b536ce4d8e4c29acbef2713dcfd55f8ca5f2dff8fecf7051bb885",
        "7ebodfUCguBHPX9Vzxc7zgXZAnUxo8KTWvqlw2sQR3U",
        "AX1D0thpCNbsNjPG5CRwiQ0iy_te_d8o3QxbV18y84nyJZZzhAe_sIMxUKgLHGLC4-fF1GgB9Q5qewhjEQtGAw",
        1_795_255_435_956,
        "a5212e2e-bf65-48a2-8dfd-aa690ce1357d",
    );
    assert!(older.is_ok(), "{older:?}");
    assert!(newer.is_ok(), "{newer:?}");
}

/// Changes a connect that is right.
type Damage = fn(&mut ConnectParams);

#[test]
fn each_check_has_its_answer_and_its_place_in_the_order() {
    // Each row breaks what it names and everything that is checked later.
    let table: &[(DeviceError, &str, &str, Damage)] = &[
        (DeviceError::IdMismatch, "DEVICE_AUTH_DEVICE_ID_MISMATCH", "device-id-mismatch", |params| {
            let device = params.device.as_mut().unwrap();
            device.id = "0".repeat(64);
            device.signed_at = 0;
            device.nonce = String::new();
            device.signature = "-".to_owned();
        }),
        (
            DeviceError::SignatureExpired,
            "DEVICE_AUTH_SIGNATURE_EXPIRED",
            "device-signature-stale",
            |params| {
                let device = params.device.as_mut().unwrap();
                device.signed_at = 0;
                device.nonce = String::new();
                device.signature = "-".to_owned();
            },
        ),
        (DeviceError::NonceRequired, "DEVICE_AUTH_NONCE_REQUIRED", "device-nonce-missing", |params| {
            let device = params.device.as_mut().unwrap();
            device.nonce = "  ".to_owned();
            device.signature = "-".to_owned();
        }),
        (DeviceError::NonceMismatch, "DEVICE_AUTH_NONCE_MISMATCH", "device-nonce-mismatch", |params| {
            let device = params.device.as_mut().unwrap();
            device.nonce = "another".to_owned();
            device.signature = "-".to_owned();
        }),
        (DeviceError::SignatureInvalid, "DEVICE_AUTH_SIGNATURE_INVALID", "device-signature", |params| {
            params.scopes.reverse();
        }),
        (DeviceError::PublicKeyInvalid, "DEVICE_AUTH_PUBLIC_KEY_INVALID", "device-public-key", |params| {
            let device = params.device.as_mut().unwrap();
            device.id = hash(&[7; 31]);
            device.public_key = URL_SAFE_NO_PAD.encode([7; 31]);
        }),
    ];
    for (expected, code, reason, damage) in table {
        let mut params = signed(1, SignatureVersion::V3);
        damage(&mut params);
        let error = check(&params, NOW).unwrap_err();
        assert_eq!(error, *expected);
        assert_eq!(
            serde_json::to_value(error.error_shape()).unwrap(),
            json!({"code": "INVALID_REQUEST", "message": error.to_string(), "details": {"code": code, "reason": reason}})
        );
    }
}

#[test]
fn a_text_that_is_no_key_has_no_id() {
    for text in
        ["", "!", "-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----AAAA-----END PUBLIC KEY-----"]
    {
        let mut params = signed(1, SignatureVersion::V3);
        params.device.as_mut().unwrap().public_key = text.to_owned();
        assert_eq!(check(&params, NOW), Err(DeviceError::IdMismatch), "{text}");
    }
}

#[test]
fn the_clocks_may_differ_by_two_minutes() {
    let params = signed(1, SignatureVersion::V3);
    let skew = i64::try_from(MAX_SKEW_MS).unwrap();
    for (now, expected) in [
        (NOW + skew, true),
        (NOW - skew, true),
        (NOW + skew + 1, false),
        (NOW - skew - 1, false),
        (0, false),
        (i64::MIN, false),
        (i64::MAX, false),
    ] {
        assert_eq!(check(&params, now).is_ok(), expected, "{now}");
    }
}

#[test]
fn a_key_and_a_signature_are_read_in_each_of_their_forms() {
    let params = signed(1, SignatureVersion::V3);
    let pair = key(1);
    let raw = pair.public_key().as_ref();
    let der = [&SPKI_PREFIX[..], raw].concat();
    let body = STANDARD.encode(&der);
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n", &body[..30], &body[30..]);
    let signature = URL_SAFE_NO_PAD.decode(&params.device.as_ref().unwrap().signature).unwrap();
    for public_key in [STANDARD.encode(raw), URL_SAFE.encode(raw), URL_SAFE_NO_PAD.encode(raw), pem] {
        assert_eq!(key_bytes(&public_key).unwrap(), raw);
        for signature in [STANDARD.encode(&signature), URL_SAFE.encode(&signature)] {
            let mut params = params.clone();
            let device = params.device.as_mut().unwrap();
            (device.public_key, device.signature) = (public_key.clone(), signature);
            assert!(check(&params, NOW).is_ok());
        }
    }
}

#[test]
fn another_device_or_role_or_secret_breaks_the_signature() {
    let changes: &[Damage] = &[
        |params| params.auth.device_token = Some("other".into()),
        |params| params.auth.token = Some("other".into()),
        |params| params.role = Some("node".to_owned()),
        |params| params.scopes.push("operator.admin".to_owned()),
        |params| params.client.id = crate::protocol::client::ClientId::Tui,
        |params| params.device.as_mut().unwrap().signed_at += 1,
    ];
    for change in changes {
        let mut params = signed(1, SignatureVersion::V2);
        change(&mut params);
        assert_eq!(check(&params, NOW), Err(DeviceError::SignatureInvalid));
    }
    let mut params = signed(1, SignatureVersion::V2);
    params.auth.password = Some("other".into());
    assert!(check(&params, NOW).is_ok(), "a password is never part of it");
}

proptest! {
    #[test]
    fn what_a_key_signed_is_believed_and_nothing_else(
        seed in any::<u8>(), scopes in prop::collection::vec("[a-z.|,]{1,20}", 0..5), platform in "\\PC{1,30}",
        token in prop::option::of("\\PC{1,30}"), third in any::<bool>(), byte in 0_usize..64,
    ) {
        let version = if third { SignatureVersion::V3 } else { SignatureVersion::V2 };
        let mut params = unsigned(seed);
        params.scopes = scopes;
        params.client.platform = platform;
        params.auth.token = token.map(Into::into);
        sign(&mut params, seed, version);
        prop_assert_eq!(check(&params, NOW).map(|device| device.version), Ok(version));
        let device = params.device.as_mut().unwrap();
        let mut signature = URL_SAFE_NO_PAD.decode(&device.signature).unwrap();
        signature[byte] ^= 1;
        device.signature = URL_SAFE_NO_PAD.encode(signature);
        prop_assert_eq!(check(&params, NOW), Err(DeviceError::SignatureInvalid));
    }

    #[test]
    fn no_text_makes_it_panic(key in any::<String>(), signature in any::<String>(), id in any::<String>()) {
        let mut params = unsigned(1);
        let device = params.device.as_mut().unwrap();
        (device.public_key, device.signature, device.id) = (key, signature, id);
        prop_assert!(check(&params, NOW).is_err());
    }
}
