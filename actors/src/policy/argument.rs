//! What a tool was called with, in a few words: for people who watch, so without what looks like a secret.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::CharIndices;
use std::sync::Arc;

/// Characters that are shown.
const MAX_SHOWN: usize = 80;
/// Bytes that are looked at: what comes after them is not shown in any case.
const MAX_READ: usize = 4 * 1024;
const MASK: &str = "***";

/// The arguments of a call as one short line: the value alone where there is one member, else `name=value` for each.
#[must_use]
pub fn shown(arguments: &str) -> Arc<str> {
    let read = &arguments[..arguments.floor_char_boundary(MAX_READ)];
    let members = members(read.trim());
    let mut line = String::new();
    match members.as_slice() {
        [] if read.trim_start().starts_with('{') => {}
        // It is no object: a model may write anything.
        [] => line.push_str(&masked(read)),
        [(name, value)] => line.push_str(&visible(name, value)),
        several => {
            for (name, value) in several {
                let space = if line.is_empty() { "" } else { " " };
                // Writing to a string cannot fail.
                let _ = write!(line, "{space}{name}={}", visible(name, value));
                if line.len() > MAX_READ {
                    break;
                }
            }
        }
    }
    cut(&line).into()
}

/// Whether the name of a member, of a header or of a variable says that its value is a secret.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.as_str(), "pass" | "pwd" | "auth" | "cookie" | "set-cookie")
        || ["key", "token", "_pass", "-pass", "webhook"].iter().any(|end| name.ends_with(end))
        || ["apikey", "api-key", "api_key", "passw", "passphrase", "secret", "authorization", "credential"]
            .iter()
            .any(|part| name.contains(part))
}

fn visible(name: &str, value: &str) -> String {
    if is_secret(name) { MASK.to_owned() } else { value.to_owned() }
}

/// A text in one line, without what stands behind a secret's name, a `Bearer` or in the user's place of an address.
fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_READ));
    let mut hides = false;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        let bare = word.trim_matches(|c: char| matches!(c, '"' | '\'' | ',' | '(' | ')'));
        let scheme = bare.eq_ignore_ascii_case("bearer") || bare.eq_ignore_ascii_case("basic");
        if std::mem::take(&mut hides) && !scheme {
            out.push_str(MASK);
            continue;
        }
        let named = word.find(['=', ':']).map(|at| word.split_at(at + 1));
        match named {
            Some((name, value)) if is_secret(name.trim_matches(|c: char| !c.is_alphanumeric())) => {
                out.push_str(name);
                if value.is_empty() || value.chars().all(|c| matches!(c, '"' | '\'')) {
                    hides = true;
                } else {
                    out.push_str(MASK);
                }
            }
            _ if scheme => {
                out.push_str(word);
                hides = true;
            }
            // An option such as `--token` has its value in the next word.
            _ if word.starts_with("--") && named.is_none() && is_secret(word) => {
                out.push_str(word);
                hides = true;
            }
            _ => out.push_str(&without_user(word)),
        }
    }
    out
}

/// `https://name:word@host` as `https://***@host`.
fn without_user(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) if at > 0 => format!("{scheme}://{MASK}{}", &rest[at..]),
        _ => word.to_owned(),
    }
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(MAX_SHOWN) {
        None => line.to_owned(),
        Some(_) => line.chars().take(MAX_SHOWN - 1).chain(['…']).collect(),
    }
}

/// The members of an object as far as they can be read, their values without what looks like a secret in them.
fn members(text: &str) -> Vec<(String, String)> {
    let mut chars = text.char_indices().peekable();
    let mut members = Vec::new();
    if chars.next_if(|(_, c)| *c == '{').is_none() {
        return members;
    }
    loop {
        skip(&mut chars);
        if chars.next_if(|(_, c)| *c == '"').is_none() {
            return members;
        }
        let name = string(&mut chars);
        skip(&mut chars);
        let value = value(text, &mut chars);
        members.push((name, value));
    }
}

/// Passes over what stands between members.
fn skip(chars: &mut Peekable<CharIndices<'_>>) {
    while chars.next_if(|(_, c)| c.is_whitespace() || matches!(c, ',' | ':')).is_some() {}
}

/// The text of a string whose opening quote is read.
fn string(chars: &mut Peekable<CharIndices<'_>>) -> String {
    let mut out = String::new();
    while let Some((_, c)) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some((_, 'n' | 'r' | 't')) => out.push(' '),
                Some((_, 'u')) => {
                    let code: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                    let code = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                    out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                Some((_, c)) => out.push(c),
                None => break,
            },
            c => out.push(c),
        }
    }
    out
}

fn value(text: &str, chars: &mut Peekable<CharIndices<'_>>) -> String {
    match chars.peek() {
        Some((_, '"')) => {
            chars.next();
            masked(&string(chars))
        }
        Some((_, '{' | '[')) => nested(chars),
        Some((from, _)) => {
            let from = *from;
            while chars.next_if(|(_, c)| !matches!(c, ',' | '}') && !c.is_whitespace()).is_some() {}
            let to = chars.peek().map_or(text.len(), |(at, _)| *at);
            text[from..to].to_owned()
        }
        None => String::new(),
    }
}

/// A list or an object in one line. A string that is followed by a colon is the name of what follows.
fn nested(chars: &mut Peekable<CharIndices<'_>>) -> String {
    let (mut out, mut depth, mut hides) = (String::new(), 0_usize, None);
    while let Some((_, c)) = chars.next() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            '"' => {
                let text = string(chars);
                while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
                let is_name = matches!(chars.peek(), Some((_, ':')));
                if is_name && hides.is_none() && is_secret(&text) {
                    hides = Some(depth);
                } else if !is_name && hides.is_some() {
                    out.push_str(MASK);
                    continue;
                }
                out.push_str(&masked(&text));
                continue;
            }
            c if c.is_whitespace() => continue,
            _ => {}
        }
        let over = match hides {
            Some(at) => depth < at || (depth == at && c == ','),
            None => false,
        };
        if over {
            hides = None;
        }
        // A number in a secret's place is none to be shown either.
        if hides.is_none() || matches!(c, ':' | '{' | '}' | '[' | ']' | ',') {
            out.push(c);
        }
        if depth == 0 {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_call_is_shown_in_a_few_words() {
        for (arguments, line) in [
            (r#"{"command": "ls -l\n"}"#, "ls -l"),
            (r#"{"path":"a.rs","from":3,"all":true}"#, "path=a.rs from=3 all=true"),
            (r#"{"items":[1, {"a": "b c"}]}"#, "[1,{a:b c}]"),
            ("{}", ""),
            ("", ""),
            ("not json at all", "not json at all"),
            (r#"{"text": "cut off"#, "cut off"),
            (r#"{"a":"\u00e9\"x\""}"#, "é\"x\""),
        ] {
            assert_eq!(&*shown(arguments), line, "{arguments}");
        }
        let long = shown(&format!("{{\"text\":\"{}\"}}", "é".repeat(10_000)));
        assert_eq!((long.chars().count(), long.ends_with('…')), (80, true));
    }

    #[test]
    fn what_looks_like_a_secret_is_not_shown() {
        for arguments in [
            r#"{"token":"hunter2"}"#,
            r#"{"url":"https://x","apiKey":"hunter2"}"#,
            r#"{"headers":{"Authorization":"Bearer hunter2"},"url":"x"}"#,
            r#"{"env":{"DB_PASSWORD":{"a":["hunter2"]}}}"#,
            r#"{"command":"curl -H 'Authorization: Bearer hunter2' x"}"#,
            r#"{"command":"API_KEY=hunter2 ./run"}"#,
            r#"{"command":"login --password hunter2 --token=hunter2"}"#,
            r#"{"url":"https://me:hunter2@host/path"}"#,
            "password: hunter2",
        ] {
            let line = shown(arguments);
            assert!(!line.contains("hunter2") && line.contains(MASK), "{arguments} -> {line}");
        }
        assert_eq!(&*shown(r#"{"a":{"token":"x","keep":"me"}}"#), "{token:***,keep:me}");
    }

    proptest! {
        #[test]
        fn any_text_is_cut_and_none_is_refused(text in r#"[{}\[\]",:\\ a-zé=-]{0,300}"#) {
            let line = shown(&text);
            prop_assert!(line.chars().count() <= MAX_SHOWN);
            prop_assert!(!line.contains('\n'));
        }
    }
}
