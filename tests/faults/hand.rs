//! The hand that breaks things.

use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Integer};

use super::stage::{Record, Stage};
use super::turn::HANDS;
use crate::support::chance::Chance;
use crate::support::proxy::{Cut, Proxy};
use crate::support::server::try_signal;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// `pg_cancel_backend`.
    Cancel,
    /// `pg_terminate_backend`.
    Terminate,
    /// SIGSTOP, and SIGCONT after so many milliseconds.
    Stop(u32),
    /// SIGKILL of a backend: the server ends all sessions, and starts again from its log.
    Crash,
    /// A wire through the proxy.
    Cut(Cut),
    /// The server's table of locks is full for so many milliseconds.
    Exhaust(u32),
    /// SIGKILL of a second process; another one takes its place.
    Kill,
}

impl Fault {
    fn draw(chance: &Chance) -> Self {
        let cut = chance.choose(&[
            (1, Cut::Now),
            (3, Cut::After(1 + chance.below(200) as usize)),
            (1, Cut::AfterMessage(b'E')),
            (
                1,
                Cut::HalfOpen(Duration::from_millis(chance.below(500).into())),
            ),
        ]);
        chance.choose(&[
            (600, Self::Cancel),
            (60, Self::Terminate),
            (20, Self::Stop(chance.below(300))),
            (1, Self::Crash),
            (40, Self::Cut(cut)),
            (10, Self::Exhaust(chance.below(50))),
            (5, Self::Kill),
        ])
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
            Self::Stop(_) => "stop",
            Self::Crash => "crash",
            Self::Cut(_) => "cut",
            Self::Exhaust(_) => "exhaust",
            Self::Kill => "kill",
        }
    }
}

pub(crate) struct Hand<'s> {
    stage: &'s Stage,
    proxy: &'s Proxy,
    chance: Chance,
    conn: Option<PgConnection>,
}

impl<'s> Hand<'s> {
    pub(crate) fn new(stage: &'s Stage, proxy: &'s Proxy, chance: Chance) -> Self {
        Self {
            stage,
            proxy,
            chance,
            conn: None,
        }
    }

    /// One deed. `kill` ends the second process of that number and starts another.
    pub(crate) fn act(&mut self, kill: impl FnOnce(u64)) {
        let fault = Fault::draw(&self.chance);
        let (whom, pause) = (self.chance.number(), self.chance.below(12));
        let done = match fault {
            Fault::Kill => {
                kill(whom);
                Ok(())
            }
            Fault::Cut(cut) => {
                self.proxy.cut(whom as usize, cut);
                Ok(())
            }
            fault => self.at_server(fault, whom),
        };
        match done {
            Ok(()) => self
                .stage
                .record(Record::Count(format!("the hand: {}", fault.name()))),
            // What it has done before may hit the hand itself.
            Err(_) => self.conn = None,
        }
        thread::sleep(Duration::from_millis(pause.into()));
    }

    fn at_server(&mut self, fault: Fault, whom: u64) -> QueryResult<()> {
        let Some(conn) = &mut self.conn else {
            self.conn = PgConnection::establish(&self.stage.hands_url()).ok();
            return Ok(());
        };
        // It stacks, and is free for a moment after a crash.
        conn.batch_execute(&format!("SELECT pg_try_advisory_lock({HANDS})"))?;
        if let Fault::Exhaust(pause) = fault {
            // Those that it was granted stay after the error.
            let _ = conn
                .batch_execute("SELECT pg_advisory_lock(77, n) FROM generate_series(1, 100000) n");
            thread::sleep(Duration::from_millis(pause.into()));
            return conn.batch_execute("SELECT pg_advisory_unlock_all()");
        }
        // Who waits for the hand's own lock is left alone, to see that the wait ends by itself.
        let sessions: Vec<i32> = sql::<Integer>(
            "SELECT pid FROM pg_stat_activity \
             WHERE application_name IN ('plain', 'aware', 'diesels') \
             AND (state = 'active' OR random() < 0.2) \
             AND NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted \
             AND pg_locks.pid = pg_stat_activity.pid AND objsubid = 1 AND objid = ",
        )
        .bind::<BigInt, _>(HANDS)
        .sql(") ORDER BY pid")
        .load(conn)?;
        if sessions.is_empty() {
            return Ok(());
        }
        let pid = sessions[whom as usize % sessions.len()];
        match fault {
            Fault::Cancel => conn.batch_execute(&format!("SELECT pg_cancel_backend({pid})")),
            Fault::Terminate => conn.batch_execute(&format!("SELECT pg_terminate_backend({pid})")),
            // The process may have ended meanwhile.
            Fault::Stop(pause) => {
                try_signal("-STOP", &[pid]);
                thread::sleep(Duration::from_millis(pause.into()));
                try_signal("-CONT", &[pid]);
                Ok(())
            }
            _ => {
                try_signal("-KILL", &[pid]);
                Ok(())
            }
        }
    }
}
