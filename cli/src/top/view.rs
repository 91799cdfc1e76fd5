//! The screen.

use std::ops::Range;

use diesel_locks::{End, WaitGraph};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row as TableRow, Table, TableState, Wrap};

use super::app::{App, Mode};
use super::source::Subject;
use super::tree::Row;
use crate::words::{doing, id, name, one_line, time};

pub(super) fn draw(frame: &mut Frame, app: &mut App) {
    let details = if frame.area().height < 30 { 4 } else { 7 };
    let [head, body, chosen, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(details),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(summary(app), head);
    rows(frame, app, body);
    let details = match &app.problem {
        Some(why) => problem(why),
        None => chosen_session(app),
    };
    frame.render_widget(details, chosen);
    frame.render_widget(keys(app), foot);
    if let Mode::Confirm(session, how) = &app.mode {
        let verb = match how {
            End::Cancel => "Cancel the statement of",
            End::Terminate => "Terminate",
        };
        ask(frame, &format!("{verb} {session}"));
    }
}

fn summary(app: &App) -> Line<'_> {
    let mut line = vec!["diesel_locks top ".bold()];
    if app.problem.is_some() {
        line.push("no answer, trying again".red());
        return Line::from(line);
    }
    if let Some(silence) = app.silence() {
        line.push(format!("no answer for {}: ", time(silence)).red());
    }
    match app.subject() {
        Subject::Waits => line.extend(waits(app.graph())),
        Subject::Locks => {
            let waiting = app.locks().iter().filter(|lock| !lock.granted).count();
            line.push(format!("{} locks, {waiting} waited for", app.locks().len()).into());
        }
    }
    line.push(
        format!(
            " | by {}, every {}",
            app.order().name(),
            time(app.interval())
        )
        .dim(),
    );
    if app.is_paused() {
        line.push(" | paused".yellow());
    }
    if !app.filter.is_empty() {
        line.push(format!(" | /{}", app.filter).cyan());
    }
    Line::from(line)
}

fn waits(graph: &WaitGraph) -> Vec<Span<'static>> {
    let roots = graph.roots().len();
    let mut spans = vec![format!("{} waits, {roots} in the way", graph.waits().len()).into()];
    let waiting = graph.waits().iter().filter_map(|wait| wait.lock.waiting);
    if let Some(longest) = waiting.max() {
        spans.push(format!(", longest {}", time(longest)).into());
    }
    let deadlocks = graph.cycles().len();
    if deadlocks > 0 {
        spans.push(format!(", {deadlocks} deadlocked").red().bold());
    }
    spans
}

fn rows(frame: &mut Frame, app: &mut App, area: Rect) {
    if app.rows.is_empty() && app.problem.is_some() {
        return;
    }
    if app.rows.is_empty() {
        let nobody = match (app.subject(), app.filter.is_empty()) {
            (Subject::Waits, true) => "Nobody waits for a lock.",
            (Subject::Locks, true) => "Nobody holds a lock.",
            (_, false) => "Nothing contains that text.",
        };
        frame.render_widget(Paragraph::new(nobody).dim(), area);
        return;
    }
    let deepest = app.rows.iter().map(|row| row.place.chars().count()).max();
    let place = deepest.unwrap_or_default().clamp(8, 22) as u16;
    // The role is the first that a narrow screen can spare.
    let (name, role, lock) = match area.width {
        ..120 => (11, 0, 26),
        _ => (18, 18, 44),
    };
    let widths = [
        Constraint::Length(place),
        Constraint::Length(name),
        Constraint::Length(role),
        Constraint::Length(10),
        Constraint::Length(lock),
        Constraint::Fill(1),
    ];
    let what = match app.subject() {
        Subject::Waits => "waits for",
        Subject::Locks => "lock",
    };
    let head = TableRow::new(["pid", "application", "role", "wait", what, "doing"]);
    let (shown, mut state) = window(app, area.height.saturating_sub(1).max(1).into());
    let table = Table::new(app.rows[shown].iter().map(row), widths)
        .header(head.style(Modifier::REVERSED))
        .row_highlight_style(Style::new().bg(Color::Blue).fg(Color::White));
    frame.render_stateful_widget(table, area, &mut state);
}

/// The rows for which there is room, the chosen one among them: a server may have thousands.
fn window(app: &mut App, height: usize) -> (Range<usize>, TableState) {
    let chosen = app.table.selected();
    let at = chosen.unwrap_or_default();
    let first = app.table.offset().min(at);
    let first = first.max((at + 1).saturating_sub(height));
    *app.table.offset_mut() = first;
    let shown = first..app.rows.len().min(first + height);
    let state = TableState::new().with_selected(chosen.map(|chosen| chosen - first));
    (shown, state)
}

fn row(row: &Row) -> TableRow<'_> {
    let session = &row.session;
    let lock = match (row.lock.as_str(), row.is_root()) {
        ("", true) => format!("holds up {}", row.holds_up),
        (lock, _) if row.is_deadlocked => format!("DEADLOCK: {lock}"),
        (lock, _) => lock.to_owned(),
    };
    let cells = [
        row.place.clone(),
        name(session.application.as_deref()),
        name(session.user.as_deref()),
        row.waiting.map_or_else(String::new, time),
        lock,
        doing(session),
    ];
    let style = match (row.is_deadlocked, row.is_root()) {
        (true, _) => Style::new().red().bold(),
        (false, true) => Style::new().yellow().bold(),
        (false, false) => Style::new(),
    };
    TableRow::new(cells.map(Cell::from)).style(style)
}

/// Why there is no news.
fn problem(why: &str) -> Paragraph<'_> {
    let block = Block::bordered().border_style(Style::new().dim());
    let why = Paragraph::new(one_line(why)).red();
    why.wrap(Wrap { trim: true }).block(block)
}

/// All that is known of the chosen session.
fn chosen_session(app: &App) -> Paragraph<'_> {
    let block = Block::bordered().border_style(Style::new().dim());
    let Some(row) = app.chosen() else {
        return Paragraph::new("").block(block);
    };
    let session = &row.session;
    let mut about = Vec::new();
    for (what, name) in [
        ("database", &session.database),
        ("client", &session.client),
        ("kind", &session.backend_type),
    ] {
        if let Some(name) = name {
            about.push(format!("{what} {}", one_line(name)));
        }
    }
    if let Some(age) = session.age {
        about.push(format!("for {}", time(age)));
    }
    if !row.lock.is_empty() {
        about.push(row.lock.clone());
    }
    let text = Text::from(vec![
        Line::from(about.join(", ")),
        Line::from(doing(session)),
    ]);
    let block = block.title(format!(" {} ", id(session)));
    Paragraph::new(text).wrap(Wrap { trim: true }).block(block)
}

fn keys(app: &App) -> Line<'_> {
    if let Mode::Filter = app.mode {
        return Line::from(vec![
            "show what contains: ".into(),
            app.filter.as_str().into(),
            "_".into(),
        ]);
    }
    if let Some(told) = &app.told {
        return Line::from(one_line(told)).yellow();
    }
    let keys = [
        ("c", "ancel"),
        ("t", "erminate"),
        ("s", "ort"),
        ("/", "filter"),
        ("Tab", " locks"),
        ("p", "ause"),
        ("r", "efresh"),
        ("+-", " interval"),
        ("q", "uit"),
    ];
    let spans = keys
        .into_iter()
        .flat_map(|(key, rest)| -> [Span; 3] { [key.bold().cyan(), rest.into(), "  ".into()] });
    Line::from_iter(spans)
}

/// A question over everything else.
fn ask(frame: &mut Frame, question: &str) {
    let area = frame.area();
    let width = area.width.saturating_sub(8).min(100);
    let height = 6.min(area.height);
    let area = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let block = Block::bordered()
        .title(" y: yes, any other key: no ")
        .style(Style::new().bg(Color::Red).fg(Color::White));
    frame.render_widget(Clear, area);
    let question = Paragraph::new(format!("{question}?"));
    frame.render_widget(question.wrap(Wrap { trim: true }).block(block), area);
}
