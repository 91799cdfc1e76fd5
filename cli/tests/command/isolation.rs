//! PostgreSQL's isolation-test files.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use diesel_locks_harness::TempPostgres;
use serial_test::parallel;

use crate::support;

fn diesel_locks(arguments: &[&str]) -> Output {
    let mut command = support::diesel_locks();
    // Else on the private server, which is started for them.
    if let Some(url) = std::env::var_os("DATABASE_URL") {
        command.env("DATABASE_URL", url);
    }
    command.args(arguments).output().unwrap()
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
#[parallel]
fn isolation_prints_what_isolationtester_does() {
    let waits = file(
        "waits.spec",
        "session s1  step lock1 { SELECT pg_advisory_lock(1); }
                     step free1 { SELECT pg_advisory_unlock(1); }
         session s2  step lock2 { SELECT pg_advisory_lock(1); }
         permutation lock1 lock2 free1",
    );
    let wrong = file("wrong.spec", "session s1");
    let output = diesel_locks(&[
        "isolation",
        wrong.to_str().unwrap(),
        waits.to_str().unwrap(),
    ]);
    // One of the files was not run, and the other one was all the same.
    assert!(!output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed,
        "Parsed test spec with 2 sessions

starting permutation: lock1 lock2 free1
step lock1: SELECT pg_advisory_lock(1);
step lock2: SELECT pg_advisory_lock(1); <waiting ...>
step free1: SELECT pg_advisory_unlock(1);
step lock2: <... completed>
"
    );
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("wrong.spec: line 1, column 11"), "{told}");
}

#[test]
#[parallel]
fn the_databases_are_made_on_the_server_of_the_url_whoever_says_it() {
    let server = TempPostgres::start().unwrap();
    let where_am_i = file(
        "where.spec",
        "session s1  step shout { DO $$ BEGIN \
         IF current_setting('data_directory') <> 'HERE' THEN RAISE 'elsewhere'; END IF; END $$; }",
    );
    let here = server.directory().join("data");
    let text = fs::read_to_string(&where_am_i).unwrap();
    fs::write(&where_am_i, text.replace("HERE", here.to_str().unwrap())).unwrap();
    let directory = support::directory("isolation");
    let env_file = format!("DATABASE_URL='{}'\n", server.url());
    fs::write(directory.join(".env"), env_file).unwrap();

    let by_option = &["--database-url", server.url()][..];
    for (options, directory) in [(by_option, None), (&[], Some(&directory))] {
        let mut command = support::diesel_locks();
        command.arg("isolation").arg(&where_am_i).args(options);
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let printed = support::stdout(&output);
        assert!(
            printed.contains("step shout") && !printed.contains("ERROR"),
            "{printed}"
        );
    }
    let nobody = support::diesel_locks()
        .args([
            "isolation",
            "--database-url",
            "postgres://nobody@127.0.0.1:1/x",
        ])
        .arg(&where_am_i)
        .output()
        .unwrap();
    assert!(!nobody.status.success(), "{nobody:?}");
    assert!(
        support::stderr(&nobody).contains("could not connect"),
        "{nobody:?}"
    );
}

#[test]
#[parallel]
fn without_a_file_the_command_says_how_to_use_it() {
    let output = diesel_locks(&["isolation"]);
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("isolation <FILE>..."), "{told}");
}
