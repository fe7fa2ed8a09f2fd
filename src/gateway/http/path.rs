//! Parts of a request's path.

/// A part with its `%xx` decoded; none if that is no text.
pub(super) fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        rest = after;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(digits[0])? << 4 | digit(digits[1])?);
    }
    String::from_utf8(bytes).ok()
}

/// The value of a member of the query, decoded; none if it is not there or no text.
pub(super) fn query(query: Option<&str>, name: &str) -> Option<String> {
    let members = query?.split('&');
    let value = members.filter_map(|member| member.split_once('=').or(Some((member, ""))));
    let (_, value) = value.into_iter().find(|(known, _)| decoded(known).as_deref() == Some(name))?;
    decoded(&value.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_decoded_or_refused() {
        assert_eq!(decoded("agent%3Amain%3amain").as_deref(), Some("agent:main:main"));
        assert_eq!(decoded("a%2Fb").as_deref(), Some("a/b"));
        assert_eq!(decoded("%C3%A4").as_deref(), Some("ä"));
        for broken in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decoded(broken), None, "{broken}");
        }
    }

    #[test]
    fn members_of_a_query_are_found_by_name() {
        let text = Some("limit=5&cursor=seq%3A7&flag&a+b=c+d");
        assert_eq!(query(text, "limit").as_deref(), Some("5"));
        assert_eq!(query(text, "cursor").as_deref(), Some("seq:7"));
        assert_eq!(query(text, "flag").as_deref(), Some(""));
        assert_eq!(query(text, "none"), None);
        assert_eq!(query(None, "limit"), None);
    }
}
