use std::fmt;
use std::iter;

/// Who blocks whom, found by [`conflict_matrix`](crate::conflict_matrix).
///
/// It prints as PostgreSQL's documentation prints [its own]: a column for each lock that is held,
/// a row for each one that is requested, and an `X` where they conflict. The table is Markdown
/// too. It has neither white space at a line's end nor a line break at its own.
///
/// [its own]: https://www.postgresql.org/docs/current/explicit-locking.html#TABLE-LOCK-COMPATIBILITY
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictMatrix {
    names: Vec<String>,
    /// A row after the other, one for each lock that is requested.
    conflicts: Vec<bool>,
}

impl ConflictMatrix {
    pub(super) fn new(names: Vec<String>, conflicts: Vec<bool>) -> Self {
        Self { names, conflicts }
    }

    /// The names of the attempts, in their order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the attempt `held`, once made, is in the way of the attempt `requested`. `None` if
    /// there is no such attempt.
    pub fn conflicts(&self, held: &str, requested: &str) -> Option<bool> {
        let index = |name| self.names.iter().position(|known| known == name);
        let (column, row) = (index(held)?, index(requested)?);
        self.conflicts.get(row * self.names.len() + column).copied()
    }
}

/// As a table in Markdown.
impl fmt::Display for ConflictMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names.iter().map(|name| shown(name)).collect();
        let width = |name: &String| name.chars().count();
        let head = r"requested \ held".to_owned();
        let first = names.iter().chain([&head]).map(width).max().unwrap_or(0);
        let widths: Vec<_> = iter::once(first).chain(names.iter().map(width)).collect();

        line(f, &widths, iter::once(&*head).chain(strs(&names)))?;
        f.write_str("\n|")?;
        for width in &widths {
            write!(f, "{:-<width$}|", "", width = width + 2)?;
        }
        let rows = self.conflicts.chunks(self.names.len().max(1));
        for (name, row) in names.iter().zip(rows) {
            f.write_str("\n")?;
            let marks = row
                .iter()
                .map(|&conflicts| if conflicts { "X" } else { "" });
            line(f, &widths, iter::once(&**name).chain(marks))?;
        }
        Ok(())
    }
}

fn strs(texts: &[String]) -> impl Iterator<Item = &str> {
    texts.iter().map(|text| &**text)
}

fn line<'c>(
    f: &mut fmt::Formatter<'_>,
    widths: &[usize],
    cells: impl Iterator<Item = &'c str>,
) -> fmt::Result {
    f.write_str("|")?;
    for (width, cell) in widths.iter().zip(cells) {
        write!(f, " {cell:<width$} |")?;
    }
    Ok(())
}

/// A name on one line, and with no bar that would end its cell.
fn shown(name: &str) -> String {
    let words: Vec<_> = name.split_whitespace().collect();
    words.join(" ").replace('|', r"\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_width_are_aligned_and_kept_in_their_cells() {
        let names = ["é", "a|b\n  c", "a name that is wide"].map(str::to_owned);
        let mut conflicts = vec![false; 9];
        conflicts[1] = true;
        conflicts[8] = true;
        let matrix = ConflictMatrix::new(names.to_vec(), conflicts);
        let lines = [
            r"| requested \ held    | é | a\|b c | a name that is wide |",
            r"|---------------------|---|--------|---------------------|",
            r"| é                   |   | X      |                     |",
            r"| a\|b c              |   |        |                     |",
            r"| a name that is wide |   |        | X                   |",
        ];
        assert_eq!(matrix.to_string(), lines.join("\n"));
    }

    #[test]
    fn a_matrix_of_nothing_has_a_head() {
        let matrix = ConflictMatrix::new(Vec::new(), Vec::new());
        let lines = [r"| requested \ held |", "|------------------|"];
        assert_eq!(matrix.to_string(), lines.join("\n"));
    }

    #[test]
    fn conflicts_are_asked_for_by_name() {
        let names = ["a", "b"].map(str::to_owned);
        let matrix = ConflictMatrix::new(names.to_vec(), vec![false, true, false, false]);
        assert_eq!(matrix.names(), names);
        assert_eq!(matrix.conflicts("b", "a"), Some(true));
        assert_eq!(matrix.conflicts("a", "b"), Some(false));
        assert_eq!(matrix.conflicts("a", "c"), None);
        assert_eq!(matrix.conflicts("c", "a"), None);
    }
}
