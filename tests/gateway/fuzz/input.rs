//! What is sent to the port: made from a seed, or read from a file of the corpus.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One client's whole talk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Input {
    /// Bytes in the place of a request.
    Port {
        bytes: Vec<Piece>,
        /// Bytes of one write; all at once if zero.
        #[serde(default, skip_serializing_if = "is_zero")]
        step: usize,
    },
    /// Frames behind an upgrade.
    Socket {
        /// Whether the client has connected before.
        known: bool,
        frames: Vec<Frame>,
        #[serde(default, skip_serializing_if = "is_zero")]
        step: usize,
    },
    /// The parameters of a `connect`, with placeholders for what only the moment knows.
    Connect { params: Value },
    /// Requests of a client that is connected.
    Requests {
        protocol: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<String>,
        calls: Vec<Called>,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Called {
    pub method: String,
    pub params: Value,
}

/// Some bytes, written so that a person can read them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Piece {
    Text(String),
    Hex { hex: String },
    Fill { fill: String, times: usize },
}

/// A frame, or what looks like one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// Its first byte: the end of a message, reserved bits, opcode.
    pub first: u8,
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub masked: bool,
    /// The length that it claims, if it is not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<u64>,
    pub payload: Vec<Piece>,
    /// How often it is sent.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub times: usize,
}

/// A file of the corpus.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Why it is kept.
    pub about: String,
    /// How its answer begins.
    pub answer: String,
    pub input: Input,
}

const fn yes() -> bool {
    true
}

const fn one() -> usize {
    1
}

const fn is_one(value: &usize) -> bool {
    *value == 1
}

const fn is_true(value: &bool) -> bool {
    *value
}

const fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// The bytes as pieces: text where it is text, and long runs of one character told by their length.
pub fn pieces(bytes: &[u8]) -> Vec<Piece> {
    const RUN: usize = 64;
    let mut pieces = Vec::new();
    let mut rest = Vec::new();
    let end = |rest: &mut Vec<u8>, pieces: &mut Vec<Piece>| {
        let bytes = std::mem::take(rest);
        match String::from_utf8(bytes) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => pieces.push(Piece::Text(text)),
            Err(error) => {
                let hex = error.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                pieces.push(Piece::Hex { hex });
            }
        }
    };
    for run in bytes.chunk_by(|a, b| a == b) {
        if run.len() < RUN || !run[0].is_ascii() {
            rest.extend_from_slice(run);
        } else {
            end(&mut rest, &mut pieces);
            pieces.push(Piece::Fill { fill: char::from(run[0]).to_string(), times: run.len() });
        }
    }
    end(&mut rest, &mut pieces);
    pieces
}

impl Piece {
    fn write(&self, into: &mut Vec<u8>) {
        match self {
            Self::Text(text) => into.extend_from_slice(text.as_bytes()),
            Self::Hex { hex } => {
                let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
                into.extend(digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()));
            }
            Self::Fill { fill, times } => into.extend_from_slice(fill.repeat(*times).as_bytes()),
        }
    }
}

pub fn bytes(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    pieces.iter().for_each(|piece| piece.write(&mut bytes));
    bytes
}

impl Frame {
    /// A whole text message.
    pub fn text(text: impl Into<String>) -> Self {
        Self { first: 0x81, masked: true, claims: None, payload: vec![Piece::Text(text.into())], times: 1 }
    }

    pub fn write(&self, into: &mut Vec<u8>) {
        (0..self.times).for_each(|_| self.write_once(into));
    }

    fn write_once(&self, into: &mut Vec<u8>) {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let payload = bytes(&self.payload);
        let length = self.claims.unwrap_or(payload.len() as u64);
        let masked = if self.masked { 0x80 } else { 0 };
        into.push(self.first);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..126), _) => into.push(masked | short),
            (_, Ok(length)) => {
                into.push(masked | 126);
                into.extend(length.to_be_bytes());
            }
            _ => {
                into.push(masked | 127);
                into.extend(length.to_be_bytes());
            }
        }
        if self.masked {
            into.extend(MASK);
            into.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            into.extend(payload);
        }
    }

    /// Whether as many bytes follow as it claims.
    pub fn is_whole(&self) -> bool {
        self.claims.is_none_or(|length| length == bytes(&self.payload).len() as u64)
    }
}

/// The corpus, by the names of its files.
pub fn corpus() -> Vec<(String, Case)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/corpus");
    let mut cases: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let case = serde_json::from_str(&fs::read_to_string(&path).unwrap());
            (name.clone(), case.unwrap_or_else(|error| panic!("{name}: {error}")))
        })
        .collect();
    cases.sort_by(|(a, _), (b, _)| a.cmp(b));
    cases
}
