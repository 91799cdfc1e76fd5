//! Which lock: by name, by number, by a pair of numbers, and by what other ecosystems make of a
//! name.

use std::process::ExitCode;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use diesel_locks::LockKey;

use crate::failure::Failure;
use crate::output;

/// Which lock.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Key {
    /// The name of the lock, as LockKey::named has it
    // An empty one is that of a variable that is not set.
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// The key of the lock: a number, a pair such as 7,42, or what another library makes of a
    /// name: sqlx:NAME, django_pglock:NAME or ruby:NAME (with_advisory_lock)
    #[arg(long, value_name = "KEY", value_parser = given, allow_hyphen_values = true)]
    key: Option<Given>,
}

/// A key as it was given, and what it is.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) text: String,
    pub(crate) key: LockKey,
}

impl Key {
    pub(crate) fn key(&self) -> LockKey {
        match (&self.key, &self.name) {
            (Some(given), _) => given.key,
            (None, name) => LockKey::named(name.as_deref().unwrap_or_default()),
        }
    }

    /// What the lock is called by who asks for it.
    pub(crate) fn text(&self) -> &str {
        match (&self.key, &self.name) {
            (Some(given), _) => &given.text,
            (None, name) => name.as_deref().unwrap_or_default(),
        }
    }
}

pub(crate) fn given(text: &str) -> Result<Given, String> {
    let (key, text) = (parse(text)?, text.to_owned());
    Ok(Given { text, key })
}

fn parse(text: &str) -> Result<LockKey, String> {
    match text.split_once(':') {
        Some(("sqlx", name)) => return Ok(LockKey::sqlx(name)),
        Some(("django_pglock", name)) => return Ok(LockKey::django_pglock(name)),
        Some(("ruby", name)) => return Ok(LockKey::ruby_with_advisory_lock(name)),
        _ => {}
    }
    let inside = match text.strip_prefix('(') {
        Some(rest) => rest.strip_suffix(')'),
        None => Some(text),
    };
    let pair = inside.and_then(|pair| {
        let (class, object) = pair.split_once(',')?;
        let class = class.trim().parse().ok()?;
        Some(LockKey::Pair(class, object.trim().parse().ok()?))
    });
    pair.or_else(|| text.parse().ok().map(LockKey::Single))
        .ok_or_else(|| {
            "a key is a number, a pair such as `7,42`, or `sqlx:NAME`, `django_pglock:NAME` or \
             `ruby:NAME`"
                .to_owned()
        })
}

/// Prints the number of a lock's name, and the SQL that takes the lock
///
/// The number is what pg_locks and every other program knows the lock by. A database is not asked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  diesel_locks key nightly-report
  diesel_locks key --key sqlx:nightly-report
  psql -c \"SELECT pg_catalog.pg_try_advisory_lock($(diesel_locks key --quiet nightly-report))\"")]
pub(crate) struct KeyArguments {
    #[command(flatten)]
    key: Key,
    /// Prints the number alone, or the two numbers with a comma, as functions of SQL want them
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) fn main(arguments: &KeyArguments) -> Result<ExitCode, Failure> {
    let key = arguments.key.key();
    let numbers = numbers(key);
    if arguments.quiet {
        output::print(format_args!("{numbers}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (class, object, space) = in_pg_locks(key);
    let mut lines = format!(
        "key       {numbers}\n\
         lock      SELECT pg_catalog.pg_advisory_lock({numbers});\n\
         unlock    SELECT pg_catalog.pg_advisory_unlock({numbers});\n\
         holders   SELECT pid FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND classid = {class} \
         AND objid = {object} AND objsubid = {space} AND granted;\n"
    );
    if let (Some(name), None) = (&arguments.key.name, &arguments.key.key) {
        lines.push_str(&format!(
            "in SQL    ('x' || encode(substr(sha256(convert_to({}, 'UTF8')), 1, 8), \
             'hex'))::bit(64)::bigint\n",
            literal(name)
        ));
    }
    output::print(lines)?;
    Ok(ExitCode::SUCCESS)
}

fn numbers(key: LockKey) -> String {
    match key {
        LockKey::Single(key) => key.to_string(),
        LockKey::Pair(class, object) => format!("{class}, {object}"),
    }
}

/// `classid`, `objid` and `objsubid`, which are unsigned.
fn in_pg_locks(key: LockKey) -> (u32, u32, i16) {
    match key {
        // The upper half and the lower half.
        LockKey::Single(key) => ((key >> 32) as u32, key as u32, 1),
        LockKey::Pair(class, object) => (class.cast_unsigned(), object.cast_unsigned(), 2),
    }
}

/// A text as SQL has it, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_number_a_pair_or_a_name_of_another_ecosystem() {
        for (text, key) in [
            ("42", LockKey::Single(42)),
            ("-42", LockKey::Single(-42)),
            ("7,42", LockKey::Pair(7, 42)),
            ("(-7, 42)", LockKey::Pair(-7, 42)),
            ("sqlx:a:b", LockKey::sqlx("a:b")),
            ("ruby:x", LockKey::ruby_with_advisory_lock("x")),
            ("django_pglock:x", LockKey::django_pglock("x")),
        ] {
            assert_eq!(parse(text), Ok(key), "{text}");
        }
        for text in [
            "",
            "x",
            "1,2,3",
            "((1,2))",
            "(1,2",
            "9223372036854775808",
            "2147483648,0",
            "php:x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
