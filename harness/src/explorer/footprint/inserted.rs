//! The row of an INSERT.

use super::catalog::Relation;
use super::tokens::Token;

/// The values of the key in an INSERT of one row into a table that nothing else makes unique.
pub(super) fn inserted<'t>(relation: &Relation, tokens: &'t [Token]) -> Option<Vec<&'t Token>> {
    if relation.unique.len() != 1 || tokens.iter().any(|token| token.is("select")) {
        return None;
    }
    let (names, after) = list(tokens)?;
    let [values, after @ ..] = after else {
        return None;
    };
    // A second row follows a comma.
    let (row, after) = list(after).filter(|_| values.is("values"))?;
    if after.first() == Some(&Token::Sign(',')) {
        return None;
    }
    let value = |(column, _): &(String, String)| {
        let is_it = |name: &&[Token]| matches!(name, [Token::Word { text, .. }] if text == column);
        match row.get(names.iter().position(is_it)?) {
            Some([value]) => Some(value),
            _ => None,
        }
    };
    relation.key.iter().map(value).collect()
}

/// The parts of the first list in parentheses, and what follows it.
fn list(tokens: &[Token]) -> Option<(Vec<&[Token]>, &[Token])> {
    let open = tokens.iter().position(|token| *token == Token::Sign('('))?;
    let (mut depth, mut start, mut parts) = (0, open + 1, Vec::new());
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign('(' | '[') => depth += 1,
            Token::Sign(')' | ']') => depth -= 1,
            Token::Sign(',') if depth == 1 => {
                parts.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        if depth == 0 {
            parts.push(&tokens[start..at]);
            return Some((parts, &tokens[at + 1..]));
        }
    }
    None
}
