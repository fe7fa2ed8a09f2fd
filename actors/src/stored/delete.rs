//! Deletes a session with all that is below it.

use super::{apply, bequeath, failed};
use crate::ports::{AuditRecord, Clock, ListFilter, Op, Page, Storage, StoreError};
use crate::types::{Origin, Refusal, SessionKey};

/// Sessions that are deleted in one transaction.
const BATCH: usize = 200;
/// Sessions that are read at once.
const PAGE: u32 = 500;

/// A session and every session below it, leaves first, if all of them can be deleted from a store on which no tree
/// runs. Those that outlive their parents, with what is below them, are left out: they stay.
///
/// # Errors
/// There is no such session, a run in one of them is open, a result is on its way to or from one of them, or the
/// store cannot be read.
pub async fn deletable(storage: &dyn Storage, session: &SessionKey) -> Result<Vec<SessionKey>, Refusal> {
    if storage.session(session.clone()).await.map_err(failed)?.is_none() {
        return Err(Refusal::unknown_session(session));
    }
    let doomed = subtree(storage, session).await.map_err(failed)?;
    let open = storage.open_in_subtree(session.clone()).await.map_err(failed)?;
    if let Some(first) = open.iter().find(|run| doomed.contains(&run.session.key)) {
        let (run, of) = (first.row.id, &first.row.session);
        return Err(Refusal::forbidden(
            "session_open",
            format!("session {session} cannot be deleted: run {run} of session {of} is open"),
            format!("end it first, with `offshoot runs cancel {run}`"),
        ));
    }
    match storage.undelivered(session.clone()).await.map_err(failed)? {
        None => Ok(doomed),
        Some(receiver) => Err(Refusal::forbidden(
            "session_open",
            format!("session {session} cannot be deleted: something waits to be taken by session {receiver}"),
            format!("it takes it with `offshoot run --session {receiver} \"...\"`"),
        )),
    }
}

/// Deletes what [`deletable`] names. Returns the sessions that it deleted, leaves first. Their runs stay.
///
/// # Errors
/// As [`deletable`]; or the store refuses, and what was deleted before stays deleted.
pub async fn delete_stored(
    storage: &dyn Storage,
    clock: &dyn Clock,
    session: &SessionKey,
    origin: Origin,
) -> Result<Vec<SessionKey>, Refusal> {
    let doomed = deletable(storage, session).await?;
    bequeath(storage, clock, session).await?;
    delete(storage, clock, session, doomed, origin).await
}

/// Deletes a session that a tree has stopped. Those who outlive it have their places: whoever is below it all the same
/// came meanwhile and may be awake, and where it hangs is not for the store alone to say.
pub(crate) async fn delete_stopped(
    storage: &dyn Storage,
    clock: &dyn Clock,
    session: &SessionKey,
    origin: Origin,
) -> Result<Vec<SessionKey>, Refusal> {
    let doomed = deletable(storage, session).await?;
    if !storage.survivors(session.clone()).await.map_err(failed)?.sessions.is_empty() {
        return Err(came_meanwhile(session));
    }
    delete(storage, clock, session, doomed, origin).await
}

fn came_meanwhile(session: &SessionKey) -> Refusal {
    Refusal::forbidden(
        "session_open",
        format!("session {session} was not deleted: something came to it or to a session below it meanwhile"),
        "delete it again once all of it is quiet",
    )
}

async fn delete(
    storage: &dyn Storage,
    clock: &dyn Clock,
    session: &SessionKey,
    doomed: Vec<SessionKey>,
    origin: Origin,
) -> Result<Vec<SessionKey>, Refusal> {
    for batch in doomed.chunks(BATCH) {
        let mut transaction = Vec::with_capacity(2 * batch.len());
        for key in batch {
            // Parents that only it kept were not named, so they stay.
            transaction.push(Op::DeleteSession { session: key.clone(), with_parents: false });
            transaction.push(Op::Audit(Box::new(AuditRecord {
                at: clock.now(),
                event: "session.deleted",
                origin: origin.clone(),
                session: Some(key.clone()),
                run: None,
                facts: vec![("with", session.to_string())],
            })));
        }
        apply(storage, transaction).await.map_err(|refused| Refusal::error("store", refused.to_string()))?;
    }
    // The store keeps a session to which something came meanwhile, and so those above it.
    if storage.session(session.clone()).await.map_err(failed)?.is_some() {
        return Err(came_meanwhile(session));
    }
    Ok(doomed)
}

/// The session and those below it that go with it, leaves first.
async fn subtree(storage: &dyn Storage, session: &SessionKey) -> Result<Vec<SessionKey>, StoreError> {
    let mut found = vec![session.clone()];
    let mut next = 0;
    while let Some(parent) = found.get(next).cloned() {
        let filter = ListFilter { session: Some(parent), ..ListFilter::default() };
        let mut page = Page { offset: 0, limit: PAGE };
        loop {
            let children = storage.list_sessions(filter.clone(), page).await?;
            let last = children.len() < PAGE as usize;
            let gone = children.into_iter().filter(|row| !row.on_parent_exit.outlives());
            found.extend(gone.map(|row| row.key));
            if last {
                break;
            }
            page.offset = page.offset.saturating_add(PAGE);
        }
        next += 1;
    }
    found.reverse();
    Ok(found)
}
