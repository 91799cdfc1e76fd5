//! What is known of the statements so far.

use std::collections::HashMap;

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::Text;
use diesel::{QueryResult, RunQueryDsl};

use super::catalog::Catalog;
use super::print::Touch;
use super::shape::{Shape, shape};
use super::statement::{Kind, Statement};
use super::touch::touch;
use crate::sessions::IsolationLevel;

/// The catalogue, and the shapes of the statements that were seen.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    catalog: Option<Catalog>,
    default_level: Option<IsolationLevel>,
    /// None where it can't be told what the statement does.
    shapes: HashMap<String, Option<Shape>>,
}

impl Shapes {
    /// Learns what this statement touches, if that is not known. Three round trips, once for each
    /// text, and three for the catalogue.
    pub(crate) fn learn<C>(&mut self, conn: &mut C, statement: &Statement)
    where
        C: LoadConnection<Backend = Pg>,
    {
        for part in statement.split() {
            if part.kind() != Kind::Query || self.shapes.contains_key(&part.sql) {
                continue;
            }
            if self.look(conn).is_err() {
                return;
            }
            let Some(catalog) = &self.catalog else {
                return;
            };
            // What can't be told now may be told when its table is there, or is free.
            if let Ok(found) = shape(conn, catalog, &part.sql) {
                self.shapes.insert(part.sql, found);
            }
        }
    }

    /// Reads the catalogue, once.
    pub(crate) fn look<C>(&mut self, conn: &mut C) -> QueryResult<()>
    where
        C: LoadConnection<Backend = Pg>,
    {
        if self.catalog.is_none() {
            self.catalog = Some(Catalog::load(conn)?);
            let level: String =
                sql::<Text>("SELECT pg_catalog.current_setting('default_transaction_isolation')")
                    .get_result(conn)?;
            self.default_level = Some(match level.as_str() {
                "serializable" => IsolationLevel::Serializable,
                "repeatable read" => IsolationLevel::RepeatableRead,
                _ => IsolationLevel::ReadCommitted,
            });
        }
        Ok(())
    }

    pub(crate) fn catalog(&self) -> Option<&Catalog> {
        self.catalog.as_ref()
    }

    pub(crate) fn default_level(&self) -> IsolationLevel {
        self.default_level.unwrap_or(IsolationLevel::ReadCommitted)
    }

    /// What a single statement touches, if that is known.
    pub(crate) fn touch(&self, statement: &Statement) -> Option<Touch> {
        let shape = self.shapes.get(&statement.sql)?.as_ref()?;
        Some(touch(self.catalog.as_ref()?, shape, statement))
    }
}
