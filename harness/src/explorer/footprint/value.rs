//! The value of a key.

use super::statement::Statement;
use super::tokens::Token;

/// A value in one form for each row, where its type has one.
pub(super) fn value_of(token: &Token, of_type: &str, statement: &Statement) -> Option<String> {
    let value = match token {
        Token::Param(number) => statement.binds.get(number.checked_sub(1)?)?.clone(),
        Token::Number(number) => number.clone(),
        Token::Text(text) => format!("{text:?}"),
        _ => return None,
    };
    let value = match value
        .strip_prefix("Some(")
        .and_then(|rest| rest.strip_suffix(')'))
    {
        Some(inner) => inner.to_owned(),
        None => value,
    };
    let inner = value.trim_matches('"');
    let is_quoted = value.len() == inner.len() + 2;
    match of_type {
        "integer" | "bigint" | "smallint" => value.parse::<i64>().ok().map(|n| n.to_string()),
        "boolean" => ["true", "false"].contains(&&*value).then_some(value),
        "date" => is_date(inner).then(|| inner.to_owned()),
        "uuid" => {
            let digits = inner.replace('-', "").to_lowercase();
            let is_whole = digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit());
            is_whole.then_some(digits)
        }
        "text" | "character varying" => (is_quoted && is_plain(inner)).then(|| inner.to_owned()),
        // What is too long by spaces is cut.
        _ if of_type.starts_with("character varying(") => {
            (is_quoted && is_plain(inner) && !inner.ends_with(' ')).then(|| inner.to_owned())
        }
        _ => None,
    }
}

fn is_plain(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@ ".contains(c);
    !text.is_empty() && text.chars().all(is_plain)
}

/// Whether it is like `2024-02-29`.
fn is_date(text: &str) -> bool {
    let digits = text.split('-').map(str::len).eq([4, 2, 2]);
    digits && text.chars().all(|c| c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::*;

    #[test]
    fn a_value_has_one_form() {
        let statement = Statement::parse("x -- binds: [1, \"b\", Some(3)]");
        let value = |sql: &str, of_type| value_of(&tokens(sql)[0], of_type, &statement);
        assert_eq!(value("$1", "bigint").as_deref(), Some("1"));
        assert_eq!(value("$2", "text").as_deref(), Some("b"));
        assert_eq!(value("$3", "integer").as_deref(), Some("3"));
        assert_eq!(value("01", "integer").as_deref(), Some("1"));
        assert_eq!(value("$1", "numeric"), None);
        assert_eq!(value("$4", "bigint"), None);
        assert_eq!(value("'b '", "text").as_deref(), Some("b "));
        assert_eq!(value("'b '", "character varying(1)"), None);
        assert_eq!(value("'2024-02-29'", "date").as_deref(), Some("2024-02-29"));
        assert_eq!(value("'29.2.2024'", "date"), None);
        assert_eq!(value("'t'", "boolean"), None);
    }
}
