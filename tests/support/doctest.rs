// Included, hidden, by the examples in the docs: a database with the schema of `migrations/`.

#[path = "schema.rs"]
mod schema;

#[allow(unused_imports)]
use schema::{accounts, jobs};

const MIGRATIONS: diesel_migrations::EmbeddedMigrations = diesel_migrations::embed_migrations!();

fn database() -> Result<diesel_locks_harness::TestDatabase, diesel_locks_harness::DatabaseError> {
    diesel_locks_harness::TestDatabase::new()?.migrated(MIGRATIONS)
}
