//! `diesel_locks top` in a terminal, whose screen is read.
//!
//! Needs tmux (Debian: `apt-get install tmux`), and therefore runs only when it is asked for:
//! `cargo test --all-features --test terminal`.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Integer};
use diesel_locks_harness::TempPostgres;

/// A terminal of this size, in which `top` runs.
struct Terminal(String);

impl Terminal {
    fn start(url: &str, width: u32, height: u32) -> Self {
        let name = format!("diesel_locks-{}-{width}", std::process::id());
        let program = env!("CARGO_BIN_EXE_diesel_locks");
        let (width, height) = (width.to_string(), height.to_string());
        let terminal = Self(name);
        terminal.tmux(
            &["new-session", "-d", "-x", &width, "-y", &height, "-s"],
            &[program, "top", "--interval", "100ms", "--database-url", url],
        );
        terminal
    }

    /// A server of its own, so that nobody's sessions are touched.
    fn tmux(&self, command: &[&str], rest: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-L", &self.0, "-f", "/dev/null"])
            .args(command)
            .arg(&self.0)
            .args(rest)
            .output()
            .expect("tmux is not installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-t"], &[])
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&["send-keys", "-t"], keys);
    }

    /// The screen, as soon as it shows all of `texts`.
    fn shows(&self, texts: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if texts.iter().all(|text| screen.contains(text)) {
                return screen;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "not {texts:?} in\n{screen}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-session", "-t"], &[]);
    }
}

fn pid(conn: &mut PgConnection) -> i32 {
    diesel::select(sql::<Integer>("pg_backend_pid()"))
        .get_result(conn)
        .unwrap()
}

fn is_blocked(conn: &mut PgConnection, pid: i32) -> bool {
    let blockers = sql::<Bool>("cardinality(pg_blocking_pids(").bind::<Integer, _>(pid);
    diesel::select(blockers.sql(")) > 0"))
        .get_result(conn)
        .unwrap()
}

#[test]
fn top_shows_who_waits_for_whom_and_ends_the_blocker_after_a_question() {
    let server = TempPostgres::start().unwrap();
    let connect = |role: &str| {
        let url = server.url().replace("postgres@", &format!("{role}@"));
        PgConnection::establish(&url).unwrap()
    };
    let mut observer = connect("postgres");
    observer
        .batch_execute(
            "CREATE TABLE accounts (id int); CREATE ROLE app LOGIN; GRANT ALL ON accounts TO app",
        )
        .unwrap();
    for (width, height) in [(80, 24), (200, 60)] {
        let (mut holder, mut waiter) = (connect("app"), connect("app"));
        let (held_by, waited_by) = (pid(&mut holder), pid(&mut waiter));
        holder.batch_execute("BEGIN; LOCK TABLE accounts").unwrap();
        let waiting = thread::spawn(move || waiter.batch_execute("SELECT FROM accounts"));
        while !is_blocked(&mut observer, waited_by) {
            thread::sleep(Duration::from_millis(5));
        }

        let terminal = Terminal::start(server.url(), width, height);
        let (held_by, waited_by) = (held_by.to_string(), waited_by.to_string());
        let screen = terminal.shows(&[&held_by, &waited_by, "accounts"]);
        // The root blocker stands first.
        assert!(screen.find(&held_by) < screen.find(&waited_by), "{screen}");
        assert!(
            screen
                .lines()
                .all(|line| line.chars().count() <= width as usize)
        );

        // A question comes first, and another answer than yes leaves it alone.
        terminal.press(&["Home", "t"]);
        terminal.shows(&["?", &held_by]);
        terminal.press(&["n"]);
        terminal.shows(&[&held_by, &waited_by]);
        assert!(!waiting.is_finished());
        terminal.press(&["Home", "t"]);
        terminal.shows(&["?", &held_by]);
        terminal.press(&["y"]);
        waiting.join().unwrap().unwrap();
        holder.batch_execute("SELECT 1").unwrap_err();
        terminal.press(&["q"]);
    }
}
