//! What is shown, and what a key changes.

use std::time::{Duration, Instant};

use diesel_locks::{End, LockInfo, SessionInfo, WaitGraph};
use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;

use super::source::{News, Subject, Wish};
use super::tree::{self, Order, Row};
use crate::words::time;

const FASTEST: Duration = Duration::from_millis(125);
const SLOWEST: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(2);
/// A statement of ours is not let run for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// A name may stand for several hosts, each of which has its time.
const PATIENCE_TO_CONNECT: Duration = Duration::from_secs(60);

/// What to do next.
pub(super) enum Next {
    Show,
    Ask(Wish),
    Quit,
}

/// What keys are for.
#[derive(Debug)]
pub(super) enum Mode {
    Choose,
    /// The text that is to be contained is written.
    Filter,
    /// Whether to end that session.
    Confirm(Box<SessionInfo>, End),
}

pub(super) struct App {
    interval: Duration,
    is_paused: bool,
    subject: Subject,
    order: Order,
    pub(super) filter: String,
    pub(super) mode: Mode,
    graph: WaitGraph,
    locks: Vec<LockInfo>,
    pub(super) rows: Vec<Row>,
    pub(super) table: TableState,
    /// Since when the server owes an answer.
    asked: Option<Instant>,
    /// Why there is no news.
    pub(super) problem: Option<String>,
    /// What has become of what was asked for last.
    pub(super) told: Option<String>,
}

impl App {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval: interval.clamp(FASTEST, SLOWEST),
            is_paused: false,
            subject: Subject::Waits,
            order: Order::HoldsUp,
            filter: String::new(),
            mode: Mode::Choose,
            graph: WaitGraph::default(),
            locks: Vec::new(),
            rows: Vec::new(),
            table: TableState::default(),
            asked: None,
            problem: None,
            told: None,
        }
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(super) fn subject(&self) -> Subject {
        self.subject
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    pub(super) fn graph(&self) -> &WaitGraph {
        &self.graph
    }

    pub(super) fn locks(&self) -> &[LockInfo] {
        &self.locks
    }

    pub(super) fn chosen(&self) -> Option<&Row> {
        self.rows.get(self.table.selected()?)
    }

    /// Notes that the server is asked.
    pub(super) fn wait(&mut self) {
        self.asked.get_or_insert_with(Instant::now);
    }

    /// How long the server has been silent, if that is longer than it takes to answer.
    pub(super) fn silence(&self) -> Option<Duration> {
        let silence = self.asked?.elapsed();
        (silence >= SILENCE).then_some(silence)
    }

    /// Whether the server has been silent for too long, so that another connection is to be made.
    pub(super) fn gives_up(&mut self) -> bool {
        let patience = match self.problem {
            Some(_) => PATIENCE_TO_CONNECT,
            None => PATIENCE,
        };
        let silence = self.silence().filter(|silence| *silence >= patience);
        if let Some(silence) = silence {
            self.problem = Some(format!("the server was silent for {}", time(silence)));
            self.asked = None;
        }
        silence.is_some()
    }

    pub(super) fn learn(&mut self, news: News) {
        self.asked = None;
        self.problem = None;
        match news {
            News::Waits(graph) => self.graph = graph,
            News::Locks(locks) => self.locks = locks,
            News::Ended(ended) => {
                let ended: Vec<_> = ended.iter().map(ToString::to_string).collect();
                self.told = Some(ended.join("; "));
            }
            News::Failed(problem) => self.problem = Some(problem),
        }
        self.arrange();
    }

    /// Makes the rows anew, and keeps the choice of a session.
    fn arrange(&mut self) {
        let chosen = self
            .chosen()
            .map(|row| (row.session.id(), row.session.backend_start));
        let filter = self.filter.to_lowercase();
        self.rows = match self.subject {
            Subject::Waits => tree::waits(&self.graph, self.order, &filter),
            Subject::Locks => tree::locks(&self.locks, self.order, &filter),
        };
        let is_chosen =
            |row: &Row| chosen.as_ref() == Some(&(row.session.id(), row.session.backend_start));
        let at = match (self.rows.iter().position(is_chosen), self.subject) {
            // Another lock of the same session may be the one that was chosen.
            (Some(_), Subject::Locks) | (None, _) => self.table.selected().unwrap_or_default(),
            (Some(at), Subject::Waits) => at,
        };
        let last = self.rows.len().checked_sub(1);
        self.table.select(last.map(|last| at.min(last)));
    }

    pub(super) fn heed(&mut self, event: &Event) -> Next {
        let Event::Key(key) = event else {
            return Next::Show;
        };
        if key.kind == KeyEventKind::Release {
            return Next::Show;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Next::Quit;
        }
        match &self.mode {
            Mode::Choose => self.choose(key.code),
            Mode::Filter => self.write_filter(key.code),
            Mode::Confirm(session, how) => {
                let (session, how) = (session.clone(), *how);
                self.mode = Mode::Choose;
                match key.code {
                    KeyCode::Char('y' | 'Y') => Next::Ask(Wish::End(session, how)),
                    _ => Next::Show,
                }
            }
        }
    }

    fn choose(&mut self, key: KeyCode) -> Next {
        self.told = None;
        match key {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Up | KeyCode::Char('k') => {
                let at = self.table.selected().map(|at| at.saturating_sub(1));
                self.table.select(at);
            }
            KeyCode::Down | KeyCode::Char('j') => {
                let at = self.table.selected().map_or(0, |at| at + 1);
                let last = self.rows.len().checked_sub(1);
                self.table.select(last.map(|last| at.min(last)));
            }
            KeyCode::Home => self.table.select(self.rows.first().map(|_| 0)),
            KeyCode::End => self.table.select(self.rows.len().checked_sub(1)),
            KeyCode::Char('c') => self.ask(End::Cancel),
            KeyCode::Char('t') => self.ask(End::Terminate),
            KeyCode::Char('s') => {
                self.order = self.order.next();
                self.arrange();
            }
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Esc => {
                self.filter.clear();
                self.arrange();
            }
            KeyCode::Tab => {
                self.subject = match self.subject {
                    Subject::Waits => Subject::Locks,
                    Subject::Locks => Subject::Waits,
                };
                self.table.select(None);
                self.arrange();
                return Next::Ask(Wish::Look(self.subject));
            }
            KeyCode::Char('p' | ' ') => {
                self.is_paused = !self.is_paused;
                if !self.is_paused {
                    return Next::Ask(Wish::Look(self.subject));
                }
            }
            KeyCode::Char('r') => return Next::Ask(Wish::Look(self.subject)),
            KeyCode::Char('+') => self.interval = (self.interval / 2).max(FASTEST),
            KeyCode::Char('-') => self.interval = (self.interval * 2).min(SLOWEST),
            _ => {}
        }
        Next::Show
    }

    fn ask(&mut self, how: End) {
        if let Some(row) = self.chosen() {
            self.mode = Mode::Confirm(Box::new(row.session.clone()), how);
        }
    }

    fn write_filter(&mut self, key: KeyCode) -> Next {
        match key {
            KeyCode::Enter => self.mode = Mode::Choose,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Choose;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        self.arrange();
        Next::Show
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_nobody_no_key_chooses_anybody() {
        let mut app = App::new(FASTEST);
        for key in [KeyCode::Up, KeyCode::Down, KeyCode::Home, KeyCode::End] {
            app.heed(&Event::Key(key.into()));
            assert_eq!(app.table.selected(), None, "{key}");
        }
    }
}
