//! All that the port shows, as a value to compare.

use std::collections::BTreeMap;

use crate::ports::{
    Consequences, DeliveryFilter, DeliveryRow, DeliveryTally, Host, LeftRun, ListFilter, OpenCallback,
    OpenRun, OverviewFilter, Overviews, Page, QuietFilter, QuietSession, RunRow, SessionRow, Storage,
    StoredPairing, Survivors, Unfinished,
};
use crate::types::{Cleanup, RunId, SessionKey, Timestamp, Usage};

/// Everything that can be read through the port.
#[derive(Debug, PartialEq)]
pub struct View {
    sessions: Vec<SessionRow>,
    overviews: Overviews,
    runs: Vec<RunRow>,
    open: Vec<OpenRun>,
    left: Vec<LeftRun>,
    waiting: Vec<SessionKey>,
    loaded: BTreeMap<SessionKey, String>,
    subtrees: BTreeMap<SessionKey, (Vec<RunId>, Usage)>,
    unfinished: BTreeMap<SessionKey, ([Unfinished; 2], Option<SessionKey>)>,
    pairing: StoredPairing,
    callbacks: Vec<OpenCallback>,
    deliveries: Vec<DeliveryRow>,
    delivery_tally: DeliveryTally,
    consequences: Vec<Consequences>,
    quiet: Vec<QuietSession>,
    survivors: BTreeMap<SessionKey, Survivors>,
}

impl View {
    /// Reads it all.
    pub async fn of(store: &dyn Storage) -> Self {
        let all = Page { offset: 0, limit: u32::MAX };
        let sessions = store.list_sessions(ListFilter::default(), all).await.unwrap();
        let overviews = store.overviews(OverviewFilter::default(), all).await.unwrap();
        let runs = store.list_runs(ListFilter::default(), all).await.unwrap();
        let mut keys: Vec<_> = sessions.iter().map(|row| &row.key).collect();
        keys.extend(runs.iter().map(|row| &row.session));
        let (mut loaded, mut subtrees, mut unfinished) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut survivors = BTreeMap::new();
        for key in keys {
            let session = store.load_session(key.clone()).await.unwrap();
            loaded.insert(key.clone(), format!("{session:?}"));
            survivors.insert(key.clone(), store.survivors(key.clone()).await.unwrap());
            let open = store.open_in_subtree(key.clone()).await.unwrap();
            let open = open.iter().map(|open| open.row.id).collect();
            subtrees.insert(key.clone(), (open, store.subtree_usage(key.clone()).await.unwrap()));
            let one_shot = store.unfinished(key.clone(), Host::OneShot).await.unwrap();
            let daemon = store.unfinished(key.clone(), Host::Daemon).await.unwrap();
            let undelivered = store.undelivered(key.clone()).await.unwrap();
            unfinished.insert(key.clone(), ([one_shot, daemon], undelivered));
        }
        let open = store.open_runs().await.unwrap();
        let left = store.left_runs().await.unwrap();
        let waiting = store.waiting_sessions().await.unwrap();
        let pairing = store.pairing().await.unwrap();
        let callbacks = store.callbacks().await.unwrap();
        let deliveries = store.deliveries(DeliveryFilter::default(), all).await.unwrap();
        let delivery_tally = store.delivery_tally(None).await.unwrap();
        let mut consequences = Vec::new();
        for run in &runs {
            consequences.push(store.consequences(run.id, None, u32::MAX).await.unwrap());
        }
        let mut quiet = Vec::new();
        for cleanup in [Cleanup::Keep, Cleanup::Delete] {
            let written = Timestamp(i64::MIN)..=Timestamp(i64::MAX);
            let filter = QuietFilter { written, after: None, cleanup };
            quiet.extend(store.quiet_sessions(filter, u32::MAX).await.unwrap());
        }
        Self {
            sessions,
            overviews,
            runs,
            open,
            left,
            waiting,
            loaded,
            subtrees,
            unfinished,
            pairing,
            callbacks,
            deliveries,
            delivery_tally,
            consequences,
            quiet,
            survivors,
        }
    }

    /// The sum over all runs.
    #[must_use]
    pub fn usage_of_all_runs(&self) -> Usage {
        self.runs.iter().map(|run| run.usage).sum()
    }
}
