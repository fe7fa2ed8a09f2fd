//! `offshoot doctor`

use serde_json::json;

use super::Global;
use super::args::DoctorArgs;
use super::exit::{Exit, Failure};
use super::output::{hint, printable};
use super::patience::shown;
use crate::config;
use crate::doctor::{self, Finding, Patient};

pub(super) fn run(args: &DoctorArgs, global: &Global) -> Result<Exit, Failure> {
    let dir = global.environment.state_dir()?;
    let own = global.environment.var("OFFSHOOT_STATE_DIR").is_none();
    let config = config::load(&global.environment, global.config.as_deref());
    let fix = args.fix;
    let place = dir.clone();
    let findings = shown(global, move |progress| {
        progress.checks();
        let patient = Patient::new(place, own, config);
        let mut findings = patient.examine();
        if fix {
            patient.mend(&mut findings);
        }
        findings
    })?;
    let checks: Vec<&str> = doctor::checks().collect();
    if global.output.json {
        global.output.document(&json!({
            "status": if findings.is_empty() { "ok" } else { "found" },
            "stateDir": dir,
            "checks": checks,
            "findings": findings,
        }))?;
    } else {
        for finding in &findings {
            tell(finding, global)?;
        }
        let fixable = findings.iter().filter(|finding| finding.fixable && !finding.fixed).count();
        if findings.is_empty() {
            let checks = checks.len();
            global.output.line(format_args!("nothing is wrong with {}: {checks} checks", dir.display()))?;
        } else if fixable > 0 && !fix {
            hint(&format!("`offshoot doctor --fix` mends {fixable} of {}", findings.len()));
        }
    }
    Ok(if findings.is_empty() { Exit::Ok } else { Exit::Found })
}

fn tell(finding: &Finding, global: &Global) -> Result<(), Failure> {
    let output = global.output;
    let mended = if finding.fixed { " (mended)" } else { "" };
    output.line(format_args!(
        "{}{mended}: {}",
        output.paint.bold(finding.check),
        printable(&finding.what)
    ))?;
    output.line(format_args!("  why:  {}", printable(&finding.why)))?;
    if finding.fixed {
        return Ok(());
    }
    output.line(format_args!("  help: {}", printable(&finding.help)))
}
