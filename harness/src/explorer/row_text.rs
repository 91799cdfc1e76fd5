//! A row without what may differ: numbers of sequences. What refers to such a number refers to the
//! row that has it.

use super::footprint::{Catalog, Relation};

/// How far a reference is followed.
const DEPTH: usize = 3;

pub(super) struct Rows<'c> {
    pub(super) catalog: &'c Catalog,
    /// Columns that are left out: `table.column`.
    pub(super) ignored: &'c [String],
}

impl Rows<'_> {
    /// The expression for a row of the table, which is called `t` and the number of tables that
    /// are above it.
    pub(super) fn compared(&self, table: &str, above: &mut Vec<String>) -> String {
        let nothing = Relation::default();
        let relation = self.catalog.relations.get(table).unwrap_or(&nothing);
        let alias = above.len();
        let mut left_out: Vec<String> = self.left_out(table).map(literal).collect();
        left_out.extend(relation.numbered.iter().map(|column| literal(column)));
        let mut parents = Vec::new();
        above.push(table.to_owned());
        for reference in &relation.references {
            let parent = self.catalog.relations.get(&reference.table);
            let is_numbered = |(_, column): &(&String, &String)| {
                parent.is_some_and(|parent| parent.numbered.contains(column))
            };
            let columns = reference.columns.iter().zip(&reference.parent_columns);
            let numbered: Vec<_> = columns.filter(is_numbered).collect();
            let is_above = above.contains(&reference.table) || above.len() > DEPTH;
            let is_left_out = |own: &str| self.left_out(table).any(|column| column == own);
            if let ([(own, other)], false) = (numbered.as_slice(), is_above)
                && !is_left_out(own)
            {
                let row = self.compared(&reference.table, above);
                parents.push(format!(
                    "{}, (SELECT {row} FROM {} AS t{} WHERE t{}.{} OPERATOR(pg_catalog.=) t{alias}.{})",
                    literal(own),
                    reference.table,
                    alias + 1,
                    alias + 1,
                    quoted(other),
                    quoted(own),
                ));
            }
            left_out.extend(numbered.iter().map(|(own, _)| literal(own)));
        }
        above.pop();
        let row = format!(
            "(pg_catalog.to_jsonb(t{alias}) OPERATOR(pg_catalog.-) ARRAY[{}]::pg_catalog.text[])",
            left_out.join(", ")
        );
        match parents.is_empty() {
            true => row,
            false => format!(
                "({row} OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object({}))",
                parents.join(", ")
            ),
        }
    }

    fn left_out<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'r str> {
        self.ignored.iter().filter_map(move |ignored| {
            let (table, column) = ignored.rsplit_once('.')?;
            (table == short(name) || table == name).then_some(column)
        })
    }
}

/// The name without its schema.
pub(super) fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
