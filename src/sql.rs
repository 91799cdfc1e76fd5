use diesel::QueryResult;
use diesel::pg::{Pg, PgQueryBuilder};
use diesel::query_builder::{QueryBuilder, QueryFragment};

/// A table, or an alias, as it stands in a `FROM`.
pub(crate) fn as_sql(table: &impl QueryFragment<Pg>) -> QueryResult<String> {
    let mut builder = PgQueryBuilder::default();
    table.to_sql(&mut builder, &Pg)?;
    Ok(builder.finish())
}
