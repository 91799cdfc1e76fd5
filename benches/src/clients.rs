//! What takes and releases an advisory lock.

use std::error::Error;

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_locks::prelude::*;
use postgres::{Config, NoTls};
use sqlx::postgres::{PgAdvisoryLock, PgAdvisoryLockKey, PgConnectOptions};
use sqlx::{ConnectOptions, Connection as _};
use tokio::runtime;

#[diesel::declare_sql_function]
extern "SQL" {
    /// Diesel's own way to call it.
    #[sql_name = "pg_catalog.pg_advisory_lock"]
    fn pg_advisory_lock(key: BigInt) -> diesel::sql_types::Nullable<diesel::sql_types::Text>;
    /// Diesel's own way to call it.
    #[sql_name = "pg_catalog.pg_try_advisory_lock"]
    fn pg_try_advisory_lock(key: BigInt) -> Bool;
    /// Diesel's own way to call it.
    #[sql_name = "pg_catalog.pg_advisory_unlock"]
    fn pg_advisory_unlock(key: BigInt) -> Bool;
}

/// The lock that is taken.
pub(crate) const KEY: i64 = 42;

/// Waits for the lock, does something, and releases it.
pub(crate) type Holder = Box<dyn FnMut(&mut dyn FnMut()) + Send>;

pub(crate) type Connected = Result<Holder, Box<dyn Error>>;

pub(crate) fn diesel_locks(url: &str) -> Connected {
    let mut conn = PgConnection::establish(url)?;
    Ok(Box::new(move |work| {
        let guard = conn.advisory_lock(KEY).expect("the lock");
        work();
        guard.release().expect("the release");
    }))
}

pub(crate) fn typed_functions(url: &str) -> Connected {
    let mut conn = PgConnection::establish(url)?;
    Ok(Box::new(move |work| {
        let locked: bool = diesel::select(pg_try_advisory_lock(KEY))
            .get_result(&mut conn)
            .expect("the lock");
        assert!(locked);
        work();
        let unlocked: bool = diesel::select(pg_advisory_unlock(KEY))
            .get_result(&mut conn)
            .expect("the release");
        assert!(unlocked);
    }))
}

pub(crate) fn sql_query(url: &str) -> Connected {
    let mut conn = PgConnection::establish(url)?;
    let send = |conn: &mut PgConnection, statement| {
        diesel::sql_query(statement)
            .bind::<BigInt, _>(KEY)
            .execute(conn)
            .expect("the answer");
    };
    Ok(Box::new(move |work| {
        send(&mut conn, "SELECT pg_advisory_lock($1)");
        work();
        send(&mut conn, "SELECT pg_advisory_unlock($1)");
    }))
}

pub(crate) fn rust_postgres(url: &str) -> Connected {
    let mut client = Config::new()
        .host_path(socket(url)?)
        .user("postgres")
        .dbname("postgres")
        .connect(NoTls)?;
    let lock = client.prepare("SELECT pg_advisory_lock($1)")?;
    let unlock = client.prepare("SELECT pg_advisory_unlock($1)")?;
    Ok(Box::new(move |work| {
        client.query(&lock, &[&KEY]).expect("the lock");
        work();
        client.query(&unlock, &[&KEY]).expect("the release");
    }))
}

pub(crate) fn sqlx_guard(url: &str) -> Connected {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let options = PgConnectOptions::new_without_pgpass()
        .socket(socket(url)?)
        .username("postgres")
        .database("postgres")
        .disable_statement_logging();
    let conn = runtime.block_on(sqlx::PgConnection::connect_with(&options))?;
    let lock = PgAdvisoryLock::with_key(PgAdvisoryLockKey::BigInt(KEY));
    let mut conn = Some(conn);
    Ok(Box::new(move |work| {
        runtime.block_on(async {
            let guard = lock.acquire(conn.take().expect("the connection"));
            let guard = guard.await.expect("the lock");
            work();
            conn = Some(guard.release_now().await.expect("the release"));
        });
    }))
}

/// Tries again and again, with a pause between.
pub(crate) fn poller(url: &str, pause: std::time::Duration) -> Connected {
    let mut conn = PgConnection::establish(url)?;
    Ok(Box::new(move |work| {
        loop {
            let locked: bool = diesel::select(pg_try_advisory_lock(KEY))
                .get_result(&mut conn)
                .expect("the lock");
            if locked {
                break;
            }
            std::thread::sleep(pause);
        }
        work();
        let unlocked: bool = diesel::select(pg_advisory_unlock(KEY))
            .get_result(&mut conn)
            .expect("the release");
        assert!(unlocked);
    }))
}

/// The folder of the server's socket, for clients that do not know all that may be in a URL.
fn socket(url: &str) -> Result<&str, Box<dyn Error>> {
    (url.split(['?', '&']))
        .find_map(|part| part.strip_prefix("host="))
        .ok_or_else(|| "a URL without a socket".into())
}
