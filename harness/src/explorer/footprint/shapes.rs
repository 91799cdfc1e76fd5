//! What is known of the statements so far.

use std::collections::{BTreeSet, HashMap, HashSet};

use diesel::QueryResult;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::catalog::Catalog;
use super::define::may_define;
use super::print::{Lock, Strength, Thing, Touch};
use super::server::shape;
use super::shape::Shape;
use super::statement::{Kind, Statement};
use super::tokens::{Token, tokens};
use super::touch::touch;
use crate::sessions::IsolationLevel;

/// The catalogue, and the shapes of the statements that were seen.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    catalog: Option<Catalog>,
    /// None where it can't be told what the statement does.
    shapes: HashMap<String, Option<Shape>>,
    /// The words of statements whose values are other ones in each run, such as numbers of
    /// sequences: which rows they are about is not known beforehand.
    varying: HashSet<String>,
    /// The words of statements that can fail by what is in their row, and do so before they wait for
    /// it.
    failing: HashSet<String>,
    /// The tables that are read in the order in which their rows lie: where a row goes depends on
    /// what was written before it.
    scanned: BTreeSet<Thing>,
    /// Whether there are statements of which nothing is known: they may see who waits, or be kept
    /// waiting by who waits.
    pub(crate) has_unknown: bool,
    /// How often what was learnt has made more statements depend on each other.
    pub(crate) revision: usize,
}

impl Shapes {
    /// Learns what this statement touches, if that is not known. Three round trips, once for each
    /// text, and three for the catalogue.
    pub(crate) fn learn<C>(&mut self, conn: &mut C, statement: &Statement)
    where
        C: LoadConnection<Backend = Pg>,
    {
        for part in statement.split() {
            let touches_nothing = part.is_of_the_session() && !part.renames();
            if part.kind() == Kind::Other && !touches_nothing {
                self.note_unknown();
            }
            if part.kind() != Kind::Query {
                continue;
            }
            if self.look(conn).is_err() {
                return;
            }
            let (Some(catalog), false) = (&self.catalog, self.shapes.contains_key(&part.sql))
            else {
                self.note(&part);
                continue;
            };
            // What can't be told now may be told when its table is there, or is free.
            if let Ok(found) = shape(conn, catalog, &part) {
                self.shapes.insert(part.sql.clone(), found);
            }
            self.note(&part);
        }
    }

    /// Takes note of what a statement says of others.
    fn note(&mut self, statement: &Statement) {
        match self.touch(statement) {
            Some(touch) => {
                let before = self.scanned.len();
                self.scanned.extend(touch.scans);
                self.revision += usize::from(self.scanned.len() > before);
            }
            None => self.note_unknown(),
        }
    }

    /// The statement has failed by itself: to wait for who has its row is not to come later.
    pub(crate) fn note_failing(&mut self, statement: &Statement) {
        self.revision += usize::from(self.failing.insert(statement.words()));
    }

    /// There is something of which nothing is known.
    pub(crate) fn note_unknown(&mut self) {
        self.revision += usize::from(!self.has_unknown);
        self.has_unknown = true;
    }

    /// The same statement of two runs: its values may be other ones each time. Says whether it is
    /// known then what both touch.
    pub(crate) fn compare(&mut self, one: &Statement, other: &Statement) -> bool {
        if one == other {
            return true;
        }
        if one.words() != other.words() {
            return false;
        }
        (one.split().iter().zip(&other.split())).all(|(one, other)| {
            if self.touch(one) == self.touch(other) {
                return true;
            }
            let is_new = self.varying.insert(one.words());
            self.revision += usize::from(is_new);
            self.touch(one) == self.touch(other)
        })
    }

    /// Whether a statement of which nothing is known may change how those that follow it in its
    /// session are understood.
    pub(crate) fn may_configure(&self, statement: &Statement) -> bool {
        let functions = self.catalog.as_ref().map(|catalog| &catalog.functions);
        let is_own = |name: &str| functions.is_none_or(|functions| functions.contains_key(name));
        let tokens = tokens(&statement.sql);
        let mut names = tokens.iter().filter_map(Token::word);
        names.any(|name| name == "set_config" || is_own(name))
    }

    /// Whether a statement of which nothing is known may change what those of others mean.
    pub(crate) fn may_define(&self, statement: &Statement) -> bool {
        let catalog = self.catalog.as_ref();
        catalog.is_some_and(|catalog| may_define(catalog, &statement.sql))
    }

    /// Reads the catalogue, once.
    pub(crate) fn look<C>(&mut self, conn: &mut C) -> QueryResult<()>
    where
        C: LoadConnection<Backend = Pg>,
    {
        if self.catalog.is_none() {
            self.catalog = Some(Catalog::load(conn)?);
        }
        Ok(())
    }

    pub(crate) fn catalog(&self) -> Option<&Catalog> {
        self.catalog.as_ref()
    }

    pub(crate) fn default_level(&self) -> IsolationLevel {
        let known = (self.catalog.as_ref()).and_then(|catalog| catalog.default_level);
        known.unwrap_or(IsolationLevel::ReadCommitted)
    }

    /// What a single statement touches, if that is known.
    pub(crate) fn touch(&self, statement: &Statement) -> Option<Touch> {
        let shape = self.shapes.get(&statement.sql)?.as_ref()?;
        let is_varying = !self.varying.is_empty() && self.varying.contains(&statement.words());
        let mut touch = touch(self.catalog.as_ref()?, shape, statement, is_varying);
        if !self.failing.is_empty() && self.failing.contains(&statement.words()) {
            (touch.waits_for, touch.row) = (None, None);
        }
        for written in &touch.writes {
            let place = Thing::any(&written.of);
            // What is not known may read in that order, too.
            if self.has_unknown || self.scanned.contains(&place) {
                touch.bumps.push(Lock {
                    thing: Thing::row("place", &written.of),
                    strength: Strength::Update,
                });
            }
        }
        Some(touch)
    }
}
