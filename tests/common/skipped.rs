//! What a test does that cannot try its thing here.

use std::io::Write as _;

/// Says what is missing, and lets the test pass; under `.ci/run`, which sets `OFFSHOOT_CI`, fails it: what was not tried
/// is not green.
///
/// # Panics
/// Where `OFFSHOOT_CI` is set.
#[track_caller]
pub fn skipped(needs: &str) {
    let text = format!("SKIPPED: needs {needs}");
    assert!(std::env::var_os("OFFSHOOT_CI").is_none(), "{text}");
    // Past the harness, which keeps to itself what a test prints that passes.
    _ = writeln!(std::io::stderr(), "{text}");
}
