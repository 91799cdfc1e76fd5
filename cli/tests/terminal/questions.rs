//! What is asked before somebody is ended.

use crate::fixture::{Jam, server};
use crate::screen::Terminal;

#[test]
fn terminate_asks_on_a_terminal_and_ends_nobody_without_a_yes() {
    let server = server();
    let jam = Jam::new(&server, "accounts", 1);
    let ask = || {
        let arguments = ["terminate", &jam.held_by, "--database-url", server.url()];
        let terminal = Terminal::start(80, 24, &arguments);
        terminal.shows(&[&format!("pid {}", jam.held_by), "Terminate? [y/N]"]);
        terminal
    };
    for answer in [&["Enter"][..], &["n", "Enter"], &["C-c"]] {
        let terminal = ask();
        terminal.press(answer);
        let screen = terminal.shows(&["exit status"]);
        assert!(!screen.contains("exit status 0"), "{screen}");
        assert!(!jam.is_over(), "{screen}");
    }
    let terminal = ask();
    terminal.press(&["y", "Enter"]);
    terminal.shows(&["terminated pid", "exit status 0"]);
    jam.ends();
}
