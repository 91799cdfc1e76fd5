//! The server of all sections, and one behind a proxy that counts its answers.

#[path = "../../tests/support/proxy.rs"]
#[allow(dead_code, reason = "the tests' proxy can do more than count")]
mod proxy;

use std::error::Error;

use diesel::prelude::*;
use diesel_locks_harness::TempPostgres;
use proxy::Proxy;

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

    /// The URL of the server behind the proxy.
    pub(crate) fn counted_url(&self) -> String {
        self.proxy.url()
    }

    /// How often the server has answered through the proxy.
    pub(crate) fn answers(&self) -> usize {
        self.proxy.answers()
    }
}
