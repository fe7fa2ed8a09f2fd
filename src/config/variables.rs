//! `${NAME}` in strings.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The variables that a configuration may name: the process's, then those of its own `env` block.
pub(super) struct Variables<'a> {
    process: &'a BTreeMap<String, String>,
    own: BTreeMap<String, String>,
}

impl<'a> Variables<'a> {
    pub(super) const fn new(process: &'a BTreeMap<String, String>) -> Self {
        Self { process, own: BTreeMap::new() }
    }

    /// Adds one of the `env` block; the process's own goes first.
    pub(super) fn define(&mut self, name: &str, value: &str) {
        self.own.insert(name.to_owned(), value.to_owned());
    }

    /// The value; an empty one counts as not set.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let process = self.process.get(name).filter(|value| !value.is_empty());
        process.or_else(|| self.own.get(name).filter(|value| !value.is_empty())).map(String::as_str)
    }

    /// The text with every variable replaced.
    ///
    /// # Errors
    /// The name of the first variable that is not set.
    pub(super) fn substitute<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, String> {
        if !text.contains("${") {
            return Ok(Cow::Borrowed(text));
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            out.push_str(&rest[..dollar]);
            rest = &rest[dollar..];
            if let Some((name, after)) = rest.strip_prefix('$').and_then(reference) {
                out.push_str(self.get(name).ok_or_else(|| name.to_owned())?);
                rest = after;
            } else if let Some((name, after)) = rest.strip_prefix("$$").and_then(reference) {
                out.push_str("${");
                out.push_str(name);
                out.push('}');
                rest = after;
            } else {
                out.push('$');
                rest = &rest[1..];
            }
        }
        out.push_str(rest);
        Ok(Cow::Owned(out))
    }
}

/// The name and the rest of a text that starts with `{NAME}`.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.strip_prefix('{')?.split_once('}')?;
    is_name(name).then_some((name, rest))
}

/// Whether the text has the form `[A-Z_][A-Z0-9_]*`.
pub(super) fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Variables;

    #[test]
    fn replaces_names_and_keeps_everything_else() {
        let process = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("EMPTY".to_owned(), String::new())]);
        let mut variables = Variables::new(&process);
        variables.define("A", "shadowed");
        variables.define("_B2", "two");
        for (text, expected) in [
            ("", Ok("")),
            ("plain $ text", Ok("plain $ text")),
            ("${A}", Ok("1")),
            ("x${A}y${_B2}z", Ok("x1ytwoz")),
            ("$${A}", Ok("${A}")),
            ("$$${A}", Ok("$${A}")),
            ("${a} ${1A} ${} ${A", Ok("${a} ${1A} ${} ${A")),
            ("${A}${MISSING}${OTHER}", Err("MISSING")),
            ("${EMPTY}", Err("EMPTY")),
        ] {
            let got = variables.substitute(text);
            assert_eq!(got.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }
}
