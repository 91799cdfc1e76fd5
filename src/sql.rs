use diesel::QueryResult;
use diesel::pg::{Pg, PgQueryBuilder};
use diesel::query_builder::{QueryBuilder, QueryFragment};

/// A table, or an alias, as it stands in a `FROM`.
pub(crate) fn as_sql(table: &impl QueryFragment<Pg>) -> QueryResult<String> {
    let mut builder = PgQueryBuilder::default();
    table.to_sql(&mut builder, &Pg)?;
    Ok(builder.finish())
}

/// A name, as it is to be written in SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The name in that, as PostgreSQL's errors have it: without quotes, and with the schema.
pub(crate) fn unquoted(sql: &str) -> String {
    // A quote that belongs to a name is doubled.
    let parts: Vec<_> = sql
        .split("\"\"")
        .map(|part| part.replace('"', ""))
        .collect();
    parts.join("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_schema_and_no_quotes_but_its_own() {
        for (sql, name) in [
            (r#""accounts""#, "accounts"),
            (r#""bank"."accounts""#, "bank.accounts"),
            (r#""b"".""c"."""a"""#, r#"b"."c."a""#),
        ] {
            assert_eq!(unquoted(sql), name);
        }
    }
}
