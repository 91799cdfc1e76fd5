//! Whether it matters to a statement in which order the rows of a table are.

use super::tokens::Token;

/// Whether what comes of a statement may depend on where in its table a row is, unless it is about
/// a single row: what it returns, or whom it waits for first.
pub(super) fn order_matters(tokens: &[Token], key: Option<&str>) -> bool {
    let has = |word: &str| tokens.iter().any(|token| token.is(word));
    let Some(first) = tokens.first() else {
        return false;
    };
    match first.word() {
        Some("values") => false,
        Some("insert") => has("select") || has("from"),
        Some("select") => !is_aggregate(tokens) && !asks_whether(tokens) && !is_sorted(tokens, key),
        _ => true,
    }
}

/// Whether it is `SELECT EXISTS (…)`, and nothing else.
fn asks_whether(tokens: &[Token]) -> bool {
    let count = |word: &str| tokens.iter().filter(|token| token.is(word)).count();
    let mut depth = 0;
    let is_inner = tokens[1..].iter().skip(1).enumerate().all(|(at, token)| {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth -= 1,
            _ => {}
        }
        depth > 0 || at + 3 == tokens.len()
    });
    let is_plain = count("select") == 2 && count("limit") + count("for") + count("offset") == 0;
    tokens.get(1).is_some_and(|token| token.is("exists")) && is_inner && is_plain
}

/// Whether its rows are in the order of their key.
fn is_sorted(tokens: &[Token], key: Option<&str>) -> bool {
    let selects = tokens.iter().filter(|token| token.is("select")).count();
    let order = tokens.iter().rposition(|token| token.is("order"));
    let (Some(key), Some(order), 1) = (key, order, selects) else {
        return false;
    };
    let mut depth = 0;
    for token in &tokens[..order] {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth -= 1,
            _ => {}
        }
    }
    let mut by = tokens[order..]
        .iter()
        .take_while(|token| !token.is("limit"));
    depth == 0
        && !tokens.iter().any(|token| token.is("group"))
        && by.any(|token| token.word() == Some(key))
}

/// Whether it only counts, adds up or compares all rows, and locks none.
fn is_aggregate(tokens: &[Token]) -> bool {
    let count = |word: &str| tokens.iter().filter(|token| token.is(word)).count();
    let others = ["group", "for", "with", "union", "limit", "over"];
    if count("select") != 1 || others.iter().any(|word| count(word) > 0) {
        return false;
    }
    let end = tokens.iter().position(|token| token.is("from"));
    let mut depth = 0;
    let mut is_cast = false;
    let columns = &tokens[1..end.unwrap_or(tokens.len()).max(1)];
    columns.iter().enumerate().all(|(at, token)| {
        let known = [
            "avg", "bool_and", "bool_or", "count", "filter", "max", "min", "sum",
        ];
        let is_known = |token: &Token| known.iter().any(|name| token.is(name));
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth -= 1,
            Token::Sign(':') => is_cast = true,
            Token::Word { .. } if depth == 0 => {
                let is_name = at > 0 && columns[at - 1].is("as");
                let is_own = std::mem::take(&mut is_cast) || is_name || token.is("as");
                let of_known = token.is("coalesce") && columns.get(at + 2).is_some_and(is_known);
                return is_own || of_known || is_known(token);
            }
            _ => {}
        }
        true
    })
}
