//! How a run has ended: what its sessions returned, and what is in the tables.

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::Text;
use diesel::{QueryResult, RunQueryDsl};

use super::footprint::Shapes;
use super::fresh::without_fresh;
use super::row_text::{Rows, literal, short};

/// What a session returned, or the rows of a table, by its name.
pub(super) type Content = (String, Vec<String>);

/// The end of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ending {
    /// What each session returned.
    pub(super) results: Vec<(String, String)>,
    /// What is in the tables.
    pub(super) tables: String,
    /// The rows of each, without what may differ.
    pub(super) compared: Vec<Content>,
}

impl Ending {
    /// In words, the same for the same end.
    pub(super) fn text(&self) -> String {
        let results = self.results.iter();
        let results = results.map(|(name, result)| format!("{name}: {result}\n"));
        format!("{}{}", results.collect::<String>(), self.tables)
    }

    /// What must be the same as in some serial order, of these sessions; without UUIDs and times
    /// that are not known from other ends.
    pub(super) fn compared(
        &self,
        sessions: &[usize],
        is_known: impl Fn(&str) -> bool,
    ) -> Vec<Content> {
        let shown = |text: &String| without_fresh(text, &is_known);
        let results = sessions
            .iter()
            .filter_map(|&session| self.results.get(session));
        let results = results.map(|(name, result)| (name.clone(), vec![shown(result)]));
        let tables = self.compared.iter().map(|(table, rows)| {
            let mut rows: Vec<String> = rows.iter().map(shown).collect();
            rows.sort_unstable();
            (table.clone(), rows)
        });
        results.chain(tables).collect()
    }
}

/// What is in the tables, in full and without what may differ. One round trip.
pub(super) fn tables<C: LoadConnection<Backend = Pg>>(
    conn: &mut C,
    shapes: &Shapes,
    ignored: &[String],
) -> QueryResult<(String, Vec<Content>)> {
    let Some(catalog) = shapes.catalog() else {
        return Ok(Default::default());
    };
    let rows = Rows { catalog, ignored };
    let mut tables: Vec<_> = (catalog.relations.iter())
        .filter(|(name, relation)| {
            relation.kind == "r" && !name.ends_with(".__diesel_schema_migrations")
        })
        .map(|(name, _)| name)
        .collect();
    tables.sort();
    let queries: Vec<String> = (tables.into_iter())
        .map(|name| {
            let all = |row: &str| {
                format!(
                    "coalesce(pg_catalog.string_agg({row}::pg_catalog.text, pg_catalog.chr(1)), '')"
                )
            };
            format!(
                "SELECT {}, {}, {} FROM {name} AS t0",
                literal(short(name)),
                all("pg_catalog.to_jsonb(t0)"),
                all(&rows.compared(name, &mut Vec::new()))
            )
        })
        .collect();
    if queries.is_empty() {
        return Ok(Default::default());
    }
    let rows: Vec<(String, String, String)> =
        sql::<(Text, Text, Text)>(&queries.join(" UNION ALL ")).load(conn)?;
    let shown = rows.iter().map(|(table, all, _)| {
        let mut sorted: Vec<&str> = split(all).collect();
        sorted.sort_unstable();
        format!("{table}: {}\n", sorted.join(" "))
    });
    let compared = rows
        .iter()
        .map(|(table, _, compared)| (table.clone(), split(compared).map(str::to_owned).collect()));
    Ok((shown.collect(), compared.collect()))
}

/// No text of JSON has this character.
fn split(rows: &str) -> impl Iterator<Item = &str> {
    rows.split('\u{1}').filter(|row| !row.is_empty())
}

/// Without the numbers that are other ones each time: of processes, transactions and tuples.
pub(super) fn without_numbers(text: &str) -> String {
    let mut left = text;
    let mut shown = String::new();
    const BEFORE: [&str; 4] = ["rocess ", "ransaction ", "tuple (", "PID "];
    while let Some(at) = BEFORE
        .iter()
        .filter_map(|word| Some(left.find(word)? + word.len()))
        .min()
    {
        shown.push_str(&left[..at]);
        let rest = &left[at..];
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != ',')
            .unwrap_or(rest.len());
        if end > 0 {
            shown.push('_');
        }
        left = &rest[end..];
    }
    shown + left
}
