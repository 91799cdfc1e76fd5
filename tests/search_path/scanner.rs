//! Finds what a statement has PostgreSQL look up through `search_path`: each function, view, type,
//! operator and collation that does not say that it is `pg_catalog`'s.
//!
//! It does not know SQL: what it does not know to be harmless is a finding.

use std::collections::BTreeSet;

use crate::tokens::{Token, tokens};

/// What may stand before a bracket and is no function, or one that the grammar itself qualifies.
const CONSTRUCTS: &str = "all and any array as by cast coalesce distinct else except exists filter \
    from greatest group having intersect join lateral least limit materialized not offset on or \
    over returning row select some then union values when where with";

/// The types that are key words, and so in no schema but `pg_catalog`.
const TYPES: &str = "bigint bit boolean char character dec decimal double float int integer \
    interval nchar numeric real smallint time timestamp varchar";

/// What may stand before a string without being its type.
const BEFORE_TEXT: &str = "all and between distinct do else from ilike like not on or returning \
    select then to when where zone";

/// What begins a part of a statement.
const CLAUSES: [&str; 5] = ["from", "returning", "select", "set", "where"];

/// Fails with every statement that has a finding.
pub(crate) fn assert_qualified(statements: &BTreeSet<String>) {
    let findings: Vec<_> = statements
        .iter()
        .map(|sql| (sql, unqualified(sql)))
        .filter(|(_, findings)| !findings.is_empty())
        .map(|(sql, findings)| format!("{sql}\n    {}", findings.join(", ")))
        .collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n\n"));
}

pub(crate) fn unqualified(sql: &str) -> Vec<String> {
    let mut scanner = Scanner {
        tokens: &tokens(sql),
        at: 0,
        clause: "",
        open: Vec::new(),
        findings: Vec::new(),
    };
    while scanner.at < scanner.tokens.len() {
        scanner.step();
    }
    scanner.findings
}

struct Scanner<'t> {
    tokens: &'t [Token],
    at: usize,
    clause: &'static str,
    /// The words before the brackets that are open.
    open: Vec<&'t str>,
    findings: Vec<String>,
}

impl<'t> Scanner<'t> {
    fn get(&self, at: usize) -> Option<&'t Token> {
        self.tokens.get(at)
    }

    fn previous(&self) -> Option<&'t Token> {
        self.get(self.at.checked_sub(1)?)
    }

    fn is_mark(&self, at: usize, mark: char) -> bool {
        self.get(at) == Some(&Token::Mark(mark))
    }

    fn is_word(&self, at: usize, words: &str) -> bool {
        self.get(at).is_some_and(|token| token.is_word(words))
    }

    fn find(&mut self, what: &str, name: impl AsRef<str>) {
        self.findings.push(format!("{what} {}", name.as_ref()));
    }

    fn step(&mut self) {
        let tokens = self.tokens;
        match &tokens[self.at] {
            Token::Cast => {
                self.at += 1;
                self.type_name();
            }
            Token::Operator(operator) => {
                if !self.is_no_operator(operator) {
                    self.find("operator", operator);
                }
                self.at += 1;
            }
            Token::Mark(mark) => {
                match mark {
                    '(' => {
                        let before = self.previous().and_then(Token::name);
                        self.open.push(before.unwrap_or_default());
                    }
                    ')' => drop(self.open.pop()),
                    ';' => self.clause = "",
                    _ => {}
                }
                self.at += 1;
            }
            Token::Word(_) | Token::Quoted(_) => self.name(),
            Token::Text | Token::Value => self.at += 1,
        }
    }

    /// The parts of the name that begins here, which may be one.
    fn chain(&self) -> Vec<&'t str> {
        let part = |at: usize| self.get(at).and_then(Token::name);
        let mut parts: Vec<_> = part(self.at).into_iter().collect();
        while self.is_mark(self.at + 2 * parts.len() - 1, '.')
            && let Some(part) = part(self.at + 2 * parts.len())
        {
            parts.push(part);
        }
        parts
    }

    fn name(&mut self) {
        let token = &self.tokens[self.at];
        if token.is_word("operator") && self.is_mark(self.at + 1, '(') {
            return self.operator();
        }
        self.key_word(token);
        let chain = self.chain();
        let end = self.at + 2 * chain.len() - 1;
        let is_own = chain.len() > 1 && chain[0] == "pg_catalog";
        if self.is_mark(end, '(') {
            let is_known = match chain.as_slice() {
                // `varchar(10)` is no call.
                [_] => {
                    token.is_word(CONSTRUCTS)
                        || token.is_word(TYPES)
                        || self.is_key_word_of_its_own(token)
                }
                _ => is_own,
            };
            if !is_known && !self.names_columns(end) {
                self.find("function", chain.join("."));
            }
        } else if let [name] = chain.as_slice()
            && name.starts_with("pg_")
            && !self.is_mark(end, '.')
        {
            // A column of a view has the view's name before it.
            self.find("relation", name);
        } else if matches!(token, Token::Word(_))
            && self.get(end) == Some(&Token::Text)
            && !is_own
            && !token.is_word(BEFORE_TEXT)
            && !token.is_word(TYPES)
        {
            self.find("type", chain.join("."));
        }
        // Brackets look back at what is before them.
        self.at = end;
        if token.is_word("as") && self.open.last() == Some(&"cast") {
            self.type_name();
        }
    }

    /// Those that look an operator or a collation up.
    fn key_word(&mut self, token: &Token) {
        let Token::Word(word) = token else {
            return;
        };
        let next = self.at + 1;
        let is_lookup = match word.as_str() {
            "in" => self.is_mark(next, '('),
            "case" => !self.is_word(next, "when"),
            "distinct" => {
                self.is_word(next, "from") && self.previous().is_some_and(|it| it.is_word("is not"))
            }
            "between" | "ilike" | "like" | "natural" | "nullif" | "similar" | "using" => true,
            "collate" => self.get(next).and_then(Token::name) != Some("pg_catalog"),
            // Its text is a string, which nobody looks into. What an INSERT does on a conflict is none.
            "do" => !self.is_word(next, "nothing update"),
            "execute" => true,
            _ => false,
        };
        if is_lookup {
            self.find("key word", word);
        }
        if let Some(clause) = CLAUSES.iter().find(|clause| *clause == word) {
            self.clause = clause;
        }
    }

    /// Whether the key word was a finding already.
    fn is_key_word_of_its_own(&self, token: &Token) -> bool {
        token.is_word("in nullif using")
    }

    /// Whether the bracket is the list of columns of a table, an alias or a `WITH`.
    fn names_columns(&self, bracket: usize) -> bool {
        let Some(before) = self.previous() else {
            return false;
        };
        // `EXISTS` of `CREATE TABLE IF NOT EXISTS`: the other one has its bracket at once.
        if before.is_word("as exists into table") {
            return true;
        }
        let is_index = (self.tokens[..self.at].iter()).any(|token| token.is_word("index"));
        if before.is_word("on") && is_index {
            return true;
        }
        let is_first = before.is_word("recursive with") || *before == Token::Mark(',');
        let after = (bracket..).find(|&at| self.is_mark(at, ')') || self.get(at).is_none());
        let after = after.map_or(usize::MAX, |end| end + 1);
        let query = (after + 1..after + 4).find(|&at| self.is_mark(at, '('));
        is_first
            && self.is_word(after, "as")
            && query.is_some_and(|query| self.is_word(query + 1, "select values"))
    }

    /// `OPERATOR(schema.name)`
    fn operator(&mut self) {
        let end = (self.at..).find(|&at| self.is_mark(at, ')') || self.get(at).is_none());
        let end = end.unwrap_or(self.tokens.len());
        let inside = &self.tokens[(self.at + 2).min(end)..end];
        let is_own = matches!(
            inside,
            [schema, Token::Mark('.'), Token::Operator(_)] if schema.name() == Some("pg_catalog")
        );
        if !is_own {
            self.find("operator", format!("{inside:?}"));
        }
        self.at = end + 1;
    }

    fn type_name(&mut self) {
        let chain = self.chain();
        let Some(first) = self.get(self.at) else {
            return;
        };
        let is_known = match chain.as_slice() {
            [_] => first.is_word(TYPES),
            [schema, _] => *schema == "pg_catalog",
            _ => false,
        };
        if !is_known {
            self.find("type", chain.join("."));
        }
        self.at += (2 * chain.len()).saturating_sub(1);
        // `numeric(10, 2)` is no call.
        if self.is_mark(self.at, '(') {
            self.open.push("");
            self.at += 1;
        }
    }

    /// Whether it is a star, an assignment, an argument's name or a number's sign.
    fn is_no_operator(&self, operator: &str) -> bool {
        let Some(before) = self.previous() else {
            return false;
        };
        let begins = matches!(before, Token::Mark('(' | ',' | '['));
        match operator {
            "=>" => true,
            "*" => {
                begins
                    || *before == Token::Mark('.')
                    || before.is_word("all distinct returning select")
            }
            "-" => {
                let is_number = self.get(self.at + 1) == Some(&Token::Value);
                let begins = begins || matches!(before, Token::Operator(_));
                is_number && (begins || before.is_word("else limit select then"))
            }
            "=" => {
                let target = self.at.checked_sub(2).and_then(|at| self.get(at));
                let is_target = |token: &Token| {
                    *token == Token::Mark(',') || token.is_word("local session set")
                };
                self.clause == "set" && before.name().is_some() && target.is_some_and(is_target)
            }
            _ => false,
        }
    }
}
