use std::error::Error;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::clients::{self, Connected, Holder};
use crate::compare::{Figures, Measured, Table};
use crate::server::Server;

/// How often the lock is handed over, by all waiters together, in one round.
const TIMES: usize = 128;

/// How long each has it, so that the others wait by then.
const HOLD: Duration = Duration::from_millis(2);

const ROUNDS: usize = 7;

type Client = fn(&str) -> Connected;

const CLIENTS: [(&str, Client); 4] = [
    ("rust-postgres", clients::rust_postgres),
    ("diesel_locks", clients::diesel_locks),
    ("sqlx's PgAdvisoryLock", clients::sqlx_guard),
    ("a poller at 50 ms", |url| {
        clients::poller(url, Duration::from_millis(50))
    }),
];

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    [1, 8, 64]
        .into_iter()
        .map(|waiters| {
            let mut samples = vec![Vec::new(); CLIENTS.len()];
            for _ in 0..ROUNDS {
                for ((name, client), samples) in CLIENTS.iter().zip(&mut samples) {
                    let holders = (0..=waiters)
                        .map(|_| client(server.url()).map(warm))
                        .collect::<Result<Vec<_>, _>>()?;
                    let times = if name.contains("poller") { 16 } else { TIMES };
                    samples.push(median(hand_over(holders, times)));
                }
            }
            let rows = (CLIENTS.iter().zip(samples))
                .map(|((name, _), samples)| Figures {
                    name: (*name).to_owned(),
                    measured: Ok(Measured::of(samples, None)),
                })
                .collect();
            Ok(Table {
                title: format!("From release to grant, {waiters} waiting"),
                note: String::new(),
                rows,
            })
        })
        .collect()
}

/// Has it prepare its statements, which some do when they are used first.
fn warm(mut holder: Holder) -> Holder {
    holder(&mut || {});
    holder
}

#[derive(Default)]
struct Turns {
    /// Who has released it last, and when.
    released: Option<(usize, Instant)>,
    /// The nanoseconds from each release to the next grant.
    taken: Vec<f64>,
}

/// Has all of them take the lock in turns, while the others wait.
fn hand_over(holders: Vec<Holder>, times: usize) -> Vec<f64> {
    let turns = Mutex::new(Turns::default());
    let granted = Condvar::new();
    thread::scope(|scope| {
        for (who, mut holder) in holders.into_iter().enumerate() {
            let (state, granted) = (&turns, &granted);
            scope.spawn(move || {
                loop {
                    holder(&mut || {
                        let now = Instant::now();
                        let mut turns = state.lock().expect("no panic");
                        if let Some((_, when)) = turns.released {
                            turns.taken.push((now - when).as_nanos() as f64);
                        }
                        drop(turns);
                        thread::sleep(HOLD);
                        let mut turns = state.lock().expect("no panic");
                        turns.released = Some((who, Instant::now()));
                        granted.notify_all();
                    });
                    let is_next = |turns: &mut Turns| {
                        let is_mine = turns.released.is_some_and(|(last, _)| last == who);
                        is_mine && turns.taken.len() < times
                    };
                    let turns = state.lock().expect("no panic");
                    let turns = granted.wait_while(turns, is_next).expect("no panic");
                    if turns.taken.len() >= times {
                        return;
                    }
                }
            });
        }
    });
    turns.into_inner().expect("no panic").taken
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
