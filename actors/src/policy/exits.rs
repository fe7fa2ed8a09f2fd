//! What becomes of children whose parent goes away.

use crate::ports::{AuditRecord, Op, SessionRow, Survivors};
use crate::types::{OnParentExit, Origin, SessionKey, Timestamp};

/// Where a session goes whose parent goes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it is stopped with its parent.
    None,
    /// It goes on below nobody.
    Alone,
    /// It goes on below this session.
    Below(SessionKey),
}

/// Decides for one session; `ancestors` are those above the parent that goes away, the nearest one first.
#[must_use]
pub fn place(exit: OnParentExit, ancestors: &[SessionKey], stays: impl Fn(&SessionKey) -> bool) -> Place {
    match exit {
        OnParentExit::Stop => Place::None,
        OnParentExit::Continue => Place::Alone,
        OnParentExit::HandOver => {
            ancestors.iter().find(|key| stays(key)).map_or(Place::Alone, |heir| Place::Below(heir.clone()))
        }
    }
}

/// A session that gets another place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The session.
    pub session: SessionKey,
    /// The parent that goes away.
    pub from: SessionKey,
    /// The one that comes in its place.
    pub to: Option<SessionKey>,
}

impl Move {
    /// The change, and its line of the audit record.
    #[must_use]
    pub fn ops(&self, at: Timestamp) -> [Op; 2] {
        let Self { session, from, to } = self.clone();
        let below = to.as_ref().map_or("none", SessionKey::as_str).to_owned();
        let audit = AuditRecord {
            at,
            event: "session.moved",
            origin: Origin::Timer,
            session: Some(session.clone()),
            run: None,
            facts: vec![("from", from.to_string()), ("to", below)],
        };
        [Op::MoveSession { session, from, to }, Op::Audit(Box::new(audit))]
    }
}

/// Decides for all that outlive a session. It does not depend on caps: these bound what is spawned, and a session that
/// gets children by this is not allowed to spawn more until it has fewer.
#[must_use]
pub fn moves(survivors: &Survivors, stays: impl Fn(&SessionKey) -> bool) -> Vec<Move> {
    let decide = |row: &SessionRow| {
        let (session, from) = (row.key.clone(), row.parent.clone()?);
        match place(row.on_parent_exit, &survivors.ancestors, &stays) {
            Place::None => None,
            Place::Alone => Some(Move { session, from, to: None }),
            Place::Below(heir) => Some(Move { session, from, to: Some(heir) }),
        }
    };
    survivors.sessions.iter().filter_map(decide).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{child, key, session};

    #[test]
    fn a_child_that_is_handed_over_goes_to_the_nearest_ancestor_that_stays() {
        let above = [key("up"), key("top")];
        let go = |exit, stays: &[&str]| place(exit, &above, |of| stays.iter().any(|name| key(name) == *of));
        assert_eq!(go(OnParentExit::HandOver, &["up", "top"]), Place::Below(key("up")));
        assert_eq!(go(OnParentExit::HandOver, &["top"]), Place::Below(key("top")));
        assert_eq!(go(OnParentExit::HandOver, &[]), Place::Alone);
        assert_eq!(go(OnParentExit::Continue, &["up", "top"]), Place::Alone);
        assert_eq!(go(OnParentExit::Stop, &["up", "top"]), Place::None);
    }

    #[test]
    fn each_session_that_outlives_its_parent_gets_a_place() {
        let main = session("main");
        let with = |name: &str, on_parent_exit| SessionRow { on_parent_exit, ..child(name, &main) };
        let sessions = vec![
            with("a", OnParentExit::HandOver),
            with("b", OnParentExit::Continue),
            with("c", OnParentExit::Stop),
        ];
        let survivors = Survivors { ancestors: vec![key("up")], sessions };
        let to = |name: &str, to| Move { session: key(name), from: key("main"), to };
        assert_eq!(moves(&survivors, |_| true), [to("a", Some(key("up"))), to("b", None)]);
    }
}
