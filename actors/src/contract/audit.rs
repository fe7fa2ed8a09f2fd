//! The audit record is read back as it was written.

use super::*;
use crate::ports::{AuditFilter, AuditPageOf, AuditRecord, Op, Storage};
use crate::types::{Origin, OriginKind, Timestamp};

fn record(at: i64, event: &'static str, origin: Origin, number: u64) -> AuditRecord {
    let session = Some(key(&format!("s{number}")));
    let facts = vec![("number", number.to_string()), ("text", "\"two\"\nlines".to_owned())];
    AuditRecord { at: Timestamp(at), event, origin, session, run: Some(run_id(number)), facts }
}

/// Rows of every kind of origin.
async fn fill_record(store: &dyn Storage) -> Vec<AuditRecord> {
    let agent = Origin::Agent { session: key("s1"), run: run_id(1) };
    let client = Origin::Client {
        connection: 7,
        device: Some("d".to_owned()),
        scopes: vec!["operator.read".to_owned()],
    };
    let records = vec![
        record(100, "spawn.accepted", Origin::Operator, 1),
        record(200, "tool.started", agent, 2),
        record(300, "spawn.refused", client, 3),
        record(250, "device.request_expired", Origin::Timer, 4),
    ];
    for record in &records {
        apply(store, vec![Op::Audit(Box::new(record.clone()))]).await;
    }
    records
}

async fn numbers(store: &dyn Storage, filter: AuditFilter) -> Vec<i64> {
    let page = store.audit_rows(filter, None, 100).await.unwrap();
    assert_eq!(page.next, None);
    page.rows.iter().map(|row| row.row).collect()
}

/// Everything that was written comes back, newest first, page by page.
pub async fn the_audit_record_is_read_newest_first(store: &dyn Storage) {
    let written = fill_record(store).await;
    let (mut before, mut read) = (None, Vec::new());
    loop {
        let page = store.audit_rows(AuditFilter::default(), before, 3).await.unwrap();
        assert!(page.rows.len() <= 3);
        read.extend(page.rows);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(read.iter().map(|row| row.row).collect::<Vec<_>>(), [4, 3, 2, 1]);
    for (row, record) in read.iter().rev().zip(&written) {
        assert_eq!(
            (row.at, &*row.event, row.origin.as_ref()),
            (record.at, record.event, Some(&record.origin))
        );
        assert_eq!(row.session.as_deref(), record.session.as_ref().map(AsRef::as_ref));
        assert_eq!(row.run, record.run.map(|run| run.to_string()));
        let facts: Vec<_> = row.facts.iter().map(|(name, fact)| (name.as_str(), fact.clone())).collect();
        let mut wanted = record.facts.clone();
        wanted.sort_unstable();
        assert_eq!(facts, wanted);
    }
}

/// Filters take what fits all of them.
pub async fn the_audit_record_is_filtered(store: &dyn Storage) {
    fill_record(store).await;
    let all = AuditFilter::default;
    assert_eq!(numbers(store, AuditFilter { since: Some(Timestamp(250)), ..all() }).await, [4, 3]);
    assert_eq!(numbers(store, AuditFilter { event: Some("spawn.".to_owned()), ..all() }).await, [3, 1]);
    for (kind, row) in
        [(OriginKind::Operator, 1), (OriginKind::Agent, 2), (OriginKind::Client, 3), (OriginKind::Timer, 4)]
    {
        assert_eq!(numbers(store, AuditFilter { origin: Some(kind), ..all() }).await, [row]);
    }
    // What is about it, and what it asked for.
    assert_eq!(numbers(store, AuditFilter { session: Some(key("s1")), ..all() }).await, [2, 1]);
    assert_eq!(numbers(store, AuditFilter { run: Some(run_id(1)), ..all() }).await, [2, 1]);
    let both = AuditFilter { run: Some(run_id(1)), origin: Some(OriginKind::Agent), ..all() };
    assert_eq!(numbers(store, both).await, [2]);
    assert!(numbers(store, AuditFilter { event: Some("Spawn".to_owned()), ..all() }).await.is_empty());
}

/// A filter that fits nothing is answered in pieces, which end.
pub async fn a_page_of_the_audit_record_looks_at_so_many_rows(store: &dyn Storage) {
    let rows = AuditPageOf::LOOKS + 5;
    let row = || Op::Audit(Box::new(record(100, "tool.started", Origin::Timer, 1)));
    apply(store, (0..rows).map(|_| row()).collect()).await;
    let nothing = AuditFilter { origin: Some(OriginKind::Operator), ..AuditFilter::default() };
    let page = store.audit_rows(nothing.clone(), None, 10).await.unwrap();
    assert_eq!((page.rows.len(), page.next), (0, Some(6)));
    let page = store.audit_rows(nothing, page.next, 10).await.unwrap();
    assert_eq!((page.rows.len(), page.next), (0, None));
}
