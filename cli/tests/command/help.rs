//! What the command says of itself, and what a package installs beside it.

use std::fs;

use serial_test::parallel;

use crate::support::{diesel_locks, directory, stdout};

/// The names of the commands, as `--help` lists them.
fn commands() -> Vec<String> {
    let help = diesel_locks().arg("--help").output().unwrap();
    let lines = stdout(&help)
        .lines()
        .skip_while(|line| *line != "Commands:");
    let named = lines.skip(1).take_while(|line| !line.is_empty());
    // A description may go on below.
    let named = named.filter(|line| !line.starts_with("   "));
    named
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect()
}

#[test]
#[parallel]
fn the_help_of_each_command_has_examples_of_it() {
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let help = diesel_locks().args([&command, "--help"]).output().unwrap();
        let (_, examples) = stdout(&help).split_once("Examples:\n").expect(&command);
        let named = format!("diesel_locks {command}");
        assert!(examples.contains(&named), "{command}: {examples}");
    }
}

#[test]
#[parallel]
fn completions_know_the_commands() {
    let commands = commands();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = diesel_locks()
            .args(["completions", shell])
            .output()
            .unwrap();
        assert!(output.status.success());
        for command in &commands {
            assert!(stdout(&output).contains(command), "{shell}: {command}");
        }
    }
}

#[test]
#[parallel]
fn the_man_page_names_pages_that_are_written_beside_it() {
    let page = diesel_locks().arg("man").output().unwrap();
    assert!(page.status.success());
    let directory = directory("man");
    let written = diesel_locks()
        .args(["man", "--out-dir"])
        .arg(&directory)
        .output()
        .unwrap();
    assert!(written.status.success(), "{written:?}");
    for command in commands() {
        let name = format!("diesel_locks\\-{command}(1)");
        assert!(stdout(&page).contains(&name), "{name}");
        let file = directory.join(format!("diesel_locks-{command}.1"));
        let page = fs::read_to_string(&file).unwrap();
        assert!(page.contains("Examples:"), "{command}");
    }
    assert!(directory.join("diesel_locks.1").is_file());
    assert!(!directory.join("diesel_locks-helper.1").exists());
}
