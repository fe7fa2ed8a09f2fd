//! Which files are read.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::config::{Config, ConfigError, Environment, Source, load};

struct Home {
    dir: TempDir,
    environment: Environment,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let environment = Environment { home: Some(dir.path().to_owned()), ..Environment::default() };
        Self { dir, environment }
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn set(&mut self, name: &str, value: &Path) {
        self.environment.vars.insert(name.to_owned(), value.to_str().unwrap().to_owned());
    }

    fn load(&self, explicit: Option<&Path>) -> Result<Config, ConfigError> {
        load(&self.environment, explicit)
    }

    /// The problems of a main file, with the directory's name taken out.
    fn problems(&self, path: &Path) -> Vec<String> {
        let problems = match self.load(Some(path)) {
            Ok(config) => config.problems,
            Err(error) => error.problems().to_vec(),
        };
        let dir = format!("{}/", self.dir.path().display());
        problems.iter().map(|problem| problem.to_string().replace(&dir, "")).collect()
    }
}

#[test]
fn the_option_wins_over_the_variable_over_the_state_directory_over_the_defaults() {
    let mut home = Home::new();
    let main_lane = |config: &Config| config.settings.lanes.main;
    let lanes = |most: u32| format!("{{agents: {{defaults: {{maxConcurrent: {most}}}}}}}");

    let none = home.load(None).unwrap();
    assert_eq!(none.source.path(), None);
    assert_eq!(none.source.hint(), None);

    let openclaw = home.write(".openclaw/openclaw.json", lanes(1));
    let hint = home.load(None).unwrap().source.hint().unwrap();
    assert!(hint.contains(&format!("--config {}", openclaw.display())), "{hint}");

    let state = home.write(".offshoot/offshoot.json", lanes(11));
    let config = home.load(None).unwrap();
    assert_eq!((main_lane(&config), &config.source), (11, &Source::State(state)));
    assert_eq!(config.source.hint(), None);

    let moved = home.write("elsewhere/offshoot.json", lanes(12));
    home.set("OFFSHOOT_STATE_DIR", moved.parent().unwrap());
    assert_eq!(main_lane(&home.load(None).unwrap()), 12);
    assert_eq!(home.environment.state_dir().unwrap(), moved.parent().unwrap());

    let named = home.write("named.json", lanes(13));
    home.set("OFFSHOOT_CONFIG", &named);
    let config = home.load(None).unwrap();
    assert_eq!((main_lane(&config), &config.source), (13, &Source::Variable(named)));

    let config = home.load(Some(&openclaw)).unwrap();
    assert_eq!((main_lane(&config), &config.source), (1, &Source::Option(openclaw)));
}

#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let mut home = Home::new();
    let missing = home.dir.path().join("no.json");
    let error = home.load(Some(&missing)).unwrap_err();
    assert_eq!(error.to_string(), format!("{} does not exist; it was named by --config", missing.display()));
    home.set("OFFSHOOT_CONFIG", &missing);
    let error = home.load(None).unwrap_err();
    assert!(error.to_string().ends_with("does not exist; it was named by OFFSHOOT_CONFIG"));
}

#[test]
fn without_a_home_the_defaults_are_used() {
    let environment = Environment::default();
    let config = load(&environment, None).unwrap();
    assert_eq!(config.source, Source::Defaults { expected: None, openclaw: None });
    let error = environment.state_dir().unwrap_err();
    assert_eq!(error.to_string(), "the home directory is not known: set HOME or OFFSHOOT_STATE_DIR");
}

#[test]
fn a_file_that_is_too_large_or_no_text_or_too_deep_is_refused() {
    let home = Home::new();
    let large = home.write("large.json", " ".repeat((2 << 20) + 1));
    assert_eq!(home.problems(&large), ["large.json:1:1: error: the file is larger than 2097152 bytes"]);
    let fits = home.write("fits.json", format!("{{}}{}", " ".repeat((2 << 20) - 2)));
    assert_eq!(home.problems(&fits), [""; 0]);
    let binary = home.write("binary.json", b"{\"a\": \"\xff\"}");
    assert_eq!(home.problems(&binary), ["binary.json:1:1: error: not UTF-8 text at byte 7"]);
    let marked = home.write("marked.json", "\u{feff}{}");
    assert_eq!(home.problems(&marked), [""; 0]);
    let deep = home.write("deep.json", format!("{{a: {}{}}}", "[".repeat(100), "]".repeat(100)));
    let found = home.problems(&deep);
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with(": nested deeper than 64 levels"), "{found:?}");
    let deeper = home.write("deeper.json", "[".repeat(1 << 20));
    assert_eq!(home.problems(&deeper).len(), 1);
    let directory = home.load(Some(home.dir.path())).unwrap_err();
    assert!(matches!(directory, ConfigError::Unreadable { .. }));
}

#[test]
fn included_files_are_merged_under_the_keys_beside_them() {
    let home = Home::new();
    home.write("parts/agents.json5", "{list: [{id: 'a'}], defaults: {$include: '../limits.json5'}}");
    home.write("limits.json5", "{maxConcurrent: 3, timeoutSeconds: 5}");
    home.write("more.json5", "{list: [{id: 'b'}], defaults: {maxConcurrent: 7}}");
    home.write("one.json5", "'tree'");
    let main = home.write(
        "main.json5",
        "{agents: {$include: ['parts/agents.json5', './more.json5'], defaults: {timeoutSeconds: 9}},
          tools: {sessions: {visibility: {$include: 'one.json5'}}}}",
    );
    let config = home.load(Some(&main)).unwrap();
    assert_eq!(config.problems, []);
    assert_eq!(config.settings.agents.len(), 2);
    assert_eq!(config.settings.lanes.main, 7);
    assert_eq!(config.settings.runs.timeout.unwrap().as_secs(), 9);
    assert_eq!(config.settings.visibility, offshoot_actors::types::Visibility::Tree);
}

#[test]
fn a_problem_in_an_included_file_names_that_file() {
    let home = Home::new();
    home.write("part.json5", "{\n  maxConcurrent: 'many' }");
    let main = home.write("main.json5", "{agents: {defaults: {$include: 'part.json5'}}}");
    assert_eq!(
        home.problems(&main),
        [
            "part.json5:2:18: error: agents.defaults.maxConcurrent: \"many\" is not a whole number from 1 to 1000000"
        ]
    );
}

#[test]
fn a_file_with_another_name_elsewhere_is_not_included() {
    let home = Home::new();
    let secret = home.write("secret.json", "{agents: {}}");
    let main = home.write("config/main.json", "{$include: 'linked.json'}");
    fs::hard_link(secret, home.dir.path().join("config/linked.json")).unwrap();
    let problems = home.problems(&main);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("\"linked.json\" has other names (hard links)"), "{problems:?}");
}

#[test]
fn an_include_that_cannot_be_followed_says_why() {
    let home = Home::new();
    home.write("secret.json", "{}");
    home.write("config/self.json", "{$include: 'self.json'}");
    home.write("config/list.json", "[1]");
    home.write("config/dir/x.json", "{}");
    for depth in 0..11 {
        home.write(&format!("config/d{depth}.json"), format!("{{$include: 'd{}.json'}}", depth + 1));
    }
    home.write("config/d11.json", "{}");
    for (text, expected) in [
        (
            "{$include: '../secret.json'}",
            "\"../secret.json\" is outside the directory of the configuration: move it there",
        ),
        ("{$include: 'self.json'}", "\"self.json\" includes itself"),
        ("{$include: 'dir'}", "\"dir\" is not a regular file"),
        ("{$include: 'list.json', a: 1}", "the file holds a list, so no other key may stand beside $include"),
        ("{$include: [5]}", "a number is not a file name or a list of file names"),
        ("{$include: 'd0.json'}", "files are included more than 10 deep"),
    ] {
        let main = home.write("config/main.json", text);
        let found = home.problems(&main);
        assert!(
            found.iter().any(|line| line.ends_with(&format!("error: $include: {expected}"))),
            "{text} {found:?}"
        );
    }
    let many = vec!["'dir/x.json'"; 70].join(",");
    let main = home.write("config/main.json", format!("{{$include: [{many}]}}"));
    assert!(home.problems(&main)[0].ends_with("more than 64 files are included"));
    let main = home.write("config/main.json", "{$include: 'no.json'}");
    assert!(home.problems(&main)[0].contains("\"no.json\" cannot be read: "));
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_is_an_error_and_not_the_defaults() {
    let home = Home::new();
    fs::create_dir(home.dir.path().join(".offshoot")).unwrap();
    std::os::unix::fs::symlink("gone.json", home.dir.path().join(".offshoot/offshoot.json")).unwrap();
    assert!(matches!(home.load(None).unwrap_err(), ConfigError::Unreadable { .. }));
}

#[cfg(unix)]
#[test]
fn a_link_does_not_lead_out_of_the_directory() {
    let home = Home::new();
    let secret = home.write("secret.json", "{}");
    let main = home.write("config/main.json", "{$include: 'link.json'}");
    std::os::unix::fs::symlink(secret, home.dir.path().join("config/link.json")).unwrap();
    assert!(home.problems(&main)[0].contains("is outside the directory"));
}
