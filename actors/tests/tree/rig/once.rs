//! A panic of one actor on one message.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use offshoot_actors::kit::{Bug, Faults};

use super::{Setup, setup};

/// Counts the messages of each kind, and lets one of them panic.
#[derive(Default)]
pub struct Once {
    pub seen: Mutex<BTreeMap<(&'static str, &'static str), u32>>,
    /// The actor's kind, the message, and which of them panics, from 1.
    at: Mutex<Option<(&'static str, &'static str, u32)>>,
    fired: AtomicBool,
}

impl Once {
    pub fn at(actor: &'static str, message: &'static str, nth: u32) -> Arc<Self> {
        Arc::new(Self { at: Mutex::new(Some((actor, message, nth))), ..Self::default() })
    }

    /// The next message of this kind panics.
    pub fn arm(&self, actor: &'static str, message: &'static str) {
        let seen = self.seen.lock().unwrap().get(&(actor, message)).copied().unwrap_or(0);
        *self.at.lock().unwrap() = Some((actor, message, seen + 1));
        self.fired.store(false, Ordering::SeqCst);
    }

    pub fn fired(&self) -> bool {
        self.fired.load(Ordering::SeqCst)
    }
}

impl Faults for Once {
    fn panics(&self, actor: &'static str, message: &'static str) -> bool {
        let nth = {
            let mut seen = self.seen.lock().unwrap();
            let nth = seen.entry((actor, message)).or_default();
            *nth += 1;
            *nth
        };
        let now = *self.at.lock().unwrap() == Some((actor, message, nth));
        if now {
            self.fired.store(true, Ordering::SeqCst);
        }
        now
    }

    fn has(&self, _: Bug) -> bool {
        false
    }
}

pub fn with(faults: &Arc<Once>) -> Setup {
    let mut setup = setup();
    setup.faults = Some(Arc::clone(faults) as Arc<dyn Faults>);
    setup
}
