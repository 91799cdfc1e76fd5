//! Whether a row is locked.

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::Bool;
use diesel::{QueryResult, RunQueryDsl};

use super::footprint::RowKey;

/// Whether others see the row; and whether a transaction that goes on has it.
pub(super) fn is_held<C: LoadConnection<Backend = Pg>>(
    conn: &mut C,
    row: &RowKey,
) -> QueryResult<(bool, bool)> {
    let RowKey {
        table,
        column,
        of_type,
        value,
    } = row;
    let of_type = match of_type.as_str() {
        "character varying" => "text",
        "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        other => other,
    };
    let of_column = match of_type {
        "text" => "::pg_catalog.text",
        _ => "",
    };
    let column = column.replace('"', "\"\"");
    let asked = sql::<(Bool, Bool)>(&format!(
        "SELECT true, EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE \
         (l.transactionid::pg_catalog.text OPERATOR(pg_catalog.=) t.xmax::pg_catalog.text) \
         AND l.granted AND (l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock')) FROM {table} AS t \
         WHERE t.\"{column}\"{of_column} OPERATOR(pg_catalog.=) '{value}'::pg_catalog.{of_type}"
    ));
    let rows: Vec<(bool, bool)> = asked.load(conn)?;
    Ok(rows.first().copied().unwrap_or_default())
}
