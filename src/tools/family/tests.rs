use super::*;
use crate::tools::testing::{Store, key, run_id};

const MAIN: &str = "agent:main:main";

/// main -> a (running) -> b (running); main -> c (ended at 40); other tree -> x.
fn store() -> Store {
    let mut store = Store::default();
    store.add_session(MAIN, None);
    store.add_session("agent:main:subagent:a", Some(MAIN)).label = Some("Survey".to_owned());
    store.add_session("agent:main:subagent:b", Some("agent:main:subagent:a")).label =
        Some("detail".to_owned());
    store.add_session("agent:main:subagent:c", Some(MAIN)).label = Some("survey".to_owned());
    store.add_session("agent:helper:main", None);
    store.add_session("agent:helper:subagent:x", Some("agent:helper:main"));
    store.add_run(MAIN, 1);
    store.add_run("agent:main:subagent:a", 0x2a);
    store.add_run("agent:main:subagent:b", 0x2b);
    store.add_ended_run("agent:main:subagent:c", 30, 10);
    store.add_run("agent:helper:subagent:x", 50);
    store
}

async fn family(store: Store, caller: &str, since: i64) -> Family {
    Family::read(&store.shared(), &key(caller), Timestamp(since)).await.unwrap()
}

fn runs(family: &Family) -> Vec<RunId> {
    family.children.iter().map(|child| child.run).collect()
}

#[tokio::test]
async fn open_ones_come_first_and_other_trees_never() {
    let family = family(store(), MAIN, 0).await;
    assert_eq!(runs(&family), [run_id(0x2b), run_id(0x2a), run_id(30)]);
    assert_eq!(family.active, 2);
    assert_eq!(family.pending[&key(MAIN)], 2);
    assert_eq!(family.pending[&key("agent:main:subagent:a")], 1);
    assert_eq!(family.children[0].depth, 2);
}

#[tokio::test]
async fn a_child_sees_only_what_is_below_it() {
    assert_eq!(runs(&family(store(), "agent:main:subagent:a", 0).await), [run_id(0x2b)]);
    assert!(runs(&family(store(), "agent:main:subagent:b", 0).await).is_empty());
}

#[tokio::test]
async fn what_ended_earlier_is_left_out() {
    assert_eq!(runs(&family(store(), MAIN, 41).await).len(), 2);
    assert_eq!(runs(&family(store(), MAIN, 40).await).len(), 3);
}

#[tokio::test]
async fn the_run_of_a_deleted_session_is_still_a_childs() {
    let mut store = store();
    store.sessions.remove(&key("agent:main:subagent:c"));
    let family = family(store, MAIN, 0).await;
    assert_eq!(runs(&family).last(), Some(&run_id(30)));
    assert_eq!(family.children[2].name(), "c");
}

async fn found(target: &str) -> Result<Option<RunId>, Refusal> {
    Ok(family(store(), MAIN, 0).await.find(target)?.map(|child| child.run))
}

#[tokio::test]
async fn targets_have_many_forms() {
    assert_eq!(found("last").await, Ok(Some(run_id(0x2b))));
    assert_eq!(found("1").await, Ok(Some(run_id(0x2b))));
    assert_eq!(found("3").await, Ok(Some(run_id(30))));
    assert_eq!(found("Agent:main:SUBAGENT:a").await, Ok(Some(run_id(0x2a))));
    assert_eq!(found("DETAIL").await, Ok(Some(run_id(0x2b))));
    assert_eq!(found("0000002a").await, Ok(Some(run_id(0x2a))));
    assert_eq!(found(&run_id(30).to_string()).await, Ok(Some(run_id(30))));
    for unknown in ["0", "4", "000", "nobody", "agent:helper:subagent:x", ""] {
        assert_eq!(found(unknown).await, Ok(None), "{unknown}");
    }
}

#[tokio::test]
async fn a_label_means_the_open_one() {
    assert_eq!(found("survey").await, Ok(Some(run_id(0x2a))));
}

#[tokio::test]
async fn what_could_be_several_is_refused_with_their_ids() {
    let refusal = found("000000").await.unwrap_err();
    assert_eq!(refusal.code, "ambiguous_target");
    assert!(refusal.hint.unwrap().contains(&run_id(30).to_string()));

    let mut store = store();
    store.add_session("agent:main:subagent:d", Some(MAIN)).label = Some("detail".to_owned());
    store.add_run("agent:main:subagent:d", 60);
    let refusal = family(store, MAIN, 0).await.find("detail").unwrap_err();
    assert_eq!(refusal.message, "Ambiguous subagent target \"detail\".");
}

#[tokio::test]
async fn two_runs_of_one_session_are_not_two_targets() {
    let mut store = store();
    store.add_run("agent:main:subagent:b", 70);
    assert_eq!(family(store, MAIN, 0).await.find("detail").unwrap().unwrap().run, run_id(70));
}

#[tokio::test]
async fn older_ones_are_found_by_session_and_run_id() {
    let storage = store().shared();
    let stored =
        async |target: &str| find_stored(&storage, &key(MAIN), target).await.unwrap().map(|child| child.run);
    assert_eq!(stored("agent:main:subagent:c").await, Some(run_id(30)));
    assert_eq!(stored(&run_id(30).to_string()).await, Some(run_id(30)));
    assert_eq!(stored("agent:helper:subagent:x").await, None, "another tree");
    assert_eq!(stored(&run_id(1).to_string()).await, None, "the caller itself");
    assert_eq!(stored("nobody").await, None);
}
