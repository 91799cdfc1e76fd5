//! Which table's rows a query locks, by its SQL: no public type of Diesel's tells.

/// A part of SQL that stands in no parentheses.
#[derive(Debug, PartialEq)]
enum Token<'sql> {
    /// Without its quotes, in which a quote is doubled.
    Identifier(&'sql str),
    /// Or what stands for words between two others.
    Word(&'sql str),
}

use Token::{Identifier, Word};

/// The table's bare name, as PostgreSQL has it in its own errors; `None` where it is one of
/// several, or none that Diesel has written.
pub(super) fn locked_relation(sql: &str) -> Option<String> {
    let tokens = tokens(sql);
    let behind = |word| {
        let mut places = (0..tokens.len()).filter(|&at| tokens[at] == Word(word));
        let place = places.next()?;
        places.next().is_none().then(|| &tokens[place + 1..])
    };
    let name = only_name(behind("FROM")?).or_else(|| {
        // With one clause, `OF` has all that is locked.
        behind("FOR")?;
        let name = only_name(behind("OF")?)?;
        // What that stands for is in the join's parentheses.
        let is_alias = sql.contains(&format!(" AS \"{name}\""));
        (!is_alias).then_some(name)
    })?;
    Some(name.replace("\"\"", "\""))
}

/// The name that these begin with, without its schema, if no other name follows.
fn only_name<'sql>(tokens: &[Token<'sql>]) -> Option<&'sql str> {
    match tokens {
        [Identifier(_), Word("."), rest @ ..] => only_name(rest),
        [Identifier(_), Word(","), ..] => None,
        [Identifier(name), ..] => Some(name),
        _ => None,
    }
}

fn tokens(mut sql: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut depth = 0_usize;
    while let Some(first) = sql.chars().next() {
        let length = match first {
            '"' | '\'' => quoted(sql, first),
            // Each of these ends what is before it, and is a token of its own.
            _ => sql
                .find(['"', '\'', '(', ')', '.', ',', ' '])
                .map_or(sql.len(), |end| end.max(first.len_utf8())),
        };
        let (token, rest) = sql.split_at(length);
        sql = rest;
        match first {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ' ' => (),
            _ if depth > 0 => (),
            '"' => tokens.push(Identifier(token.get(1..length - 1).unwrap_or_default())),
            _ => tokens.push(Word(token)),
        }
    }
    tokens
}

/// How long the text in quotes is that begins here.
fn quoted(sql: &str, quote: char) -> usize {
    let mut is_open = false;
    let mut places = sql.match_indices(quote).map(|(at, _)| at + 1);
    let end = places.find(|&end| {
        is_open = !is_open;
        !is_open && !sql[end..].starts_with(quote)
    });
    end.unwrap_or(sql.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_table_is_named_as_postgresql_names_it() {
        for (sql, relation) in [
            (r#"SELECT 1 FROM "accounts" FOR UPDATE"#, Some("accounts")),
            (
                r#"SELECT "a"."b", 'x FROM y' FROM "accounts""#,
                Some("accounts"),
            ),
            (
                r#"SELECT (SELECT 1 FROM "b") FROM "a" WHERE (("a"."id" = $1))"#,
                Some("a"),
            ),
            (
                r#"SELECT 1 FROM "bank"."accounts" AS "a" FOR UPDATE OF "a""#,
                Some("accounts"),
            ),
            (
                r#"SELECT "x FROM y" FROM "say ""FROM""" LIMIT $1"#,
                Some(r#"say "FROM""#),
            ),
            (r#"SELECT 'it''s' FROM "a""#, Some("a")),
            (
                r#"SELECT 1 FROM ("a" INNER JOIN "b" ON ("a"."id" = "b"."id")) FOR SHARE OF "b" NOWAIT"#,
                Some("b"),
            ),
            // Which of them, the text does not tell.
            (
                r#"SELECT 1 FROM ("a" INNER JOIN "b" ON ("a"."id" = "b"."id")) FOR SHARE"#,
                None,
            ),
            (
                r#"SELECT 1 FROM ("a" INNER JOIN "b" ON true) FOR SHARE OF "a", "b""#,
                None,
            ),
            (
                r#"SELECT 1 FROM ("a" INNER JOIN "b" ON true) FOR SHARE OF "a" FOR UPDATE"#,
                None,
            ),
            (
                r#"SELECT 1 FROM ("a" INNER JOIN "b" AS "c" ON true) FOR SHARE OF "c""#,
                None,
            ),
            (r#"SELECT 1 FROM "a", "b" FOR SHARE"#, None),
            ("SELECT id FROM accounts FOR UPDATE", None),
            (r#"SELECT 'é''é' FROM "naïve""#, Some("naïve")),
            ("é'é", None),
            ("", None),
        ] {
            assert_eq!(locked_relation(sql).as_deref(), relation, "{sql}");
        }
    }
}
