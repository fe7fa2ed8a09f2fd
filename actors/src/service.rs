//! Further children of the root: actors of the program that embeds the tree.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::kit::{Behaviour, ChildSpec, Ctx, StartError};
use crate::root::{Root, RootChild};
use crate::shared::Shared;
use crate::tree::TreeHandle;

type Start = dyn Fn(RootChild, &mut Ctx<Root>, &Arc<Shared>) -> Result<(), StartError> + Send + Sync;

/// An actor that the root starts after its own children, in the order in which services are given, and stops before
/// them. It is restarted like them; should its first start fail, the tree does not start.
#[derive(Clone)]
pub struct Service {
    name: Arc<str>,
    start: Arc<Start>,
}

impl Service {
    /// A service that runs `B`. `stop_within` is the time that it and its children may take to stop; `args` makes what a
    /// start needs, at the first one and at each restart.
    pub fn new<B: Behaviour>(
        name: &str,
        stop_within: Duration,
        args: impl Fn(&TreeHandle) -> B::Args + Send + Sync + 'static,
    ) -> Self {
        let name: Arc<str> = name.into();
        let actor = Arc::clone(&name);
        let start = move |child, ctx: &mut Ctx<Root>, shared: &Arc<Shared>| {
            let spec = ChildSpec::in_order(stop_within);
            ctx.spawn::<B>(child, Arc::clone(&actor), spec, args(&TreeHandle::of(shared))).map(drop)
        };
        Self { name, start: Arc::new(start) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn start(
        &self,
        child: RootChild,
        ctx: &mut Ctx<Root>,
        shared: &Arc<Shared>,
    ) -> Result<(), StartError> {
        (self.start)(child, ctx, shared)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("name", &self.name).finish_non_exhaustive()
    }
}
