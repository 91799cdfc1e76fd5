use std::fmt;

use super::events::Transcript;
use super::rows::{Bar, COLUMN, Kind, Row, rows};
use super::words::wrapped;

impl Transcript {
    /// As a [Mermaid](https://mermaid.js.org) sequence diagram, for Markdown that draws such.
    ///
    /// A step is a note over its session, and a wait an arrow to each session that is in its way.
    /// Of an error it has the first line. It costs no round trip.
    pub fn to_mermaid(&self) -> String {
        Mermaid(self).to_string()
    }
}

pub(super) struct Mermaid<'a>(pub(super) &'a Transcript);

impl fmt::Display for Mermaid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sequenceDiagram")?;
        for (session, name) in self.0.names().iter().enumerate() {
            writeln!(f, "    participant s{session} as {}", escaped(name))?;
        }
        let rows = rows(self.0);
        rows.iter().try_for_each(|row| write_row(f, row))?;
        // A diagram in which a bar does not end is an error.
        let last = rows.last().map_or(&[][..], |row| &row.bars);
        for (session, bar) in last.iter().enumerate() {
            if bar.is_open() {
                writeln!(f, "    deactivate s{session}")?;
            }
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let session = row.session;
    let text = text(row);
    match &row.kind {
        Kind::Waiting(holders) if !holders.is_empty() => {
            for holder in holders {
                writeln!(f, "    s{session}-)s{holder}: {text}")?;
            }
        }
        _ => writeln!(f, "    Note over s{session}: {text}")?,
    }
    match row.bar() {
        Bar::Begins => writeln!(f, "    activate s{session}"),
        Bar::Ends => writeln!(f, "    deactivate s{session}"),
        Bar::Absent | Bar::GoesOn => Ok(()),
    }
}

/// The row's text, of which a wait has to name its step.
fn text(row: &Row) -> String {
    let (first, second) = match row.kind {
        Kind::Waiting(_) => (&row.step, Some(&row.head)),
        _ => (&row.head, row.details.first()),
    };
    let first = format!("{} ms {first}", row.at);
    let parts = [Some(&first), second].into_iter().flatten();
    let lines = parts.flat_map(|part| wrapped(part, COLUMN));
    let lines: Vec<_> = lines.map(|line| escaped(&line)).collect();
    lines.join("<br/>")
}

/// The text of one line in Mermaid's entity codes, where it has more than letters and digits.
fn escaped(line: &str) -> String {
    let mut words = line.split(' ').peekable();
    let mut escaped = String::new();
    while let Some(word) = words.next() {
        let mut chars = word.chars().peekable();
        if word.eq_ignore_ascii_case("end") {
            // Mermaid would take it for the end of a block.
            escaped.extend(chars.next().map(code));
        }
        while let Some(c) = chars.next() {
            // A colon before a space is text to Mermaid, and reads better as it is.
            let ends_clause = c == ':' && chars.peek().is_none() && words.peek().is_some();
            if ends_clause || c.is_alphanumeric() || !c.is_ascii() || "._,()/=".contains(c) {
                escaped.push(c);
            } else {
                escaped += &code(c);
            }
        }
        if words.peek().is_some() {
            escaped.push(' ');
        }
    }
    escaped
}

fn code(c: char) -> String {
    format!("#{};", u32::from(c))
}

#[cfg(test)]
mod tests {
    use super::super::examples::{handover, odd};
    use super::*;

    #[test]
    fn a_wait_is_an_arrow_and_an_activation_until_the_step_ends() {
        let expected = "\
sequenceDiagram
    participant s0 as first
    participant s1 as second
    Note over s0: 0.0 ms begin ✓
    Note over s0: 0.4 ms lock ✓
    Note over s1: 0.6 ms lock …
    s1-)s0: 1.4 ms lock<br/>waits for first: ShareLock on transaction
    activate s1
    Note over s0: 2.0 ms commit ✓
    Note over s1: 2.1 ms lock ✓
    deactivate s1
";
        assert_eq!(handover().to_mermaid(), expected);
    }

    #[test]
    fn no_sessions_are_an_empty_diagram() {
        assert_eq!(Transcript::default().to_mermaid(), "sequenceDiagram\n");
    }

    #[test]
    fn every_activation_ends_though_its_step_does_not() {
        let diagram = odd().to_mermaid();
        for session in 0..odd().sessions.len() {
            let count = |word| diagram.matches(&format!("    {word} s{session}\n")).count();
            assert_eq!(count("activate"), count("deactivate"));
        }
        assert!(diagram.contains("\n    activate"));
    }

    #[test]
    fn what_mermaid_would_take_for_syntax_is_a_code() {
        let text = "end; a: b:c #1; <b> \"x\" %%{ -->";
        let expected = "end#59; a: b#58;c #35;1#59; #60;b#62; #34;x#34; #37;#37;#123; #45;#45;#62;";
        assert_eq!(escaped("End"), "#69;nd");
        assert_eq!(escaped("ends:"), "ends#58;");
        assert_eq!(escaped(text), expected);
    }

    #[test]
    fn an_odd_content_leaves_every_line_a_statement() {
        for line in odd().to_mermaid().lines().skip(1) {
            let words = [
                "participant s",
                "Note over s",
                "s",
                "activate s",
                "deactivate s",
            ];
            let statement = line.trim_start();
            assert!(
                words.iter().any(|word| statement.starts_with(word)),
                "{line}"
            );
            let rest = statement.replace("<br/>", "");
            assert!(!rest.contains(['<', '"', '%', '{']), "{line}");
        }
    }
}
