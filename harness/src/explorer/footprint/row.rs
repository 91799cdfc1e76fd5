//! The row that a statement is about.

use std::collections::BTreeSet;

use super::catalog::{Catalog, Reference, Relation};
use super::condition::{asked, equal};
use super::order::between;
use super::print::{RowKey, Strength};
use super::shape::Shape;
use super::statement::Statement;
use super::tokens::Token;
use super::write::sets_any;

pub(super) struct Row {
    pub(super) key: RowKey,
    /// Whether the key is all that the statement asks of the row.
    pub(super) is_whole: bool,
}

/// The row that a statement is about, if it is about one by its primary key.
pub(super) fn row(
    catalog: &Catalog,
    shape: &Shape,
    statement: &Statement,
    tokens: &[Token],
) -> Option<Row> {
    let mut named = shape.named.iter();
    let (table, None) = (named.next()?, named.next()) else {
        return None;
    };
    let relation = catalog.relations.get(table)?;
    let (column, of_type) = relation.key.as_ref()?;
    let mut related = relation.references.iter().chain(&relation.referenced_by);
    if related.any(|reference| reference.table == *table) {
        return None;
    }
    if tokens.first()?.is("delete") && comes_back(catalog, table, relation) {
        return None;
    }
    let is_plain = relation.kind == "r" && relation.relatives.is_empty();
    let count = |word: &str| tokens.iter().filter(|token| token.is(word)).count();
    let verbs = ["select", "insert", "update", "delete", "merge"];
    // The UPDATE of FOR UPDATE and of ON CONFLICT is none.
    let is_verb = |at: usize| {
        let before = at.checked_sub(1).map(|before| &tokens[before]);
        verbs.iter().any(|verb| tokens[at].is(verb))
            && !before.is_some_and(|before| ["for", "key", "do"].iter().any(|w| before.is(w)))
    };
    let is_single = (0..tokens.len()).filter(|&at| is_verb(at)).count() == 1
        && [
            "join",
            "union",
            "with",
            "using",
            "table",
            "nowait",
            "skip",
            "tablesample",
            "case",
        ]
        .iter()
        .all(|word| count(word) == 0);
    if !is_plain || !is_single || shape.fires || !names_once(relation, tokens) {
        return None;
    }
    let key = |value: String| RowKey {
        table: table.clone(),
        column: column.clone(),
        of_type: of_type.clone(),
        value,
    };
    if tokens.first()?.is("insert") {
        if count("set") > 0 && sets_any(tokens, relation) {
            return None;
        }
        let value = inserted(relation, column, tokens)?;
        let value = value_of(value, of_type, statement)?;
        return Some(Row {
            key: key(value),
            is_whole: false,
        });
    }
    let conditions = asked(tokens)?;
    let value = conditions
        .iter()
        .find_map(|condition| equal(condition, column))?;
    let value = value_of(value, of_type, statement)?;
    let is_update = tokens.first()?.is("update");
    let sets_key = shape
        .locks
        .iter()
        .any(|(name, strength)| name == table && *strength == Strength::Update);
    // Of an index with an expression or a condition it is not known what it is about.
    let meets_others = sets_key || relation.unique.iter().any(Option::is_none);
    if is_update && meets_others {
        return None;
    }
    // With LIMIT 0, no row is locked.
    let takes_one = |at: usize| {
        let value = value_of(tokens.get(at + 1)?, "bigint", statement)?;
        let is_all = tokens.get(at + 2).is_none_or(|next| next.is("for"));
        Some(is_all && value.parse::<i64>().is_ok_and(|limit| limit > 0))
    };
    let limit = tokens.iter().position(|token| token.is("limit"));
    let is_limited =
        limit.is_some_and(|at| takes_one(at) != Some(true)) || count("offset") + count("fetch") > 0;
    Some(Row {
        key: key(value),
        is_whole: conditions.len() == 1 && !is_limited,
    })
}

/// Whether what is deleted with a row, or changed, may touch other rows of its table.
fn comes_back(catalog: &Catalog, table: &str, relation: &Relation) -> bool {
    let is_own = |reference: &Reference| reference.table == table;
    let children = relation.referenced_by.iter();
    let mut left: Vec<(&Reference, bool)> = children.map(|child| (child, true)).collect();
    let mut seen = BTreeSet::new();
    while let Some((reference, is_child)) = left.pop() {
        if !reference.cascades || (!is_child && !seen.insert(&reference.table)) {
            continue;
        }
        let Some(other) = catalog.relations.get(&reference.table) else {
            return true;
        };
        // A child looks for its parent again where it has another one, or is new.
        let refers = match is_child {
            true => reference.sets_default,
            false => other.references.iter().any(is_own),
        };
        if refers || other.referenced_by.iter().any(is_own) || !other.relatives.is_empty() {
            return true;
        }
        left.extend(other.referenced_by.iter().map(|child| (child, false)));
    }
    false
}

/// Whether the statement is about one row at most, by a unique index.
pub(super) fn asks_for_one(catalog: &Catalog, shape: &Shape, tokens: &[Token]) -> bool {
    let mut named = shape.named.iter();
    let (Some(table), None) = (named.next(), named.next()) else {
        return false;
    };
    let Some(relation) = catalog.relations.get(table) else {
        return false;
    };
    let is_plain = relation.kind == "r" && relation.relatives.is_empty() && !shape.fires;
    let selects = tokens.iter().filter(|token| token.is("select")).count();
    let is_equal = |condition: &&[Token]| {
        let mut unique = relation.unique.iter().flatten();
        // What another column has is not one value.
        let has_value =
            |column: &String| equal(condition, column).is_some_and(|value| value.word().is_none());
        unique.any(|columns| matches!(columns.as_slice(), [column] if has_value(column)))
    };
    is_plain
        && selects <= 1
        && names_once(relation, tokens)
        && asked(tokens).is_some_and(|asked| asked.iter().any(is_equal))
}

/// Whether the table is named once as one, and its columns have their own names.
fn names_once(relation: &Relation, tokens: &[Token]) -> bool {
    let is_table = |at: &usize| {
        tokens[*at].word() == Some(&*relation.short)
            && tokens.get(at + 1) != Some(&Token::Sign('.'))
    };
    let mut places = (0..tokens.len()).filter(is_table);
    let (Some(at), None) = (places.next(), places.next()) else {
        return false;
    };
    let names = tokens[at..].iter().take(4);
    let mut names = names.take_while(|token| !token.is("set") && !token.is("where"));
    let is_list = |token: &Token| matches!(token, Token::Sign('(' | ','));
    // Other lists than tables may have a column of that name, too.
    let from = between(tokens, "from", &["where"]);
    let has_lists = match tokens[0].is("update") {
        true => !from.is_empty(),
        false => from.iter().any(is_list),
    };
    tokens[0].is("insert") || !(has_lists || names.any(is_list))
}

/// The value of the key in an INSERT of one row into a table that nothing else makes unique.
fn inserted<'t>(relation: &Relation, column: &str, tokens: &'t [Token]) -> Option<&'t Token> {
    if relation.unique.len() != 1 || tokens.iter().any(|token| token.is("select")) {
        return None;
    }
    let open = tokens.iter().position(|token| *token == Token::Sign('('))?;
    let close = open
        + tokens[open..]
            .iter()
            .position(|token| *token == Token::Sign(')'))?;
    let names = tokens[open + 1..close].split(|token| *token == Token::Sign(','));
    let place = names
        .into_iter()
        .position(|name| matches!(name, [Token::Word { text, .. }] if text == column))?;
    let values = tokens.get(close + 1..)?;
    if !values.first()?.is("values") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    let mut found: Vec<&Token> = Vec::new();
    for (number, token) in values[1..].iter().enumerate() {
        match token {
            Token::Sign('(' | '[') => depth += 1,
            Token::Sign(')' | ']') => depth -= 1,
            Token::Sign(',') if depth == 1 => at += 1,
            token if at == place && depth > 0 => found.push(token),
            _ => {}
        }
        if depth == 0 {
            // A second row follows.
            let more = values.get(number + 2) == Some(&Token::Sign(','));
            return match found.as_slice() {
                [value] if !more => Some(value),
                _ => None,
            };
        }
    }
    None
}

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
    match of_type {
        "integer" | "bigint" | "smallint" => value.parse::<i64>().ok().map(|n| n.to_string()),
        "text" | "character varying" | "uuid" => {
            let inner = value.trim_matches('"');
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@ ".contains(c);
            if of_type == "uuid" {
                let digits = inner.replace('-', "").to_lowercase();
                let is_whole = digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit());
                return is_whole.then_some(digits);
            }
            let quoted = value.len() == inner.len() + 2;
            (quoted && !inner.is_empty() && inner.chars().all(is_plain)).then(|| inner.to_owned())
        }
        _ => None,
    }
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
    }
}
