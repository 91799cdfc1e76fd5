//! Why a run is not serializable: the dependencies between its sessions.

mod access;
mod cycle;

use super::footprint::Shapes;
use super::ran::Record;
use access::accesses;
use cycle::{Dependency, Edge, edges, named};

/// The name of the anomaly, and the cycle, one dependency a line.
pub(super) fn explain(
    record: &Record,
    shapes: &Shapes,
    names: &[&str],
) -> (Option<&'static str>, Vec<String>) {
    let accesses = accesses(record, shapes, names);
    let edges = edges(&accesses);
    let Some((name, cycle)) = named(&edges, &accesses) else {
        return (None, Vec::new());
    };
    let lines = cycle.into_iter().map(|edge| line(edge, names));
    (Some(name), lines.collect())
}

fn line(edge: &Edge<'_>, names: &[&str]) -> String {
    let (from, to) = (&edge.from.step, &edge.to.step);
    let of = plain(&edge.from.thing.of);
    let what = match edge.kind {
        Dependency::Overwritten => format!("{from} did not see what {to} wrote to {of}"),
        Dependency::Seen => format!("{to} saw what {from} wrote to {of}"),
        Dependency::WrittenOver => format!("{to} wrote over what {from} wrote to {of}"),
    };
    let [from, to] = [edge.from, edge.to].map(|access| names[access.session]);
    format!("{what}: {from} before {to}")
}

/// A table's name, without the schema that everybody has.
pub(super) fn plain(table: &str) -> String {
    table.strip_prefix("public.").unwrap_or(table).to_owned()
}
