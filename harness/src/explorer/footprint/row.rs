//! The row that a statement is about.

use super::cascade::comes_back;
use super::catalog::{Catalog, Reference, Relation};
use super::condition::{asked, equal};
use super::inserted::inserted;
use super::keys::sets_any;
use super::order::between;
use super::print::{KeyColumn, RowKey, Strength};
use super::shape::Shape;
use super::statement::Statement;
use super::tokens::Token;
use super::value::value_of;

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
    let (table, relation) = only_table(catalog, shape)?;
    let refers_to_itself = |reference: &Reference| reference.table == *table;
    let mut related = relation.references.iter().chain(&relation.referenced_by);
    let is_known = is_plain(relation, shape)
        && !related.any(refers_to_itself)
        && is_single(tokens)
        && names_once(relation, tokens);
    if !is_known || relation.key.is_empty() {
        return None;
    }
    let first = tokens.first()?;
    if first.is("delete") && comes_back(catalog, table, relation) {
        return None;
    }
    let key = |values: Vec<&Token>| {
        let columns = relation.key.iter().zip(values);
        let columns = columns.map(|((name, of_type), value)| {
            Some(KeyColumn {
                name: name.clone(),
                of_type: of_type.clone(),
                value: value_of(value, of_type, statement)?,
            })
        });
        Some(RowKey {
            table: table.to_owned(),
            columns: columns.collect::<Option<_>>()?,
        })
    };
    if first.is("insert") {
        if tokens.iter().any(|token| token.is("set")) && sets_any(tokens, relation) {
            return None;
        }
        return Some(Row {
            key: key(inserted(relation, tokens)?)?,
            is_whole: false,
        });
    }
    let conditions = asked(tokens)?;
    let value = |(column, _): &(String, String)| {
        let mut conditions = conditions.iter();
        conditions.find_map(|condition| equal(condition, column))
    };
    let values: Option<Vec<_>> = relation.key.iter().map(value).collect();
    let key = key(values?)?;
    let sets_key =
        (shape.locks.iter()).any(|(name, strength)| name == table && *strength == Strength::Update);
    // Of an index with an expression or a condition it is not known what it is about.
    let meets_others = sets_key || relation.unique.iter().any(Option::is_none);
    if first.is("update") && meets_others {
        return None;
    }
    Some(Row {
        is_whole: conditions.len() == key.columns.len() && !is_limited(tokens, statement),
        key,
    })
}

/// The table, if the statement names only one.
fn only_table<'c>(catalog: &'c Catalog, shape: &'c Shape) -> Option<(&'c str, &'c Relation)> {
    let mut named = shape.named.iter();
    match (named.next(), named.next()) {
        (Some(table), None) => Some((table, catalog.relations.get(table)?)),
        _ => None,
    }
}

/// Whether it has all of its rows itself, and nothing is called for them.
fn is_plain(relation: &Relation, shape: &Shape) -> bool {
    relation.kind == "r" && relation.relatives.is_empty() && !shape.fires
}

/// Whether the statement does one thing, with the table alone.
fn is_single(tokens: &[Token]) -> bool {
    const VERBS: [&str; 5] = ["select", "insert", "update", "delete", "merge"];
    const MORE: [&str; 9] = [
        "join",
        "union",
        "with",
        "using",
        "table",
        "nowait",
        "skip",
        "tablesample",
        "case",
    ];
    let is_one = |at: usize, words: &[&str]| words.iter().any(|word| tokens[at].is(word));
    // The UPDATE of FOR UPDATE and of ON CONFLICT is none.
    let is_verb = |at: &usize| {
        let before = at.checked_sub(1);
        is_one(*at, &VERBS) && !before.is_some_and(|at| is_one(at, &["for", "key", "do"]))
    };
    (0..tokens.len()).filter(is_verb).count() == 1 && !(0..tokens.len()).any(|at| is_one(at, &MORE))
}

/// Whether it may leave a row out that is there: with LIMIT 0, no row is locked.
fn is_limited(tokens: &[Token], statement: &Statement) -> bool {
    let takes_one = |at: usize| {
        let value = value_of(tokens.get(at + 1)?, "bigint", statement)?;
        let is_all = tokens.get(at + 2).is_none_or(|next| next.is("for"));
        Some(is_all && value.parse::<i64>().is_ok_and(|limit| limit > 0))
    };
    let mut limits = (0..tokens.len()).filter(|&at| tokens[at].is("limit"));
    let skips = |token: &Token| token.is("offset") || token.is("fetch");
    limits.any(|at| takes_one(at) != Some(true)) || tokens.iter().any(skips)
}

/// Whether the statement is about one row at most, by a unique index.
pub(super) fn asks_for_one(catalog: &Catalog, shape: &Shape, tokens: &[Token]) -> bool {
    let Some((_, relation)) = only_table(catalog, shape) else {
        return false;
    };
    let selects = tokens.iter().filter(|token| token.is("select")).count();
    let is_asked = |conditions: &[&[Token]]| {
        let is_equal = |column: &String| {
            let mut conditions = conditions.iter();
            // What another column has is not one value.
            let has_value = |value: &Token| value.word().is_none();
            conditions.any(|condition| equal(condition, column).is_some_and(has_value))
        };
        let mut unique = relation.unique.iter().flatten();
        unique.any(|columns| columns.iter().all(is_equal))
    };
    is_plain(relation, shape)
        && selects <= 1
        && names_once(relation, tokens)
        && asked(tokens).is_some_and(|conditions| is_asked(&conditions))
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
