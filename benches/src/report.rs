//! The page that is written.

use std::fs;
use std::io;
use std::path::Path;

use crate::chart;
use crate::compare::{Figures, Table, time};
use crate::sections::Section;

#[derive(Default)]
pub(crate) struct Report {
    sections: Vec<(&'static Section, Vec<Table>)>,
}

impl Report {
    pub(crate) fn add(&mut self, section: &'static Section, tables: Vec<Table>) {
        self.sections.push((section, tables));
    }

    /// Writes `benchmarks.md` into the folder, and the charts into `benchmarks`.
    pub(crate) fn write(&self, docs: &Path, machine: &str) -> io::Result<()> {
        let charts = docs.join("benchmarks");
        if charts.exists() {
            fs::remove_dir_all(&charts)?;
        }
        fs::create_dir(&charts)?;
        let mut page = format!(
            "# Benchmarks\n\n\
             Written by `cargo run --release -p diesel_locks_benches`, which measures all of it in one \
             run, those of a table in turns. Medians; in brackets what half of the rounds were between. \
             Ratios are to the first line. A round trip is an answer of the server.\n\n{machine}\n"
        );
        for (section, tables) in &self.sections {
            let title = section.title;
            page.push_str(&format!("\n## {}\n", capitalized(title)));
            if section.on_one_processor {
                page.push_str("\nOn one processor.\n");
            }
            for (nth, table) in tables.iter().enumerate() {
                let chart = format!("{}-{}.svg", title.replace(' ', "-"), nth + 1);
                page.push_str(&format!("\n**{}**\n", table.title));
                if !table.note.is_empty() {
                    page.push_str(&format!("\n{}\n", table.note));
                }
                page.push_str("\n| | time | ratio | round trips |\n|---|---|---|---|\n");
                table
                    .rows
                    .iter()
                    .for_each(|row| page.push_str(&line(table, row)));
                if let Some(svg) = chart::svg(table) {
                    fs::write(charts.join(&chart), svg)?;
                    page.push_str(&format!("\n![{}](benchmarks/{chart})\n", table.title));
                }
            }
        }
        fs::write(docs.join("benchmarks.md"), page)
    }
}

fn line(table: &Table, row: &Figures) -> String {
    match &row.measured {
        Ok(measured) => format!(
            "| {} | {} ({} to {}) | {} | {} |\n",
            row.name,
            time(measured.median),
            time(measured.quartiles.0),
            time(measured.quartiles.1),
            (table.ratio(measured)).map_or(String::new(), |ratio| format!("{ratio:.2}")),
            (measured.round_trips).map_or(String::new(), |count| count.to_string()),
        ),
        Err(why) => format!("| {} | not measured: {why} | | |\n", row.name),
    }
}

fn capitalized(title: &str) -> String {
    let mut letters = title.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}
