//! What is compared that is not Rust: programs that measure themselves, and print the nanoseconds of
//! one time.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::compare::Run;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs");

/// Bare libpq: one lock, or several by `unnest`.
pub(crate) fn libpq(url: &str, locks: usize) -> Result<Run<'static>, Box<dyn Error>> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| compile().map_err(|error| error.to_string()));
    let program = program.clone()?;
    let url = url.to_owned();
    Ok(Box::new(move |times| {
        let output = Command::new(&program)
            .args([&url, &times.to_string(), &locks.to_string()])
            .output();
        number(&output.expect("the program"))
    }))
}

/// One of the programs in Python, which needs the package.
pub(crate) fn python(
    program: &'static str,
    package: &'static str,
    arguments: &[&str],
) -> Result<Run<'static>, Box<dyn Error>> {
    let python = env::var("PYTHON").unwrap_or("python3".to_owned());
    let is_there = Command::new(&python)
        .args(["-c", &format!("import {package}")])
        .output()?;
    if !is_there.status.success() {
        return Err(format!("{python} has no package {package}").into());
    }
    let program = Path::new(FOLDER).join(program).display().to_string();
    let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    arguments.insert(0, program);
    let run = move |times: &str| {
        Command::new(&python)
            .args(&arguments)
            .arg(times)
            .output()
            .expect("the program")
    };
    let output = run("1");
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = said.lines().last().unwrap_or("it failed");
        return Err(last.split(". ").next().unwrap_or(last).into());
    }
    Ok(Box::new(move |times| number(&run(&times.to_string()))))
}

/// A program beside this one, such as the command `diesel_locks`.
pub(crate) fn beside(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let program = env::current_exe()?.with_file_name(name);
    match program.exists() {
        true => Ok(program),
        false => {
            Err(format!("{name} is not built: cargo build --release -p diesel_locks_cli").into())
        }
    }
}

/// The last line that the program has printed.
fn number(output: &Output) -> f64 {
    let printed = String::from_utf8_lossy(&output.stdout);
    let last = printed
        .lines()
        .last()
        .and_then(|line| line.trim().parse().ok());
    last.unwrap_or_else(|| {
        panic!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    })
}

fn compile() -> Result<PathBuf, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/benches");
    fs::create_dir_all(&folder)?;
    let program = folder.join("libpq");
    let headers = Command::new("pg_config").arg("--includedir").output()?;
    let compiled = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(Path::new(FOLDER).join("libpq.c"))
        .arg(format!("-I{}", String::from_utf8(headers.stdout)?.trim()))
        .arg("-lpq")
        .output()?;
    match compiled.status.success() {
        true => Ok(program),
        false => Err("no C compiler, or no headers of libpq".into()),
    }
}
