use std::fmt;

use super::events::Transcript;
use super::rows::{Bar, COLUMN, Row, rows};
use super::words::{self, padded, wrapped};

/// The least width of the times.
const TIME: usize = 8;

/// A row of the table, with each column's lines.
struct Line {
    time: String,
    cells: Vec<Vec<String>>,
}

/// The text in columns, without a line break at its end.
impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        if names.is_empty() {
            return f.write_str("no sessions");
        }
        let header = Line {
            time: "ms".to_owned(),
            cells: names.iter().map(|name| wrapped(name, COLUMN)).collect(),
        };
        let body: Vec<_> = rows(self).iter().map(Line::new).collect();
        let widths = widths(&header, &body);
        header.write(f, &widths)?;
        write_rule(f, &widths)?;
        body.iter().try_for_each(|line| {
            f.write_str("\n")?;
            line.write(f, &widths)
        })
    }
}

impl Line {
    fn new(row: &Row) -> Self {
        let own = own_cell(row);
        let height = own.len();
        let beside = |bar: &Bar| match bar {
            Bar::GoesOn => vec!["┃".to_owned(); height],
            _ => Vec::new(),
        };
        let mut cells: Vec<_> = row.bars.iter().map(beside).collect();
        cells[row.session] = own;
        Self {
            time: row.at.clone(),
            cells,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, widths: &Widths) -> fmt::Result {
        let height = self.cells.iter().map(Vec::len).max().unwrap_or(0);
        for number in 0..height {
            let time = if number == 0 { &self.time } else { "" };
            let mut line = format!("{time:>0$}", widths.time);
            for (cell, width) in self.cells.iter().zip(&widths.columns) {
                let text = cell.get(number).map_or("", String::as_str);
                line += &format!(" │ {}", padded(text, *width));
            }
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The lines of the session whose row it is.
fn own_cell(row: &Row) -> Vec<String> {
    let (first, rest) = match row.bar() {
        Bar::Begins | Bar::GoesOn => ("┃ ", "┃ "),
        Bar::Ends => ("┗ ", "  "),
        Bar::Absent => ("", ""),
    };
    let room = COLUMN - words::width(first);
    let head = wrapped(&row.head, room).into_iter();
    let details = row
        .details
        .iter()
        .flat_map(|detail| wrapped(detail, room - 2))
        .map(|line| format!("  {line}"));
    head.chain(details)
        .enumerate()
        .map(|(number, line)| format!("{}{line}", if number == 0 { first } else { rest }))
        .collect()
}

struct Widths {
    time: usize,
    columns: Vec<usize>,
}

fn widths(header: &Line, body: &[Line]) -> Widths {
    let mut widths = Widths {
        time: TIME,
        columns: vec![0; header.cells.len()],
    };
    for line in body.iter().chain([header]) {
        widths.time = widths.time.max(line.time.chars().count());
        for (width, cell) in widths.columns.iter_mut().zip(&line.cells) {
            let widest = cell.iter().map(|text| words::width(text)).max();
            *width = (*width).max(widest.unwrap_or(0));
        }
    }
    widths
}

fn write_rule(f: &mut fmt::Formatter<'_>, widths: &Widths) -> fmt::Result {
    write!(f, "\n{}", "─".repeat(widths.time + 1))?;
    for (number, width) in widths.columns.iter().enumerate() {
        // The last column has no gap to the right.
        let gap = if number + 1 == widths.columns.len() {
            1
        } else {
            2
        };
        write!(f, "┼{}", "─".repeat(width + gap))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::What;
    use super::super::examples::{deadlock, handover, note, odd, waiting};
    use super::*;

    fn lines(transcript: &Transcript) -> Vec<String> {
        let text = transcript.to_string();
        text.split('\n').map(str::to_owned).collect()
    }

    #[test]
    fn a_wait_has_a_bar_beside_what_goes_on() {
        let expected = [
            "      ms │ first    │ second",
            "─────────┼──────────┼────────────────────────────────────────────",
            "     0.0 │ begin ✓  │",
            "     0.4 │ lock ✓   │",
            "     0.6 │          │ lock …",
            "     1.4 │          │ ┃ waits for first: ShareLock on transaction",
            "     2.0 │ commit ✓ │ ┃",
            "     2.1 │          │ ┗ lock ✓",
        ];
        assert_eq!(lines(&handover()), expected);
    }

    #[test]
    fn an_error_is_wrapped_under_its_step_beside_the_bars_of_others() {
        let expected = [
            "      ms │ first                                        │ second",
            "─────────┼──────────────────────────────────────────────┼────────────────────────────────────────────",
            "     0.0 │ lock 1 ✓                                     │",
            "     0.3 │                                              │ lock 2 ✓",
            "     0.6 │ UPDATE accounts SET balance = 0 WHERE id =   │",
            "         │ 2 …                                          │",
            "     1.5 │ ┃ waits for second: ShareLock on transaction │",
            "     1.8 │ ┃                                            │ lock 1 …",
            "     2.7 │ ┃                                            │ ┃ waits for first: ShareLock on transaction",
            "  1002.7 │ ┃                                            │ ┗ lock 1 ✗",
            "         │ ┃                                            │     deadlock detected",
            "         │ ┃                                            │     Process 71 waits for ShareLock on",
            "         │ ┃                                            │     transaction 741.",
            "  1002.9 │ ┃                                            │ rollback ✓",
            "  1002.8 │ ┗ UPDATE accounts SET balance = 0… ✓         │",
        ];
        assert_eq!(lines(&deadlock()), expected);
    }

    #[test]
    fn the_bar_of_a_step_that_never_ended_has_no_end() {
        let mut transcript = Transcript::default();
        let only = transcript.add_session("only");
        note(&mut transcript, only, 0, "lock", What::Started);
        let wait = waiting(&[], "AccessExclusiveLock on accounts");
        note(&mut transcript, only, 1, "lock", wait);
        let expected = [
            "      ms │ only",
            "─────────┼─────────────────────────────────────────",
            "     0.0 │ lock …",
            "     0.1 │ ┃ waits: AccessExclusiveLock on accounts",
        ];
        assert_eq!(lines(&transcript), expected);
    }

    #[test]
    fn nothing_is_shown_too() {
        let mut transcript = Transcript::default();
        assert_eq!(transcript.to_string(), "no sessions");
        transcript.add_session("only");
        assert_eq!(transcript.to_string(), "      ms │ only\n─────────┼─────");
    }

    #[test]
    fn an_odd_content_stays_in_its_column() {
        let lines = lines(&odd());
        let columns = |line: &str| -> Vec<usize> {
            let chars = line.chars().enumerate();
            chars
                .filter(|(_, c)| "│┼".contains(*c))
                .map(|(place, _)| place)
                .collect()
        };
        for line in &lines {
            assert_eq!(columns(line), columns(&lines[0]), "{line}");
            assert_eq!(line.trim_end(), line);
            assert!(!line.contains(char::is_control), "{line}");
        }
    }
}
