//! Reads a configuration file and the files that it includes.
//!
//! `$include` names one file or a list of files, relative to the file that holds it. Objects are merged key by key,
//! lists are joined, and a key beside `$include` wins over an included one. Every file must lie in the directory of
//! the first, so that a configuration cannot be made to show other files' contents.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::parse::{self, MAX_FILE};
use super::problem::{ConfigError, Kind, Problems};
use super::stamp::Stamp;
use super::tree::{Files, Member, Node, Place, Trail, Value, shorten};

const KEY: &str = "$include";
/// Files within files.
const MAX_DEPTH: usize = 10;
/// Files of one configuration, counting a file each time it is included.
const MAX_FILES: usize = 64;

/// The tree of a file with its includes. None when the problems say why there is none.
///
/// # Errors
/// The file itself cannot be read.
pub(super) fn read(
    path: &Path,
    files: &mut Files,
    problems: &mut Problems,
) -> Result<Option<Node>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let (bytes, stamp) = read_stamped(path).map_err(|error| {
        files.stamp(path, None);
        unreadable(error)
    })?;
    files.stamp(path, Some(stamp));
    let real = path.canonicalize().map_err(unreadable)?;
    Ok(read_from(path, real, bytes, files, problems))
}

/// The same for a text that the file is to hold.
///
/// # Errors
/// The file's folder cannot be looked into.
pub(super) fn read_as(
    path: &Path,
    text: &str,
    files: &mut Files,
    problems: &mut Problems,
) -> Result<Option<Node>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(_) => {
            let dir = path.parent().unwrap_or(path).canonicalize().map_err(unreadable)?;
            dir.join(path.file_name().unwrap_or_default())
        }
    };
    Ok(read_from(path, real, text.as_bytes().to_vec(), files, problems))
}

fn read_from(
    path: &Path,
    real: PathBuf,
    bytes: Vec<u8>,
    files: &mut Files,
    problems: &mut Problems,
) -> Option<Node> {
    let root = real.parent().unwrap_or(&real).to_owned();
    let node = parse_bytes(&path.display().to_string(), bytes, files, problems)?;
    let mut loader = Loader { root: Some(root), open: vec![real], read: 1, files, problems };
    Some(loader.expand(node, &Trail::ROOT))
}

/// The same for a text without a file, which can include nothing.
pub(super) fn read_text(name: &str, text: &str, files: &mut Files, problems: &mut Problems) -> Option<Node> {
    let node = parse_bytes(name, text.as_bytes().to_vec(), files, problems)?;
    let mut loader = Loader { root: None, open: Vec::new(), read: 1, files, problems };
    Some(loader.expand(node, &Trail::ROOT))
}

pub(super) fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    read_stamped(path).map(|(bytes, _)| bytes)
}

/// The state is that before the content was read: a change meanwhile makes another one.
fn read_stamped(path: &Path) -> std::io::Result<(Vec<u8>, Stamp)> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE).unwrap_or(u64::MAX) + 1;
    let file = std::fs::File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok((bytes, stamp))
}

fn parse_bytes(name: &str, bytes: Vec<u8>, files: &mut Files, problems: &mut Problems) -> Option<Node> {
    match parse::decode(bytes) {
        Ok(text) => {
            let file = files.add(name, text);
            parse::parse(files, file, problems)
        }
        Err(reason) => {
            let file = files.add(name, String::new());
            problems.error(Place { file, offset: 0 }, Kind::Syntax, "", reason);
            None
        }
    }
}

struct Loader<'a> {
    /// The directory that every included file must lie in.
    root: Option<PathBuf>,
    /// The file at hand and those that include it.
    open: Vec<PathBuf>,
    read: usize,
    files: &'a mut Files,
    problems: &'a mut Problems,
}

impl Loader<'_> {
    fn expand(&mut self, node: Node, trail: &Trail<'_>) -> Node {
        let Node { place, value } = node;
        let value = match value {
            Value::List(items) => {
                let items = items.into_iter().enumerate();
                Value::List(items.map(|(i, item)| self.expand(item, &trail.index(i))).collect())
            }
            Value::Object(members) => {
                let mut include = None;
                let mut own = Vec::with_capacity(members.len());
                for Member { name, place, node } in members {
                    if name == KEY {
                        include = Some(node);
                    } else {
                        let node = self.expand(node, &trail.key(&name));
                        own.push(Member { name, place, node });
                    }
                }
                let own = Node { place, value: Value::Object(own) };
                return match include {
                    Some(include) => self.include(&include, own, trail),
                    None => own,
                };
            }
            other => other,
        };
        Node { place, value }
    }

    /// What the files hold, merged in order, with the object's own keys over them.
    fn include(&mut self, include: &Node, own: Node, trail: &Trail<'_>) -> Node {
        let at = trail.key(KEY);
        let mut merged: Option<Node> = None;
        let names: Vec<&Node> = match &include.value {
            Value::List(items) => items.iter().collect(),
            _ => vec![include],
        };
        for name in names {
            let included = match &name.value {
                Value::Text(name_text) => self.follow(name_text, trail),
                _ => Err(format!("{} is not a file name or a list of file names", name.kind())),
            };
            match included {
                Ok(Some(node)) => {
                    merged = Some(match merged {
                        Some(before) => merge(before, node),
                        None => node,
                    });
                }
                Ok(None) => {}
                Err(reason) => self.problems.error(name.place, Kind::Syntax, at, reason),
            }
        }
        let no_keys = matches!(&own.value, Value::Object(members) if members.is_empty());
        match merged {
            Some(node) if no_keys => node,
            Some(node) if matches!(node.value, Value::Object(_)) => merge(node, own),
            Some(node) => {
                let text =
                    format!("the file holds {}, so no other key may stand beside $include", node.kind());
                self.problems.error(include.place, Kind::Syntax, at, text);
                own
            }
            None => own,
        }
    }

    fn follow(&mut self, name: &str, trail: &Trail<'_>) -> Result<Option<Node>, String> {
        let quoted = shorten(name);
        let (Some(root), Some(from)) = (&self.root, self.open.last()) else {
            return Err("only a configuration file can include others".to_owned());
        };
        if self.open.len() > MAX_DEPTH {
            return Err(format!("files are included more than {MAX_DEPTH} deep"));
        }
        if self.read >= MAX_FILES {
            return Err(format!("more than {MAX_FILES} files are included"));
        }
        let path = from.parent().unwrap_or(root).join(name);
        let real = path.canonicalize().map_err(|error| {
            self.files.stamp(&path, None);
            format!("{quoted:?} cannot be read: {error}")
        })?;
        if !real.starts_with(root) {
            return Err(format!("{quoted:?} is outside the directory of the configuration: move it there"));
        }
        if self.open.contains(&real) {
            return Err(format!("{quoted:?} includes itself"));
        }
        // Asked before it is opened: opening a pipe would wait for its writer.
        let metadata = real.metadata().map_err(|error| format!("{quoted:?} cannot be read: {error}"))?;
        if !metadata.is_file() {
            return Err(format!("{quoted:?} is not a regular file"));
        }
        // Its other name may be outside the directory, which no path tells.
        if metadata.nlink() > 1 {
            return Err(format!("{quoted:?} has other names (hard links): include a copy of it"));
        }
        let (bytes, stamp) = read_stamped(&real).map_err(|error| {
            self.files.stamp(&path, None);
            format!("{quoted:?} cannot be read: {error}")
        })?;
        self.files.stamp(&path, Some(stamp));
        self.read += 1;
        self.files.include(&real);
        let parsed = parse_bytes(name, bytes, self.files, self.problems);
        self.open.push(real);
        let node = parsed.map(|node| self.expand(node, trail));
        self.open.pop();
        Ok(node)
    }
}

/// `over` laid on `base`: objects key by key, lists one after the other, anything else replaced.
fn merge(base: Node, over: Node) -> Node {
    let Node { place, value } = over;
    let value = match (base.value, value) {
        (Value::Object(mut members), Value::Object(over)) => {
            let known = members.iter().enumerate().map(|(at, member)| (member.name.clone(), at));
            let known: HashMap<String, usize> = known.collect();
            for member in over {
                match known.get(&member.name) {
                    Some(&at) => {
                        let below = std::mem::replace(&mut members[at].node, Node::empty(place));
                        members[at] = Member { node: merge(below, member.node), ..member };
                    }
                    None => members.push(member),
                }
            }
            Value::Object(members)
        }
        (Value::List(mut items), Value::List(over)) => {
            items.extend(over);
            Value::List(items)
        }
        (_, value) => value,
    };
    Node { place, value }
}
