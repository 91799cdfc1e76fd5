//! The names in a text of SQL, or in a message of the server.

use std::collections::BTreeSet;

/// How many names are taken from a text: a migration that inserts data has no end of words.
const MOST: usize = 1_000;

/// What may be the name of a relation, as it stands there: `accounts`, `bank."Accounts"`.
pub(super) fn names<'t>(texts: impl IntoIterator<Item = &'t str>) -> Vec<String> {
    let names: BTreeSet<String> = texts.into_iter().flat_map(split).collect();
    names.into_iter().take(MOST).collect()
}

/// Whether `name`, which has no schema, stands in one of the texts, with nothing next to it that
/// could belong to a name.
pub(super) fn mention<'t>(texts: impl IntoIterator<Item = &'t str>, name: &str) -> bool {
    let name = name.replace('"', "\"\"").to_lowercase();
    let is_part = |char: char| char.is_alphanumeric() || "_$".contains(char);
    texts.into_iter().any(|text| {
        let text = text.to_lowercase();
        text.match_indices(&name).any(|(at, found)| {
            let rest = &text[at + found.len()..];
            // PostgreSQL cuts what is longer, between two letters.
            let is_cut = name.len() > LONGEST - LETTER;
            !text[..at].ends_with(is_part) && (is_cut || !rest.starts_with(is_part))
        })
    })
}

/// The longest name that PostgreSQL has, in bytes.
pub(super) const LONGEST: usize = 63;

/// As many bytes as a letter has at most.
const LETTER: usize = 4;

/// Whether the text is one statement, and one that can't commit a part of what it does. A comment
/// may have it taken for one that can.
pub(super) fn is_one_statement(text: &str) -> bool {
    let text = text.trim_end().trim_end_matches(';');
    !text.contains(';') && !mention([text], "do") && !mention([text], "call")
}

fn split(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut name = String::new();
    let mut is_quoted = false;
    for char in text.chars() {
        let belongs = match char {
            '"' => {
                is_quoted = !is_quoted;
                true
            }
            '.' => is_quoted || !name.is_empty(),
            char => is_quoted || char.is_alphanumeric() || "_$".contains(char),
        };
        if belongs {
            name.push(char);
        } else if !name.is_empty() {
            names.push(std::mem::take(&mut name));
        }
    }
    names.push(name);
    for name in &mut names {
        // The end of a sentence.
        name.truncate(name.trim_end_matches('.').len());
    }
    names.retain(|name| name.starts_with(|char: char| char == '"' || !char.is_ascii_digit()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_their_schemas_and_quotes() {
        let sql = r#"ALTER TABLE bank."My ""Accounts""" ADD c int DEFAULT 12.5; DROP INDEX i1;"#;
        let names = names([sql]);
        for name in [r#"bank."My ""Accounts""""#, "i1", "ALTER"] {
            assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
        }
        assert!(
            !names.iter().any(|found| found.starts_with('1')),
            "{names:?}"
        );
    }

    #[test]
    fn an_index_is_mentioned_in_sql_and_in_messages_of_any_language() {
        for text in [
            r#"relation "accounts_owner" already exists"#,
            "la relation « accounts_owner » existe déjà",
            "Relation »accounts_owner« existiert bereits",
            "CREATE INDEX CONCURRENTLY Accounts_Owner ON accounts (owner)",
            r#"DROP INDEX bank."accounts_owner""#,
            "DROP INDEX bank.accounts_owner.",
        ] {
            assert!(mention([text], "accounts_owner"), "{text}");
            assert!(!mention([text], "owner_accounts"), "{text}");
        }
        assert!(mention([r#"DROP INDEX "a "" b""#], r#"a " b"#));
        assert!(!mention(
            ["CREATE INDEX accounts_owner_2 ON t (a)"],
            "accounts_owner"
        ));
    }

    #[test]
    fn a_name_may_be_longer_in_sql_where_postgresql_may_have_cut_it() {
        let longer = "x".repeat(70);
        assert!(mention([&*longer], &longer[..60]));
        assert!(!mention([&*longer], &longer[..59]));
    }
}
