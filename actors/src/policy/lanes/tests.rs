use proptest::prelude::*;

use super::*;

fn drain<K: Ord + Clone, T>(queue: &mut FairQueue<K, T>) -> Vec<T> {
    std::iter::from_fn(|| queue.pop()).collect()
}

#[test]
fn one_key_with_many_waiters_does_not_starve_another_with_one() {
    let mut queue = FairQueue::new();
    for child in 0..500 {
        queue.push("big", false, ("big", child));
    }
    queue.push("small", false, ("small", 0));
    let served = drain(&mut queue);
    assert_eq!(served[0], ("big", 0));
    assert_eq!(served[1], ("small", 0));
    assert_eq!(served.len(), 501);
}

#[test]
fn resumed_waiters_go_first_in_their_order() {
    let mut queue = FairQueue::new();
    queue.push("a", false, 1);
    queue.push("a", true, 2);
    queue.push("b", true, 3);
    assert_eq!(drain(&mut queue), [2, 3, 1]);
}

#[test]
fn a_key_that_comes_back_stands_at_the_end() {
    let mut queue = FairQueue::new();
    queue.push("a", false, "a1");
    queue.push("b", false, "b1");
    queue.push("c", false, "c1");
    assert_eq!(queue.pop(), Some("a1"));
    queue.push("a", false, "a2");
    assert_eq!(drain(&mut queue), ["b1", "c1", "a2"]);
}

#[test]
fn a_ticket_takes_its_waiter_once() {
    let mut queue = FairQueue::new();
    let first = queue.push("a", false, 1);
    let second = queue.push("a", false, 2);
    let resumed = queue.push("a", true, 3);
    assert_eq!(queue.take(&first), Some(1));
    assert_eq!(queue.take(&first), None);
    assert_eq!(queue.take(&resumed), Some(3));
    assert_eq!(queue.take(&resumed), None);
    assert_eq!(queue.pop(), Some(2));
    assert_eq!(queue.take(&second), None);
    assert!(queue.is_empty());
}

proptest! {
    #[test]
    fn the_order_can_be_told_without_the_queue(steps in prop::collection::vec((0..5_u8, any::<bool>(), 0..4_u8), 1..60)) {
        let (mut queue, mut tickets) = (FairQueue::new(), Vec::new());
        for (number, (key, resume, what)) in steps.into_iter().enumerate() {
            match what {
                0 => {
                    if let Some(served) = queue.pop() {
                        tickets.retain(|(_, waiter)| *waiter != served);
                    }
                }
                1 if !tickets.is_empty() => {
                    let (ticket, _) = tickets.remove(number % tickets.len());
                    queue.take(&ticket);
                }
                _ => tickets.push((queue.push(key, resume, number), number)),
            }
        }
        let told = order(tickets, |key| queue.turn(key));
        prop_assert_eq!(told, drain(&mut queue));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push { key: u8, resume: bool },
    Pop,
    Take(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u8..5, prop::bool::weighted(0.2)).prop_map(|(key, resume)| Step::Push { key, resume }),
        2 => Just(Step::Pop),
        2 => (0_usize..200).prop_map(Step::Take),
    ];
    prop::collection::vec(step, 0..200)
}

/// A waiter as the tests see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Waiter {
    id: usize,
    key: u8,
    resume: bool,
}

proptest! {
    #[test]
    fn nobody_is_lost_or_served_twice(steps in steps()) {
        let mut queue = FairQueue::new();
        let mut tickets = Vec::new();
        let mut inside = std::collections::BTreeSet::new();
        for step in steps {
            let gone = match step {
                Step::Push { key, resume } => {
                    let waiter = Waiter { id: tickets.len(), key, resume };
                    tickets.push(queue.push(key, resume, waiter));
                    inside.insert(waiter);
                    continue;
                }
                Step::Pop => {
                    let served = queue.pop();
                    prop_assert_eq!(served.is_none(), inside.is_empty());
                    served
                }
                Step::Take(id) => {
                    let taken = tickets.get(id).and_then(|ticket| queue.take(ticket));
                    prop_assert_eq!(taken, inside.iter().find(|waiter| waiter.id == id).copied());
                    taken
                }
            };
            if let Some(waiter) = gone {
                prop_assert!(inside.remove(&waiter));
            }
            prop_assert_eq!(queue.len(), inside.len());
        }
        let rest: std::collections::BTreeSet<Waiter> = drain(&mut queue).into_iter().collect();
        prop_assert_eq!(rest, inside);
        prop_assert!(queue.is_empty() && queue.turns.is_empty() && queue.waiting.is_empty());
    }

    #[test]
    fn oldest_first_within_a_key_and_resumed_before_new(steps in steps()) {
        let mut queue = FairQueue::new();
        let mut tickets = Vec::new();
        let mut inside = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Push { key, resume } => {
                    let waiter = Waiter { id: tickets.len(), key, resume };
                    tickets.push(queue.push(key, resume, waiter));
                    inside.insert(waiter);
                }
                Step::Pop => {
                    let Some(served) = queue.pop() else { continue };
                    inside.remove(&served);
                    let before = |other: &&Waiter| {
                        other.id < served.id && (other.key == served.key || served.resume)
                            && other.resume == served.resume
                    };
                    prop_assert_eq!(inside.iter().find(before), None);
                    prop_assert!(served.resume || !inside.iter().any(|other| other.resume));
                }
                Step::Take(id) => {
                    if let Some(taken) = tickets.get(id).and_then(|ticket| queue.take(ticket)) {
                        inside.remove(&taken);
                    }
                }
            }
        }
    }

    #[test]
    fn keys_that_wait_together_are_served_evenly(
        counts in prop::collection::vec(1_usize..40, 2..6),
        late in prop::collection::vec((0_u8..6, 0_usize..60), 0..30),
    ) {
        let mut queue = FairQueue::new();
        for (key, count) in (0_u8..).zip(&counts) {
            for _ in 0..*count {
                queue.push(key, false, key);
            }
        }
        // Times served since a pair of keys began to wait together.
        let mut together: BTreeMap<(u8, u8), (usize, usize)> = BTreeMap::new();
        let mut time = 0;
        while !queue.is_empty() {
            for (key, _) in late.iter().filter(|(_, at)| *at == time) {
                queue.push(*key, false, *key);
            }
            time += 1;
            let waiting: Vec<u8> = queue.waiting.keys().copied().collect();
            together.retain(|(a, b), _| waiting.contains(a) && waiting.contains(b));
            for (index, a) in waiting.iter().enumerate() {
                for b in &waiting[index + 1..] {
                    together.entry((*a, *b)).or_default();
                }
            }
            let served = queue.pop();
            for ((a, b), (of_a, of_b)) in &mut together {
                *of_a += usize::from(served == Some(*a));
                *of_b += usize::from(served == Some(*b));
                prop_assert!(of_a.abs_diff(*of_b) <= 1, "{a}: {of_a}, {b}: {of_b}");
            }
        }
    }
}
