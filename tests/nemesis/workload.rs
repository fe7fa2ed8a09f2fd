//! Clients that ask for runs and sub-agents, ask again where no answer came, and write down what they saw.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::client::{Client, Gone};
use crate::dice::Dice;
use crate::history::{Event, History, Run};
use crate::plan::Plan;

/// Requests of one client whose end it has not heard of.
const OPEN: usize = 6;
/// Requests to one session before the client goes on to another, so that conversations stay short.
const PER_SESSION: u64 = 10;
/// Finished requests that a client remembers, to send some of them again.
const REMEMBERED: usize = 20;

/// Where the gateway is, if it runs.
pub type Address = watch::Receiver<Option<SocketAddr>>;

#[derive(Clone)]
struct Request {
    key: String,
    method: &'static str,
    params: Value,
}

pub struct Worker {
    number: u64,
    dice: Dice,
    history: History,
    asked: u64,
    /// Pauses between two requests, in milliseconds, at most.
    pause: u64,
    /// Requests without an answer.
    unknown: VecDeque<Request>,
    done: VecDeque<Request>,
    /// Whether the current session exists for certain.
    session: (String, bool),
}

impl Worker {
    pub fn new(number: u64, seed: u64, pause: u64, history: History) -> Self {
        let dice = Dice::of(seed, 100 + number);
        let (unknown, done) = Default::default();
        Self { number, dice, history, asked: 0, pause, unknown, done, session: Default::default() }
    }

    /// Until it is told to stop.
    pub async fn work(mut self, mut address: Address, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.connections(&mut address) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        // A request that was cut off by the stop is not answered any more.
        if let Some(request) = self.unknown.back() {
            self.history.push(Event::Unknown { key: request.key.clone() });
        }
    }

    async fn connections(&mut self, address: &mut Address) {
        loop {
            let Ok(now) = address.wait_for(Option::is_some).await.map(|now| now.unwrap()) else { return };
            if let Ok(client) = Client::connect(now).await {
                // It went away; the next one is asked.
                _ = self.requests(client).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn requests(&mut self, mut client: Client) -> Result<(), Gone> {
        let mut open: BTreeMap<String, String> = BTreeMap::new();
        loop {
            for (id, answer) in client.heard()? {
                let Some(key) = open.remove(&id) else { continue };
                self.told(&key, &answer);
            }
            tokio::time::sleep(Duration::from_millis(1 + self.dice.below(self.pause))).await;
            if open.len() >= OPEN {
                continue;
            }
            let request = self.choose();
            self.history.push(Event::Asked { key: request.key.clone() });
            // Unknown until an answer comes, whatever happens to this task.
            self.unknown.push_back(request.clone());
            let id = match client.send(request.method, request.params.clone()).await {
                Ok(id) => id,
                Err(gone) => return self.lost(&request, gone),
            };
            let answer = match client.answer(&id).await {
                Ok(answer) => answer,
                Err(gone) => return self.lost(&request, gone),
            };
            self.unknown.pop_back();
            if self.answered(&request, &answer) {
                open.insert(id, request.key);
            }
        }
    }

    fn lost(&mut self, request: &Request, gone: Gone) -> Result<(), Gone> {
        self.history.push(Event::Unknown { key: request.key.clone() });
        Err(gone)
    }

    fn choose(&mut self) -> Request {
        if self.dice.percent(60)
            && let Some(request) = self.unknown.pop_front()
        {
            return request;
        }
        if self.dice.percent(8) && !self.done.is_empty() {
            let at = self.dice.below(self.done.len() as u64);
            return self.done[usize::try_from(at).unwrap()].clone();
        }
        if self.asked.is_multiple_of(PER_SESSION) {
            self.session = (format!("agent:main:client-{}-{}", self.number, self.asked / PER_SESSION), false);
        }
        self.asked += 1;
        let key = format!("k{}-{}", self.number, self.asked);
        let session = &self.session.0;
        if self.session.1 && self.dice.percent(35) {
            let plan = Plan::random(&mut self.dice, &key, 1);
            let args = json!({ "task": plan.prompt(), "label": key });
            let params = json!({ "name": "sessions_spawn", "args": args, "sessionKey": session, "idempotencyKey": key });
            return Request { key, method: "tools.invoke", params };
        }
        let plan = Plan::random(&mut self.dice, &key, 2);
        let params = json!({ "message": plan.prompt(), "sessionKey": session, "idempotencyKey": key });
        Request { key, method: "agent", params }
    }

    /// Writes down the first answer. Says whether another one follows.
    fn answered(&mut self, request: &Request, answer: &Result<Value, Value>) -> bool {
        let key = request.key.clone();
        let run = match answer {
            Ok(payload) if request.method == "agent" => {
                payload["runId"].as_str().map(|id| Run::Wire(id.to_owned()))
            }
            Ok(payload) => {
                let details = &payload["output"]["details"];
                let accepted = details["status"] == "accepted";
                details["runId"].as_str().filter(|_| accepted).map(|id| Run::Id(id.to_owned()))
            }
            // A repeat of a run that did not end well.
            Err(frame) => frame["payload"]["runId"].as_str().map(|id| Run::Wire(id.to_owned())),
        };
        let Some(run) = run else {
            let text = match answer {
                Ok(payload) => payload.to_string(),
                Err(frame) => frame["error"].to_string(),
            };
            self.history.push(Event::Refused { key, why: text });
            return false;
        };
        self.history.push(Event::Accepted { key: key.clone(), run });
        if request.params["sessionKey"] == self.session.0.as_str() {
            self.session.1 = true;
        }
        self.done.push_back(request.clone());
        if self.done.len() > REMEMBERED {
            self.done.pop_front();
        }
        let first = answer.as_ref().is_ok_and(|payload| payload["status"] == "accepted");
        if request.method == "agent" && !first {
            self.told(&key, answer);
        }
        request.method == "agent" && first
    }

    /// Writes down an end, if the answer tells of one.
    fn told(&self, key: &str, answer: &Result<Value, Value>) {
        let status = match answer {
            Ok(payload) => &payload["status"],
            Err(frame) => &frame["payload"]["status"],
        };
        match status.as_str() {
            Some("ok") => self.history.push(Event::Told { key: key.to_owned(), ok: true }),
            Some("error") => self.history.push(Event::Told { key: key.to_owned(), ok: false }),
            _ => {}
        }
    }
}
