//! The files that describe the service to systemd and to launchd.

use std::fmt::Write as _;

/// The gateway as it is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    /// A file with variables, such as keys of models, that may be missing.
    pub(super) variables: String,
    /// Where output goes that no journal takes.
    pub(super) log: String,
}

/// The unit for systemd. It waits for the readiness notice, lets the daemon drain at a stop, and starts it again where it
/// failed, not where it was told to end.
pub(super) fn systemd(service: &Service) -> String {
    let command: Vec<String> = std::iter::once(&service.program)
        .chain(&service.arguments)
        .map(|argument| quoted(argument))
        .collect();
    format!(
        "[Unit]\n\
         Description=Offshoot gateway\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={}\n\
         EnvironmentFile=-{}\n\
         Restart=on-failure\n\
         RestartSec=2\n\
         TimeoutStopSec=660\n\
         LimitNOFILE=524288\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        command.join(" "),
        specifiers(&service.variables),
    )
}

/// An argument as systemd reads it back: quoted where it must be, with nothing replaced.
fn quoted(argument: &str) -> String {
    let text = specifiers(argument).replace('$', "$$");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@%$,+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// The property list for launchd.
pub(super) fn launchd(service: &Service, label: &str) -> String {
    let mut arguments = String::new();
    for argument in std::iter::once(&service.program).chain(&service.arguments) {
        // Writing to a string does not fail.
        let _ = writeln!(arguments, "    <string>{}</string>", escaped(argument));
    }
    let log = escaped(&service.log);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n\
         <dict>\n\
         \x20 <key>Label</key>\n\
         \x20 <string>{}</string>\n\
         \x20 <key>ProgramArguments</key>\n\
         \x20 <array>\n\
         {arguments}\
         \x20 </array>\n\
         \x20 <key>RunAtLoad</key>\n\
         \x20 <true/>\n\
         \x20 <key>KeepAlive</key>\n\
         \x20 <dict>\n\
         \x20   <key>SuccessfulExit</key>\n\
         \x20   <false/>\n\
         \x20 </dict>\n\
         \x20 <key>ExitTimeOut</key>\n\
         \x20 <integer>660</integer>\n\
         \x20 <key>StandardOutPath</key>\n\
         \x20 <string>{log}</string>\n\
         \x20 <key>StandardErrorPath</key>\n\
         \x20 <string>{log}</string>\n\
         </dict>\n\
         </plist>\n",
        escaped(label),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(program: &str, arguments: &[&str]) -> Service {
        Service {
            program: program.to_owned(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            variables: "/home/a/50%/gateway.env".to_owned(),
            log: "/home/a/gateway.log".to_owned(),
        }
    }

    #[test]
    fn a_unit_starts_exactly_what_it_names() {
        let unit =
            systemd(&service("/opt/my tools/offshoot", &["--state-dir", "/a%b$c\"d\\e", "gateway", ""]));
        let line = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert_eq!(line, r#"ExecStart="/opt/my tools/offshoot" --state-dir "/a%%b$$c\"d\\e" gateway """#);
        assert!(unit.contains("\nType=notify\n"), "{unit}");
        assert!(unit.contains("\nEnvironmentFile=-/home/a/50%%/gateway.env\n"), "{unit}");
    }

    #[test]
    fn a_property_list_holds_each_argument() {
        let list = launchd(&service("/opt/a&b", &["gateway", "run"]), "dev.offshoot.gateway");
        assert!(
            list.contains("    <string>/opt/a&amp;b</string>\n    <string>gateway</string>\n    <string>run</string>\n  </array>"),
            "{list}"
        );
        assert!(list.contains("  <key>Label</key>\n  <string>dev.offshoot.gateway</string>\n"), "{list}");
    }
}
