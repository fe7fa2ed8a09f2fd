//! Tools that spawn, wait, take long, fail, panic, and meddle with other runs.

use std::sync::Arc;

use offshoot_actors::ports::{BoxFuture, Clock, Effect, ToolContext, ToolOutput, ToolSpec, Tools};
use offshoot_actors::types::{Origin, ToolCall, ToolStatus};

use super::history::{Ask, Heard};
use super::random::{Random, number_of};
use super::world::World;

/// The tools that may be repeated after a crash.
pub const IDEMPOTENT: [&str; 3] = ["yield", "sleep", "note"];

pub struct SimTools {
    world: Arc<World>,
    clock: Arc<dyn Clock>,
    catalog: Vec<Arc<ToolSpec>>,
}

impl SimTools {
    pub fn new(world: Arc<World>, clock: Arc<dyn Clock>) -> Self {
        let spec = |name: &str, parallel| {
            Arc::new(ToolSpec {
                name: name.into(),
                description: "".into(),
                parameters: "{}".into(),
                parallel,
                idempotent: IDEMPOTENT.contains(&name),
                yields: name == "yield",
                groups: &[],
            })
        };
        let catalog = vec![
            spec("spawn", true),
            spec("yield", false),
            spec("sleep", true),
            spec("slow", false),
            spec("note", true),
            spec("fail", true),
            spec("cancel", true),
            spec("steer", false),
            spec("boom", false),
        ];
        Self { world, clock, catalog }
    }
}

impl Tools for SimTools {
    fn catalog(&self) -> &[Arc<ToolSpec>] {
        &self.catalog
    }

    fn call(&self, context: ToolContext, call: ToolCall) -> BoxFuture<ToolOutput> {
        let (world, clock) = (Arc::clone(&self.world), Arc::clone(&self.clock));
        Box::pin(async move {
            let _began = world.history.tool_began(&context, &call);
            let run = number_of(&context.run.to_string());
            let seed = world.scenario.seed;
            let mut random = Random::of(&[seed, 3, run, context.step.into(), number_of(&call.id)]);
            carry_out(&world, &*clock, &context, &call.name, &mut random).await
        })
    }
}

async fn carry_out(
    world: &World,
    clock: &dyn Clock,
    context: &ToolContext,
    name: &str,
    random: &mut Random,
) -> ToolOutput {
    match name {
        "spawn" => {
            let origin = Origin::Agent { session: context.session.clone(), run: context.run };
            let request = world.spawn_request(context.session.clone(), random);
            match world.request(&context.tree, Ask::Spawn(request, origin)).await {
                Heard::Spawned(accepted) => ToolOutput::ok(format!("accepted {}", accepted.run)),
                other => ToolOutput::ok(format!("{other:?}")),
            }
        }
        "yield" => ToolOutput { text: "waits".to_owned(), status: ToolStatus::Ok, effect: Effect::Yield },
        "sleep" => {
            clock.sleep(random.millis(0, 3_000)).await;
            ToolOutput::ok("slept")
        }
        "slow" => {
            clock.sleep(random.millis(1_000, 60_000)).await;
            ToolOutput::ok("done at last")
        }
        "fail" => ToolOutput::error("it fails"),
        "cancel" => match world.run(random) {
            Some(run) => {
                ToolOutput::ok(format!("{:?}", world.request(&context.tree, Ask::Cancel(run)).await))
            }
            None => ToolOutput::ok("there is nothing"),
        },
        "steer" => {
            let session = world.any_session(random);
            let origin = Origin::Agent { session: context.session.clone(), run: context.run };
            let ask = Ask::Steer(session, "steered by a tool".to_owned(), origin);
            ToolOutput::ok(format!("{:?}", world.request(&context.tree, ask).await))
        }
        "boom" => panic!("the tool panics {}", super::faults::ON_PURPOSE),
        _ => ToolOutput::ok("noted"),
    }
}
