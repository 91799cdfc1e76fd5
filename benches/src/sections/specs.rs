use std::env;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

/// One needs notices, which Diesel does not show, and the other the database of PostgreSQL's suite.
const LEFT_OUT: [&str; 2] = ["insert-conflict-specconflict", "intra-grant-inplace-db"];

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    let each = SPECS.into_iter().map(|name| {
        compare(
            &format!("The spec {name}"),
            5,
            vec![name.to_owned()],
            server,
        )
    });
    let all = all().unwrap_or_default();
    let title = format!("{} specs, one after the other", all.len());
    each.chain((all.len() > SPECS.len()).then(|| compare(&title, 1, all, server)))
        .collect()
}

fn compare(
    title: &str,
    rounds: usize,
    names: Vec<String>,
    server: &Server,
) -> Result<Table, Box<dyn Error>> {
    let same = names.clone();
    Comparison::new(title, rounds, 1)
        .way("isolationtester", move |url| {
            by_isolationtester(url, &names)
        })
        .way("diesel_locks_harness", move |url| by_harness(url, &same))
        .measure(server)
}

fn folder() -> Result<PathBuf, Box<dyn Error>> {
    let folder = env::var("PG_ISOLATION").map_err(|_| "PG_ISOLATION names no folder of specs")?;
    Ok(Path::new(&folder).join("specs"))
}

/// The names of all specs of the folder.
fn all() -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for file in fs::read_dir(folder()?)? {
        let file = file?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".spec"));
        let name = name.filter(|name| !LEFT_OUT.contains(name));
        names.extend(name.map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn texts(names: &[String]) -> Result<Vec<String>, Box<dyn Error>> {
    let folder = folder()?;
    let text = |name| Ok(fs::read_to_string(folder.join(format!("{name}.spec")))?);
    names.iter().map(text).collect()
}

fn by_harness(url: &str, names: &[String]) -> Result<Run<'static>, Box<dyn Error>> {
    let specs = texts(names)?;
    let specs = specs.iter().map(|text| Spec::parse(text));
    let specs: Vec<_> = specs.collect::<Result<_, _>>()?;
    let url = url.to_owned();
    Ok(by_calls(move || {
        for spec in &specs {
            let ran = spec.run(|| PgConnection::establish(&url));
            ran.expect("the schedules");
        }
    }))
}

fn by_isolationtester(url: &str, names: &[String]) -> Result<Run<'static>, Box<dyn Error>> {
    let (program, texts) = (isolationtester()?, texts(names)?);
    let url = url.to_owned();
    Ok(by_calls(move || {
        for text in &texts {
            test(&program, &url, text);
        }
    }))
}

fn test(program: &Path, url: &str, spec: &str) {
    let mut process = Command::new(program)
        .arg(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // Steps that a spec does not use.
        .stderr(Stdio::null())
        .spawn()
        .expect("isolationtester");
    let mut input = process.stdin.take().expect("its input");
    input.write_all(spec.as_bytes()).expect("its input");
    drop(input);
    assert!(process.wait().expect("its end").success());
}

fn isolationtester() -> Result<PathBuf, Box<dyn Error>> {
    let output = Command::new("pg_config").arg("--pgxs").output()?;
    let makefile = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let programs = iter::successors(makefile.parent(), |folder| folder.parent())
        .map(|folder| folder.join("test/isolation/isolationtester"));
    let found = programs.into_iter().find(|program| program.exists());
    Ok(found.ok_or("there is no isolationtester")?)
}
