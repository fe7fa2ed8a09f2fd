//! Panics of actors on some of their messages, mostly one on one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use offshoot_actors::kit::{Bug, Faults};

use super::{Setup, setup};

/// Counts the messages of each kind, and lets some of them panic.
#[derive(Default)]
pub struct Once {
    pub seen: Mutex<BTreeMap<(&'static str, &'static str), u32>>,
    /// The actor's kind, the message, and which of them panics, from 1.
    at: Mutex<BTreeSet<(&'static str, &'static str, u32)>>,
    fired: AtomicBool,
}

impl Once {
    pub fn at(actor: &'static str, message: &'static str, nth: u32) -> Arc<Self> {
        Arc::new(Self { at: Mutex::new(BTreeSet::from([(actor, message, nth)])), ..Self::default() })
    }

    /// The next message of this kind panics.
    pub fn arm(&self, actor: &'static str, message: &'static str) {
        self.at.lock().unwrap().clear();
        self.arm_too(actor, message, 1);
    }

    /// So many next messages of this kind panic besides.
    pub fn arm_too(&self, actor: &'static str, message: &'static str, times: u32) {
        let seen = self.seen.lock().unwrap().get(&(actor, message)).copied().unwrap_or(0);
        self.at.lock().unwrap().extend((1..=times).map(|nth| (actor, message, seen + nth)));
        self.fired.store(false, Ordering::SeqCst);
    }

    /// Whether all that were armed have panicked.
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
        let mut at = self.at.lock().unwrap();
        let now = at.remove(&(actor, message, nth));
        if now && at.is_empty() {
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
