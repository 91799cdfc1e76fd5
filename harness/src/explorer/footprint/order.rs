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
        Some("values") => has("select") || has("table"),
        Some("insert") => has("select") || has("from") || has("table"),
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
    let others = ["limit", "for", "offset", "fetch", "table"];
    let is_plain = count("select") == 2 && others.iter().all(|word| count(word) == 0);
    tokens.get(1).is_some_and(|token| token.is("exists")) && is_inner && is_plain
}

/// How deep each token is in parentheses: one that opens or closes them is as deep as what is around
/// them.
fn depths(tokens: &[Token]) -> Vec<usize> {
    let mut depth = 0_usize;
    let depth_of = |token: &Token| match token {
        Token::Sign('(' | '[') => {
            depth += 1;
            depth - 1
        }
        Token::Sign(')' | ']') => {
            depth = depth.saturating_sub(1);
            depth
        }
        _ => depth,
    };
    tokens.iter().map(depth_of).collect()
}

/// The tokens after the first of these words, up to the first of those, outside of parentheses.
pub(super) fn between<'t>(tokens: &'t [Token], from: &str, to: &[&str]) -> &'t [Token] {
    let depths = depths(tokens);
    let find = |start: usize, words: &[&str]| {
        let is_one = |at: &usize| depths[*at] == 0 && words.iter().any(|word| tokens[*at].is(word));
        (start..tokens.len()).find(is_one)
    };
    let Some(from) = find(0, &[from]) else {
        return &[];
    };
    &tokens[from + 1..find(from + 1, to).unwrap_or(tokens.len())]
}

/// Whether its rows are in the order of their key: of one table that it names once.
fn is_sorted(tokens: &[Token], key: Option<&str>) -> bool {
    let count = |word: &str| tokens.iter().filter(|token| token.is(word)).count();
    let others = ["group", "over", "join", "lateral"];
    let Some(key) = key.filter(|_| count("select") == 1) else {
        return false;
    };
    let from = between(tokens, "from", &["where", "order"]);
    let is_one = !from
        .iter()
        .any(|token| matches!(token, Token::Sign(',' | '(')));
    let order = between(tokens, "order", &["limit", "offset", "fetch", "for"]);
    let Some((_, by)) = order.split_first() else {
        return false;
    };
    // What is sorted by may be a column of the result that is called like the key.
    let columns = between(tokens, "select", &["from"]);
    let is_alias = |pair: &[Token]| {
        pair[1].word() == Some(key)
            && match &pair[0] {
                Token::Sign(sign) => [')', ']'].contains(sign),
                before => !before.is("distinct") && !before.is("all"),
            }
    };
    others.iter().all(|word| count(word) == 0)
        && is_one
        && !columns.windows(2).any(is_alias)
        && by
            .split(|token| *token == Token::Sign(','))
            .any(|part| is_column(part, key))
}

/// Whether it is this column, as it is, in some direction.
fn is_column(part: &[Token], column: &str) -> bool {
    let directions = ["asc", "desc", "nulls", "first", "last"];
    let is_direction = |token: &Token| directions.iter().any(|word| token.is(word));
    let length = part.iter().take_while(|token| !is_direction(token)).count();
    let (name, direction) = part.split_at(length);
    let is_name = name.iter().enumerate().all(|(at, token)| match at % 2 {
        0 => token.word().is_some(),
        _ => *token == Token::Sign('.'),
    });
    is_name
        && name.last().and_then(Token::word) == Some(column)
        && direction.iter().all(is_direction)
}

/// Whether it only counts, adds up or compares all rows, and locks none.
fn is_aggregate(tokens: &[Token]) -> bool {
    let count = |word: &str| tokens.iter().filter(|token| token.is(word)).count();
    // What comes of some of the rows depends on which they are.
    let others = [
        "group", "for", "with", "union", "limit", "over", "table", "fetch", "offset",
    ];
    if count("select") != 1 || others.iter().any(|word| count(word) > 0) {
        return false;
    }
    let known = [
        "avg", "bool_and", "bool_or", "count", "filter", "max", "min", "sum",
    ];
    let columns = between(tokens, "select", &["from"]);
    let depths = depths(columns);
    // Where what rows have is made one, and how deep that is.
    let mut summed = None;
    columns.iter().enumerate().all(|(at, token)| {
        if summed.is_some_and(|(call, depth)| at == call + 1 || depths[at] > depth) {
            return true;
        }
        summed = None;
        let before = at.checked_sub(1).map(|before| &columns[before]);
        let is_call = columns.get(at + 1) == Some(&Token::Sign('('));
        match token {
            // Of all columns, or a factor.
            Token::Sign('*') => !matches!(before, None | Some(Token::Sign(',' | '.' | '('))),
            Token::Word { .. } if is_call && known.iter().any(|name| token.is(name)) => {
                summed = Some((at, depths[at]));
                true
            }
            Token::Word { .. } => {
                let is_type = before == Some(&Token::Sign(':'));
                let is_name = before.is_some_and(|before| before.is("as"));
                let is_coalesce = is_call && token.is("coalesce");
                is_coalesce || (!is_call && (is_type || is_name || token.is("as")))
            }
            _ => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::*;

    #[test]
    fn what_is_made_of_all_rows_has_no_order() {
        for (sql, expected) in [
            ("SELECT count(*) FROM a", false),
            (
                "SELECT coalesce(sum(b + c) * 2, 0)::text AS d, max(b) FROM a",
                false,
            ),
            (
                "SELECT count(*) FILTER (WHERE lower(b) = 'c') FROM a",
                false,
            ),
            ("SELECT * FROM a", true),
            ("SELECT (b) FROM a", true),
            ("SELECT (b || 'c') AS d FROM a", true),
            ("SELECT (array_agg(b))[1] FROM a", true),
            ("SELECT coalesce(max(b), string_agg(c, ',')) FROM a", true),
            ("SELECT extract(day FROM now()), b FROM a", true),
            ("SELECT EXISTS (SELECT FROM a)", false),
            (
                "SELECT sum(b) FROM (TABLE a FETCH FIRST 2 ROWS ONLY) AS c",
                true,
            ),
            (
                "SELECT EXISTS (SELECT FROM (TABLE a FETCH FIRST ROW ONLY) AS c WHERE b = 1)",
                true,
            ),
            ("VALUES ((SELECT b FROM a LIMIT 1))", true),
            ("INSERT INTO b TABLE a", true),
            ("INSERT INTO b VALUES (1)", false),
        ] {
            assert_eq!(order_matters(&tokens(sql), None), expected, "{sql}");
        }
    }

    #[test]
    fn rows_in_the_order_of_their_key_have_no_other() {
        for (sql, expected) in [
            (
                "SELECT * FROM a ORDER BY b, a.id DESC NULLS LAST LIMIT 1",
                false,
            ),
            (
                "SELECT \"a\".\"id\", \"a\".\"b\" FROM \"a\" ORDER BY \"a\".\"id\"",
                false,
            ),
            ("SELECT id, b FROM a ORDER BY id FOR UPDATE", false),
            ("SELECT id FROM a ORDER BY id / 2", true),
            ("SELECT id FROM a ORDER BY (id = 1) DESC", true),
            ("SELECT id FROM a ORDER BY abs(id)", true),
            ("SELECT b AS id FROM a ORDER BY id", true),
            ("SELECT b id FROM a ORDER BY id", true),
            ("SELECT x.id FROM a x, a y ORDER BY x.id", true),
            ("SELECT x.id FROM a x CROSS JOIN a y ORDER BY x.id", true),
            (
                "SELECT id, row_number() OVER (ORDER BY b) FROM a ORDER BY id",
                true,
            ),
        ] {
            assert_eq!(order_matters(&tokens(sql), Some("id")), expected, "{sql}");
        }
    }
}
