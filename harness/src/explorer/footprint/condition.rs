//! What a statement asks of its rows.

use super::tokens::Token;

/// What the statement asks of its rows, where it has one WHERE.
pub(super) fn asked(tokens: &[Token]) -> Option<Vec<&[Token]>> {
    let ends = [
        "order",
        "limit",
        "for",
        "returning",
        "group",
        "having",
        "offset",
        "fetch",
        "window",
    ];
    let outer = |from: usize| {
        let mut depth = 0;
        (tokens[from..].iter().enumerate()).filter_map(move |(at, token)| {
            depth += deeper(token);
            (depth == 0).then_some((from + at, token))
        })
    };
    let (at, _) = outer(0).find(|(_, token)| token.is("where"))?;
    if tokens.iter().filter(|token| token.is("where")).count() > 1 {
        return None;
    }
    let end = outer(at + 1).find(|(_, token)| ends.iter().any(|end| token.is(end)));
    let to = end.map_or(tokens.len(), |(to, _)| to);
    Some(conditions(&tokens[at + 1..to]))
}

/// How much deeper the tokens after this one are in parentheses.
fn deeper(token: &Token) -> isize {
    match token {
        Token::Sign('(' | '[') => 1,
        Token::Sign(')' | ']') => -1,
        _ => 0,
    }
}

/// The parts of a condition that are joined by AND; none if there is an OR.
fn conditions(tokens: &[Token]) -> Vec<&[Token]> {
    let mut tokens = tokens;
    while let [Token::Sign('('), inner @ .., Token::Sign(')')] = tokens {
        let mut depth = 0;
        let closes_early = inner.iter().any(|token| {
            match token {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth -= 1,
                _ => {}
            }
            depth < 0
        });
        if closes_early {
            break;
        }
        tokens = inner;
    }
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        depth += deeper(token);
        match token {
            token if depth == 0 && (token.is("or") || token.is("not") || token.is("between")) => {
                return Vec::new();
            }
            token if depth == 0 && token.is("and") => {
                parts.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if parts.is_empty() {
        return vec![tokens];
    }
    parts.push(&tokens[start..]);
    parts.into_iter().flat_map(conditions_or_none).collect()
}

fn conditions_or_none(part: &[Token]) -> Vec<&[Token]> {
    match conditions(part) {
        // An OR in it is a condition like any other.
        parts if parts.is_empty() => vec![part],
        parts => parts,
    }
}

/// The value to which the condition says that the column is equal.
pub(super) fn equal<'t>(condition: &'t [Token], column: &str) -> Option<&'t Token> {
    let at = condition
        .iter()
        .position(|token| *token == Token::Sign('='))?;
    let (left, right) = (&condition[..at], &condition[at + 1..]);
    let is_column = |side: &[Token]| {
        let words = side.iter().enumerate().all(|(at, token)| match at % 2 {
            0 => token.word().is_some(),
            _ => *token == Token::Sign('.'),
        });
        words && side.len() % 2 == 1 && side.last().and_then(Token::word) == Some(column)
    };
    match (left, right) {
        (side, [value]) if is_column(side) => Some(value),
        ([value], side) if is_column(side) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::*;

    fn conditions_of(sql: &str) -> usize {
        conditions(&tokens(sql)).len()
    }

    #[test]
    fn conditions_are_split_at_and_unless_there_is_an_or() {
        assert_eq!(conditions_of("((a = 1) AND (b = 2)) AND c"), 3);
        assert_eq!(conditions_of("(a = 1)"), 1);
        assert_eq!(conditions_of("(a = 1) OR (b = 2)"), 0);
        assert_eq!(conditions_of("(a = 1 OR b = 2) AND c"), 2);
    }
}
