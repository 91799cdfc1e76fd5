use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, iter};

use diesel::prelude::*;
use diesel_locks_harness::Spec;

use crate::compare::{Comparison, Run, Table, by_calls};
use crate::server::Server;

/// Short ones, long ones, and some with many waits.
const SPECS: [&str; 6] = [
    "nowait",
    "skip-locked",
    "deadlock-simple",
    "lock-committed-update",
    "lock-update-delete",
    "tuplelock-conflict",
];

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    SPECS
        .into_iter()
        .map(|name| {
            Comparison::new(format!("The spec {name}"), 5, 1)
                .way("isolationtester", move |url| by_isolationtester(url, name))
                .way("diesel_locks_harness", move |url| by_harness(url, name))
                .measure(server)
        })
        .collect()
}

fn text(name: &str) -> Result<String, Box<dyn Error>> {
    let folder = env::var("PG_ISOLATION").map_err(|_| "PG_ISOLATION names no folder of specs")?;
    let file = Path::new(&folder)
        .join("specs")
        .join(format!("{name}.spec"));
    Ok(fs::read_to_string(file)?)
}

fn by_harness(url: &str, name: &str) -> Result<Run<'static>, Box<dyn Error>> {
    let spec = Spec::parse(&text(name)?)?;
    let url = url.to_owned();
    Ok(by_calls(move || {
        let ran = spec.run(|| PgConnection::establish(&url));
        ran.expect("the schedules");
    }))
}

fn by_isolationtester(url: &str, name: &str) -> Result<Run<'static>, Box<dyn Error>> {
    let (program, text) = (isolationtester()?, text(name)?);
    let url = url.to_owned();
    Ok(by_calls(move || {
        let mut process = Command::new(&program)
            .arg(&url)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("isolationtester");
        let mut input = process.stdin.take().expect("its input");
        std::io::Write::write_all(&mut input, text.as_bytes()).expect("its input");
        drop(input);
        assert!(process.wait().expect("its end").success());
    }))
}

fn isolationtester() -> Result<PathBuf, Box<dyn Error>> {
    let output = Command::new("pg_config").arg("--pgxs").output()?;
    let makefile = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let programs = iter::successors(makefile.parent(), |folder| folder.parent())
        .map(|folder| folder.join("test/isolation/isolationtester"));
    let found = programs.into_iter().find(|program| program.exists());
    Ok(found.ok_or("there is no isolationtester")?)
}
