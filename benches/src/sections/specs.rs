use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, iter};

use diesel::prelude::*;
use diesel_locks_harness::Spec;

use crate::compare::{Comparison, Figures, Measured, Run, Table, by_calls};
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

type Tool = fn(&str, &str) -> Result<Run<'static>, Box<dyn Error>>;

const TOOLS: [(&str, Tool); 2] = [
    ("isolationtester", by_isolationtester),
    ("diesel_locks_harness", by_harness),
];

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    let tables = SPECS.into_iter().map(|name| {
        let comparison = Comparison::new(format!("The spec {name}"), 5, 1);
        TOOLS
            .into_iter()
            .fold(comparison, |comparison, (what, tool)| {
                comparison.way(what, move |url| tool(url, name))
            })
            .measure(server)
    });
    tables.chain([all(server)]).collect()
}

/// All that there are, once by each.
fn all(server: &Server) -> Result<Table, Box<dyn Error>> {
    let names = names().map_err(|error| error.to_string());
    let time = |tool: Tool| -> Result<f64, Box<dyn Error>> {
        let mut time = 0.0;
        for name in &names.clone()? {
            time += tool(server.url(), name)?(1);
        }
        Ok(time)
    };
    let rows = TOOLS.map(|(name, tool)| Figures {
        name: name.to_owned(),
        measured: time(tool)
            .map(|time| Measured::of(vec![time], None))
            .map_err(|error| error.to_string()),
    });
    let number = names.as_ref().map_or(0, Vec::len);
    Ok(Table {
        title: format!("{number} specs"),
        note: "All that the harness knows, once, one after the other. Most of it are waits of \
               their own."
            .to_owned(),
        rows: rows.into(),
    })
}

fn names() -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for file in fs::read_dir(folder()?)? {
        let name = file?.file_name().into_string().unwrap_or_default();
        if let Some(name) = name.strip_suffix(".spec")
            && Spec::parse(&text(name)?).is_ok()
        {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn folder() -> Result<PathBuf, Box<dyn Error>> {
    let folder = env::var("PG_ISOLATION").map_err(|_| "PG_ISOLATION names no folder of specs")?;
    Ok(Path::new(&folder).join("specs"))
}

fn text(name: &str) -> Result<String, Box<dyn Error>> {
    let file = folder()?.join(format!("{name}.spec"));
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
