//! Whether a row is locked.

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::Bool;
use diesel::{QueryResult, RunQueryDsl};

use crate::explorer::footprint::{KeyColumn, RowKey};

/// Whether others see the row; and whether a transaction that goes on has it.
pub(super) fn is_held<C: LoadConnection<Backend = Pg>>(
    conn: &mut C,
    row: &RowKey,
) -> QueryResult<(bool, bool)> {
    let is_it = row.columns.iter().map(condition);
    let asked = sql::<(Bool, Bool)>(&format!(
        "SELECT true, EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE \
         (l.transactionid::pg_catalog.text OPERATOR(pg_catalog.=) t.xmax::pg_catalog.text) \
         AND l.granted AND (l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock')) FROM {} AS t \
         WHERE {}",
        row.table,
        is_it.collect::<Vec<_>>().join(" AND ")
    ));
    let rows: Vec<(bool, bool)> = asked.load(conn)?;
    Ok(rows.first().copied().unwrap_or_default())
}

fn condition(column: &KeyColumn) -> String {
    let of_type = match column.of_type.as_str() {
        "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "boolean" => "bool",
        other if other.starts_with("character varying") => "text",
        other => other,
    };
    let of_column = match of_type {
        "text" => "::pg_catalog.text",
        _ => "",
    };
    let name = column.name.replace('"', "\"\"");
    let value = &column.value;
    format!("(t.\"{name}\"{of_column} OPERATOR(pg_catalog.=) '{value}'::pg_catalog.{of_type})")
}
