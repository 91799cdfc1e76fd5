//! What a statement is, as far as its words tell.

use super::tokens::{Token, statements, tokens};
use crate::sessions::IsolationLevel;

/// A statement as it was sent, with its binds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    /// As Diesel shows them, without brackets.
    pub(crate) binds: Vec<String>,
}

/// What a statement does to its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Begin(Option<IsolationLevel>),
    SetLevel(IsolationLevel),
    Commit,
    Rollback,
    Savepoint,
    RollbackTo,
    Release,
    /// It reads or writes.
    Query,
    /// Anything else, of which nothing is known.
    Other,
}

impl Statement {
    /// A statement as Diesel's `DebugQuery` shows it.
    pub(crate) fn parse(shown: &str) -> Self {
        const BINDS: &str = " -- binds: [";
        match shown.rsplit_once(BINDS) {
            Some((sql, binds)) if binds.ends_with(']') => Self {
                sql: sql.trim().to_owned(),
                binds: parts(&binds[..binds.len() - 1]),
            },
            _ => Self {
                sql: shown.trim().to_owned(),
                binds: Vec::new(),
            },
        }
    }

    /// Its statements, if it has several.
    pub(crate) fn split(&self) -> Vec<Self> {
        let parts = statements(&self.sql).into_iter();
        parts
            .map(|sql| Self {
                sql,
                binds: self.binds.clone(),
            })
            .collect()
    }

    pub(crate) fn kind(&self) -> Kind {
        kind(&tokens(&self.sql))
    }

    /// Whether it is a command that says something of its own session, and touches nothing.
    pub(crate) fn is_of_the_session(&self) -> bool {
        let commands = ["set", "reset", "show", "listen", "unlisten", "notify"];
        let tokens = tokens(&self.sql);
        let first = tokens.first();
        first.is_some_and(|first| commands.iter().any(|command| first.is(command)))
    }

    /// Whether names may mean something else after it.
    pub(crate) fn renames(&self) -> bool {
        let settings = ["search_path", "schema", "role", "authorization"];
        let tokens = tokens(&self.sql);
        tokens
            .iter()
            .any(|token| settings.iter().any(|setting| token.word() == Some(setting)))
    }

    /// What Diesel or a pool sends of itself, and is no step: unless the session has a transaction
    /// open, of which it may be the first statement, or locks, which it may let go.
    pub(crate) fn is_housekeeping(&self, is_open: bool, has_locks: bool) -> bool {
        (self.sql == "SELECT 1" && !is_open)
            || (self.sql == "SELECT pg_catalog.pg_advisory_unlock_all()" && !has_locks)
            || (self.sql.contains("FROM \"pg_type\"") && self.sql.contains("\"typarray\""))
    }

    /// Its words without values, which may be other ones each time.
    pub(crate) fn words(&self) -> String {
        let words = tokens(&self.sql).into_iter().map(|token| match token {
            Token::Word { text, .. } => text,
            Token::Param(number) => format!("${number}"),
            Token::Number(_) | Token::Text(_) => "?".to_owned(),
            Token::Sign(sign) => sign.to_string(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// What it does and to what, for a schedule: without white space.
    pub(crate) fn label(&self) -> String {
        let parts = self.split();
        let Some(first) = parts.first() else {
            return "nothing".to_owned();
        };
        let label = label(&tokens(&first.sql));
        // BEGIN may travel with a statement.
        match parts.get(1) {
            Some(second) => format!("{label}+{}", self::label(&tokens(&second.sql))),
            None => label,
        }
    }
}

fn label(tokens: &[Token]) -> String {
    let verb = match kind(tokens) {
        Kind::Begin(_) => return "begin".to_owned(),
        Kind::Commit => return "commit".to_owned(),
        Kind::Rollback => return "rollback".to_owned(),
        Kind::Savepoint => return "savepoint".to_owned(),
        Kind::RollbackTo => return "rollback_to".to_owned(),
        Kind::Release => return "release".to_owned(),
        Kind::SetLevel(_) => return "set:transaction".to_owned(),
        Kind::Query | Kind::Other => {
            let verbs = ["insert", "update", "delete", "merge", "select"];
            let is_verb = |token: &&Token| verbs.iter().any(|verb| token.is(verb));
            let first = tokens.first().filter(|first| !first.is("with"));
            let verb = first.or_else(|| tokens.iter().find(is_verb));
            verb.and_then(Token::word).unwrap_or("statement")
        }
    };
    match target(tokens, verb) {
        Some(target) => format!("{}:{}", plain(verb), plain(target)),
        None => plain(verb),
    }
}

/// The table, or else the function or the first name.
fn target<'t>(tokens: &'t [Token], verb: &str) -> Option<&'t str> {
    let mut names = tokens.iter().filter_map(Token::word);
    let is_advisory =
        |name: &&str| name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_");
    if let Some(advisory) = names.find(is_advisory) {
        return Some(advisory);
    }
    let introduces = |token: &Token| match verb {
        "select" => token.is("from"),
        "delete" => token.is("from"),
        "insert" | "merge" => token.is("into"),
        verb => token.is(verb),
    };
    let after = tokens.iter().position(introduces);
    let after = after.or_else(|| tokens.iter().position(|token| token.is(verb)))? + 1;
    let skipped = [
        "only", "table", "distinct", "if", "exists", "not", "local", "session",
    ];
    let mut names = tokens[after..].iter().skip_while(|token| match token {
        Token::Sign(_) => true,
        token => skipped.iter().any(|word| token.is(word)),
    });
    let mut name = names.next()?.word()?;
    // Its last part, of `schema.name`.
    while names.next() == Some(&Token::Sign('.')) {
        name = names.next()?.word()?;
    }
    Some(name)
}

fn plain(name: &str) -> String {
    let name = name.replace(|c: char| c.is_whitespace() || c.is_control(), "_");
    if name.is_empty() {
        "_".to_owned()
    } else {
        name
    }
}

fn kind(tokens: &[Token]) -> Kind {
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is(word));
    let has = |word: &str| tokens.iter().any(|token| token.is(word));
    let Some(first) = tokens.first().and_then(Token::word) else {
        return Kind::Other;
    };
    match first {
        // It waits for others to end.
        "begin" | "start" | "set" if has("deferrable") => Kind::Other,
        "begin" => Kind::Begin(level(tokens)),
        "start" if is(1, "transaction") => Kind::Begin(level(tokens)),
        "commit" | "end" if !has("chain") && !has("prepared") => Kind::Commit,
        "rollback" | "abort" if has("to") => Kind::RollbackTo,
        "rollback" | "abort" if !has("chain") && !has("prepared") => Kind::Rollback,
        "savepoint" => Kind::Savepoint,
        "release" => Kind::Release,
        "set" if is(1, "transaction") && is(2, "isolation") => {
            level(tokens).map_or(Kind::Other, Kind::SetLevel)
        }
        "select" | "with" | "values" | "insert" | "update" | "delete" | "merge" => Kind::Query,
        _ => Kind::Other,
    }
}

fn level(tokens: &[Token]) -> Option<IsolationLevel> {
    let has = |word: &str| tokens.iter().any(|token| token.is(word));
    if has("serializable") {
        Some(IsolationLevel::Serializable)
    } else if has("repeatable") {
        Some(IsolationLevel::RepeatableRead)
    } else if has("isolation") {
        Some(IsolationLevel::ReadCommitted)
    } else {
        None
    }
}

/// The parts of a list in Rust's `Debug`, split at its commas.
fn parts(list: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for c in list.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                parts.push(part.trim().to_owned());
                part.clear();
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    if !part.trim().is_empty() {
        parts.push(part.trim().to_owned());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_called_by_what_it_does_and_to_what() {
        let label = |shown: &str| Statement::parse(shown).label();
        assert_eq!(
            label("SELECT a FROM \"accounts\" WHERE b = $1 -- binds: [1]"),
            "select:accounts"
        );
        assert_eq!(
            label("UPDATE ONLY public.accounts SET a = 1"),
            "update:accounts"
        );
        assert_eq!(
            label("INSERT INTO \"my table\" DEFAULT VALUES"),
            "insert:my_table"
        );
        assert_eq!(label("WITH a AS (DELETE FROM b) SELECT 1"), "delete:b");
        assert_eq!(
            label("SELECT pg_catalog.pg_advisory_lock($1)"),
            "select:pg_advisory_lock"
        );
        assert_eq!(label("BEGIN TRANSACTION"), "begin");
        assert_eq!(
            label("BEGIN; SELECT pg_advisory_xact_lock(1)"),
            "begin+select:pg_advisory_xact_lock"
        );
        assert_eq!(label("ROLLBACK TO SAVEPOINT x"), "rollback_to");
        assert_eq!(label("LOCK TABLE a IN SHARE MODE"), "lock:a");
        assert_eq!(label(""), "nothing");
    }

    #[test]
    fn binds_are_split_where_the_list_is() {
        let binds = |shown: &str| Statement::parse(shown).binds;
        assert_eq!(
            binds("a -- binds: [1, \"b, \\\" c\", Some([2, 3])]"),
            ["1", "\"b, \\\" c\"", "Some([2, 3])"]
        );
        assert!(binds("a -- binds: []").is_empty());
        assert!(binds("a").is_empty());
    }
}
