//! The server of all sections, and one behind a proxy that counts its answers.

#[path = "../../tests/support/proxy.rs"]
#[allow(dead_code, reason = "the tests' proxy can do more than count")]
mod proxy;

use std::error::Error;

use diesel::prelude::*;
use diesel_locks_harness::TempPostgres;
use proxy::Proxy;

use crate::compare::Make;

/// How often a way is gone while round trips are counted.
const TIMES: u32 = 10;

pub(crate) struct Server {
    server: TempPostgres,
    proxy: Proxy,
}

impl Server {
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        let server = TempPostgres::start()?;
        let proxy = Proxy::before(&server);
        Ok(Self { server, proxy })
    }

    pub(crate) fn url(&self) -> &str {
        self.server.url()
    }

    pub(crate) fn version(&self) -> Result<String, Box<dyn Error>> {
        let mut conn = PgConnection::establish(self.url())?;
        Ok(
            diesel::dsl::sql::<diesel::sql_types::Text>("SHOW server_version")
                .get_result(&mut conn)?,
        )
    }

    /// How often one time has the server answer: what twice as many times have more.
    pub(crate) fn round_trips(&self, make: &Make<'_>) -> Result<Option<f64>, String> {
        let mut run = make(&self.proxy.url()).map_err(|error| error.to_string())?;
        run(TIMES);
        let mut answers_of = |times| {
            let before = self.proxy.answers();
            run(times);
            self.proxy.answers() - before
        };
        let (once, twice) = (answers_of(TIMES), answers_of(2 * TIMES));
        let more = twice.saturating_sub(once);
        Ok((more > 0).then(|| more as f64 / f64::from(TIMES)))
    }
}
