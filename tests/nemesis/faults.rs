//! What goes wrong: the daemon is killed, stopped, restarted, and its disk is full, at moments from a seed.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::watch;

use crate::daemon::{Daemon, Place};
use crate::dice::Dice;

/// An orderly stop that takes longer than this is none.
const STOP: Duration = Duration::from_secs(30);

/// How often what happened.
#[derive(Debug, Default)]
pub struct Done {
    pub kills: u64,
    pub stops: u64,
    pub freezes: u64,
    pub full: u64,
    /// What a daemon must not do, whatever is done to it.
    pub wrong: Vec<String>,
}

pub struct Nemesis<'a> {
    place: &'a Place,
    dice: Dice,
    address: watch::Sender<Option<SocketAddr>>,
    pub done: Done,
}

impl<'a> Nemesis<'a> {
    pub fn new(place: &'a Place, seed: u64, address: watch::Sender<Option<SocketAddr>>) -> Self {
        Self { place, dice: Dice::of(seed, 2), address, done: Done::default() }
    }

    /// Starts a daemon and tells the clients of it.
    pub fn start(&mut self) -> Option<Daemon> {
        match self.place.start(&[]).ready() {
            Ok(daemon) => {
                self.address.send_replace(Some(daemon.address));
                Some(daemon)
            }
            Err(status) => {
                self.done.wrong.push(format!("the daemon did not start: {status}"));
                None
            }
        }
    }

    /// For so long, with about so many kills; gives back the daemon that is left.
    pub fn rage(&mut self, length: Duration, kills: u64) -> Option<Daemon> {
        let end = Instant::now() + length;
        // Some of the faults kill nobody.
        let pause = length.as_millis() as u64 * 7 / 10 / kills.max(1);
        let mut daemon = self.start()?;
        loop {
            let pause = Duration::from_millis(self.dice.between(pause / 10, pause * 19 / 10));
            if Instant::now() + pause >= end {
                return Some(daemon);
            }
            sleep(pause);
            if let Some(status) = daemon.ended() {
                self.done.wrong.push(format!("the daemon ended by itself: {status}"));
            }
            daemon = self.fault(daemon)?;
        }
    }

    fn fault(&mut self, daemon: Daemon) -> Option<Daemon> {
        match self.dice.below(100) {
            0..55 => {
                self.kill(daemon);
                self.start()
            }
            55..67 => {
                self.kill(daemon);
                let starting = self.place.start(&[]);
                sleep(Duration::from_millis(self.dice.below(120)));
                starting.kill();
                self.done.kills += 1;
                self.start()
            }
            67..77 => {
                self.freeze(&daemon);
                Some(daemon)
            }
            77..82 => {
                daemon.signal(Signal::STOP);
                sleep(Duration::from_millis(self.dice.below(300)));
                self.kill(daemon);
                self.start()
            }
            82..95 if self.place.has_disk || self.dice.percent(60) => {
                self.stop(daemon);
                self.start()
            }
            _ if self.place.has_disk => {
                self.fill();
                Some(daemon)
            }
            _ => {
                self.kill(daemon);
                self.start()
            }
        }
    }

    fn kill(&mut self, daemon: Daemon) {
        daemon.kill();
        self.address.send_replace(None);
        self.done.kills += 1;
    }

    fn freeze(&mut self, daemon: &Daemon) {
        daemon.signal(Signal::STOP);
        sleep(Duration::from_millis(self.dice.between(50, 1_000)));
        daemon.signal(Signal::CONT);
        self.done.freezes += 1;
    }

    /// In order, sometimes in more of a hurry, sometimes killed on the way.
    fn stop(&mut self, mut daemon: Daemon) {
        self.address.send_replace(None);
        self.done.stops += 1;
        daemon.signal(Signal::TERM);
        let asked = Instant::now();
        match self.dice.below(4) {
            0 => {
                sleep(Duration::from_millis(self.dice.below(400)));
                if daemon.ended().is_none() {
                    daemon.signal(Signal::TERM);
                }
            }
            1 => {
                sleep(Duration::from_millis(self.dice.below(400)));
                return self.kill(daemon);
            }
            _ => {}
        }
        while daemon.ended().is_none() {
            if asked.elapsed() > STOP {
                self.done.wrong.push(format!("an orderly stop took more than {STOP:?}"));
                return self.kill(daemon);
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// Leaves no room on the disk for a while.
    fn fill(&mut self) {
        let path = self.place.state().join("fill");
        let mut file = File::create(&path).unwrap();
        let block = vec![0; 1 << 20];
        // Down to the last byte.
        for size in [block.len(), 4096, 1] {
            while file.write_all(&block[..size]).is_ok() {}
        }
        sleep(Duration::from_millis(self.dice.between(100, 1_500)));
        drop(file);
        std::fs::remove_file(path).unwrap();
        self.done.full += 1;
    }
}
