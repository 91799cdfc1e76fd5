//! How ends differ, in words: a database is large, and what is wrong with it is small.

use super::ends::Content;

/// How much of a value is shown.
const LONGEST: usize = 60;

/// What each end has that not all of them have, one line for a session's result or a table. All
/// have the same contents, in the same order.
pub(super) fn differences(ends: &[Vec<Content>]) -> Vec<String> {
    let mut shown = vec![String::new(); ends.len()];
    let contents = ends.iter().map(Vec::len).min().unwrap_or(0);
    for at in 0..contents {
        let common = common(ends, at);
        let own: Vec<Vec<&str>> = ends
            .iter()
            .map(|end| without(&end[at].1, &common))
            .collect();
        if own.iter().all(Vec::is_empty) {
            continue;
        }
        let all: Vec<Vec<(&str, &str)>> = own.iter().flatten().map(|row| columns(row)).collect();
        for ((text, rows), end) in shown.iter_mut().zip(&own).zip(ends) {
            let rows: Vec<String> = rows.iter().map(|row| brief(row, &all)).collect();
            let rows = match (rows.is_empty(), common.is_empty()) {
                (true, true) => "nothing".to_owned(),
                (true, false) => "nothing more".to_owned(),
                (false, _) => rows.join(" "),
            };
            text.push_str(&format!("{}: {rows}\n", end[at].0));
        }
    }
    shown
}

/// The rows that all have, as often as all have them.
fn common(ends: &[Vec<Content>], at: usize) -> Vec<&str> {
    let (first, others) = match ends {
        [first, others @ ..] => (first, others),
        [] => return Vec::new(),
    };
    let mut common: Vec<&str> = first[at].1.iter().map(String::as_str).collect();
    for other in others {
        let mut left: Vec<&str> = other[at].1.iter().map(String::as_str).collect();
        common.retain(|row| {
            let found = left.iter().position(|other| other == row);
            found.map(|found| left.swap_remove(found)).is_some()
        });
    }
    common
}

fn without<'r>(rows: &'r [String], common: &[&str]) -> Vec<&'r str> {
    let mut common = common.to_vec();
    let mut own: Vec<&str> = rows.iter().map(String::as_str).collect();
    own.retain(|row| {
        let found = common.iter().position(|other| other == row);
        found.map(|found| common.swap_remove(found)).is_none()
    });
    own
}

/// A row without columns that say nothing: those that are the same in all rows, and empty. Of a row
/// to which it refers it has what is not the same, or else what is there.
fn brief(row: &str, all: &[Vec<(&str, &str)>]) -> String {
    let columns = columns(row);
    if columns.is_empty() {
        return row.to_owned();
    }
    let says = |(name, value): &&(&str, &str)| {
        let is_same = |other: &Vec<(&str, &str)>| other.contains(&(name, value));
        !is_empty(value) || !all.iter().all(is_same)
    };
    let shown = columns.iter().filter(says).map(|(name, value)| {
        let parts = self::columns(value);
        let all: Vec<Vec<(&str, &str)>> = all
            .iter()
            .flatten()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| self::columns(value))
            .collect();
        let differs = |part: &&(&str, &str)| !all.iter().all(|other| other.contains(part));
        let names_it =
            |(_, value): &&(&str, &str)| !is_empty(value) && self::columns(value).is_empty();
        let mut named: Vec<_> = parts.iter().filter(differs).collect();
        if named.is_empty() {
            named = parts.iter().filter(names_it).collect();
        }
        let named: Vec<String> = named.into_iter().map(joined).collect();
        match named.is_empty() {
            true => joined(&(name, value)),
            false => format!("{name}: {{{}}}", named.join(", ")),
        }
    });
    format!("{{{}}}", shown.collect::<Vec<_>>().join(", "))
}

fn joined((name, value): &(&str, &str)) -> String {
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{name}: {}…", &value[..end]),
        None => format!("{name}: {value}"),
    }
}

fn is_empty(value: &str) -> bool {
    ["null", "\"\"", "\"_\"", "{}", "[]"].contains(&value)
}

/// The names and values of an object of JSON, as the server writes it; none of any other text.
fn columns(row: &str) -> Vec<(&str, &str)> {
    let inner = row
        .strip_prefix("{\"")
        .and_then(|row| row.strip_suffix('}'))
        .map(|inner| &row[1..=inner.len() + 1]);
    let Some(inner) = inner else {
        return Vec::new();
    };
    let (mut columns, mut depth, mut from) = (Vec::new(), 0_usize, 0);
    let (mut quoted, mut escaped, mut colon) = (false, false, None);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            ':' if depth == 0 && colon.is_none() => colon = Some(at),
            ',' if depth == 0 => {
                if let Some(colon) = colon.take() {
                    let (name, value) = (&inner[from..colon], &inner[colon + 1..at]);
                    columns.push((name.trim().trim_matches('"'), value.trim()));
                }
                from = at + 1;
            }
            _ => {}
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(table: &str, rows: &[&str]) -> Vec<Content> {
        let rows = rows.iter().map(|&row| row.to_owned()).collect();
        vec![
            ("ada".to_owned(), vec!["Ok(1)".to_owned()]),
            (table.to_owned(), rows),
        ]
    }

    #[test]
    fn rows_that_all_have_are_left_out_and_so_are_columns_that_say_nothing() {
        let ends = [
            end(
                "a",
                &[
                    r#"{"b": "x, \"{", "c": null, "d": {"e": 1, "f": null}}"#,
                    "{}",
                ],
            ),
            end("a", &["{}", r#"{"b": "y", "c": null, "d": {"e": 2}}"#]),
            end("a", &["{}"]),
        ];
        let shown = differences(&ends);
        assert_eq!(shown[0], "a: {b: \"x, \\\"{\", d: {e: 1, f: null}}\n");
        assert_eq!(shown[1], "a: {b: \"y\", d: {e: 2}}\n");
        assert_eq!(shown[2], "a: nothing more\n");
    }

    #[test]
    fn a_column_that_is_empty_in_some_rows_only_is_shown() {
        let ends = [end("a", &[r#"{"b": null}"#]), end("a", &[r#"{"b": 1}"#])];
        assert_eq!(differences(&ends), ["a: {b: null}\n", "a: {b: 1}\n"]);
    }

    #[test]
    fn of_a_row_that_is_referred_to_only_what_differs_is_shown() {
        let ends = [
            end(
                "a",
                &[r#"{"b": {"c": "x", "d": null}, "e": {"f": 1, "c": "x"}}"#],
            ),
            end(
                "a",
                &[r#"{"b": {"c": "x", "d": null}, "e": {"f": 2, "c": "x"}}"#],
            ),
        ];
        let shown = differences(&ends);
        assert_eq!(shown[0], "a: {b: {c: \"x\"}, e: {f: 1}}\n");
        assert_eq!(shown[1], "a: {b: {c: \"x\"}, e: {f: 2}}\n");
    }

    #[test]
    fn what_is_no_object_is_borne() {
        for text in ["", "{", "{\"", "{\"}", "[1]", "{\"a\": ", "Ok(\"é\")"] {
            let ends = [end("a", &[text]), end("a", &[])];
            assert_eq!(differences(&ends)[1], "a: nothing\n");
        }
    }
}
