use proptest::prelude::*;

use super::*;

const IDS: [&str; 4] = ["main", "b", "c", "ghost"];

fn any_list() -> impl Strategy<Value = Option<AllowAgents>> {
    prop_oneof![
        Just(None),
        Just(Some(AllowAgents::Any)),
        prop::sample::subsequence(IDS.to_vec(), 0..=IDS.len()).prop_map(|ids| only(&ids)),
    ]
}

fn any_rules() -> impl Strategy<Value = ToolRules> {
    let patterns = || {
        prop::collection::vec(
            prop::sample::select(vec!["*", "sessions_*", "read", "agents_list"]).prop_map(str::to_owned),
            0..3,
        )
    };
    (patterns(), patterns()).prop_map(|(allow, deny)| ToolRules { allow, deny, ..ToolRules::default() })
}

prop_compose! {
    fn any_case()(
        id in prop::option::of(prop::sample::select(vec!["main", "b", "b", "c", "c", "ghost", "b@d", " "])),
        model in prop::option::weighted(0.3, prop::sample::select(vec!["fast", "p/x", "gone", "odd", ""])),
        task in prop_oneof![8 => Just("Do it"), 1 => Just(" "), 1 => Just("A task that is too long")],
        label in prop_oneof![8 => Just(Some("l")), 1 => Just(Some("A label that is too long")), 1 => Just(None)],
        seconds in prop_oneof![4 => Just(None), 4 => Just(Some(0)), 4 => Just(Some(1)), 1 => Just(Some(u64::MAX))],
        session: bool,
        lists in (any_list(), any_list()),
        limits in (1_u32..4, 1_u32..4, 1_u32..6),
        counters in (0_u32..4, 0_u32..4),
        depth in prop_oneof![3 => Just(0_u32), 2 => 0_u32..5],
        flags in (prop::bool::weighted(0.2), any::<bool>(), prop::bool::weighted(0.1)),
        rules in (any_rules(), any_rules(), any_rules()),
        held in prop::sample::subsequence(vec!["sessions_spawn", "subagents", "agents_list", "read"], 0..=4),
    ) -> Case {
        let mut case = Case::new(&["b", "c"]);
        case.request.agent = id.map(str::to_owned);
        case.request.model = model.map(str::to_owned);
        case.request.task = task.to_owned();
        case.request.label = label.map(str::to_owned);
        case.request.timeout = seconds.map(Duration::from_secs);
        case.request.mode = if session { Mode::Session } else { Mode::Run };
        case.settings.subagents.allow_agents = lists.0;
        (case.settings.subagents.max_children, case.settings.subagents.max_depth,
            case.settings.subagents.max_descendants) = limits;
        case.settings.prompts.max_text = 10;
        case.settings.prompts.max_label = 10;
        case.settings.subagents.require_agent_id = flags.0;
        case.settings.tools = rules.0;
        case.settings.subagents.tools = rules.1;
        edit(&mut case.settings, "main", |main| main.subagents.allow_agents = lists.1);
        edit(&mut case.settings, "b", |b| b.tools = rules.2);
        case.active_model = flags.1.then(|| choice("p/active"));
        case.stopping = flags.2;
        case.counters = Counters { children: counters.0, descendants: counters.1 };
        case.depth = depth;
        case.tools = held.into_iter().map(Arc::from).collect();
        case
    }
}

/// A list that allows at least as much.
fn wider(list: &Option<AllowAgents>, more: &[&str]) -> Option<AllowAgents> {
    match list {
        None => Some(AllowAgents::Only(with_main(more))),
        Some(AllowAgents::Any) => Some(AllowAgents::Any),
        Some(AllowAgents::Only(ids)) => {
            let mut ids = ids.clone();
            ids.extend(more.iter().map(|id| agent_id(id)));
            Some(AllowAgents::Only(ids))
        }
    }
}

fn with_main(more: &[&str]) -> Vec<AgentId> {
    more.iter().copied().chain(["main"]).map(agent_id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_is_admitted_is_within_every_limit(case in any_case()) {
        let subagents = &case.settings.subagents;
        match case.admit() {
            Ok(admitted) => {
                prop_assert!(admitted.depth <= subagents.max_depth);
                prop_assert!(case.counters.children < subagents.max_children);
                prop_assert!(case.counters.descendants < subagents.max_descendants);
                prop_assert!(!case.stopping);
                prop_assert!(!admitted.task.is_empty() && admitted.task.len() <= 10);
                prop_assert!(admitted.label.is_none_or(|label| !label.is_empty() && label.len() <= 10));
                prop_assert!(admitted.timeout.is_none_or(|timeout| timeout <= MAX_TIMEOUT && !timeout.is_zero()));
                prop_assert!(admitted.mode == Mode::Run || admitted.cleanup == Cleanup::Keep);
                prop_assert!(case.settings.agents.contains_key(&admitted.agent));
                let (allowed, _) = targets(&case.settings, &case.agent);
                prop_assert!(admitted.agent == case.agent || allowed.contains(&admitted.agent));
                let own = case.settings.agent(&admitted.agent).map(Arc::as_ref);
                let policy = effective(&catalog(), &case.settings, own, Role::Main, None);
                for tool in admitted.tools.iter() {
                    prop_assert!(case.tools.contains(tool), "the parent lacks {tool}");
                    prop_assert!(policy.contains(tool), "the agent lacks {tool}");
                }
            }
            Err(refusal) => {
                prop_assert!(!refusal.code.is_empty() && !refusal.message.is_empty());
                prop_assert!(refusal.hint.is_some_and(|hint| !hint.is_empty()));
            }
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer(case in any_case()) {
        prop_assert_eq!(case.admit(), case.admit());
    }

    #[test]
    fn a_wider_list_never_refuses_what_a_narrower_one_admits(
        mut case in any_case(),
        more in prop::sample::subsequence(IDS.to_vec(), 0..=IDS.len()),
        all: bool,
        own: bool,
    ) {
        let before = case.admit();
        let list = if own {
            case.settings.agents[&case.agent].subagents.allow_agents.clone()
        } else {
            case.settings.subagents.allow_agents.clone()
        };
        // Setting an agent's own list for the first time hides the default, which may have been wider.
        prop_assume!(!own || list.is_some());
        let list = if all { Some(AllowAgents::Any) } else { wider(&list, &more) };
        if own {
            edit(&mut case.settings, "main", |main| main.subagents.allow_agents = list);
        } else {
            case.settings.subagents.allow_agents = list;
        }
        if let Ok(before) = before {
            prop_assert_eq!(case.admit(), Ok(before));
        }
    }

    #[test]
    fn no_sequence_of_spawns_passes_a_cap(
        max_children in 1_u32..5,
        max_descendants in 1_u32..12,
        parents in prop::collection::vec(0_usize..20, 0..60),
    ) {
        let mut case = Case::new(&[]);
        case.settings.subagents.max_children = max_children;
        case.settings.subagents.max_descendants = max_descendants;
        case.settings.subagents.max_depth = 3;
        // Depth and number of children of each session, the root first.
        let mut sessions = vec![(0, 0)];
        for parent in parents {
            let index = parent % sessions.len();
            (case.depth, case.counters.children) = sessions[index];
            case.counters.descendants = u32::try_from(sessions.len() - 1).unwrap();
            if let Ok(child) = case.admit() {
                sessions[index].1 += 1;
                sessions.push((child.depth, 0));
            }
        }
        prop_assert!(sessions.len() <= max_descendants as usize + 1);
        prop_assert!(sessions.iter().all(|(depth, children)| *depth <= 3 && *children <= max_children));
    }
}
