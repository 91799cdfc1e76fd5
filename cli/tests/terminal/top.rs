//! `diesel_locks top`.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Integer};
use diesel_locks_harness::TempPostgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Jam, connect, server, soon};
use crate::network::Network;
use crate::screen::Terminal;

fn top(server: &TempPostgres, width: u32, height: u32) -> Terminal {
    let arguments = ["top", "--interval", "125ms", "--database-url", server.url()];
    Terminal::start(width, height, &arguments)
}

/// The sessions of `top` itself.
fn own_sessions(observer: &mut PgConnection) -> Vec<i32> {
    sql::<Array<Integer>>(
        "SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity \
         WHERE application_name = 'diesel_locks'",
    )
    .get_result(observer)
    .unwrap()
}

#[test]
fn top_shows_who_waits_for_whom_and_ends_the_blocker_after_a_question() {
    let server = server();
    for (width, height) in [(80, 24), (200, 60)] {
        let jam = Jam::new(&server, "accounts", 1);
        let (held_by, waited_by) = (&jam.held_by, &jam.waited_by[0]);
        let terminal = top(&server, width, height);
        let screen = terminal.shows(&[held_by, waited_by, "accounts", "holds up 1"]);
        // The root blocker stands first.
        assert!(screen.find(held_by) < screen.find(waited_by), "{screen}");
        assert_eq!(screen.lines().count(), height as usize, "{screen}");
        assert!(
            screen
                .lines()
                .all(|line| line.chars().count() <= width as usize)
        );

        // A question comes first, and another answer than yes leaves it alone.
        terminal.press(&["Home", "t"]);
        terminal.shows(&["Terminate pid", held_by, "y: yes"]);
        terminal.press(&["n"]);
        terminal.until("no question", |screen| !screen.contains("y: yes"));
        assert!(!jam.is_over());
        terminal.press(&["Home", "t"]);
        terminal.shows(&["Terminate pid", held_by, "y: yes"]);
        terminal.press(&["y"]);
        jam.ends();
        terminal.shows(&["Nobody waits for a lock"]);
        terminal.press(&["q"]);
        terminal.shows(&["exit status 0"]);
    }
}

#[test]
fn the_blocker_of_most_stands_first_and_a_filter_and_another_order_change_what_is_shown() {
    let server = server();
    let few = Jam::new(&server, "accounts", 1);
    let many = Jam::new(&server, "invoices", 2);
    let terminal = top(&server, 80, 24);
    let screen = terminal.shows(&[&few.held_by, &many.held_by, "holds up 2", "by held up"]);
    assert!(screen.find(&many.held_by) < screen.find(&few.held_by));

    // By the longest wait, and by the oldest transaction, it is the other one.
    terminal.press(&["s"]);
    let screen = terminal.shows(&["by wait", &few.held_by, &many.held_by]);
    assert!(screen.find(&few.held_by) < screen.find(&many.held_by));

    terminal.press(&["/", "INVOI", "Enter"]);
    let screen = terminal.until("only one tree", |screen| !screen.contains(&few.held_by));
    assert!(screen.contains(&many.held_by), "{screen}");
    terminal.press(&["Escape"]);
    terminal.shows(&[&few.held_by, &many.held_by]);

    // All locks, those that are only held too, with a head of their own.
    terminal.press(&["Tab"]);
    terminal.shows(&["5 locks, 3 waited for", "public.accounts, AccessEx"]);
}

#[test]
fn top_connects_again_when_its_session_is_ended() {
    let server = server();
    let terminal = top(&server, 80, 24);
    terminal.shows(&["Nobody waits for a lock"]);
    let mut observer = connect(&server, "postgres");
    let before = own_sessions(&mut observer);
    let ended = sql::<Bool>("SELECT pg_terminate_backend(").bind::<Integer, _>(before[0]);
    assert!(ended.sql(")").get_result::<bool>(&mut observer).unwrap());
    soon(|| {
        let after = own_sessions(&mut observer);
        !after.is_empty() && after != before
    });
    let jam = Jam::new(&server, "accounts", 1);
    terminal.shows(&[&jam.held_by, &jam.waited_by[0]]);
}

#[test]
fn top_says_that_a_server_is_silent_and_can_be_quit_meanwhile() {
    let server = server();
    let terminal = top(&server, 80, 24);
    terminal.shows(&["Nobody waits for a lock"]);
    let own = own_sessions(&mut connect(&server, "postgres"));
    let own = Pid::from_raw(own[0]);
    kill(own, Signal::SIGSTOP).unwrap();
    terminal.shows(&["no answer for 3 s"]);
    kill(own, Signal::SIGCONT).unwrap();
    terminal.until("an answer", |screen| !screen.contains("no answer"));
    kill(own, Signal::SIGSTOP).unwrap();
    terminal.shows(&["no answer for"]);
    terminal.press(&["q"]);
    terminal.shows(&["exit status 0"]);
    kill(own, Signal::SIGCONT).unwrap();
}

#[test]
fn top_gives_up_a_dead_connection_and_connects_again_as_soon_as_the_network_lives() {
    let server = server();
    let network = Network::before(&server);
    let arguments = ["top", "--interval", "125ms", "--database-url"];
    let terminal = Terminal::start(80, 24, &[&arguments[..], &[&network.url()]].concat());
    terminal.shows(&["Nobody waits for a lock"]);
    network.dies();
    terminal.shows(&["no answer for 3 s"]);
    // Of the next connection, by the limit that its URL has.
    terminal.shows(&["trying again", "timeout expired"]);
    network.lives();
    let jam = Jam::new(&server, "accounts", 1);
    let screen = terminal.shows(&[&jam.held_by, &jam.waited_by[0]]);
    assert!(!screen.contains("no answer"), "{screen}");
}

#[test]
fn the_chosen_session_stays_on_a_screen_that_is_too_small_for_all() {
    let server = server();
    let jam = Jam::new(&server, "accounts", 12);
    let last = jam.waited_by.last().unwrap();
    for (width, height) in [(80, 14), (40, 6), (12, 3)] {
        let terminal = top(&server, width, height);
        terminal.shows(&["pid"]);
        terminal.press(&["End"]);
        if width >= 40 {
            terminal.shows(&[&format!("└ {last}")]);
            terminal.press(&["Home"]);
            terminal.shows(&[&jam.held_by]);
        }
        terminal.press(&["q"]);
        terminal.shows(&["exit status"]);
    }
}
