//! Migrations that a test writes.

use std::fmt;

use diesel::connection::BoxableConnection;
use diesel::migration::{
    Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion, Result,
};
use diesel::pg::Pg;

/// A migration of SQL, called by its version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sql {
    pub(crate) version: String,
    pub(crate) up: String,
    pub(crate) down: String,
    pub(crate) in_transaction: bool,
}

impl Sql {
    pub(crate) fn new(version: &str, up: &str) -> Self {
        Self {
            version: version.to_owned(),
            up: up.to_owned(),
            down: "SELECT 1".to_owned(),
            in_transaction: true,
        }
    }

    pub(crate) fn down(mut self, down: &str) -> Self {
        down.clone_into(&mut self.down);
        self
    }

    pub(crate) fn outside(mut self) -> Self {
        self.in_transaction = false;
        self
    }
}

impl Migration<Pg> for Sql {
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        Ok(conn.batch_execute(&self.up)?)
    }

    fn revert(&self, conn: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        Ok(conn.batch_execute(&self.down)?)
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self
    }

    fn name(&self) -> &dyn MigrationName {
        self
    }
}

impl MigrationMetadata for Sql {
    fn run_in_transaction(&self) -> bool {
        self.in_transaction
    }
}

impl MigrationName for Sql {
    fn version(&self) -> MigrationVersion<'_> {
        (&*self.version).into()
    }
}

impl fmt::Display for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)
    }
}

/// Several of them.
pub(crate) struct All(pub(crate) Vec<Sql>);

impl All {
    pub(crate) fn of<const N: usize>(migrations: [(&str, &str); N]) -> Self {
        Self(migrations.map(|(version, up)| Sql::new(version, up)).into())
    }
}

impl MigrationSource<Pg> for &All {
    fn migrations(&self) -> Result<Vec<Box<dyn Migration<Pg>>>> {
        let boxed = |sql: &Sql| Box::new(sql.clone()) as Box<dyn Migration<Pg>>;
        Ok(self.0.iter().map(boxed).collect())
    }
}
