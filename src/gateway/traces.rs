//! Traces as the gateway takes and gives them. A build without OTLP has none.

#[cfg(feature = "otlp")]
pub(crate) use crate::otlp::{Asking, Traces};

#[cfg(not(feature = "otlp"))]
pub(crate) use self::absent::{Asking, Traces};

#[cfg(not(feature = "otlp"))]
mod absent {
    use std::sync::Arc;
    use std::time::Duration;

    use offshoot_actors::ports::{Clock, Event};
    use offshoot_actors::types::{RunId, SessionKey};

    use crate::config::Otel;

    #[derive(Debug)]
    pub(crate) struct Traces;

    impl Traces {
        pub(crate) fn new(_: Arc<dyn Clock>, _: Option<Arc<Otel>>) -> Self {
            Self
        }

        pub(crate) fn configure(&self, _: Option<Arc<Otel>>) {}

        pub(crate) fn hear(&self, _: &Event) {}

        pub(crate) async fn flush(&self, _: Duration) {}

        pub(crate) fn traceparent(&self, _: RunId, _: &SessionKey) -> Option<String> {
            None
        }

        pub(crate) fn for_provider(&self, _: RunId, _: &SessionKey) -> Option<String> {
            None
        }
    }

    /// A request that may start a run.
    #[derive(Debug)]
    pub(crate) struct Asking;

    /// A request that is about to start a run.
    #[derive(Debug)]
    pub(crate) struct Pending;

    impl Asking {
        pub(crate) fn new(_: &Arc<Traces>, _: Option<&str>) -> Arc<Self> {
            Arc::new(Self)
        }

        pub(crate) fn begin(self: &Arc<Self>) -> Pending {
            Pending
        }

        pub(crate) fn traceparent(&self) -> Option<String> {
            None
        }
    }

    impl Pending {
        pub(crate) fn started(self, _: RunId, _: &SessionKey, _: bool) {}
    }
}
