//! Scopes: what an operator may do, and what follows from what.

/// Everything.
pub const ADMIN: &str = "operator.admin";
/// Looking.
pub const READ: &str = "operator.read";
/// Changing, and so looking.
pub const WRITE: &str = "operator.write";
/// Deciding on what runs ask to do.
pub const APPROVALS: &str = "operator.approvals";
/// Deciding on devices.
pub const PAIRING: &str = "operator.pairing";
/// The secrets of speech services.
pub const TALK_SECRETS: &str = "operator.talk.secrets";
/// Answering the questions of runs. Generation 4.
pub const QUESTIONS: &str = "operator.questions";
/// Speaking. Generation 4.
pub const TALK: &str = "operator.talk";

/// All that there are.
pub const KNOWN: &[&str] = &[ADMIN, READ, WRITE, APPROVALS, PAIRING, TALK_SECRETS, QUESTIONS, TALK];

/// Whether there is such a scope.
#[must_use]
pub fn is_known(scope: &str) -> bool {
    KNOWN.contains(&scope)
}

/// Whether someone with `granted` may do what needs `needed`. An unknown scope is never allowed, not even to an
/// administrator, nor does it allow anything.
#[must_use]
pub fn allows<S: AsRef<str>>(granted: &[S], needed: &str) -> bool {
    let has = |scope: &str| granted.iter().any(|granted| granted.as_ref() == scope);
    is_known(needed) && (has(needed) || has(ADMIN) || (matches!(needed, READ | TALK) && has(WRITE)))
}

/// Whether someone with `granted` may do all that `asked` allows.
#[must_use]
pub fn cover<S: AsRef<str>, T: AsRef<str>>(granted: &[S], asked: &[T]) -> bool {
    asked.iter().all(|scope| allows(granted, scope.as_ref()))
}

/// The scopes as a pairing and a device token keep them: with read and write beside admin, read beside write, each
/// once, sorted.
#[must_use]
pub fn normalized<S: AsRef<str>>(scopes: &[S]) -> Vec<String> {
    let mut all: Vec<&str> = scopes.iter().map(AsRef::as_ref).collect();
    if all.contains(&ADMIN) {
        all.extend([READ, WRITE]);
    } else if all.contains(&WRITE) {
        all.push(READ);
    }
    all.sort_unstable();
    all.dedup();
    all.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ADMIN, APPROVALS, KNOWN, PAIRING, READ, TALK, WRITE, allows, cover, normalized};

    #[test]
    fn admin_is_everything_and_write_is_read_and_talk() {
        for needed in KNOWN {
            assert!(allows(&[ADMIN], needed));
            assert!(!allows::<&str>(&[], needed));
            assert_eq!(allows(&[WRITE], needed), matches!(*needed, READ | WRITE | TALK), "{needed}");
            assert_eq!(allows(&[READ], needed), *needed == READ, "{needed}");
            assert_eq!(allows(&[PAIRING], needed), *needed == PAIRING, "{needed}");
        }
    }

    #[test]
    fn an_unknown_scope_is_never_allowed() {
        for scope in ["", "admin", "operator.everything", "OPERATOR.READ"] {
            assert!(!allows(&[ADMIN, scope], scope));
            assert!(!cover(&[ADMIN], &[READ, scope]));
        }
        assert!(cover(&[ADMIN], KNOWN));
        assert!(cover::<&str, &str>(&[], &[]));
    }

    #[test]
    fn kept_scopes_name_what_follows_from_them() {
        for (scopes, expected) in [
            (&[ADMIN][..], "operator.admin operator.read operator.write"),
            (&[WRITE, APPROVALS, WRITE], "operator.approvals operator.read operator.write"),
            (&[READ], "operator.read"),
            (&[], ""),
        ] {
            assert_eq!(normalized(scopes).join(" "), expected);
        }
    }

    proptest! {
        #[test]
        fn keeping_scopes_changes_nothing_that_they_allow(
            scopes in prop::collection::vec(prop::sample::select(KNOWN), 0..6), needed in prop::sample::select(KNOWN),
        ) {
            let kept = normalized(&scopes);
            prop_assert_eq!(allows(&kept, needed), allows(&scopes, needed));
            prop_assert_eq!(normalized(&kept), kept);
        }
    }
}
