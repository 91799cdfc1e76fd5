//! Cancelling and terminating sessions.

use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use diesel::prelude::*;
use diesel_locks::observed::{locks, sessions};
use diesel_locks::{
    End, LockError, LockInfo, LockKey, LockedObject, ObserveDsl, ObserveExt, SessionInfo,
};

use super::look::Look;
use crate::failure::Failure;
use crate::key::{self, Given};
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
Asks first, on a terminal; --yes is needed where there is none. Sessions of superusers and processes
of the server are spared. The exit status is 0 if the server has told all of them to end.

Examples:
  diesel_locks terminate 4711
  diesel_locks terminate --yes nightly-report
  diesel_locks cancel --key sqlx:nightly-report")]
pub(crate) struct EndArguments {
    /// A backend pid, or the name of an advisory lock: then all who hold it in this database
    // An empty one is that of a variable that is not set.
    #[arg(
        value_name = "PID|NAME",
        required_unless_present = "key",
        value_parser = NonEmptyStringValueParser::new()
    )]
    target: Option<String>,
    /// The key of an advisory lock, instead of its name: as for `diesel_locks key`
    #[arg(
        long,
        conflicts_with = "target",
        value_name = "KEY",
        value_parser = key::given,
        allow_hyphen_values = true
    )]
    key: Option<Given>,
    /// Does not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    look: Look,
}

pub(crate) fn cancel(arguments: &EndArguments) -> Result<ExitCode, Failure> {
    end(arguments, End::Cancel)
}

pub(crate) fn terminate(arguments: &EndArguments) -> Result<ExitCode, Failure> {
    end(arguments, End::Terminate)
}

fn end(arguments: &EndArguments, how: End) -> Result<ExitCode, Failure> {
    let mut conn = arguments.look.connect()?;
    let found = find(&mut conn, arguments)?;
    if found.is_empty() {
        let key = arguments.key.as_ref().map(|given| given.text.as_str());
        let target = arguments.target.as_deref().or(key).unwrap_or_default();
        return Err(Failure::new(format!("no session is, or holds, {target}")));
    }
    if !arguments.yes && !is_wanted(&found, how)? {
        return Ok(ExitCode::FAILURE);
    }
    let ended = conn.end_sessions(found, how)?;
    let told: String = ended.iter().map(|session| format!("{session}\n")).collect();
    output::print(told)?;
    match ended.iter().all(|session| session.is_ended()) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

fn find(conn: &mut PgConnection, arguments: &EndArguments) -> Result<Vec<SessionInfo>, Failure> {
    let key = match (&arguments.key, &arguments.target) {
        (Some(given), _) => given.key,
        (None, target) => {
            let target = target.as_deref().unwrap_or_default();
            if let Ok(pid) = target.parse::<i32>() {
                let query = sessions::table.filter(sessions::pid.eq(pid));
                let query = query.filter(sessions::prepared.is_null());
                return Ok(query.observed().load(conn).map_err(LockError::from)?);
            }
            LockKey::named(target)
        }
    };
    Ok(holders(conn, key).map_err(LockError::from)?)
}

/// Who holds an advisory lock in the current database.
fn holders(conn: &mut PgConnection, key: LockKey) -> QueryResult<Vec<SessionInfo>> {
    let here = diesel::dsl::sql::<diesel::sql_types::Nullable<diesel::sql_types::Text>>(
        "pg_catalog.current_database()::pg_catalog.text",
    );
    let query = locks::table
        .filter(locks::kind.eq("advisory"))
        .filter(locks::granted.eq(true))
        .filter(locks::database.eq(here));
    let held: Vec<LockInfo> = query.observed().load(conn)?;
    let mut holders: Vec<SessionInfo> = held
        .into_iter()
        .filter(|lock| lock.object == LockedObject::Advisory(key))
        .map(|lock| lock.session)
        .collect();
    // Whoever holds it shared and exclusively is one.
    holders.sort_by_key(SessionInfo::id);
    holders.dedup_by_key(|session| session.id());
    Ok(holders)
}

fn is_wanted(found: &[SessionInfo], how: End) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        let told = "there is nobody to ask on the standard input: --yes says that it is wanted";
        return Err(Failure::new(told));
    }
    let verb = match how {
        End::Cancel => "Cancel",
        End::Terminate => "Terminate",
    };
    let found: String = found.iter().map(|session| format!("{session}\n")).collect();
    output::print(format_args!("{found}{verb}? [y/N] "))?;
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.map_err(Failure::new)? == 0 {
        output::print("\n")?;
    }
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
