//! Which database, and a connection to it.

use std::collections::HashSet;
use std::env::{self, VarError};
use std::ffi::OsString;
use std::io;

use clap::Args;
use diesel::connection::SimpleConnection;
use diesel::{Connection, ConnectionError, PgConnection};
use diesel_locks::LockError;

use crate::output::tell;

/// Which database.
#[derive(Debug, Clone, Args)]
pub(crate) struct Database {
    /// The database, as a URL or in libpq's keywords; else DATABASE_URL, of the environment or of
    /// a file .env here or above; else libpq's own variables, such as PGHOST and PGSERVICE
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl Database {
    /// Reads `.env`, as Diesel's own command does: here or in a directory above, and without
    /// overruling the environment.
    ///
    /// Returns the names of the variables that it has added.
    pub(crate) fn read_env_file() -> Vec<OsString> {
        let before: HashSet<OsString> = env::vars_os().map(|(name, _)| name).collect();
        match dotenvy::dotenv() {
            // The line itself may have a password.
            Err(dotenvy::Error::LineParse(..)) => tell(
                "the file .env has a line that cannot be read: it and what follows are left out",
            ),
            // There need not be one.
            Err(dotenvy::Error::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
                tell(format_args!("the file .env cannot be read: {error}"));
            }
            _ => {}
        }
        env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| !before.contains(name))
            .collect()
    }

    /// What to connect to; libpq knows what an empty one is.
    pub(crate) fn url(&self) -> Result<String, LockError> {
        url(self.database_url.as_deref())
    }

    pub(crate) fn connect(&self) -> Result<PgConnection, LockError> {
        self.establish(&[])
    }

    /// A connection that fails, instead of waiting for ever, when the network is dead.
    pub(crate) fn connect_with_limits(&self) -> Result<PgConnection, LockError> {
        let mut limits = LIMITS.to_vec();
        if env::var_os("PGCONNECT_TIMEOUT").is_some() {
            limits.retain(|(keyword, _)| *keyword != "connect_timeout");
        }
        self.establish(&limits)
    }

    fn establish(&self, limits: &[(&str, &str)]) -> Result<PgConnection, LockError> {
        let url = self.url()?;
        PgConnection::establish(&with(limits, &url)).map_err(|error| match error {
            ConnectionError::BadConnection(why) if url.is_empty() => {
                ConnectionError::BadConnection(format!("{}\n{NO_URL}", why.trim_end())).into()
            }
            error => error.into(),
        })
    }
}

/// Has the server look whether the client is still there while it waits: else the place in the
/// queue of somebody who has gone away would be kept.
pub(crate) fn leave_no_waiter_behind(conn: &mut PgConnection) {
    // From version 14 on, and not on every system.
    let _ = conn.batch_execute(
        "SELECT pg_catalog.set_config('client_connection_check_interval', '1s', false)",
    );
}

const NO_URL: &str = "\tNeither --database-url nor DATABASE_URL says which database.";

/// What was given, or what the environment says; nothing, if neither says anything.
pub(crate) fn url(given: Option<&str>) -> Result<String, LockError> {
    let url = match given {
        Some(url) => url.to_owned(),
        None => match env::var("DATABASE_URL") {
            Ok(url) => url,
            Err(VarError::NotPresent) => String::new(),
            // Another database must not take its place.
            Err(VarError::NotUnicode(_)) => {
                let why = "DATABASE_URL is not in UTF-8".to_owned();
                return Err(ConnectionError::InvalidConnectionUrl(why).into());
            }
        },
    };
    check(&url)?;
    Ok(url)
}

/// Whether it is a URL of another database, which libpq would repeat with its password.
fn check(url: &str) -> Result<(), LockError> {
    match url.split_once("://") {
        Some((scheme, _))
            if !SCHEMES.contains(&scheme) && scheme.chars().all(|c| c.is_ascii_alphanumeric()) =>
        {
            let why = format!(
                "the URL of a PostgreSQL database begins with postgres://, not {scheme}://"
            );
            Err(ConnectionError::InvalidConnectionUrl(why).into())
        }
        _ => Ok(()),
    }
}

const SCHEMES: [&str; 2] = ["postgres", "postgresql"];

/// libpq's limits: in seconds, but for the first one.
const LIMITS: [(&str, &str); 5] = [
    ("tcp_user_timeout", "10000"),
    ("connect_timeout", "10"),
    ("keepalives_idle", "5"),
    ("keepalives_interval", "2"),
    ("keepalives_count", "3"),
];

/// A URL, or a string of libpq's keywords, with others that count unless it has them itself.
fn with(keywords: &[(&str, &str)], url: &str) -> String {
    if keywords.is_empty() {
        return url.to_owned();
    }
    let joined = |separator: &str| {
        let keywords = keywords
            .iter()
            .map(|(word, value)| format!("{word}={value}"));
        keywords.collect::<Vec<_>>().join(separator)
    };
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if SCHEMES.contains(&scheme) => rest,
        // Of several equal ones the last one counts.
        _ => return format!("{} {url}", joined(" ")),
    };
    // A password may have a question mark.
    let host = match rest.find(['@', '/']) {
        Some(at) if rest[at..].starts_with('@') => &rest[at..],
        _ => rest,
    };
    match host.find('?') {
        Some(at) => {
            let (before, after) = url.split_at(url.len() - host.len() + at + 1);
            format!("{before}{}&{after}", joined("&"))
                .trim_end_matches('&')
                .to_owned()
        }
        None => format!("{url}?{}", joined("&")),
    }
}

#[cfg(test)]
mod tests {
    use super::{check, with};

    #[test]
    fn what_a_url_says_itself_comes_last_and_counts() {
        for (url, all) in [
            ("", "a=1 b=2 "),
            ("host=/tmp b=3", "a=1 b=2 host=/tmp b=3"),
            ("postgres://", "postgres://?a=1&b=2"),
            ("postgresql://h/app", "postgresql://h/app?a=1&b=2"),
            ("postgres://h/app?", "postgres://h/app?a=1&b=2"),
            ("postgres://h?b=3", "postgres://h?a=1&b=2&b=3"),
            (
                "postgres://me:wh?t@h:1/x",
                "postgres://me:wh?t@h:1/x?a=1&b=2",
            ),
            ("postgres://h/x?user=a@b", "postgres://h/x?a=1&b=2&user=a@b"),
            ("postgres:///?host=/tmp", "postgres:///?a=1&b=2&host=/tmp"),
        ] {
            assert_eq!(with(&[("a", "1"), ("b", "2")], url), all);
            assert_eq!(with(&[], url), url);
        }
    }

    #[test]
    fn a_url_of_another_database_is_not_repeated() {
        for url in ["mysql://me:secret@h/app", "postgress://me:secret@h/app"] {
            let error = check(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        for url in ["", "postgres://h", "postgresql:///x", "password=a://b"] {
            check(url).unwrap();
        }
    }
}
