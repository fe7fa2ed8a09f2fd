use proptest::prelude::*;

use super::*;
use crate::contract::{device, pair_request};
use crate::types::Scope;

const NOW: Timestamp = Timestamp(100_000);

fn scopes(names: &[Scope]) -> Scopes {
    names.iter().copied().collect()
}

fn ask(client: &ClientInfo, role: Role, scopes: Scopes, vouched: Vouched) -> Ask<'_> {
    Ask { role, scopes, client, vouched }
}

/// What a stranger is told who asks this of a device with read and write.
fn told(change: impl FnOnce(&mut ClientInfo), role: Role, wanted: &[Scope]) -> Option<PairReason> {
    let known = device(1);
    let mut client = known.client.clone();
    change(&mut client);
    let wanted = scopes(wanted);
    let stranger = decide(&ask(&client, role, wanted, Vouched::Stranger), Some(&known));
    let local = decide(&ask(&client, role, wanted, Vouched::Local), Some(&known));
    match (stranger, local) {
        (Decision::Pend(one), Decision::Approve(other)) => {
            assert_eq!(one, other);
            Some(one)
        }
        (one, other) => {
            assert_eq!((one, other), (Decision::Admit(&known), Decision::Admit(&known)));
            None
        }
    }
}

#[test]
fn a_known_device_is_admitted_with_what_it_has_or_less() {
    let same = |_: &mut ClientInfo| ();
    for wanted in [&[][..], &[Scope::Read], &[Scope::Write, Scope::Read], &[Scope::Talk]] {
        assert_eq!(told(same, Role::Operator, wanted), None, "{wanted:?}");
    }
}

#[test]
fn whatever_goes_beyond_has_its_reason() {
    use PairReason::*;
    let same = |_: &mut ClientInfo| ();
    assert_eq!(told(same, Role::Operator, &[Scope::Admin]), Some(ScopeUpgrade));
    assert_eq!(told(same, Role::Operator, &[Scope::Pairing]), Some(ScopeUpgrade));
    assert_eq!(told(same, Role::Node, &[]), Some(RoleUpgrade));
    let darwin = |client: &mut ClientInfo| client.platform = "darwin".to_owned();
    assert_eq!(told(darwin, Role::Operator, &[]), Some(MetadataUpgrade));
    assert_eq!(told(darwin, Role::Operator, &[Scope::Admin]), Some(ScopeUpgrade));
    assert_eq!(told(darwin, Role::Node, &[Scope::Admin]), Some(RoleUpgrade));
    let client = device(1).client;
    let unknown = ask(&client, Role::Operator, Scopes::NONE, Vouched::Stranger);
    assert_eq!(decide(&unknown, None), Decision::Pend(NotPaired));
    assert_eq!(decide(&Ask { vouched: Vouched::Local, ..unknown }, None), Decision::Approve(NotPaired));
}

#[test]
fn a_machine_is_another_one_when_it_says_so() {
    let of = |platform: &str, family: Option<&str>| ClientInfo {
        platform: platform.to_owned(),
        family: family.map(str::to_owned),
        ..device(1).client
    };
    let pinned = of("linux", Some("Desktop"));
    for same in [of(" LINUX ", Some("desktop")), of("linux", None), of("", Some(" ")), of("", None)] {
        assert!(same_machine(&pinned, &same), "{same:?}");
        assert!(same_machine(&pinned, &pin(&pinned, &same)));
        assert!(!pin(&pinned, &same).platform.trim().is_empty(), "silence takes nothing away");
        assert!(pin(&pinned, &same).family.is_some());
    }
    for other in [of("darwin", Some("Desktop")), of("linux", Some("Phone"))] {
        assert!(!same_machine(&pinned, &other), "{other:?}");
        assert!(same_machine(&pin(&pinned, &other), &other));
    }
    assert!(same_machine(&of("linux", None), &pinned), "nothing was pinned");
}

#[test]
fn a_request_that_is_repeated_stands_and_one_that_grows_is_another() {
    let pending = PairRequestRow {
        roles: BTreeSet::from([Role::Operator]),
        scopes: scopes(&[Scope::Write]).normalised(),
        reason: PairReason::ScopeUpgrade,
        expires_at: NOW + PENDING_TTL,
        ..pair_request(1, 1)
    };
    let again = |pending: &PairRequestRow, role, wanted: &[Scope]| {
        let client =
            ClientInfo { id: "other".to_owned(), platform: "other".to_owned(), ..pending.client.clone() };
        let ask = ask(&client, role, scopes(wanted), Vouched::Stranger);
        merge(pending, &ask, PairReason::RoleUpgrade, NOW)
    };
    assert_eq!(again(&pending, Role::Operator, &[Scope::Write]), Merge::Same);
    assert_eq!(again(&pending, Role::Operator, &[Scope::Read]), Merge::Same);
    let late = PairRequestRow { expires_at: NOW + PENDING_TTL / 3, ..pending.clone() };
    assert_eq!(again(&late, Role::Operator, &[Scope::Read]), Merge::Longer);
    let Merge::Supersede { roles, scopes: all, reason } = again(&late, Role::Operator, &[Scope::Pairing])
    else {
        panic!("more was asked for")
    };
    assert_eq!(roles, BTreeSet::from([Role::Operator]));
    assert_eq!(all, scopes(&[Scope::Read, Scope::Write, Scope::Pairing]));
    assert_eq!(reason, PairReason::RoleUpgrade);
    let Merge::Supersede { roles, scopes: all, .. } = again(&pending, Role::Node, &[Scope::Admin]) else {
        panic!("another role was asked for")
    };
    assert_eq!((roles, all), (BTreeSet::from(Role::ALL), pending.scopes));
}

#[test]
fn room_is_limited_in_all_and_per_address() {
    assert_eq!(check_room(MAX_PENDING - 1, MAX_PENDING_PER_ADDRESS - 1, Some("a")), Ok(()));
    assert_eq!(check_room(MAX_PENDING - 1, MAX_PENDING - 1, None), Ok(()));
    let full = check_room(0, MAX_PENDING_PER_ADDRESS, Some("a")).unwrap_err();
    assert_eq!(full, Full { max: MAX_PENDING_PER_ADDRESS, remote: Some("a".to_owned()) });
    assert_eq!(check_room(MAX_PENDING, 0, Some("a")).unwrap_err().remote, None);
}

fn any_scopes() -> impl Strategy<Value = Scopes> {
    prop::sample::subsequence(Scope::ALL.to_vec(), 0..=Scope::ALL.len()).prop_map(|names| scopes(&names))
}

fn any_role() -> impl Strategy<Value = Role> {
    prop::sample::select(Role::ALL.to_vec())
}

prop_compose! {
    fn any_client()(
        platform in prop::sample::select(vec!["linux", "Linux", "darwin", ""]),
        family in prop::option::of(prop::sample::select(vec!["phone", "desktop"])),
    ) -> ClientInfo {
        let (platform, family) = (platform.to_owned(), family.map(str::to_owned));
        ClientInfo { platform, family, ..device(1).client }
    }
}

prop_compose! {
    fn any_device()(
        client in any_client(),
        roles in prop::sample::subsequence(Role::ALL.to_vec(), 0..=2),
        scopes in any_scopes(),
    ) -> DeviceRow {
        DeviceRow { client, roles: roles.into_iter().collect(), scopes: scopes.normalised(), ..device(1) }
    }
}

fn request(role: Role, scopes: Scopes, client: &ClientInfo) -> PairRequestRow {
    PairRequestRow {
        role,
        roles: BTreeSet::from([role]),
        scopes: scopes_for(role, scopes),
        client: client.clone(),
        ..pair_request(1, 1)
    }
}

proptest! {
    /// What a device was approved for, it may have, and nothing that it had is lost.
    #[test]
    fn an_approved_device_is_admitted(
        known in prop::option::of(any_device()), role in any_role(), scopes in any_scopes(), client in any_client(),
    ) {
        let ask = ask(&client, role, scopes, Vouched::Stranger);
        let Decision::Pend(reason) = decide(&ask, known.as_ref()) else { return Ok(()) };
        let row = approved(known.as_ref(), &request(role, scopes, &client), reason, NOW);
        prop_assert_eq!(decide(&ask, Some(&row)), Decision::Admit(&row));
        prop_assert!(is_settled_by(&request(role, scopes, &client), &row));
        if let Some(known) = known {
            prop_assert!(row.scopes.covers(known.scopes) && row.roles.is_superset(&known.roles));
            prop_assert_eq!(row.created_at, known.created_at);
        }
    }

    /// Nobody is admitted beyond what was approved, and a stranger is never approved.
    #[test]
    fn a_stranger_gets_what_was_approved_or_waits(
        known in prop::option::of(any_device()), role in any_role(), scopes in any_scopes(), client in any_client(),
    ) {
        match decide(&ask(&client, role, scopes, Vouched::Stranger), known.as_ref()) {
            Decision::Admit(known) => {
                prop_assert!(known.roles.contains(&role));
                prop_assert!(role == Role::Node || known.scopes.covers(scopes));
            }
            Decision::Pend(reason) => prop_assert_eq!(reason == PairReason::NotPaired, known.is_none()),
            Decision::Approve(_) => prop_assert!(false, "a stranger was approved"),
        }
    }

    /// However a device asks again and again, its request comes to hold all of it, and grows under a new id only.
    #[test]
    fn a_merged_request_holds_what_both_asked_for(
        first in any_scopes(), second in any_scopes(), roles in (any_role(), any_role()), client in any_client(),
    ) {
        let pending = PairRequestRow { expires_at: NOW + PENDING_TTL, ..request(roles.0, first, &client) };
        let ask = ask(&client, roles.1, second, Vouched::Stranger);
        let (all_roles, all_scopes) = match merge(&pending, &ask, pending.reason, NOW) {
            Merge::Same => (pending.roles.clone(), pending.scopes),
            Merge::Longer => return Err(TestCaseError::fail("it has all its time")),
            Merge::Supersede { roles, scopes, .. } => {
                prop_assert!(roles != pending.roles || !pending.scopes.covers(scopes));
                (roles, scopes)
            }
        };
        prop_assert!(all_roles.contains(&roles.1) && all_roles.is_superset(&pending.roles));
        prop_assert!(all_scopes.covers(scopes_for(roles.1, second)) && all_scopes.covers(pending.scopes));
    }
}
