//! Typed values out of the tree. A value of the wrong type becomes a problem and reads as absent, so that one look
//! finds every problem.

use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::SecretString;

use super::problem::{Kind, Problems};
use super::tree::{Member, Node, Place, Trail, Value, shorten, whole};
use super::variables::Variables;

/// Longest secret in bytes: what a client can send.
const MAX_SECRET: usize = 4_096;
/// What stands for a secret in a configuration that was shown to someone.
pub(super) const REDACTED: &str = "__OPENCLAW_REDACTED__";

/// A value and the way to it.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) node: &'a Node,
    pub(super) trail: Trail<'a>,
}

impl<'a> Cursor<'a> {
    pub(super) const fn root(node: &'a Node) -> Self {
        Cursor { node, trail: Trail::ROOT }
    }

    pub(super) const fn place(&self) -> Place {
        self.node.place
    }

    /// The member with this name, if the value is an object that has it.
    pub(super) fn get<'s>(&'s self, name: &str) -> Option<Cursor<'s>> {
        self.members().find(|(member, _)| member.name == name).map(|(_, cursor)| cursor)
    }

    /// The members, if the value is an object.
    pub(super) fn members<'s>(&'s self) -> impl Iterator<Item = (&'s Member, Cursor<'s>)> {
        let members: &'s [Member] = match &self.node.value {
            Value::Object(members) => members,
            _ => &[],
        };
        members
            .iter()
            .map(|member| (member, Cursor { node: &member.node, trail: self.trail.key(&member.name) }))
    }

    /// The elements, if the value is a list.
    pub(super) fn items<'s>(&'s self) -> impl Iterator<Item = Cursor<'s>> {
        let items: &'s [Node] = match &self.node.value {
            Value::List(items) => items,
            _ => &[],
        };
        items.iter().enumerate().map(|(index, node)| Cursor { node, trail: self.trail.index(index) })
    }

    /// The value as a problem shows it: as it is written, before any variable is replaced. A secret is not shown.
    pub(super) fn quote(&self) -> String {
        let secret = self.trail.any_key(is_secret_name);
        match &self.node.value {
            Value::Text(text) if !secret && !names_a_user(text) => format!("{:?}", shorten(text)),
            Value::Number(value) if !secret => value.to_string(),
            Value::Bool(value) => value.to_string(),
            _ => self.node.kind().to_owned(),
        }
    }
}

/// Whether what stands under this name must never be shown.
pub(super) fn is_secret_name(name: &str) -> bool {
    let capital = name.ends_with("Pass");
    let name = name.to_ascii_lowercase();
    capital
        || matches!(name.as_str(), "env" | "headers" | "pass")
        || ["key", "token", "_pass", "-pass", "webhook", "webhookurl", "webhook_url"]
            .iter()
            .any(|end| name.ends_with(end))
        || ["apikey", "api-key", "password", "passwd", "passphrase", "secret", "authorization", "credential"]
            .iter()
            .any(|part| name.contains(part))
}

/// Whether a text is an address with a name or a password of its user in it, as in `https://name:word@host`.
pub(super) fn names_a_user(text: &str) -> bool {
    text.match_indices("://").any(|(at, mark)| {
        let rest = &text[at + mark.len()..];
        let end = rest.find(|c: char| matches!(c, '/' | '?' | '#' | '"') || c.is_whitespace());
        rest[..end.unwrap_or(rest.len())].rfind('@').is_some_and(|at| at > 0)
    })
}

/// Reads values and notes what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) variables: &'a Variables<'a>,
    pub(super) problems: &'a mut Problems,
}

impl<'a> Reader<'a> {
    /// Notes that the value is not what it should be.
    pub(super) fn wrong(&mut self, cursor: &Cursor<'_>, expected: &str) {
        self.error(cursor, Kind::Value, format!("{} is not {expected}", cursor.quote()));
    }

    pub(super) fn error(&mut self, cursor: &Cursor<'_>, kind: Kind, text: impl Into<String>) {
        self.problems.error(cursor.place(), kind, cursor.trail, text);
    }

    pub(super) fn warning(&mut self, cursor: &Cursor<'_>, kind: Kind, text: impl Into<String>) {
        self.problems.warning(cursor.place(), kind, cursor.trail, text);
    }

    /// The member with this name, which must be an object.
    pub(super) fn section<'c>(&mut self, parent: &'c Cursor<'_>, name: &str) -> Option<Cursor<'c>> {
        let section = parent.get(name)?;
        self.is_object(&section).then_some(section)
    }

    /// Whether it is an object; a problem if not.
    pub(super) fn is_object(&mut self, cursor: &Cursor<'_>) -> bool {
        match cursor.node.value {
            Value::Object(_) => return true,
            // It may be a secret that belongs one level deeper.
            Value::Text(_) => self.error(cursor, Kind::Value, "a string is not an object"),
            _ => self.wrong(cursor, "an object"),
        }
        false
    }

    /// The member with this name, which must be a list.
    pub(super) fn list<'c>(&mut self, parent: &'c Cursor<'_>, name: &str) -> Option<Cursor<'c>> {
        let list = parent.get(name)?;
        if matches!(list.node.value, Value::List(_)) {
            return Some(list);
        }
        self.wrong(&list, "a list");
        None
    }

    /// A string with its variables replaced.
    pub(super) fn text(&mut self, cursor: &Cursor<'_>) -> Option<String> {
        match self.raw_text(cursor).map(|text| self.variables.substitute(text))? {
            Ok(text) => Some(text.into_owned()),
            Err(name) => {
                self.error(cursor, Kind::Variable, not_set(&name));
                None
            }
        }
    }

    /// A string as it is written.
    pub(super) fn raw_text<'c>(&mut self, cursor: &Cursor<'c>) -> Option<&'c str> {
        match &cursor.node.value {
            Value::Text(text) => Some(text),
            _ => {
                self.wrong(cursor, "a string");
                None
            }
        }
    }

    pub(super) fn text_at(&mut self, parent: &Cursor<'_>, name: &str) -> Option<String> {
        parent.get(name).and_then(|cursor| self.text(&cursor))
    }

    pub(super) fn bool_at(&mut self, parent: &Cursor<'_>, name: &str) -> Option<bool> {
        let cursor = parent.get(name)?;
        match cursor.node.value {
            Value::Bool(value) => Some(value),
            _ => {
                self.wrong(&cursor, "true or false");
                None
            }
        }
    }

    pub(super) fn whole_at(
        &mut self,
        parent: &Cursor<'_>,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let cursor = parent.get(name)?;
        let value = match cursor.node.value {
            Value::Number(value) => whole(value).and_then(|value| u32::try_from(value).ok()),
            _ => None,
        };
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            self.wrong(&cursor, &format!("a whole number from {} to {}", range.start(), range.end()));
        }
        value
    }

    /// One of a few words.
    pub(super) fn word_at<T: Copy>(
        &mut self,
        parent: &Cursor<'_>,
        name: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let cursor = parent.get(name)?;
        let text = self.text(&cursor)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(&cursor, &format!("one of {}", words.join(", ")));
        }
        found
    }

    /// A list of strings that are not empty. One that is wrong is left out.
    pub(super) fn texts_at(&mut self, parent: &Cursor<'_>, name: &str) -> Option<Vec<String>> {
        let list = self.list(parent, name)?;
        Some(list.items().filter_map(|item| self.filled_text(&item)).collect())
    }

    /// A time: whole seconds as a number, or a text such as `90s`, `30m`, `24h`, `7d`.
    pub(super) fn duration_at(
        &mut self,
        parent: &Cursor<'_>,
        name: &str,
        most: Duration,
    ) -> Option<Duration> {
        let cursor = parent.get(name)?;
        let value = match cursor.node.value {
            Value::Number(value) => {
                whole(value).and_then(|value| u64::try_from(value).ok()).map(Duration::from_secs)
            }
            Value::Text(_) => humantime::parse_duration(self.text(&cursor)?.trim()).ok(),
            _ => None,
        };
        let value = value.filter(|value| *value <= most);
        if value.is_none() {
            let most = humantime::format_duration(most);
            self.wrong(
                &cursor,
                &format!("a time up to {most}: a text such as 90s, 30m, 24h, 7d, or whole seconds"),
            );
        }
        value
    }

    /// A secret of the gateway itself: a string, or `{source: "env", id}`. White space around it does not count, and
    /// nothing else is no secret.
    pub(super) fn secret_at(&mut self, parent: &Cursor<'_>, name: &str) -> Option<SecretString> {
        let cursor = parent.get(name)?;
        let value = match &cursor.node.value {
            Value::Text(_) => self.text(&cursor)?,
            Value::Object(_) => self.secret_ref(&cursor)?,
            _ => {
                self.wrong(&cursor, "a string or {source: \"env\", id: \"NAME\"}");
                return None;
            }
        };
        let value = value.trim();
        if value == REDACTED {
            self.error(
                &cursor,
                Kind::Value,
                "this is what stands for a secret when one is shown: write the secret",
            );
            return None;
        }
        if value.len() > MAX_SECRET {
            self.error(
                &cursor,
                Kind::Value,
                format!("longer than {MAX_SECRET} bytes, which no client can send"),
            );
            return None;
        }
        (!value.is_empty()).then(|| value.into())
    }

    fn secret_ref(&mut self, cursor: &Cursor<'_>) -> Option<String> {
        const FORM: &str = "write {source: \"env\", id: \"NAME\"}";
        let (Some(source), Some(id)) = (cursor.get("source"), cursor.get("id")) else {
            self.error(cursor, Kind::Value, format!("source or id is missing: {FORM}"));
            return None;
        };
        if self.raw_text(&source)? != "env" {
            let text = format!("secrets are read from the environment only: {FORM}");
            self.error(&source, Kind::Value, text);
            return None;
        }
        let value = self.variables.get(self.raw_text(&id)?).map(str::to_owned);
        if value.is_none() {
            self.error(&id, Kind::Variable, "the environment variable that it names is not set");
        }
        value
    }

    /// The environment variable `OFFSHOOT_<name>`, else `OPENCLAW_<name>`: its name and its value.
    pub(super) fn own_variable(&self, name: &str) -> Option<(String, &'a str)> {
        ["OFFSHOOT_", "OPENCLAW_"].iter().find_map(|prefix| {
            let name = format!("{prefix}{name}");
            let value = self.variables.get(&name)?;
            Some((name, value))
        })
    }

    /// A string with its variables replaced that holds more than white space.
    pub(super) fn filled_text(&mut self, cursor: &Cursor<'_>) -> Option<String> {
        let text = self.text(cursor)?;
        if text.trim().is_empty() {
            self.error(cursor, Kind::Value, "the string is empty");
            return None;
        }
        Some(text)
    }
}

/// What to do about a variable that has no value.
pub(super) fn not_set(name: &str) -> String {
    format!(
        "${{{name}}} is not set: set the environment variable {name}, or write $${{{name}}} for the text itself"
    )
}
