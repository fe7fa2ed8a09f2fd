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

/// What is not to be shown of the words that follow.
#[derive(Debug, Clone, Copy)]
enum Hide {
    Nothing,
    /// The next one.
    Next,
    /// So many, as an `Authorization` has: a scheme and a word. A list goes on behind each comma.
    Credentials(u8),
    /// The next one, if it is a name with a word.
    User,
    /// All, until one has this quote.
    Until(char),
}

/// A text in one line, without what stands behind a secret's name, a `Bearer` or in the user's place of an address.
fn masked(text: &str) -> String {
    masked_after(text, Hide::Nothing).0
}

/// What is hidden of the text, and what is to be hidden after it.
fn masked_after(text: &str, mut hide: Hide) -> (String, Hide) {
    let mut out = String::with_capacity(text.len().min(MAX_READ));
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        hide = match hide {
            Hide::Until(quote) => {
                conceal(&mut out);
                if word.contains(quote) { Hide::Nothing } else { hide }
            }
            Hide::Next | Hide::Credentials(_) if is_scheme(word) => {
                out.push_str(word);
                opened(word).map_or(Hide::Next, Hide::Until)
            }
            Hide::Next | Hide::Credentials(_) => {
                conceal(&mut out);
                match (opened(word), hide) {
                    (Some(quote), _) => Hide::Until(quote),
                    (None, Hide::Credentials(_)) if word.ends_with([',', ';']) => hide,
                    (None, Hide::Credentials(words @ 2..)) => Hide::Credentials(words - 1),
                    _ => Hide::Nothing,
                }
            }
            Hide::User if word.contains(':') || opened(word).is_some() => {
                conceal(&mut out);
                opened(word).map_or(Hide::Nothing, Hide::Until)
            }
            Hide::User | Hide::Nothing => word_shown(word, &mut out),
        };
    }
    (out, hide)
}

/// Shows a word up to a secret in it. What is to be hidden after it.
fn word_shown(word: &str, out: &mut String) -> Hide {
    if let Some(secret) = Secret::find(word) {
        out.push_str(&without_user(secret.before));
        return secret.hide(out);
    }
    if is_scheme(word) {
        out.push_str(word);
        return Hide::Next;
    }
    let option = word.trim_start_matches(['"', '\'', '\\']);
    for user in ["-u", "-U", "--user=", "--proxy-user="] {
        if option.strip_prefix(user).is_some_and(|value| value.contains(':')) {
            out.push_str(user);
            out.push_str(MASK);
            return Hide::Nothing;
        }
    }
    out.push_str(&without_user(word));
    match option {
        "-u" | "-U" | "--user" | "--proxy-user" => Hide::User,
        // An option such as `--token` has its value in the next word.
        _ if option.starts_with('-') && is_secret(option.trim_start_matches('-')) => Hide::Next,
        _ => Hide::Nothing,
    }
}

/// A secret's name in a word, with what stands before and behind it.
struct Secret<'a> {
    name: &'a str,
    /// With the name and the sign behind it.
    before: &'a str,
    value: &'a str,
    /// The quote that opens right before the name, and is not the name's own.
    quote: Option<char>,
}

impl<'a> Secret<'a> {
    /// The first one: as a variable, a header, a part of an address or a member of an object.
    fn find(word: &'a str) -> Option<Self> {
        word.match_indices(['=', ':']).find_map(|(at, _)| {
            let before = &word[..at];
            let named = before.trim_end_matches(|c: char| !c.is_alphanumeric());
            let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
            let lead = named.trim_end_matches(part);
            let name = named[lead.len()..].trim_start_matches('-');
            let quote = lead.chars().next_back().filter(|c| is_quote(*c) && !before.ends_with(is_quote));
            let (before, value) = word.split_at(at + 1);
            is_secret(name).then_some(Self { name, before, value, quote })
        })
    }

    fn hide(&self, out: &mut String) -> Hide {
        let name = self.name.to_ascii_lowercase();
        let many = name.ends_with("authorization") || name.ends_with("cookie");
        if !self.value.is_empty() {
            conceal(out);
        }
        if let Some(quote) = self.quote {
            return if self.value.contains(quote) { Hide::Nothing } else { Hide::Until(quote) };
        }
        match opened(self.value) {
            Some(quote) => Hide::Until(quote),
            None if self.value.is_empty() && many => Hide::Credentials(2),
            None if self.value.is_empty() || is_scheme(self.value) => Hide::Next,
            None if many && !self.value.contains(is_quote) => Hide::Credentials(1),
            None => Hide::Nothing,
        }
    }
}

/// Puts the mask in a word's place, once for several.
fn conceal(out: &mut String) {
    if out.ends_with("*** ") {
        out.pop();
    } else {
        out.push_str(MASK);
    }
}

const fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`')
}

/// The quote that a word begins with and does not close.
fn opened(word: &str) -> Option<char> {
    let word = word.trim_start_matches('\\');
    let quote = word.chars().next().filter(|c| is_quote(*c))?;
    (!word[1..].contains(quote)).then_some(quote)
}

/// A word that says how the next one proves who somebody is.
fn is_scheme(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| matches!(c, '"' | '\'' | ',' | '(' | ')'));
    ["bearer", "basic"].iter().any(|scheme| bare.eq_ignore_ascii_case(scheme))
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
    let mut after = Hide::Nothing;
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
                // An option and its value may be two strings of a list.
                let from = if is_name { Hide::Nothing } else { after };
                let (text, hide) = masked_after(&text, from);
                after = if matches!(hide, Hide::Until(_)) { Hide::Nothing } else { hide };
                out.push_str(&text);
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
            r#"{"url":"https://api.x/?page=1&access_token=hunter2"}"#,
            r#"{"command":"curl -H \"Authorization: token hunter2\" x"}"#,
            r#"{"command":"curl -H 'Authorization: ApiKey a hunter2'"}"#,
            r#"{"command":"curl -H Authorization: token hunter2"}"#,
            r#"{"command":"curl -H Authorization:token hunter2"}"#,
            r#"{"command":"curl -H 'Authorization: Digest username=\"me\", response=\"hunter2\"'"}"#,
            "Authorization: Digest username=me, nonce=1, response=hunter2",
            r#"{"command":"curl -d '{\"a\":1,\"token\":\"hunter2\"}' x"}"#,
            r#"{"command":"curl -d '{\"token\":\"a,{ b hunter2\"}' x"}"#,
            r#"{"command":"curl -u me:hunter2 x"}"#,
            r#"{"command":"curl --user 'me:pass hunter2' x"}"#,
            r#"{"command":"curl -ume:hunter2 --user=me:hunter2 x"}"#,
            r#"{"command":"login --password 'a hunter2'"}"#,
            r#"{"argv":["login","--password","hunter2"]}"#,
            r#"{"command":"curl https://me:hunter2@x/?token=hunter2"}"#,
            "Cookie: a=hunter2; b=hunter2",
        ] {
            let line = shown(arguments);
            assert!(!line.contains("hunter2") && line.contains(MASK), "{arguments} -> {line}");
        }
        for (arguments, line) in [
            (r#"{"a":{"token":"x","keep":"me"}}"#, "{token:***,keep:me}"),
            (r#"{"command":"curl -H 'Authorization: token a b c' x"}"#, "curl -H 'Authorization: *** x"),
            (r#"{"command":"git push -u origin main"}"#, "git push -u origin main"),
            (r#"{"command":"curl 'https://x/?page=1&key=a' y"}"#, "curl 'https://x/?page=1&key=*** y"),
            (r#"{"argv":["-u","me:x","--token","x","keep"]}"#, "[-u,***,--token,***,keep]"),
        ] {
            assert_eq!(&*shown(arguments), line, "{arguments}");
        }
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
