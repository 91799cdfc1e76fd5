//! The page of an exploration, in a browser.
//!
//! Needs Chromium (Debian: `apt-get install chromium`), and therefore runs only when it is asked
//! for: `cargo test --all-features --test browser`.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::process::Command;

use diesel::prelude::*;
use diesel_locks_harness::Explorer;
use support::database;
use support::directory::Directory;
use support::schema::accounts;

/// Loses updates, and writes what looks like HTML.
fn increment(conn: &mut PgConnection) -> QueryResult<()> {
    let account = accounts::table.find(1);
    let balance: i64 = account.select(accounts::balance).first(conn)?;
    let owner = "<script>document.title='broken'</script>";
    diesel::update(account)
        .set((accounts::balance.eq(balance + 1), accounts::owner.eq(owner)))
        .execute(conn)?;
    Ok(())
}

#[test]
fn a_browser_shows_the_page() {
    let (database, directory) = (database(), Directory::new("browser"));
    let file = directory.0.join("page.html");
    let exploration = Explorer::new(|| PgConnection::establish(database.url()))
        .code("<b>ada", increment)
        .code("bob", increment)
        .serializable()
        .explore()
        .unwrap();
    exploration.write_html(&file).unwrap();
    let shown = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("file://{}", file.display()))
        .output()
        .expect("Chromium is not installed");
    let dom = String::from_utf8_lossy(&shown.stdout);
    assert!(dom.contains("<title>Schedules</title>"), "{dom}");
    assert_eq!(
        dom.matches("<section ").count(),
        exploration.failures().len()
    );
    assert!(dom.contains("&lt;b&gt;ada") && dom.contains("class=\"edge\""));
}
