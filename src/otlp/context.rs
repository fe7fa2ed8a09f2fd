//! Ids of traces and spans, and how they travel (W3C Trace Context, `traceparent`).

use std::fmt;

use offshoot_actors::types::RunId;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A trace.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TraceId([u8; 16]);

/// A span.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SpanId([u8; 8]);

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
    /// Whether whoever began the trace keeps it.
    pub(crate) sampled: bool,
}

impl TraceId {
    /// The trace that begins with this run.
    pub(super) fn of(run: RunId) -> Self {
        Self(*run.0.as_bytes())
    }

    /// Whether a trace that begins here is among the share that is exported. The same for every span of it, in every
    /// process.
    pub(super) fn is_sampled(self, rate: f64) -> bool {
        // What is before these bytes counts on where ids of runs are made within one millisecond.
        let tail = self.0.last_chunk::<4>().map_or(0, |tail| u32::from_be_bytes(*tail));
        f64::from(tail) < rate * 4_294_967_296.0
    }
}

impl SpanId {
    /// The span of a run.
    pub(super) fn of(run: RunId) -> Self {
        Self::named(run, "run", 0)
    }

    /// The span of a run's result on its way to the parent.
    pub(super) fn of_announce(run: RunId) -> Self {
        Self::named(run, "announce", 0)
    }

    /// The span of something in a run, told apart by its beginning.
    pub(super) fn named(run: RunId, what: &str, begun: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(run.0.as_bytes());
        hash.update(begun.to_be_bytes());
        hash.update(what.as_bytes());
        let digest = hash.finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        // All zeros are no id.
        id[7] |= u8::from(id == [0; 8]);
        Self(id)
    }
}

impl Context {
    /// The span of a run in a trace.
    pub(super) fn of(run: RunId, trace: TraceId, sampled: bool) -> Self {
        Self { trace, span: SpanId::of(run), sampled }
    }

    /// Reads a `traceparent`; none if it is not one. Of versions to come the known part is read.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (known, rest) = (text.get(..55)?, text.get(55..)?);
        let mut parts = known.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version]: [u8; 1] = bytes(version)?;
        let [flags]: [u8; 1] = bytes(flags)?;
        let (trace, span): ([u8; 16], [u8; 8]) = (bytes(trace)?, bytes(span)?);
        let is_whole = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
        let is_valid = version != 0xff && trace != [0; 16] && span != [0; 8] && is_whole;
        (is_valid && parts.next().is_none()).then_some(Self {
            trace: TraceId(trace),
            span: SpanId(span),
            sampled: flags & 1 == 1,
        })
    }
}

/// As many bytes as lower-case hexadecimal digits say.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

/// The `traceparent` that names this place.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

macro_rules! shown_as_hex {
    ($($id:ty),*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(&self.0, f)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(&self.0, f)
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

shown_as_hex!(TraceId, SpanId);

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written_as_the_standard_says() {
        let context = Context::parse(PARENT).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), PARENT);
        assert!(!Context::parse(&PARENT.replace("-01", "-00")).unwrap().sampled);
        // One of a version to come may have more.
        assert_eq!(Context::parse(&PARENT.replacen("00", "cc", 1)), Some(context));
        assert_eq!(Context::parse(&format!("{}-more", PARENT.replacen("00", "cc", 1))), Some(context));
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        for wrong in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-more"),
            &PARENT.to_uppercase(),
            &PARENT.replacen("00", "ff", 1),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736x00f067aa0ba902b7-01",
            &"ä".repeat(40),
        ] {
            assert_eq!(Context::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_share_of_traces_is_the_one_asked_for_and_always_the_same() {
        let ids: Vec<TraceId> = (0..4_000).map(|_| TraceId::of(RunId(Uuid::now_v7()))).collect();
        let kept = ids.iter().filter(|id| id.is_sampled(0.25)).count();
        assert!((800..1_200).contains(&kept), "{kept}");
        assert!(ids.iter().all(|id| id.is_sampled(1.0) && !id.is_sampled(0.0)));
    }
}
