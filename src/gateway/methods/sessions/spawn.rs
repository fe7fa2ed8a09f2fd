//! `sessions.spawn`: a sub-agent on behalf of a session, asked for by a client.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::types::IdempotencyKey;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::call::refused;
use super::super::target;
use super::super::{Answer, Call, answer};
use crate::gateway::events::raw;
use crate::gateway::traces::Asking;
use crate::protocol::error::ErrorShape;
use crate::tools::sessions_spawn;

pub(super) fn spawn(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let mut params: Map<String, Value> = call.params()?;
        let invalid =
            |problem: &str| ErrorShape::invalid(format!("invalid {} params: {problem}", call.method));
        let mut text = |name: &str| match params.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(&format!("at /{name}: must be a string"))),
        };
        let (key, idempotency) = (text("key")?, text("idempotencyKey")?);
        let asking = Asking::new(&call.daemon.traces, text("traceparent")?.as_deref());
        let tree = call.daemon.tree()?;
        let parent = target::any_session(call.method, &tree.settings(), None, key.as_deref())?;
        let (mut request, shape) =
            sessions_spawn::request(parent.clone(), params).map_err(|problem| invalid(&problem))?;
        request.idempotency = idempotency.map(|key| IdempotencyKey { key, may_repeat: true });
        let pending = asking.begin();
        let accepted = tree.spawn(request, call.origin()).await.map_err(|refusal| refused(&refusal))?;
        pending.started(accepted.run, &parent, false);
        let mut out: BTreeMap<String, Box<RawValue>> = BTreeMap::from([("key".to_owned(), raw(&parent))]);
        if let Value::Object(members) = shape(&accepted) {
            out.extend(members.into_iter().map(|(name, value)| (name, raw(&value))));
        }
        if let Some(traceparent) = asking.traceparent() {
            out.insert("traceparent".to_owned(), raw(&traceparent));
        }
        answer(&out)
    }
    .boxed()
}
