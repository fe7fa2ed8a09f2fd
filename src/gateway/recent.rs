//! The last entries of a transcript, as many as one answer can hold: a few of them may be as large as all others.

use std::sync::Arc;

use offshoot_actors::ports::{Storage, StoreError};
use offshoot_actors::types::{Entry, SessionKey, StoredEntry};

use super::messages;

/// Entries that one read asks for, each of which may be a mebibyte.
const PAGE: u32 = 32;

/// The last entries, or the last ones before the place `before`, oldest first: at most `limit`, and none beyond the page
/// in which their texts fill `most` bytes. `cut` bytes of each text count.
pub(crate) async fn recent(
    storage: &Arc<dyn Storage>,
    session: &SessionKey,
    mut before: Option<u64>,
    limit: u32,
    (most, cut): (usize, usize),
) -> Result<Vec<Arc<StoredEntry>>, StoreError> {
    let (mut pages, mut left, mut bytes) = (Vec::new(), limit, 0_usize);
    while left > 0 && bytes <= most {
        let asked = left.min(PAGE);
        let page = storage.latest_entries(session.clone(), before, asked).await?;
        bytes = page.iter().map(|entry| weight(&entry.entry).min(cut)).fold(bytes, usize::saturating_add);
        before = page.first().map(|entry| entry.seq);
        let got = u32::try_from(page.len()).unwrap_or(asked);
        pages.push(page);
        if got < asked {
            break;
        }
        left = left.saturating_sub(got);
    }
    Ok(pages.into_iter().rev().flatten().collect())
}

fn weight(entry: &Entry) -> usize {
    let calls = match entry {
        Entry::Assistant { tool_calls, .. } => tool_calls.iter().map(|call| call.arguments.len()).sum(),
        _ => 0,
    };
    messages::plain(entry).map_or(0, |text| text.len()).saturating_add(calls)
}

#[cfg(test)]
mod tests {
    use offshoot_actors::MemoryStorage;
    use offshoot_actors::contract::{append, apply, create, key, session};

    use super::*;

    #[tokio::test]
    async fn no_more_is_read_than_an_answer_holds() {
        let store = MemoryStorage::new();
        let main = session("main");
        apply(&store, vec![create(&main)]).await;
        let entry = |seq| append(&main.key, seq, &format!("{seq:>10}"));
        apply(&store, (0..100).map(entry).collect()).await;
        let store: Arc<dyn Storage> = Arc::new(store);
        let places = async |before, limit, most, cut| {
            let read = recent(&store, &key("main"), before, limit, (most, cut)).await.unwrap();
            (read.first().map(|entry| entry.seq), read.last().map(|entry| entry.seq), read.len())
        };
        assert_eq!(places(None, 1_000, 10_000, 10).await, (Some(0), Some(99), 100));
        assert_eq!(places(None, 50, 10_000, 10).await, (Some(50), Some(99), 50));
        assert_eq!(places(Some(10), 50, 10_000, 10).await, (Some(0), Some(9), 10));
        assert_eq!(places(None, 1_000, 100, 10).await, (Some(68), Some(99), 32));
        assert_eq!(places(None, 1_000, 100, 1).await, (Some(0), Some(99), 100));
        assert_eq!(places(Some(0), 50, 10_000, 10).await, (None, None, 0));
    }
}
