//! Whether a row is locked.

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::{Bool, Text};
use diesel::{QueryResult, RunQueryDsl};

use crate::explorer::footprint::{KeyColumn, RowKey};

/// Whether others see the row.
pub(super) fn is_there<C>(conn: &mut C, row: &RowKey) -> QueryResult<bool>
where
    C: LoadConnection<Backend = Pg>,
{
    let rows: Vec<bool> = sql::<Bool>(&of_row("true", row)).load(conn)?;
    Ok(!rows.is_empty())
}

/// Whether the transaction of this process has locked the row, alone or with others: these are in
/// `xmax` by a number of their own.
pub(super) fn is_held<C>(conn: &mut C, row: &RowKey, pid: i32) -> QueryResult<bool>
where
    C: LoadConnection<Backend = Pg>,
{
    let rows: Vec<String> = sql::<Text>(&of_row("t.xmax::pg_catalog.text", row)).load(conn)?;
    let Some(locker) = rows.first() else {
        return Ok(false);
    };
    let is_own = format!(
        "(l.pid OPERATOR(pg_catalog.=) {pid}) AND l.granted \
         AND (l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock') \
         AND l.transactionid::pg_catalog.text OPERATOR(pg_catalog.=)"
    );
    let alone = sql::<Bool>(&format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE {is_own} '{locker}')"
    ));
    if alone.get_result(conn)? {
        return Ok(true);
    }
    let with_others = sql::<Bool>(&format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_get_multixact_members('{locker}') AS m \
         JOIN pg_catalog.pg_locks AS l ON {is_own} m.xid::pg_catalog.text)"
    ));
    // It fails for a number that is not one of several.
    Ok(with_others.get_result(conn).unwrap_or(false))
}

fn of_row(asked: &str, row: &RowKey) -> String {
    let is_it: Vec<String> = row.columns.iter().map(condition).collect();
    format!(
        "SELECT {asked} FROM {} AS t WHERE {}",
        row.table,
        is_it.join(" AND ")
    )
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
