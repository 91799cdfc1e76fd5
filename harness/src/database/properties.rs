#![allow(clippy::unwrap_used, reason = "these are tests")]

use diesel::dsl::sql;
use diesel::sql_types::Text;
use diesel::{Connection, PgConnection, RunQueryDsl};
use proptest::prelude::*;
use proptest::sample::select;

use super::with_database;
use crate::TempPostgres;
use crate::hostile::cases;

fn database(url: &str) -> Result<String, String> {
    let mut conn = PgConnection::establish(url).map_err(|error| error.to_string())?;
    let name = sql::<Text>("SELECT current_database()::text").get_result(&mut conn);
    name.map_err(|error| error.to_string())
}

#[test]
fn every_way_to_name_a_server_becomes_one_to_name_a_database() {
    let server = TempPostgres::start().unwrap();
    let mut conn = PgConnection::establish(server.url()).unwrap();
    diesel::sql_query("CREATE DATABASE wanted")
        .execute(&mut conn)
        .unwrap();
    let directory = server.directory().to_str().unwrap();
    let host = directory.replace('/', "%2F");
    proptest!(cases(64), |(
        scheme in select(vec!["postgres", "postgresql"]),
        // libpq takes anything but a slash and another `@` for a part of it.
        password in "(:[a-z?&=:#.+;]{0,8})?",
        path in select(vec!["", "/", "/postgres", "/a&b", "/%3F"]),
        parameters in select(vec!["", "?", "?dbname=y", "?connect_timeout=3&", "?dbname=y&dbname=z"]),
    )| {
        let url = format!("{scheme}://postgres{password}@{host}:5432{path}{parameters}");
        let url = with_database(&url, "wanted");
        prop_assert_eq!(database(&url), Ok("wanted".to_owned()), "{}", url);
    });
    proptest!(cases(32), |(
        password in "[a-z?&=:#./@+;]{1,8}",
        quoted in "[a-z '\\\\]{0,6}",
        end in select(vec!["", " ", "dbname=y", "dbname = 'y'"]),
    )| {
        let quoted = quoted.replace('\\', "\\\\").replace('\'', "\\'");
        let keywords = format!(
            "host={directory} port=5432 user=postgres password={password} \
             application_name='{quoted}' {end}"
        );
        let keywords = with_database(&keywords, "wanted");
        prop_assert_eq!(database(&keywords), Ok("wanted".to_owned()), "{}", keywords);
    });
}
