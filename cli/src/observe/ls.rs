//! The locks that are held and waited for.

use std::process::ExitCode;

use clap::Args;
use diesel::prelude::*;
use diesel::sql_types::Integer;
use diesel_locks::observed::locks;
use diesel_locks::{LockError, LockInfo, LockedObject, ObserveDsl};

use super::look::Look;
use super::print::{print, print_json};
use super::{json, table};
use crate::failure::Failure;

/// The kinds that PostgreSQL 13 to 18 have.
const KINDS: [&str; 12] = [
    "advisory",
    "relation",
    "tuple",
    "transactionid",
    "virtualxid",
    "page",
    "extend",
    "frozenid",
    "object",
    "spectoken",
    "userlock",
    "applytransaction",
];

/// Prints the locks that are held and waited for
///
/// Advisory locks and tables in all databases of the server, and rows that are waited for, but not
/// the catalogues, and not what every transaction has of itself. Locks of names are shown by their
/// names if --name says them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  diesel_locks ls --name nightly-report
  diesel_locks ls --kind advisory --json | jq '.[].session.application'")]
pub(crate) struct ListArguments {
    /// Prints an array of objects
    #[arg(long)]
    json: bool,
    /// Prints every lock of the server
    #[arg(long, short)]
    all: bool,
    /// Prints those of this kind only, as pg_locks calls it
    #[arg(long, value_parser = KINDS)]
    kind: Option<String>,
    /// Prints those of this session only
    #[arg(long, conflicts_with = "waiting")]
    pid: Option<i32>,
    /// Prints those only that are waited for
    #[arg(long, short)]
    waiting: bool,
    #[command(flatten)]
    look: Look,
}

pub(crate) fn ls(arguments: &ListArguments) -> Result<ExitCode, Failure> {
    let mut conn = arguments.look.connect()?;
    let mut found = load(&mut conn, arguments).map_err(LockError::from)?;
    let is_narrow = arguments.all || arguments.kind.is_some();
    found.retain(|lock| is_narrow || is_of_interest(lock));
    found.sort_by_key(|lock| (lock.granted, lock.session.pid));
    match arguments.json {
        true => print_json(&found.iter().map(json::lock).collect()),
        false => print(&table::locks(&found)),
    }
}

/// Those that are shown unless somebody wants others, without one's own.
pub(crate) fn interesting_locks(conn: &mut PgConnection) -> Result<Vec<LockInfo>, LockError> {
    let own = diesel::dsl::sql::<Integer>("pg_catalog.pg_backend_pid()");
    let query = locks::table.filter(locks::pid.ne(own));
    let mut found: Vec<LockInfo> = query.observed().load(conn)?;
    found.retain(is_of_interest);
    Ok(found)
}

fn load(conn: &mut PgConnection, arguments: &ListArguments) -> QueryResult<Vec<LockInfo>> {
    let own = diesel::dsl::sql::<Integer>("pg_catalog.pg_backend_pid()");
    let mut query = locks::table.filter(locks::pid.ne(own)).into_boxed();
    if let Some(kind) = &arguments.kind {
        query = query.filter(locks::kind.eq(kind));
    }
    if let Some(pid) = arguments.pid {
        query = query.filter(locks::pid.eq(pid));
    }
    if arguments.waiting {
        query = query.filter(locks::granted.eq(false));
    }
    query.observed().load(conn)
}

/// What somebody has asked for, or waits for.
fn is_of_interest(lock: &LockInfo) -> bool {
    match &lock.object {
        _ if !lock.granted => true,
        LockedObject::Relation(relation) => {
            !matches!(relation.schema.as_deref(), Some("pg_catalog" | "pg_toast"))
        }
        LockedObject::Transaction { .. } | LockedObject::VirtualTransaction(_) => false,
        _ => true,
    }
}
