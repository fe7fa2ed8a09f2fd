//! Deliveries in the database of an earlier version.

use offshoot_actors::contract::{self, block_on};
use offshoot_actors::ports::{DeliveryFilter, DeliveryState, Page, Storage};
use offshoot_actors::types::Secret;
use rusqlite::Connection;

use crate::store::schema::MIGRATIONS;
use crate::store::{Durability, SqliteStorage};

#[test]
fn callbacks_that_waited_before_they_were_counted_still_wait() {
    let addresses =
        ["https://user:pa%40ss@a.example:8/x?token=1#y", "http://127.0.0.1/", "http://[::1]:9/@b"];
    let dir = tempfile::tempdir().unwrap();
    let mut earlier = Connection::open(dir.path().join("offshoot.db")).unwrap();
    MIGRATIONS.to_version(&mut earlier, 6).unwrap();
    for (number, address) in (1_u64..).zip(addresses) {
        let run = contract::run_id(number).to_string();
        let sql = "INSERT INTO runs (id, session, session_key, state, cause, expects_completion, model, fallbacks, steps, \
                   input_tokens, output_tokens, cached_tokens, accepted_at, host) \
                   VALUES (?1, 1, 'agent:main:main', 'ok', 'message', 1, 'm/m', '[]', 0, 0, 0, 0, 0, 'daemon')";
        earlier.execute(sql, [&run]).unwrap();
        let sql = "INSERT INTO callbacks (run_id, address, at) VALUES (?1, ?2, 1000)";
        earlier.execute(sql, [run.as_str(), address]).unwrap();
    }
    drop(earlier);
    let store = SqliteStorage::open(dir.path(), Durability::Normal).unwrap();
    block_on(async {
        let asked = (1_u64..).zip(addresses).map(|(number, address)| {
            let asked = contract::callback(number, "");
            contract::open(
                &offshoot_actors::ports::CallbackRow { address: Secret::presented(address), ..asked },
                0,
                None,
            )
        });
        let asked: Vec<_> = asked.collect();
        assert_eq!(store.callbacks().await.unwrap(), asked);
        let rows = store.deliveries(DeliveryFilter::default(), Page { offset: 0, limit: 9 }).await.unwrap();
        let shown: Vec<_> = rows.iter().rev().map(|row| row.receiver.to_string()).collect();
        assert_eq!(shown, ["https://a.example:8", "http://127.0.0.1", "http://[::1]:9"]);
        assert!(rows.iter().all(|row| row.state == DeliveryState::Open));
        let same: Vec<_> = asked.iter().map(|open| open.callback.receiver()).collect();
        assert_eq!(shown, same, "as what comes in now is shown");
    });
}
