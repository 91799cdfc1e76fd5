use std::collections::{HashMap, HashSet};

use super::error::SpecError;
use super::scanner::{Scanner, Token};
use super::script::{Script, ScriptEntry, ScriptSession, ScriptStep};

/// Reads a file from its start to its end, so that the error is the first that a reader meets.
#[derive(Debug)]
pub(super) struct Parser<'a> {
    scanner: Scanner<'a>,
    peeked: Option<(usize, Token<'a>)>,
    sessions: HashSet<String>,
    /// The number of each step, by its name.
    steps: HashMap<String, usize>,
    script: Script,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            scanner: Scanner::new(text),
            peeked: None,
            sessions: HashSet::new(),
            steps: HashMap::new(),
            script: Script::default(),
        }
    }

    pub(super) fn file(mut self) -> Result<Script, SpecError> {
        while let Some(setup) = self.block("setup", "the setup")? {
            self.script.setups.push(setup);
        }
        self.script.teardown = self.block("teardown", "the teardown")?;
        if !self.accept(&Token::Keyword("session"))? {
            return Err(self.unexpected(match self.script.teardown {
                None => "\"setup\", \"teardown\" or \"session\"",
                Some(_) => "\"session\" after the teardown",
            }));
        }
        self.session()?;
        while self.accept(&Token::Keyword("session"))? {
            self.session()?;
        }
        // A session ends at a permutation or the end of the file, and so does a permutation.
        while self.accept(&Token::Keyword("permutation"))? {
            self.permutation()?;
        }
        Ok(self.script)
    }

    /// What follows the word `session`.
    fn session(&mut self) -> Result<(), SpecError> {
        let (at, name) = self.name("a session")?;
        if !self.sessions.insert(name.clone()) {
            return Err(self.error(at, format!("session {name:?} is defined twice")));
        }
        let whose = format!("session {name:?}");
        let setup = self.block("setup", &format!("the setup of {whose}"))?;
        let first = self.script.steps.len();
        while self.accept(&Token::Keyword("step"))? {
            self.step()?;
        }
        let steps = first..self.script.steps.len();
        if steps.is_empty() {
            return Err(self.unexpected(&format!("a step of {whose}")));
        }
        let teardown = self.block("teardown", &format!("the teardown of {whose}"))?;
        self.end_of_session(&whose, teardown.is_some())?;
        self.script.sessions.push(ScriptSession {
            name,
            setup,
            teardown,
            steps,
        });
        Ok(())
    }

    fn end_of_session(&mut self, whose: &str, has_teardown: bool) -> Result<(), SpecError> {
        if self.at_keyword_or_end(&["session", "permutation"])? {
            return Ok(());
        }
        Err(self.unexpected(&if has_teardown {
            format!("\"session\" or \"permutation\" after the teardown of {whose}")
        } else {
            format!("a step or the teardown of {whose}, \"session\" or \"permutation\"")
        }))
    }

    /// What follows the word `step`.
    fn step(&mut self) -> Result<(), SpecError> {
        let (at, name) = self.name("a step")?;
        let number = self.script.steps.len();
        if self.steps.insert(name.clone(), number).is_some() {
            return Err(self.error(at, format!("step {name:?} is defined twice")));
        }
        let sql = self.sql(&format!("step {name:?}"))?;
        self.script.steps.push(ScriptStep {
            name,
            // The session itself follows when it is complete.
            session: self.script.sessions.len(),
            sql,
        });
        Ok(())
    }

    /// What follows the word `permutation`.
    fn permutation(&mut self) -> Result<(), SpecError> {
        let mut entries = Vec::new();
        let mut markers = Vec::new();
        loop {
            entries.push(self.entry(&mut markers)?);
            if self.at_keyword_or_end(&["permutation"])? {
                break;
            }
        }
        // A marker may name a step that comes later, so this has to wait for all of them.
        let occurring: HashSet<_> = entries.iter().map(|entry| entry.step).collect();
        for (at, step) in markers {
            if !occurring.contains(&step) {
                let name = &self.script.steps[step].name;
                let message = format!("step {name:?} of this marker is not in the permutation");
                return Err(self.error(at, message));
            }
        }
        self.script.permutations.push(entries);
        Ok(())
    }

    /// A step of a permutation. Adds the place and the step of each of its markers to `markers`.
    fn entry(&mut self, markers: &mut Vec<(usize, usize)>) -> Result<ScriptEntry, SpecError> {
        let (at, name) = self.name("a step")?;
        let mut entry = ScriptEntry {
            step: self.find(at, &name, "in the permutation")?,
            waits_at_first: false,
            not_before: Vec::new(),
        };
        if !self.accept(&Token::Symbol('('))? {
            return Ok(entry);
        }
        loop {
            if self.accept(&Token::Symbol('*'))? {
                entry.waits_at_first = true;
            } else {
                let (at, step) = self.marker(entry.step)?;
                entry.not_before.push(step);
                markers.push((at, step));
            }
            if self.accept(&Token::Symbol(')'))? {
                return Ok(entry);
            }
            if !self.accept(&Token::Symbol(','))? {
                return Err(self.unexpected("',' or ')' after a marker"));
            }
        }
    }

    /// A marker that names a step, and its place.
    fn marker(&mut self, waiting: usize) -> Result<(usize, usize), SpecError> {
        let (at, name) = self.name("a step or '*'")?;
        if let (notices, Token::Keyword("notices")) = *self.peek()? {
            let message = "the marker \"notices\" is not supported: Diesel does not show notices";
            return Err(self.error(notices, message));
        }
        let step = self.find(at, &name, "in a marker")?;
        if self.script.steps[step].session == self.script.steps[waiting].session {
            let waiting = &self.script.steps[waiting].name;
            let message =
                format!("step {waiting:?} cannot wait for step {name:?} of its own session");
            return Err(self.error(at, message));
        }
        Ok((at, step))
    }

    fn find(&self, at: usize, name: &str, place: &str) -> Result<usize, SpecError> {
        let undefined = || self.error(at, format!("undefined step {name:?} {place}"));
        self.steps.get(name).copied().ok_or_else(undefined)
    }

    /// A block of SQL, if the keyword before it is there.
    fn block(&mut self, keyword: &'a str, what: &str) -> Result<Option<String>, SpecError> {
        if self.accept(&Token::Keyword(keyword))? {
            self.sql(what).map(Some)
        } else {
            Ok(None)
        }
    }

    fn sql(&mut self, what: &str) -> Result<String, SpecError> {
        match self.next()? {
            (_, Token::Sql(sql)) => Ok(sql.to_owned()),
            found => Err(self.expected(&format!("the SQL of {what} in braces"), &found)),
        }
    }

    fn name(&mut self, what: &str) -> Result<(usize, String), SpecError> {
        match self.next()? {
            (at, Token::Name(name)) => Ok((at, name)),
            (at, Token::Keyword(word)) => Err(self.error(
                at,
                format!(
                    "expected the name of {what}, found the keyword {word:?}, which is a name \
                     only in quotes"
                ),
            )),
            found => Err(self.expected(&format!("the name of {what}"), &found)),
        }
    }

    fn at_keyword_or_end(&mut self, keywords: &[&str]) -> Result<bool, SpecError> {
        Ok(match &self.peek()?.1 {
            Token::Keyword(keyword) => keywords.contains(keyword),
            token => *token == Token::End,
        })
    }

    fn accept(&mut self, token: &Token<'_>) -> Result<bool, SpecError> {
        let accepted = self.peek()?.1 == *token;
        if accepted {
            self.peeked = None;
        }
        Ok(accepted)
    }

    fn peek(&mut self) -> Result<&(usize, Token<'a>), SpecError> {
        let next = self.next()?;
        Ok(self.peeked.insert(next))
    }

    fn next(&mut self) -> Result<(usize, Token<'a>), SpecError> {
        match self.peeked.take() {
            Some(token) => Ok(token),
            None => self.scanner.next(),
        }
    }

    /// An error at the next token.
    fn unexpected(&mut self, what: &str) -> SpecError {
        match self.next() {
            Ok(found) => self.expected(what, &found),
            Err(error) => error,
        }
    }

    fn expected(&self, what: &str, (at, found): &(usize, Token<'_>)) -> SpecError {
        let found = match found {
            Token::Keyword(word) => format!("{word:?}"),
            Token::Name(name) => format!("the name {name:?}{}", self.scanner.hint(*at)),
            Token::Number(number) => format!("{number}{}", self.scanner.hint(*at)),
            Token::Symbol(symbol) => format!("{symbol:?}{}", self.scanner.hint(*at)),
            Token::Sql(_) => "SQL in braces".to_owned(),
            Token::End => "the end of the file".to_owned(),
        };
        self.error(*at, format!("expected {what}, found {found}"))
    }

    fn error(&self, at: usize, message: impl Into<String>) -> SpecError {
        self.scanner.error(at, message)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
#[expect(clippy::expect_used, clippy::unwrap_used)]
mod refusals;
#[cfg(test)]
#[expect(clippy::unwrap_used)]
mod tests;
