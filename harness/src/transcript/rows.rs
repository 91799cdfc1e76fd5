use super::events::{Event, Transcript, What};
use super::words::{GLUE, cut, shown_name, squeezed};

/// How many characters a column has at most.
pub(super) const COLUMN: usize = 44;
/// How many are left of a label when it is seen again.
const LABEL: usize = 32;

/// An event, or a step that ended before anything else happened.
///
/// All renderers show these, so that they tell the same story.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) session: usize,
    /// In milliseconds.
    pub(super) at: String,
    /// The step's label, cut.
    pub(super) step: String,
    pub(super) kind: Kind,
    /// What the session's column says: the step and its mark, or what it waits for. To be wrapped.
    pub(super) head: String,
    /// Why it failed, line by line.
    pub(super) details: Vec<String>,
    /// Each session's bar.
    pub(super) bars: Vec<Bar>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Started,
    /// It waits for these sessions.
    Waiting(Vec<usize>),
    Done,
    Failed,
}

/// The bar of a step that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bar {
    Absent,
    Begins,
    GoesOn,
    Ends,
}

impl Bar {
    /// Whether the bar is still there under its row.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Begins | Self::GoesOn)
    }

    /// The bar in the next row, if that is another session's.
    fn next(self) -> Self {
        if self.is_open() {
            Self::GoesOn
        } else {
            Self::Absent
        }
    }
}

impl Row {
    /// The bar of the row's own session.
    pub(super) fn bar(&self) -> Bar {
        self.bars[self.session]
    }
}

pub(super) fn rows(transcript: &Transcript) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut bars = vec![Bar::Absent; transcript.sessions.len()];
    let mut events = transcript.events.iter().peekable();
    while let Some(first) = events.next() {
        let ends_it = |next: &&Event| next.session == first.session && next.what.is_end();
        let end = match first.what {
            What::Started => events.next_if(ends_it),
            _ => None,
        };
        let last = end.unwrap_or(first);
        bars = bars_after(&bars, last);
        rows.push(Row {
            session: first.session,
            at: format!("{:.1}", first.at.as_secs_f64() * 1e3),
            step: cut(&squeezed(&first.step), LABEL),
            kind: kind(&transcript.sessions, last),
            head: head(first, &last.what),
            details: details(&last.what),
            bars: bars.clone(),
        });
    }
    rows
}

fn bars_after(bars: &[Bar], event: &Event) -> Vec<Bar> {
    let mut next: Vec<_> = bars.iter().map(|bar| bar.next()).collect();
    let own = &mut next[event.session];
    match (*own, &event.what) {
        (Bar::Absent, What::Waiting { .. }) => *own = Bar::Begins,
        (Bar::GoesOn, what) if what.is_end() => *own = Bar::Ends,
        _ => {}
    }
    next
}

fn kind(sessions: &[String], event: &Event) -> Kind {
    match &event.what {
        What::Started => Kind::Started,
        What::Waiting { by, .. } => {
            // No session waits for itself: it is another one of the same name.
            let others = (0..sessions.len()).filter(|other| *other != event.session);
            let numbers = by
                .iter()
                .filter_map(|name| others.clone().find(|other| sessions[*other] == *name));
            Kind::Waiting(numbers.collect())
        }
        What::Done => Kind::Done,
        What::Failed(_) | What::Panicked(_) | What::TimedOut => Kind::Failed,
    }
}

fn head(first: &Event, what: &What) -> String {
    match what {
        What::Waiting { by, lock } => wait(by, lock),
        What::Started => marked(first, '…'),
        What::Done => marked(first, '✓'),
        What::Failed(_) | What::Panicked(_) | What::TimedOut => marked(first, '✗'),
    }
}

fn wait(by: &[String], lock: &str) -> String {
    let lock = squeezed(lock);
    if by.is_empty() {
        return format!("waits: {lock}");
    }
    let names: Vec<_> = by.iter().map(|name| shown_name(name)).collect();
    format!("waits for {}: {lock}", names.join(", "))
}

/// The step's label and its mark.
fn marked(first: &Event, mark: char) -> String {
    let label = squeezed(&first.step);
    // The whole label stands where the step started, and may be a long statement.
    let label = match first.what {
        What::Started => label,
        _ => cut(&label, LABEL),
    };
    format!("{label}{GLUE}{mark}")
}

fn details(what: &What) -> Vec<String> {
    let text = match what {
        What::Started | What::Waiting { .. } | What::Done => return Vec::new(),
        What::Failed(error) => error.clone(),
        What::Panicked(message) if message.is_empty() => "panicked".to_owned(),
        What::Panicked(message) => format!("panicked: {message}"),
        What::TimedOut => "cancelled, for the time was over".to_owned(),
    };
    let lines = text.lines().map(squeezed);
    lines.filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::examples::{note, step, waiting};
    use super::*;

    #[test]
    fn a_step_is_one_row_if_nothing_happened_while_it_ran() {
        let mut transcript = Transcript::default();
        let first = transcript.add_session("first");
        let second = transcript.add_session("second");
        step(&mut transcript, first, 0, "a", What::Done);
        note(&mut transcript, first, 1, "b", What::Started);
        step(&mut transcript, second, 2, "c", What::TimedOut);
        note(&mut transcript, first, 3, "b", What::Done);
        let kinds: Vec<_> = rows(&transcript).into_iter().map(|row| row.kind).collect();
        let expected = [Kind::Done, Kind::Started, Kind::Failed, Kind::Done];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn a_wait_is_a_bar_until_the_step_ends() {
        let mut transcript = Transcript::default();
        let first = transcript.add_session("first");
        let second = transcript.add_session("second");
        note(&mut transcript, second, 1, "lock", What::Started);
        note(&mut transcript, second, 2, "lock", waiting(&["first"], "a"));
        note(&mut transcript, second, 3, "lock", waiting(&["first"], "b"));
        step(&mut transcript, first, 4, "commit", What::Done);
        note(&mut transcript, second, 5, "lock", What::Done);
        step(&mut transcript, second, 6, "commit", What::Done);
        let bars: Vec<_> = rows(&transcript)
            .iter()
            .map(|row| row.bars[second])
            .collect();
        let expected = [
            Bar::Absent,
            Bar::Begins,
            Bar::GoesOn,
            Bar::GoesOn,
            Bar::Ends,
            Bar::Absent,
        ];
        assert_eq!(bars, expected);
    }

    #[test]
    fn of_two_sessions_with_one_name_the_other_is_waited_for() {
        let mut transcript = Transcript::default();
        let first = transcript.add_session("same");
        let second = transcript.add_session("same");
        note(
            &mut transcript,
            first,
            0,
            "lock",
            waiting(&["same", "nobody"], "a"),
        );
        assert_eq!(rows(&transcript)[0].kind, Kind::Waiting(vec![second]));
    }
}
