//! Another client, which asks for `health` all the time, from a thread of its own.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use crate::client::Client;
use crate::common::Samples;
use crate::daemon::Daemon;

/// How long it is looked what is usual.
pub const QUIET: Duration = Duration::from_secs(1);
/// How long the allocator may take to give back what is free. It does so only while there is something to do.
pub const SETTLING: Duration = Duration::from_secs(15);
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(2);

enum Order {
    For(Duration),
    Begin,
    End,
}

pub struct Watched {
    orders: Sender<Order>,
    samples: Receiver<Samples>,
    _thread: JoinHandle<()>,
}

impl Watched {
    pub fn of(daemon: &Daemon) -> Self {
        let (orders, ordered) = channel();
        let (tell, samples) = channel();
        let address = daemon.address;
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            // It hears of nothing but its answers.
            let connecting = Client::connected(address, false, &["operator.pairing"]);
            let mut client = runtime.block_on(connecting).unwrap();
            while let Ok(order) = ordered.recv() {
                let mut samples = Samples::default();
                match order {
                    Order::For(time) => {
                        let begun = Instant::now();
                        while begun.elapsed() < time {
                            samples.push(ask(&runtime, &mut client));
                        }
                    }
                    Order::Begin => {
                        while ordered.try_recv().is_err() {
                            samples.push(ask(&runtime, &mut client));
                        }
                    }
                    Order::End => continue,
                }
                if tell.send(samples).is_err() {
                    return;
                }
            }
        });
        Self { orders, samples, _thread: thread }
    }

    /// Round trips within that time.
    pub fn health(&self, time: Duration) -> Samples {
        self.orders.send(Order::For(time)).unwrap();
        self.samples.recv().unwrap()
    }

    pub fn begin(&self) {
        self.orders.send(Order::Begin).unwrap();
    }

    /// Round trips since the beginning.
    pub fn end(&self) -> Samples {
        self.orders.send(Order::End).unwrap();
        self.samples.recv().unwrap()
    }
}

fn ask(runtime: &Runtime, client: &mut Client) -> Duration {
    runtime.block_on(async {
        tokio::time::sleep(PAUSE).await;
        let begun = Instant::now();
        client.call("health", &json!({})).await.expect("another client is served");
        begun.elapsed()
    })
}
