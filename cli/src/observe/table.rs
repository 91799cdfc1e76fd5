//! Locks and waits as tables.

use std::io::{self, IsTerminal};

use anstyle::{AnsiColor, Style};
use diesel_locks::{LockInfo, LockWait};

use crate::words::{cut, doing, id, name, time};

const HEAD: Style = Style::new().bold();
const WAITING: Style = AnsiColor::Yellow.on_default();

/// What a cell holds at most, but for the last one of a line.
const CELL: usize = 48;

/// Rows under a head, in columns as wide as what is in them.
struct Table {
    rows: Vec<(Style, Vec<String>)>,
}

impl Table {
    fn new(head: &[&str]) -> Self {
        let head = head.iter().map(|&word| word.to_owned()).collect();
        Self {
            rows: vec![(HEAD, head)],
        }
    }

    fn push(&mut self, style: Style, cells: Vec<String>) {
        self.rows.push((style, cells));
    }

    /// No line is wider than the terminal.
    fn lines(&self) -> String {
        let width = match io::stdout().is_terminal() {
            true => ratatui::crossterm::terminal::size().map_or(80, |(width, _)| width.into()),
            false => usize::MAX,
        };
        let columns = self.rows[0].1.len();
        let widths: Vec<_> = (0..columns)
            .map(|column| {
                let cells = self
                    .rows
                    .iter()
                    .map(|(_, cells)| cells[column].chars().count());
                cells.max().unwrap_or_default().min(CELL)
            })
            .collect();
        let mut lines = String::new();
        for (style, cells) in &self.rows {
            let mut line = String::new();
            for (nth, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                match nth + 1 == columns {
                    true => line.push_str(cell),
                    false => line.push_str(&format!("{:<width$}  ", cut(cell, CELL))),
                }
            }
            let line = cut(line.trim_end(), width);
            lines.push_str(&format!("{style}{line}{style:#}\n"));
        }
        lines
    }
}

pub(super) fn locks(locks: &[LockInfo]) -> String {
    let mut table = Table::new(&[
        "pid",
        "application",
        "role",
        "lock",
        "mode",
        "",
        "since",
        "doing",
    ]);
    for lock in locks {
        let (style, has) = match lock.granted {
            true => (Style::new(), "held"),
            false => (WAITING, "waits"),
        };
        let mut cells = start(lock);
        let since = lock.waiting.or(lock.session.age);
        cells.extend([
            has.to_owned(),
            since.map_or_else(String::new, time),
            doing(&lock.session),
        ]);
        table.push(style, cells);
    }
    table.lines()
}

pub(super) fn waits(waits: &[LockWait]) -> String {
    let mut table = Table::new(&[
        "pid",
        "application",
        "role",
        "lock",
        "mode",
        "waits",
        "behind",
        "doing",
    ]);
    for wait in waits {
        let mut cells = start(&wait.lock);
        let behind: Vec<_> = wait.blockers.iter().map(ToString::to_string).collect();
        cells.extend([
            wait.lock.waiting.map_or_else(String::new, time),
            behind.join(", "),
            doing(&wait.lock.session),
        ]);
        table.push(Style::new(), cells);
    }
    table.lines()
}

fn start(lock: &LockInfo) -> Vec<String> {
    let session = &lock.session;
    vec![
        id(session),
        name(session.application.as_deref()),
        name(session.user.as_deref()),
        lock.object.to_string(),
        lock.mode.to_string(),
    ]
}
