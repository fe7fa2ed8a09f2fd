"""What OpenAI's own Python SDK sees of a gateway: sdk.py URL TOKEN. One JSON document about it on standard output."""

import json
import sys

from openai import OpenAI, AuthenticationError

url, token = sys.argv[1:]
client = OpenAI(base_url=url, api_key=token, max_retries=0, timeout=30)

chunks = list(client.chat.completions.create(
    model="openclaw/slow",
    messages=[{"role": "user", "content": "Count your words."}],
    stream=True,
    stream_options={"include_usage": True},
))
whole = client.chat.completions.create(
    model="openclaw", messages=[{"role": "user", "content": "Reply with exactly: whole"}]
)
response = client.responses.create(model="openclaw", input="Reply with exactly: answered")
events = [event.type for event in client.responses.create(
    model="openclaw/slow", input="Count your words.", stream=True
)]
try:
    OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list()
    refused = None
except AuthenticationError as error:
    refused = error.status_code

json.dump({
    "models": [model.id for model in client.models.list()],
    "pieces": [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content],
    "finish": [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1],
    "usage": chunks[-1].usage is not None and chunks[-1].usage.total_tokens > 0,
    "whole": whole.choices[0].message.content,
    "response": response.output_text,
    "events": events,
    "refused": refused,
}, sys.stdout)
