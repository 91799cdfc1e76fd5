//! Migrations in Rust.

use std::sync::Arc;

use diesel::connection::BoxableConnection;
use diesel::migration::{self, Migration, MigrationMetadata, MigrationName, MigrationSource};
use diesel::pg::Pg;

use crate::fixture::Sql;

/// A migration outside a transaction, in Rust.
pub(crate) struct Code<F>(Sql, Arc<F>);

impl<F> Code<F>
where
    F: Fn(&mut dyn BoxableConnection<Pg>) -> migration::Result<()>,
{
    pub(crate) fn new(run: F) -> Self {
        Self(Sql::new("2", "").outside(), Arc::new(run))
    }

    pub(crate) fn in_transaction(mut self) -> Self {
        self.0.in_transaction = true;
        self
    }
}

impl<F> Migration<Pg> for Code<F>
where
    F: Fn(&mut dyn BoxableConnection<Pg>) -> migration::Result<()>,
{
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> migration::Result<()> {
        (self.1)(conn)
    }

    fn revert(&self, _: &mut dyn BoxableConnection<Pg>) -> migration::Result<()> {
        Ok(())
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self.0.metadata()
    }

    fn name(&self) -> &dyn MigrationName {
        self.0.name()
    }
}

impl<F> MigrationSource<Pg> for &Code<F>
where
    F: Fn(&mut dyn BoxableConnection<Pg>) -> migration::Result<()> + 'static,
{
    fn migrations(&self) -> migration::Result<Vec<Box<dyn Migration<Pg>>>> {
        Ok(vec![Box::new(Code(self.0.clone(), Arc::clone(&self.1)))])
    }
}
