//! Deliveries that somebody looks at and decides on.

use std::sync::Arc;

use offshoot_actors::MemoryStorage;
use offshoot_actors::contract;
use offshoot_actors::ports::{
    Answer, DeliveryFilter, DeliveryKind, DeliveryState, DeliveryStatus, Op, Page, Storage, Undeliverable,
};
use offshoot_actors::types::{Origin, RunId, SessionKey, Terminal};

use crate::rig::{Call, Rig, items, main_key, setup, soon};

async fn script(_: Call) -> Result<Answer, offshoot_actors::ports::ModelError> {
    Ok(Answer::text("done"))
}

/// A store with a result for a session of another root than the main one, for a session that does not exist, and for one
/// whose agent is not configured; and a tree on it that wakes nobody but the main root.
async fn waiting() -> (Rig, [(RunId, SessionKey); 3]) {
    let storage = Arc::new(MemoryStorage::new());
    let other = contract::session("other");
    let key: SessionKey = "agent:nobody:main".parse().unwrap();
    let nobody = offshoot_actors::ports::SessionRow {
        agent: key.agent(),
        root: key.clone(),
        key: key.clone(),
        ..contract::session("x")
    };
    contract::apply(&*storage, vec![contract::create(&other), contract::create(&nobody)]).await;
    let gone = contract::key("gone");
    let receivers = [other.key.clone(), gone, key];
    for (number, to) in (1..).zip(&receivers) {
        let from = contract::child(&format!("child-{number}"), &other);
        let run = contract::child_run(number, &from.key, to, None);
        contract::apply(&*storage, vec![contract::create(&from), contract::insert(&run)]).await;
        let result = contract::queue(&contract::announce(number, &from.key, to));
        contract::apply(&*storage, vec![contract::end(number, Terminal::Ok), result]).await;
    }
    let mut own = setup().on(&storage, 1);
    own.only_root = Some(main_key());
    let rig = own.start(script).await;
    let runs = [1, 2, 3].map(contract::run_id);
    let [first, second, third] = receivers;
    (rig, [(runs[0], first), (runs[1], second), (runs[2], third)])
}

async fn state(rig: &Rig, run: RunId) -> DeliveryState {
    let filter = DeliveryFilter { run: Some(run), ..DeliveryFilter::default() };
    let rows = rig.handle.deliveries(filter, Page { offset: 0, limit: 9 }).await.unwrap();
    assert_eq!(rows.len(), 1);
    rows[0].state.clone()
}

#[tokio::test(start_paused = true)]
async fn a_retry_wakes_the_session_that_is_to_have_the_result_and_it_takes_it_once() {
    let (rig, [(run, other), ..]) = waiting().await;
    rig.sleep(100).await;
    assert_eq!(state(&rig, run).await, DeliveryState::Open, "nobody has woken it");
    let dismissed = rig.handle.dismiss_delivery(DeliveryKind::Announce, run, Origin::Operator).await;
    assert_eq!(dismissed.unwrap_err().code, "delivery_open");
    for _ in 0..2 {
        let retried = rig.handle.retry_delivery(DeliveryKind::Announce, run, Origin::Operator).await;
        assert_eq!(retried.unwrap().run, run);
    }
    soon("quiet", rig.handle.quiet(&other)).await.unwrap();
    assert_eq!(state(&rig, run).await, DeliveryState::Delivered);
    let taken: Vec<RunId> = items(&rig.transcript(&other)).iter().map(|item| item.run).collect();
    assert_eq!(taken, [run]);
    let late = rig.handle.retry_delivery(DeliveryKind::Announce, run, Origin::Operator).await.unwrap_err();
    assert_eq!((late.code, late.message.contains("was delivered before")), ("settled", true));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_take_stays_visible_until_somebody_dismisses_it() {
    let (rig, [_, (lost, _), (unconfigured, nobody)]) = waiting().await;
    let tally = rig.handle.delivery_tally().await.unwrap();
    assert_eq!((tally.open, tally.undeliverable), (1, 2));
    for (run, why) in [(lost, Undeliverable::NoSession), (unconfigured, Undeliverable::NoAgent)] {
        assert_eq!(state(&rig, run).await, DeliveryState::Undeliverable(why));
        let retried = rig.handle.retry_delivery(DeliveryKind::Announce, run, Origin::Operator).await;
        assert_eq!(retried.unwrap_err().code, "undeliverable");
        let child = rig.row(run).session;
        let row = rig.handle.dismiss_delivery(DeliveryKind::Announce, run, Origin::Operator).await.unwrap();
        assert_eq!(row.state, DeliveryState::Dismissed);
        let again = rig.handle.dismiss_delivery(DeliveryKind::Announce, run, Origin::Operator).await;
        assert_eq!(again.unwrap_err().code, "settled");
        assert_eq!(rig.storage.session(child).await.unwrap(), None, "it was to be deleted with its result");
    }
    assert_eq!(rig.row(lost).outcome.unwrap().text.as_deref(), Some("text"), "the result stays with its run");
    assert!(items(&rig.transcript(&nobody)).is_empty());
    let events: Vec<_> =
        rig.storage.audit().into_iter().filter(|row| row.event.starts_with("delivery.")).collect();
    let told: Vec<_> = events.iter().map(|row| (row.event, row.run, row.origin.clone())).collect();
    let expected = [lost, unconfigured].map(|run| ("delivery.dismissed", Some(run), Origin::Operator));
    assert_eq!(told, expected);
    let dismissed = DeliveryFilter { status: Some(DeliveryStatus::Dismissed), ..DeliveryFilter::default() };
    assert_eq!(rig.handle.deliveries(dismissed, Page { offset: 0, limit: 9 }).await.unwrap().len(), 2);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_result_for_an_agent_that_is_not_configured_waits_until_it_is() {
    let storage = Arc::new(MemoryStorage::new());
    let (from, to) = (contract::session("from"), "agent:nobody:main".parse::<SessionKey>().unwrap());
    let receiver = offshoot_actors::ports::SessionRow {
        agent: to.agent(),
        root: to.clone(),
        key: to.clone(),
        ..contract::session("x")
    };
    let run = contract::child_run(1, &from.key, &to, None);
    contract::apply(&*storage, vec![contract::create(&from), contract::create(&receiver)]).await;
    let result = contract::queue(&contract::announce(1, &from.key, &to));
    contract::apply(&*storage, vec![contract::insert(&run), contract::end(1, Terminal::Ok), result]).await;
    let rig = setup().on(&storage, 1).start(script).await;
    soon("quiet", rig.handle.quiet(&to)).await.unwrap();
    assert_eq!(state(&rig, run.id).await, DeliveryState::Undeliverable(Undeliverable::NoAgent));
    let mut settings = (*rig.handle.settings()).clone();
    let agent = settings.agents.values().next().unwrap().clone();
    settings.agents.insert(to.agent(), agent);
    rig.handle.apply(settings).await.unwrap();
    assert_eq!(state(&rig, run.id).await, DeliveryState::Open);
    rig.handle.retry_delivery(DeliveryKind::Announce, run.id, Origin::Operator).await.unwrap();
    rig.until("it is taken", |rig| !items(&rig.transcript(&to)).is_empty()).await;
    soon("quiet", rig.handle.quiet(&to)).await.unwrap();
    assert_eq!(state(&rig, run.id).await, DeliveryState::Delivered);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_the_store_does_not_take_changes_nothing() {
    let (setup, faulty) = setup().faulty();
    let rig = setup.start(script).await;
    let asked = contract::callback(1, "http://receiver/");
    let main = contract::session("outside");
    let run = contract::run(1, &main.key);
    contract::apply(&*rig.storage, vec![contract::create(&main), contract::insert(&run)]).await;
    contract::apply(&*rig.storage, vec![contract::end(1, Terminal::Ok), contract::put_callback(&asked)])
        .await;
    contract::apply(&*rig.storage, vec![contract::failed(&asked, 300, None)]).await;
    let run = asked.run;
    let failed = state(&rig, run).await;
    faulty.refuse(|op| matches!(op, Op::RetryCallback { .. }));
    let retried = rig.handle.retry_delivery(DeliveryKind::Callback, run, Origin::Operator).await;
    assert_eq!(retried.unwrap_err().code, "store");
    faulty.refuse(|op| matches!(op, Op::DismissCallback { .. }));
    let dismissed = rig.handle.dismiss_delivery(DeliveryKind::Callback, run, Origin::Operator).await;
    assert_eq!(dismissed.unwrap_err().code, "store");
    assert_eq!(state(&rig, run).await, failed);
    assert!(rig.storage.audit().iter().all(|row| !row.event.starts_with("delivery.")));
    rig.stop().await;
}
