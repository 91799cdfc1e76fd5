use std::error::Error;
use std::process::Command;

use crate::compare::{Comparison, Run, Table, by_calls};
use crate::programs;
use crate::server::Server;

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    let comparison = Comparison::new("Guarding the command true", 21, 5)
        .way("true alone", |_| Ok(by_commands("true", vec![])))
        .way("flock FILE true", |_| {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/benches.lock");
            Ok(by_commands(
                "flock",
                vec![file.to_owned(), "true".to_owned()],
            ))
        })
        .way("psql -c 'SELECT 1'", |url| {
            Ok(by_commands(
                "psql",
                vec![url.to_owned(), "-qtc".to_owned(), "SELECT 1".to_owned()],
            ))
        })
        .way("diesel_locks run NAME -- true", |url| {
            let program = programs::beside("diesel_locks")?;
            let arguments = ["run", "--database-url", url, "bench", "--", "true"];
            let arguments = arguments.map(str::to_owned).to_vec();
            Ok(by_commands(&program.display().to_string(), arguments))
        });
    Ok(vec![comparison.measure(server)?])
}

fn by_commands(program: &str, arguments: Vec<String>) -> Run<'static> {
    let program = program.to_owned();
    by_calls(move || {
        let output = Command::new(&program).args(&arguments).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{program}: {output:?}");
    })
}
