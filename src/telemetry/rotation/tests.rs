use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// A log in a directory that is not there yet, of files of ten bytes.
fn log(dir: &Path, keep: u32) -> Rotation {
    Rotation::new(LogFile { path: dir.join("logs/a.log"), max_bytes: 10, keep })
}

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The files there are, with what they hold.
fn files(dir: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(dir.join("logs")).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut files: Vec<_> = entries.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect();
    files.sort();
    files
}

fn named(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn a_full_file_makes_room_and_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log(dir.path(), 2);
    log.write(&lines(&["one", "two"]), 7).unwrap();
    assert_eq!(files(dir.path()), named(&[("a.log", "one\ntwo\n")]));
    log.write(&lines(&["three", "four", "five"]), 7).unwrap();
    let expected = named(&[("a.1.log", "three\n"), ("a.2.log", "one\ntwo\n"), ("a.log", "four\nfive\n")]);
    assert_eq!(files(dir.path()), expected);
    log.write(&lines(&["a line that is longer than a file", "six"]), 7).unwrap();
    let expected = named(&[
        ("a.1.log", "a line that is longer than a file\n"),
        ("a.2.log", "four\nfive\n"),
        ("a.log", "six\n"),
    ]);
    assert_eq!(files(dir.path()), expected);
}

#[test]
fn a_day_has_files_of_its_own_also_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = log(dir.path(), 5);
    first.write(&lines(&["one"]), 7).unwrap();
    first.write(&lines(&["two"]), 8).unwrap();
    assert_eq!(files(dir.path()), named(&[("a.1.log", "one\n"), ("a.log", "two\n")]));
    let path = dir.path().join("logs/a.log");
    let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(8 * 24 * 60 * 60);
    fs::File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
    log(dir.path(), 5).write(&lines(&["more"]), 8).unwrap();
    assert_eq!(files(dir.path())[1], ("a.log".to_owned(), "two\nmore\n".to_owned()));
    fs::File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
    log(dir.path(), 5).write(&lines(&["three"]), 9).unwrap();
    let expected = named(&[("a.1.log", "two\nmore\n"), ("a.2.log", "one\n"), ("a.log", "three\n")]);
    assert_eq!(files(dir.path()), expected);
}

#[test]
fn without_files_beside_it_a_full_one_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log(dir.path(), 0);
    log.write(&lines(&["one", "two", "three"]), 7).unwrap();
    assert_eq!(files(dir.path()), named(&[("a.log", "three\n")]));
}

#[test]
fn a_file_that_was_moved_away_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log(dir.path(), 5);
    log.write(&lines(&["one"]), 7).unwrap();
    fs::rename(dir.path().join("logs/a.log"), dir.path().join("logs/mine")).unwrap();
    log.write(&lines(&["two"]), 7).unwrap();
    assert_eq!(files(dir.path()), named(&[("a.log", "two\n"), ("mine", "one\n")]));
}

#[test]
fn nobody_else_reads_it_and_nothing_else_is_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs/a.log");
    fs::create_dir(dir.path().join("logs")).unwrap();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    log(dir.path(), 1).write(&lines(&["one", "two", "three"]), 7).unwrap();
    for file in ["a.log", "a.1.log"] {
        let mode = dir.path().join("logs").join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    fs::remove_file(&path).unwrap();
    fs::write(dir.path().join("other"), "theirs").unwrap();
    std::os::unix::fs::symlink(dir.path().join("other"), &path).unwrap();
    assert!(log(dir.path(), 1).write(&lines(&["one"]), 7).is_err());
    assert_eq!(fs::read_to_string(dir.path().join("other")).unwrap(), "theirs");
}
