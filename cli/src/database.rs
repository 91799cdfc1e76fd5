//! Which database, and a connection to it.

use std::collections::HashSet;
use std::env;
use std::ffi::OsString;

use clap::Args;
use diesel::{Connection, PgConnection};
use diesel_locks::LockError;

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
        // There need not be one; what is wrong in it is what is missing then.
        let _ = dotenvy::dotenv();
        env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| !before.contains(name))
            .collect()
    }

    /// What to connect to; libpq knows what an empty one is.
    pub(crate) fn url(&self) -> String {
        match &self.database_url {
            Some(url) => url.clone(),
            None => env::var("DATABASE_URL").unwrap_or_default(),
        }
    }

    pub(crate) fn connect(&self) -> Result<PgConnection, LockError> {
        Ok(PgConnection::establish(&self.url())?)
    }

    /// A connection that fails, instead of waiting for ever, when the network is dead.
    pub(crate) fn connect_with_limits(&self) -> Result<PgConnection, LockError> {
        let mut limits = LIMITS.to_vec();
        if env::var_os("PGCONNECT_TIMEOUT").is_some() {
            limits.retain(|(keyword, _)| *keyword != "connect_timeout");
        }
        Ok(PgConnection::establish(&with(&limits, &self.url()))?)
    }
}

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
    let joined = |separator: &str| {
        let keywords = keywords
            .iter()
            .map(|(word, value)| format!("{word}={value}"));
        keywords.collect::<Vec<_>>().join(separator)
    };
    let is_url = |scheme: &&&str| url.starts_with(**scheme);
    let Some(scheme) = ["postgres://", "postgresql://"].iter().find(is_url) else {
        // Of several equal ones the last one counts.
        return format!("{} {url}", joined(" "));
    };
    // A password may have a question mark.
    let rest = &url[scheme.len()..];
    let host = match rest.find(['@', '/']) {
        Some(at) if rest[at..].starts_with('@') => scheme.len() + at,
        _ => scheme.len(),
    };
    match url[host..].find('?') {
        Some(at) => {
            let (before, after) = url.split_at(host + at + 1);
            format!("{before}{}&{after}", joined("&"))
                .trim_end_matches('&')
                .to_owned()
        }
        None => format!("{url}?{}", joined("&")),
    }
}

#[cfg(test)]
mod tests {
    use super::with;

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
        }
    }
}
