//! The calendar's time as lines and files are named by it.

use std::time::SystemTime;

/// `2026-04-15T10:11:12.131Z`
pub(super) fn iso(at: SystemTime) -> String {
    // "Wed, 15 Apr 2026 10:11:12 GMT"
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let http = httpdate::fmt_http_date(at);
    let part = |range: std::ops::Range<usize>| http.get(range).unwrap_or_default();
    let month = MONTHS.find(part(8..11)).map_or(1, |at| at / 3 + 1);
    let millis = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
    format!("{}-{month:02}-{}T{}.{millis:03}Z", part(12..16), part(5..7), part(17..25))
}

/// Days since the first of January 1970, in UTC.
pub(super) fn day(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() / (24 * 60 * 60))
}
