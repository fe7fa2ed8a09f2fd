//! Providers that speak the chat completions protocol of OpenAI, which most others speak too.
//!
//! One call is one request. Its answer is read piece by piece: bytes become events (`sse`, `read`), events become
//! chunks (`chunk`), chunks become the answer (`collect`), and whatever goes wrong becomes a kind and a
//! sentence (`error`). Dropping the call's future drops the connection with it.
//!
//! Everything that comes from the provider is bounded: the size of an event, of the text and arguments, of
//! an error's body, of the whole stream, the number of tool calls, and the time without a byte.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt as _;
use offshoot_actors::ports::{Answer, BoxFuture, Clock, ModelError, ModelRequest, ModelSink};
use offshoot_actors::types::ModelRef;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Response, Url};
use secrecy::SecretString;

use self::error::Reporter;
use self::read::Reader;
use super::spec::{MaxTokensField, ModelSpec, ProviderSpec, SpecError};
use super::{Provider, TRACEPARENT};

mod chunk;
mod collect;
mod endpoint;
mod error;
mod read;
mod request;
mod sse;

/// An error's body; people read only its first line.
const MAX_ERROR_BODY: usize = 16 << 10;
/// For the whole of an error's body.
const MAX_ERROR_WAIT: Duration = Duration::from_secs(5);
/// How long to wait for usage and the end after the provider said why it stopped.
const MAX_EPILOGUE: Duration = Duration::from_secs(10);
/// Connections kept open for the next call.
const MAX_IDLE_CONNECTIONS: usize = 32;

/// Makes a provider of this kind, without opening anything.
pub(super) fn make(spec: ProviderSpec, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Provider>, SpecError> {
    Ok(Arc::new(OpenAi(Arc::new(Inner::new(spec, Arc::clone(clock))?))))
}

struct OpenAi(Arc<Inner>);

impl Provider for OpenAi {
    fn check(&self, _: &ModelRef) -> Result<(), ModelError> {
        Ok(())
    }

    fn call(&self, request: ModelRequest, sink: Arc<dyn ModelSink>) -> BoxFuture<Result<Answer, ModelError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            match inner.request_timeout {
                Some(limit) => tokio::time::timeout(limit, inner.call(request, &*sink))
                    .await
                    .unwrap_or_else(|_| Err(inner.report.too_slow(limit))),
                None => inner.call(request, &*sink).await,
            }
        })
    }
}

struct Inner {
    url: Url,
    headers: HeaderMap,
    models: Vec<ModelSpec>,
    default_field: MaxTokensField,
    connect_timeout: Duration,
    stall_timeout: Duration,
    request_timeout: Option<Duration>,
    report: Reporter,
    clock: Arc<dyn Clock>,
    /// Made at the first call: its certificates cost milliseconds that a start should not pay for.
    client: OnceLock<Client>,
}

impl Inner {
    fn new(spec: ProviderSpec, clock: Arc<dyn Clock>) -> Result<Self, SpecError> {
        let url = endpoint::url(&spec)?;
        let headers = endpoint::headers(&spec)?;
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let default_field = if url.host_str() == Some("api.openai.com") {
            MaxTokensField::MaxCompletionTokens
        } else {
            MaxTokensField::MaxTokens
        };
        let password = url.password().map(SecretString::from);
        let headers_secrets =
            spec.headers.iter().flat_map(|(name, value)| error::secrets_of_header(name, value));
        let secrets = spec.api_key.into_iter().chain(headers_secrets);
        Ok(Self {
            report: Reporter::new(spec.id, host, secrets.chain(password)),
            url,
            headers,
            models: spec.models,
            default_field,
            connect_timeout: spec.connect_timeout,
            stall_timeout: spec.stall_timeout,
            request_timeout: spec.request_timeout,
            clock,
            client: OnceLock::new(),
        })
    }

    fn client(&self) -> Result<&Client, ModelError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let mut builder = Client::builder()
            .user_agent(concat!("offshoot/", env!("CARGO_PKG_VERSION")))
            // A redirected request would carry the key to wherever the answer points.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.connect_timeout)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS);
        // The environment's proxies serve the world outside; this machine is not behind them.
        if endpoint::is_loopback(&self.url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| self.report.client(&error))?;
        Ok(self.client.get_or_init(|| client))
    }

    async fn call(&self, request: ModelRequest, sink: &dyn ModelSink) -> Result<Answer, ModelError> {
        let step = request.step;
        let send =
            self.client()?.post(self.url.clone()).headers(self.headers.clone()).body(self.body(&request)?);
        let send = match TRACEPARENT.try_with(|traceparent| HeaderValue::from_str(traceparent)) {
            Ok(Ok(traceparent)) => send.header("traceparent", traceparent),
            _ => send,
        };
        // The conversation may be large and the answer slow.
        drop(request);
        let limit = self.connect_timeout.saturating_add(self.stall_timeout);
        let response = match tokio::time::timeout(limit, send.send()).await {
            Ok(sent) => sent.map_err(|error| self.report.network(&error))?,
            Err(_) => return Err(self.report.stalled(self.stall_timeout)),
        };
        if response.status().is_success() {
            self.read(response, step, sink).await
        } else {
            Err(self.refused(response).await)
        }
    }

    fn body(&self, request: &ModelRequest) -> Result<Vec<u8>, ModelError> {
        let usual;
        let model = match self.models.iter().find(|model| model.id == request.model.model()) {
            Some(model) => model,
            None => {
                usual = ModelSpec::new(request.model.model());
                &usual
            }
        };
        request::body(request, model, self.default_field)
    }

    /// Reads an answer. Some servers do not stream although they are asked to; their answer is an object.
    async fn read(
        &self,
        mut response: Response,
        step: u32,
        sink: &dyn ModelSink,
    ) -> Result<Answer, ModelError> {
        let mut reader = Reader::new();
        loop {
            let limit =
                if reader.is_finished() { self.stall_timeout.min(MAX_EPILOGUE) } else { self.stall_timeout };
            match self.next(&mut response, limit).await {
                Ok(Some(bytes)) => reader.take(bytes.as_ref(), &self.report, sink)?,
                Ok(None) => break,
                // The provider has said everything; how it hangs up does not matter.
                Err(_) if reader.is_finished() => break,
                Err(error) => return Err(error),
            }
            if reader.is_done() {
                // If the end is here already, the connection can serve the next call.
                let _ = response.chunk().now_or_never();
                break;
            }
        }
        reader.finish(step, &self.report, sink)
    }

    /// The next bytes of an answer within `limit`, none at its end.
    async fn next(
        &self,
        response: &mut Response,
        limit: Duration,
    ) -> Result<Option<impl AsRef<[u8]> + use<>>, ModelError> {
        match tokio::time::timeout(limit, response.chunk()).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(_)) => Err(self.report.cut()),
            Err(_) => Err(self.report.stalled(limit)),
        }
    }

    async fn refused(&self, mut response: Response) -> ModelError {
        let mut body = Vec::new();
        // The status says enough if the rest does not come.
        let all = tokio::time::timeout(MAX_ERROR_WAIT, async {
            while body.len() <= MAX_ERROR_BODY {
                match response.chunk().await {
                    Ok(Some(bytes)) => body.extend_from_slice(&bytes),
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            }
            false
        });
        let complete = all.await.unwrap_or(false);
        body.truncate(MAX_ERROR_BODY);
        self.report.status(response.status(), response.headers(), &body, complete, self.clock.now())
    }
}
