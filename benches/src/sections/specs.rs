use std::env;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{fs, iter};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks_harness::Spec;

use crate::compare::{Comparison, Figures, Measured, Table, by_calls};
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

/// What some of the specs call the database in which they are.
const DATABASE: &str = "isolation_regression";

/// Runs the spec with this text on the database with this URL.
type Tool = Box<dyn Fn(&str, &str) -> Result<(), Box<dyn Error>>>;

/// A tool, or why there is none.
type Find = fn() -> Result<Tool, Box<dyn Error>>;

const TOOLS: [(&str, Find); 2] = [
    ("isolationtester", isolationtester),
    ("diesel_locks_harness", harness),
];

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    let tables = SPECS.into_iter().map(|name| {
        let comparison = Comparison::new(format!("The spec {name}"), 5, 1);
        let compared = (TOOLS.into_iter()).fold(comparison, |comparison, (what, find)| {
            comparison.way(what, move |url| {
                let (tool, text, url) = (find()?, text(name)?, url.to_owned());
                Ok(by_calls(move || tool(&url, &text).expect("the schedules")))
            })
        });
        compared.measure(server)
    });
    tables.chain([all(server)]).collect()
}

/// All that there are, once by each.
fn all(server: &Server) -> Result<Table, Box<dyn Error>> {
    let texts = texts().map_err(|error| error.to_string());
    let number = texts.as_ref().map_or(0, Vec::len);
    let time = |find: Find| -> Result<f64, Box<dyn Error>> {
        let (tool, url) = (find()?, new_database(server)?);
        let begun = Instant::now();
        for text in &texts.clone()? {
            tool(&url, text)?;
        }
        Ok(begun.elapsed().as_nanos() as f64)
    };
    let rows = TOOLS.map(|(name, find)| Figures {
        name: name.to_owned(),
        measured: time(find)
            .map(|time| Measured::of(vec![time], None))
            .map_err(|error| error.to_string()),
    });
    Ok(Table {
        title: format!("All {number} specs"),
        note: "All but one, which waits for a notice; once, one after the other, each tool in a \
               database of its own. Most of it are waits of the specs' own."
            .to_owned(),
        rows: rows.into(),
    })
}

fn new_database(server: &Server) -> Result<String, Box<dyn Error>> {
    let mut conn = PgConnection::establish(server.url())?;
    conn.batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE}"))?;
    conn.batch_execute(&format!("CREATE DATABASE {DATABASE}"))?;
    Ok(format!("{}&dbname={DATABASE}", server.url()))
}

/// Of those that the harness understands.
fn texts() -> Result<Vec<String>, Box<dyn Error>> {
    let mut files = fs::read_dir(folder()?)?
        .map(|file| Ok(file?.path()))
        .collect::<Result<Vec<PathBuf>, Box<dyn Error>>>()?;
    files.sort_unstable();
    let mut texts = Vec::new();
    for file in files {
        let text = fs::read_to_string(file)?;
        if Spec::parse(&text).is_ok() {
            texts.push(text);
        }
    }
    Ok(texts)
}

fn text(name: &str) -> Result<String, Box<dyn Error>> {
    let file = folder()?.join(format!("{name}.spec"));
    Ok(fs::read_to_string(file)?)
}

fn folder() -> Result<PathBuf, Box<dyn Error>> {
    let folder = env::var("PG_ISOLATION").map_err(|_| "PG_ISOLATION names no folder of specs")?;
    Ok(Path::new(&folder).join("specs"))
}

fn harness() -> Result<Tool, Box<dyn Error>> {
    Ok(Box::new(|url, text| {
        Spec::parse(text)?.run(|| PgConnection::establish(url))?;
        Ok(())
    }))
}

fn isolationtester() -> Result<Tool, Box<dyn Error>> {
    let output = Command::new("pg_config").arg("--pgxs").output()?;
    let makefile = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let programs = iter::successors(makefile.parent(), |folder| folder.parent())
        .map(|folder| folder.join("test/isolation/isolationtester"));
    let found = programs.into_iter().find(|program| program.exists());
    let program = found.ok_or("there is no isolationtester")?;
    Ok(Box::new(move |url, text| {
        let mut process = Command::new(&program)
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = process.stdin.take() {
            input.write_all(text.as_bytes())?;
        }
        let output = process.wait_with_output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into()),
        }
    }))
}
