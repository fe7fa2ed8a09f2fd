//! Changes of a configuration file: its values change, its comments and its form stay.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::document::{is_reference, is_shown_as_placeholder, json};
use super::include;
use super::parse::{self, MAX_FILE};
use super::problem::Problems;
use super::read::{REDACTED, is_secret_name, names_a_user};
use super::tree::Files;
use super::write::{keep_copies, write_private};
use super::{Config, Source};

/// Why a configuration file cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It came from no file.
    #[error("the configuration came from no file: there is nothing to write to")]
    NoFile,
    /// What was sent is no configuration.
    #[error("invalid config: {0}")]
    Syntax(String),
    /// The file itself cannot be read as JSON5.
    #[error("the configuration file is not JSON5 ({0}): send all of it with config.set")]
    Damaged(String),
    /// A placeholder came back for a secret that the file does not have.
    #[error("{0} holds a placeholder, and the file has no secret there: write the secret")]
    NothingStored(String),
    /// The text could not be changed in its form.
    #[error("the file has a form that cannot be changed in place: change it with an editor")]
    Form,
}

/// The configuration file as it is now.
#[derive(Clone)]
pub struct ConfigFile {
    path: PathBuf,
    text: Option<String>,
}

impl std::fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ConfigFile {
    /// The file that a configuration was read from, or would be if it existed.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn of(config: &Config) -> io::Result<Self> {
        let path = match &config.source {
            Source::Defaults { expected: Some(path), .. } => path,
            source => source.path().ok_or_else(|| io::Error::other(EditError::NoFile.to_string()))?,
        };
        let text = match include::read_bounded(path) {
            Ok(bytes) => Some(parse::decode(bytes).map_err(io::Error::other)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), text })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it, if it is there.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Whether it is there.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.text.is_some()
    }

    /// What stands for this very content.
    #[must_use]
    pub fn hash(&self) -> String {
        hash(self.text.as_deref().unwrap_or_default())
    }

    /// Whether it holds exactly this.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.text.as_deref() == Some(text)
    }

    /// What it holds, its own includes not followed; empty if it cannot be read.
    #[must_use]
    pub fn value(&self) -> Value {
        self.try_value().unwrap_or_else(|_| Value::Object(Map::new()))
    }

    /// The same.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn try_value(&self) -> Result<Value, EditError> {
        match &self.text {
            None => Ok(Value::Object(Map::new())),
            Some(text) => Self::parse(text).map_err(EditError::Damaged),
        }
    }

    /// What a text holds.
    ///
    /// # Errors
    /// Why it is no configuration.
    pub fn parse(text: &str) -> Result<Value, String> {
        if text.len() > MAX_FILE {
            return Err(format!("longer than {MAX_FILE} bytes"));
        }
        let (mut files, mut problems) = (Files::default(), Problems::default());
        let file = files.add("raw", text.to_owned());
        let node = parse::parse(&files, file, &mut problems);
        node.map(|node| json(&node)).ok_or_else(|| {
            let problems = problems.finish(&files);
            problems.first().map_or_else(String::new, |problem| {
                format!("line {}, column {}: {}", problem.line, problem.column, problem.text)
            })
        })
    }

    /// The text with these values in it.
    ///
    /// # Errors
    /// The form of the text does not allow it.
    pub fn with(&self, value: &Value) -> Result<String, EditError> {
        match &self.text {
            None => pretty(value),
            Some(text) => rewritten(text, &self.try_value()?, value),
        }
    }

    /// The text that a client's stands for, with the secrets that it was not shown. Comments that it has are kept; if it
    /// has none, those of the file are.
    ///
    /// # Errors
    /// It is no configuration, or it names a secret that is not there.
    pub fn replaced_by(&self, raw: &str) -> Result<String, EditError> {
        let sent = Self::parse(raw).map_err(EditError::Syntax)?;
        if !sent.is_object() {
            return Err(EditError::Syntax("not an object".to_owned()));
        }
        let before = self.value();
        let mut value = sent.clone();
        restore(&mut value, &before)?;
        let sound = self.try_value().is_ok();
        if sound && self.exists() && !has_comments(raw) {
            self.with(&value)
        } else {
            rewritten(raw, &sent, &value)
        }
    }

    /// The text with placeholders for secrets; none where it cannot be told what of it is secret.
    #[must_use]
    pub fn redacted_text(&self) -> Option<String> {
        let text = self.text.as_deref()?;
        let value = self.try_value().ok()?;
        let root = CstRootNode::parse(text, &options()).ok()?;
        if comments(&root.children()).any(|comment| may_hold_secret(&comment)) {
            return None;
        }
        rewritten(text, &value, &super::redacted(&value)).ok()
    }

    /// Puts a text in the file's place, after a copy of what is there.
    ///
    /// # Errors
    /// The file or its copy cannot be written.
    pub fn write(&self, text: &str) -> io::Result<()> {
        // A link stays one.
        let real = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if self.exists() {
            keep_copies(&real)?;
        }
        write_private(&real, text.as_bytes())
    }
}

/// The SHA-256 of a text.
pub(super) fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn options() -> ParseOptions {
    ParseOptions { allow_missing_commas: false, ..ParseOptions::default() }
}

fn pretty(value: &Value) -> Result<String, EditError> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|_| EditError::Form)
}

/// The text, changed from what it holds to what it shall hold.
fn rewritten(text: &str, from: &Value, to: &Value) -> Result<String, EditError> {
    if from == to {
        return Ok(text.to_owned());
    }
    let root = CstRootNode::parse(text, &options()).map_err(|error| EditError::Damaged(error.to_string()))?;
    match (root.object_value(), from.as_object(), to.as_object()) {
        (Some(object), Some(from), Some(to)) => change(&object, from, to),
        _ => root.set_value(input(to)),
    }
    let text = root.to_string();
    // The form is kept only as long as it says what it shall.
    if ConfigFile::parse(&text).is_ok_and(|value| value == *to) { Ok(text) } else { Err(EditError::Form) }
}

fn change(object: &CstObject, from: &Map<String, Value>, to: &Map<String, Value>) {
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        if let Some(member) = object.get(name) {
            member.remove();
        }
    }
    for (name, value) in to {
        match (object.get(name), from.get(name)) {
            (Some(_), Some(before)) if before == value => {}
            (Some(member), before) => match (member.value(), before) {
                (Some(node), Some(before)) => change_value(node, before, value),
                _ => member.set_value(input(value)),
            },
            (None, _) => drop(object.append(name, input(value))),
        }
    }
}

fn change_value(node: CstNode, from: &Value, to: &Value) {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => {
            if let Some(object) = node.as_object() {
                return change(&object, from, to);
            }
        }
        (Value::Array(from), Value::Array(to)) => {
            if let Some(array) = node.as_array() {
                let elements = array.elements();
                for (at, value) in to.iter().enumerate() {
                    match (elements.get(at), from.get(at)) {
                        (Some(_), Some(before)) if before == value => {}
                        (Some(element), Some(before)) => change_value(element.clone(), before, value),
                        _ => drop(array.append(input(value))),
                    }
                }
                for element in elements.into_iter().skip(to.len()) {
                    element.remove();
                }
                return;
            }
        }
        _ => {}
    }
    replace(node, to);
}

fn replace(node: CstNode, value: &Value) {
    let value = input(value);
    if let Some(node) = node.as_object() {
        node.replace_with(value);
    } else if let Some(node) = node.as_array() {
        node.replace_with(value);
    } else if let Some(node) = node.as_string_lit() {
        node.replace_with(value);
    } else if let Some(node) = node.as_number_lit() {
        node.replace_with(value);
    } else if let Some(node) = node.as_boolean_lit() {
        node.replace_with(value);
    } else if let Some(node) = node.as_null_keyword() {
        node.replace_with(value);
    }
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(members) => {
            CstInputValue::Object(members.iter().map(|(name, value)| (name.clone(), input(value))).collect())
        }
    }
}

fn comments(nodes: &[CstNode]) -> Box<dyn Iterator<Item = String>> {
    let found: Vec<String> = nodes
        .iter()
        .flat_map(|node| match node.as_comment() {
            Some(comment) => vec![comment.raw_value()],
            None => comments(&node.children()).collect(),
        })
        .collect();
    Box::new(found.into_iter())
}

fn has_comments(text: &str) -> bool {
    CstRootNode::parse(text, &options()).is_ok_and(|root| comments(&root.children()).next().is_some())
}

/// Whether a comment names a secret, and so may hold one that is switched off.
fn may_hold_secret(comment: &str) -> bool {
    let word = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-');
    names_a_user(comment) || comment.split(word).any(is_secret_name)
}

/// Puts stored secrets in the places of their placeholders.
///
/// # Errors
/// A placeholder stands where no secret is stored.
pub fn restore(value: &mut Value, before: &Value) -> Result<(), EditError> {
    restore_at(value, Some(before), "")
}

fn restore_at(value: &mut Value, before: Option<&Value>, path: &str) -> Result<(), EditError> {
    match value {
        Value::String(text) if text == REDACTED => match before {
            Some(Value::String(stored)) if is_shown_as_placeholder(stored) && stored != REDACTED => {
                stored.clone_into(text);
                Ok(())
            }
            _ => Err(EditError::NothingStored(path.to_owned())),
        },
        Value::Object(members) => {
            let known = before.and_then(Value::as_object).filter(|members| !is_reference(members));
            members.iter_mut().try_for_each(|(name, value)| {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                restore_at(value, known.and_then(|known| known.get(name)), &path)
            })
        }
        Value::Array(items) => {
            let known = before.and_then(Value::as_array);
            items.iter_mut().enumerate().try_for_each(|(at, item)| {
                // Whoever has an id is found by it: the list may be in another order.
                let same = |stored: &&Value| item.get("id").is_some_and(|id| stored.get("id") == Some(id));
                let by_id = known.and_then(|known| known.iter().find(same));
                let stored = if item.get("id").is_some() { by_id } else { known.and_then(|k| k.get(at)) };
                restore_at(item, stored, &format!("{path}[{at}]"))
            })
        }
        _ => Ok(()),
    }
}

/// Lays a merge patch on a value: `null` takes away, lists of objects with an `id` are merged by it, other lists and those
/// at `replace` are replaced.
pub fn merge_patch(value: &mut Value, patch: &Value, replace: &[String]) {
    merge_at(value, patch, replace, "");
}

fn merge_at(value: &mut Value, patch: &Value, replace: &[String], path: &str) {
    match patch {
        Value::Object(members) => {
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            let Some(own) = value.as_object_mut() else { return };
            for (name, patch) in members {
                if patch.is_null() {
                    own.remove(name);
                } else {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    merge_at(own.entry(name.clone()).or_insert(Value::Null), patch, replace, &path);
                }
            }
        }
        Value::Array(items) => {
            let by_id =
                |items: &[Value]| !items.is_empty() && items.iter().all(|item| item["id"].is_string());
            match value.as_array_mut() {
                Some(own) if by_id(own) && by_id(items) && !replace.iter().any(|at| at == path) => {
                    for patch in items {
                        match own.iter_mut().find(|item| item["id"] == patch["id"]) {
                            Some(item) => merge_at(item, patch, replace, path),
                            None => own.push(patch.clone()),
                        }
                    }
                }
                _ => *value = patch.clone(),
            }
        }
        other => *value = other.clone(),
    }
}

#[cfg(test)]
mod tests;
