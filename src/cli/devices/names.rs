//! Requests and devices as people type them.

use super::super::exit::{Exit, Failure};

/// Fewer characters than these are a typing error rather than a choice.
const MIN: usize = 4;
/// Ids that are named where several are meant.
const MAX_CANDIDATES: usize = 10;

/// The one of `ids` that is meant by its beginning. `what` they are is said of a wrong one.
pub(super) fn beginning<'a>(
    text: &str,
    ids: impl Iterator<Item = &'a str>,
    what: &'static str,
) -> Result<String, Failure> {
    let text = text.trim().to_ascii_lowercase();
    let found: Vec<&str> = ids.filter(|id| id.to_ascii_lowercase().starts_with(&text)).collect();
    if let Some(whole) = found.iter().find(|id| id.eq_ignore_ascii_case(&text)) {
        return Ok((*whole).to_owned());
    }
    if text.len() < MIN {
        return Err(Failure::usage(format!(
            "{text:?} is too short: type at least {MIN} characters of the {what}'s id"
        ))
        .with_hint("list them with `offshoot devices list`"));
    }
    match found.as_slice() {
        [id] => Ok((*id).to_owned()),
        [] => Err(Failure::new(
            Exit::NotFound,
            format!("unknown_{what}"),
            format!("no {what} begins with {text}"),
        )
        .with_hint("list them with `offshoot devices list`")),
        several => {
            let mut message = format!("{} {what}s begin with {text}:", several.len());
            for id in several.iter().take(MAX_CANDIDATES) {
                message.push_str(&format!("\n  {id}"));
            }
            Err(Failure::new(Exit::Usage, format!("ambiguous_{what}"), message)
                .with_hint("type more of the one that is meant"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_enough_where_one_id_has_it() {
        let ids = ["abcd1", "abcd2", "beef", "beef00"];
        let find = |text: &str| beginning(text, ids.into_iter(), "device");
        assert_eq!(find("ABCD1").unwrap(), "abcd1");
        assert_eq!(find("beef").unwrap(), "beef", "a whole id is meant by itself");
        assert_eq!(find("beef0").unwrap(), "beef00");
        let ambiguous = find("abcd").unwrap_err();
        assert_eq!((ambiguous.exit, &*ambiguous.code), (Exit::Usage, "ambiguous_device"));
        assert!(ambiguous.message.contains("abcd1") && ambiguous.message.contains("abcd2"));
        assert_eq!(find("cafe").unwrap_err().exit, Exit::NotFound);
        assert_eq!(find("abc").unwrap_err().exit, Exit::Usage);
    }
}
