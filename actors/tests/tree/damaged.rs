//! What is damaged of one session harms no other.

use offshoot_actors::ports::{Answer, Op};
use offshoot_actors::types::{Origin, SessionKey};

use crate::rig::{Answered, Asked, Call, Rig, brief, items, main_key, setup, soon};

/// A session that rests, and one below it that outlives it.
async fn family(rig: &Rig, name: &str) -> (SessionKey, SessionKey) {
    let parent = rig.spawn(&format!("session,quiet|parent {name}")).await;
    rig.outcome(parent.run).await;
    let child = rig.spawn_in(parent.session.clone(), "session,exit=hand-over|work").await;
    (parent.session, child.session)
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_children_cannot_be_moved_holds_up_no_other_stop() {
    for reads in [false, true] {
        let (setup, faulty) = setup().faulty();
        let rig = setup
            .start(|call: Call| async move {
                call.sleep(if call.task() == "work" { 60_000 } else { 0 }).await;
                Ok(Answer::text("done"))
            })
            .await;
        let (damaged, stays) = family(&rig, "damaged").await;
        let (sound, moves) = family(&rig, "sound").await;
        rig.until("both work", |rig| rig.log.in_flight() == 2).await;
        let (parent, child) = (damaged.clone(), stays.clone());
        faulty.spoil(move |asked| match asked {
            Asked::Survivors(key) if reads && **key == parent => Answered::Damaged,
            Asked::Submit(transaction)
                if transaction
                    .iter()
                    .any(|op| matches!(op, Op::MoveSession { session, .. } if *session == child)) =>
            {
                Answered::Damaged
            }
            _ => Answered::Well,
        });
        let stop = |key: &SessionKey| rig.handle.stop(key.clone(), Origin::Operator);
        let both = async { tokio::join!(stop(&damaged), stop(&sound)) };
        let (refused, stopped) = soon("two stops", both).await;
        assert_eq!(refused.unwrap_err().code, "store");
        assert!(stopped.unwrap().ended.is_empty());
        assert_eq!(rig.log.in_flight(), 2, "those that outlive a session go on");
        let parent_of = |key: &SessionKey| {
            rig.storage.all_sessions().into_iter().find(|row| row.key == *key).unwrap().parent
        };
        assert_eq!((parent_of(&stays), parent_of(&moves)), (Some(damaged.clone()), Some(main_key())));
        // Its parent ends once it has, and is told of it.
        rig.quiet().await;
        for key in [damaged, main_key()] {
            let told: Vec<_> = items(&rig.transcript(&key)).iter().map(brief).collect();
            assert_eq!(told, ["ok:done"], "{key}");
        }
        rig.finish().await;
    }
}
