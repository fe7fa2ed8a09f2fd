//! Sessions that outlive their parents.

use super::state::{Announced, Run, State, places};
use crate::ports::{Announce, Refused, SessionRow, Survivors};
use crate::types::{RunId, SessionKey};

impl State {
    /// Whether a session goes on without its parent.
    pub(super) fn outlives(&self, key: &SessionKey) -> bool {
        self.sessions.get(key).is_some_and(|session| session.row.on_parent_exit.outlives())
    }

    /// A session and those below it that go away with it.
    pub(super) fn gone_with(&self, key: &SessionKey) -> Vec<SessionKey> {
        let mut keys = vec![key.clone()];
        let mut next = 0;
        while let Some(parent) = keys.get(next) {
            let children = self.children.range(places(parent)).map(|(_, key)| key);
            let children: Vec<_> = children.filter(|key| !self.outlives(key)).cloned().collect();
            keys.extend(children);
            next += 1;
        }
        keys
    }

    fn parent_of(&self, key: &SessionKey) -> Option<SessionKey> {
        self.sessions.get(key).and_then(|session| session.row.parent.clone())
    }

    pub(super) fn survivors(&self, key: &SessionKey) -> Survivors {
        let ancestors = std::iter::successors(self.parent_of(key), |up| self.parent_of(up)).collect();
        let gone = self.gone_with(key);
        let below = gone.iter().flat_map(|parent| self.children.range(places(parent)));
        let survive =
            below.filter(|(_, key)| self.outlives(key)).filter_map(|(_, key)| self.sessions.get(key));
        let mut survivors: Vec<_> = survive.collect();
        survivors.sort_by_key(|session| session.number);
        let sessions: Vec<SessionRow> = survivors.into_iter().map(|session| session.row.clone()).collect();
        Survivors { ancestors, sessions }
    }

    pub(super) fn move_session(
        &mut self,
        key: &SessionKey,
        from: &SessionKey,
        to: Option<&SessionKey>,
    ) -> Result<(), Refused> {
        let session = self.stored_session(key)?.clone();
        if session.row.parent.as_ref() != Some(from) {
            return Err(Refused::not_below(key, from));
        }
        if let Some(to) = to {
            self.stored_session(to)?;
            let mut up = std::iter::successors(Some(to.clone()), |up| self.parent_of(up));
            if up.any(|up| up == *key) {
                return Err(Refused::not_below(key, to));
            }
        }
        let number = session.number;
        self.children.remove(&(from.clone(), number));
        if let Some(to) = to {
            self.children.insert((to.clone(), number), key.clone());
        }
        self.sessions.change(key, |session| {
            session.row.parent = to.cloned();
            session.row.outlived = to.is_none().then(|| from.clone());
        });
        let runs: Vec<RunId> = self.runs_of.range(places(key)).map(|(_, run)| *run).collect();
        for id in runs {
            let Some(run) = self.runs.get(&id).cloned() else { continue };
            if run.session == number && run.row.announce_to.as_ref() == Some(from) {
                self.move_result(&run, from, to);
            }
        }
        Ok(())
    }

    /// The result of a run is for another session, if nobody has taken it yet.
    fn move_result(&mut self, run: &Run, from: &SessionKey, to: Option<&SessionKey>) {
        let (id, open) = (run.row.id, run.row.state.is_open());
        let place = match &run.announced {
            None if open => None,
            Some(Announced::Open(place)) if place.0 == *from => Some(place.clone()),
            _ => return,
        };
        if open {
            self.open_to.remove(&(from.clone(), run.number));
            if let Some(to) = to {
                self.open_to.insert((to.clone(), run.number), id);
            }
        }
        let mut announced = run.announced.clone();
        match (place, to) {
            (Some(place), Some(to)) => {
                let Some(announce) = self.outbox.get(&place).cloned() else { return };
                self.outbox.remove(&place);
                let place = (to.clone(), place.1);
                self.outbox.insert(place.clone(), Announce { to: to.clone(), ..announce });
                announced = Some(Announced::Open(place));
            }
            (Some(_), None) => self.abandoned.insert(id, ()),
            (None, _) => {}
        }
        self.runs.change(&id, |run| {
            run.row.announce_to = to.cloned();
            run.announced = announced;
        });
    }

    pub(super) fn expect_parent(
        &self,
        session: SessionKey,
        parent: Option<&SessionKey>,
    ) -> Result<(), Refused> {
        let to = &self.stored_session(&session)?.row.parent;
        if to.as_ref() == parent { Ok(()) } else { Err(Refused::Moved { to: to.clone(), session }) }
    }

    pub(super) fn abandon_announce(&mut self, run: RunId) -> Result<(), Refused> {
        let open =
            matches!(self.runs.get(&run).and_then(|run| run.announced.as_ref()), Some(Announced::Open(_)));
        if !open {
            return Err(Refused::not_announced(run));
        }
        self.abandoned.insert(run, ());
        Ok(())
    }
}
