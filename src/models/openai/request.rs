//! The body of a chat completions request.

use offshoot_actors::ports::{ModelError, ModelErrorKind, ModelRequest, ToolSpec};
use serde::Serialize;
use serde_json::Value;

use crate::models::render::{Message, render};
use crate::models::spec::{MaxTokensField, ModelSpec};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "function")]
struct Tool<'a> {
    function: ToolFunction<'a>,
}

#[derive(Serialize)]
struct ToolFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: Value,
}

impl<'a> Tool<'a> {
    fn new(spec: &'a ToolSpec) -> Result<Self, ModelError> {
        let parameters = serde_json::from_str(&spec.parameters).map_err(|error| {
            ModelError::new(
                ModelErrorKind::BadRequest,
                format!("the parameters of tool {} are no JSON schema: {error}", spec.name),
            )
        })?;
        let function = ToolFunction { name: &spec.name, description: &spec.description, parameters };
        Ok(Self { function })
    }
}

/// The body as JSON. `default_field` bounds the answer where the model does not say which field to use.
pub(super) fn body(
    request: &ModelRequest,
    model: &ModelSpec,
    default_field: MaxTokensField,
) -> Result<Vec<u8>, ModelError> {
    let tools = if model.takes_tools {
        request.tools.iter().map(|spec| Tool::new(spec)).collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    let field = model.max_tokens_field.unwrap_or(default_field);
    let limit = |which| model.max_tokens.filter(|_| field == which);
    let body = Body {
        model: request.model.model(),
        messages: render(request.system.as_deref(), &request.transcript),
        stream: true,
        stream_options: model.streams_usage.then_some(StreamOptions { include_usage: true }),
        tools,
        max_tokens: limit(MaxTokensField::MaxTokens),
        max_completion_tokens: limit(MaxTokensField::MaxCompletionTokens),
    };
    serde_json::to_vec(&body).map_err(|error| {
        ModelError::new(ModelErrorKind::BadRequest, format!("the conversation cannot be encoded: {error}"))
    })
}
