//! What a person gets: a file of schedules, and a page.

use diesel::prelude::*;
use diesel_locks_harness::Explorer;
use serial_test::parallel;

use super::fixture::explorer;
use crate::support::directory::Directory;
use crate::support::schema::accounts;
use crate::support::{connect, database};

fn increment(conn: &mut PgConnection) -> QueryResult<()> {
    let account = accounts::table.find(1);
    let balance: i64 = account.select(accounts::balance).first(conn)?;
    diesel::update(account)
        .set(accounts::balance.eq(balance + 1))
        .execute(conn)?;
    diesel::update(account)
        .set(accounts::owner.eq("<script>document.title='broken'</script>"))
        .execute(conn)?;
    Ok(())
}

fn increments<'e>(explorer: Explorer<'e, PgConnection>) -> Explorer<'e, PgConnection> {
    explorer
        .code("<b>ada", increment)
        .code("bob", increment)
        .serializable()
}

#[test]
#[parallel]
fn schedules_that_failed_are_kept_and_run_first_the_next_time() {
    let (database, directory) = (database(), Directory::new("remember"));
    let file = directory.0.join("explorer.txt");
    let explored = || increments(explorer(&database)).remember(&file);
    let failures: Vec<String> = {
        let exploration = explored().explore().unwrap();
        exploration
            .failures()
            .iter()
            .map(|run| run.schedule().to_owned())
            .collect()
    };
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, failures);
    assert!(!failures.is_empty());

    std::fs::write(&file, format!("nobody.select:nothing\n{}\n", failures[0])).unwrap();
    let serial = 2;
    let first = explored()
        .max_schedules(serial + 1)
        .max_failures(1)
        .explore()
        .unwrap();
    assert_eq!(first.failures()[0].schedule(), failures[0]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");

    let nowhere = explored().remember(directory.0.join("no/such/file"));
    assert!(nowhere.explore().is_err());
}

#[test]
#[parallel]
fn the_page_has_all_that_happened_and_no_name_is_taken_for_html() {
    let (database, directory) = (database(), Directory::new("page"));
    let file = directory.0.join("page.html");
    let exploration = increments(explorer(&database)).explore().unwrap();
    exploration.write_html(&file).unwrap();
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(!page.contains("<b>ada") && page.contains("&lt;b&gt;ada"));
    assert!(!page.contains("<script>document.title"));
    assert!(!page.contains("http://") && !page.contains("https://"));
    for run in exploration.failures() {
        let schedule = run.schedule().replace('<', "&lt;").replace('>', "&gt;");
        assert!(page.contains(&schedule));
    }
    assert!(page.contains("lost update") && page.contains("<svg"));
    drop(connect(&database));
}
