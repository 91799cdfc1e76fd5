//! Compares this project with what else there is, in the same run, and writes `docs/benchmarks.md`
//! with a chart for each table.
//!
//! ```sh
//! cargo run --release -p diesel_locks_benches            # everything, some ten minutes
//! cargo run --release -p diesel_locks_benches -- locks   # what has that in its title, on the terminal
//! ```
//!
//! Those that are compared take turns, so that a machine whose speed drifts is as fast for one as
//! for the other. It needs PostgreSQL's server programs. What else it finds, it measures: a C
//! compiler and libpq's headers (Debian: `libpq-dev`), Python with `django-pglock` and `frontrun`
//! (`PYTHON` names the program), `isolationtester` (Debian: `postgresql-server-dev-15`) with the
//! folder of its specs in `PG_ISOLATION`, and `target/release/diesel_locks`.

mod chart;
mod clients;
mod compare;
mod machine;
mod programs;
mod report;
mod sections;
mod server;

use std::env;
use std::error::Error;
use std::path::Path;

use report::Report;
use server::Server;

fn main() -> Result<(), Box<dyn Error>> {
    let wanted: Vec<String> = env::args()
        .skip(1)
        .map(|part| part.to_lowercase())
        .collect();
    let is_wanted = |title: &str| {
        let title = title.to_lowercase();
        wanted.is_empty() || wanted.iter().any(|part| title.contains(part))
    };
    if !sections::ALL.iter().any(|section| is_wanted(section.title)) {
        let titles = sections::ALL.map(|section| section.title).join(", ");
        return Err(format!("there is nothing of that title, but: {titles}").into());
    }
    let mut report = Report::default();
    let mut version = String::new();
    for one in [true, false] {
        // The server and everything else that is started from here on inherit it.
        let before = one.then(machine::on_one_processor).transpose()?;
        let server = Server::start()?;
        version = server.version()?;
        for section in &sections::ALL {
            let title = section.title;
            if section.on_one_processor == one && is_wanted(title) {
                eprintln!("{title} …");
                let tables = (section.measure)(&server)?;
                tables.iter().for_each(|table| eprintln!("{table}"));
                report.add(section, tables);
            }
        }
        if let Some(processors) = before {
            machine::on_processors(&processors)?;
        }
    }
    if wanted.is_empty() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        report.write(&docs, &machine::describe(&version))?;
    }
    Ok(())
}
