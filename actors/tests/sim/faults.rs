//! Panics in actors, and the mistake that a test puts in on purpose.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Once};

use offshoot_actors::kit::{Bug, Faults};

use super::history::{History, What};
use super::random::Random;
use super::scenario::Life;

/// In the text of every panic that is meant.
pub const ON_PURPOSE: &str = "on purpose";

/// More than any process here has work for.
const MOST_MESSAGES: u64 = 200_000;

struct State {
    random: Random,
    left: BTreeMap<&'static str, (u64, u32)>,
    on: bool,
    messages: u64,
}

pub struct SimFaults {
    state: Mutex<State>,
    /// Who goes first, and the chance in a hundred that somebody lets others do so.
    order: Mutex<Random>,
    yields: u64,
    bug: Option<Bug>,
    history: Arc<History>,
    trace: bool,
}

impl SimFaults {
    pub fn new(life: &Life, bug: Option<Bug>, history: Arc<History>, mut random: Random) -> Self {
        let plan = &life.faults;
        Self {
            order: Mutex::new(Random::new(random.next())),
            yields: life.yields,
            state: Mutex::new(State { random, left: plan.panics.clone(), on: true, messages: 0 }),
            bug,
            history,
            trace: std::env::var_os("SIM_TRACE").is_some(),
        }
    }

    /// From now on nothing panics.
    pub fn end(&self) {
        self.state.lock().unwrap().on = false;
    }
}

impl Faults for SimFaults {
    fn panics(&self, actor: &'static str, message: &'static str) -> bool {
        let panics = {
            let mut state = self.state.lock().unwrap();
            state.messages += 1;
            if state.messages > MOST_MESSAGES {
                if state.messages == MOST_MESSAGES + 1 {
                    let text = format!("actors send each other messages without end, the last is {message}");
                    self.history.note(What::Broken(text));
                }
                // The only way out of a loop that takes no time.
                return true;
            }
            let roll = state.random.below(1_000);
            let on = state.on;
            match state.left.get_mut(actor) {
                Some((chance, left)) if on && *left > 0 && roll < *chance => {
                    *left -= 1;
                    true
                }
                _ => false,
            }
        };
        if panics {
            self.history.note(What::Panic { actor, message });
        } else if self.trace {
            self.history.note(What::Handled { actor, message });
        }
        panics
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn yields(&self, _: &'static str, _: &'static str) -> u32 {
        let mut order = self.order.lock().unwrap();
        if order.percent(self.yields) { order.between(1, 6) } else { 0 }
    }
}

/// Keeps the panics that are meant out of the output.
pub fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let text = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or_default();
            let meant = text.contains(ON_PURPOSE) || text.starts_with("injected fault");
            // A failed check quotes the history, and with it such texts.
            if !meant || text.contains("breaks:") {
                others(info);
            }
        }));
    });
}
