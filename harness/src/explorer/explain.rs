//! Why a run is not serializable: the dependencies between its sessions.

use super::footprint::{Kind, Shapes, Thing};
use super::program::full_name;
use super::ran::Record;

/// What a statement of a committed transaction read or wrote.
#[derive(Debug)]
struct Access {
    session: usize,
    step: String,
    thing: Thing,
    writes: bool,
    /// Its row is new.
    inserts: bool,
    /// The statement writes nothing: what it reads is what the session gets to see, and not what a
    /// foreign key asks for.
    is_shown: bool,
    /// When it saw what it read.
    seen: usize,
    /// When it had ended.
    at: usize,
    committed: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dependency {
    /// The first one read what the second one then overwrote.
    Overwritten,
    /// The second one saw what the first one wrote.
    Seen,
    /// The second one wrote over what the first one wrote.
    WrittenOver,
}

#[derive(Debug)]
struct Edge<'a> {
    kind: Dependency,
    from: &'a Access,
    to: &'a Access,
}

impl Edge<'_> {
    /// Whether a statement that writes has read it, as a foreign key or a trigger asks for it.
    fn is_asked_for(&self) -> bool {
        self.kind == Dependency::Seen && !self.to.is_shown
    }
}

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
    let lines = cycle.iter().map(|edge| {
        let (from, to) = (&edge.from.step, &edge.to.step);
        let of = plain(&edge.from.thing.of);
        match edge.kind {
            Dependency::Overwritten => {
                format!(
                    "{from} did not see what {to} wrote to {of}: {} before {}",
                    names[edge.from.session], names[edge.to.session]
                )
            }
            Dependency::Seen => {
                format!(
                    "{to} saw what {from} wrote to {of}: {} before {}",
                    names[edge.from.session], names[edge.to.session]
                )
            }
            Dependency::WrittenOver => {
                format!(
                    "{to} wrote over what {from} wrote to {of}: {} before {}",
                    names[edge.from.session], names[edge.to.session]
                )
            }
        }
    });
    (Some(name), lines.collect())
}

/// A table's name, without the schema that everybody has.
pub(super) fn plain(table: &str) -> String {
    table.strip_prefix("public.").unwrap_or(table).to_owned()
}

fn accesses(record: &Record, shapes: &Shapes, names: &[&str]) -> Vec<Access> {
    let sessions = record.start.len();
    let mut open: Vec<Option<(bool, Option<usize>)>> = vec![None; sessions];
    let mut pending: Vec<Vec<Access>> = (0..sessions).map(|_| Vec::new()).collect();
    let mut done = Vec::new();
    for (at, taken) in record.taken.iter().enumerate() {
        let session = taken.session;
        let Some(statement) = &taken.next.statement else {
            continue;
        };
        // One that waits has ended when it was let go on.
        let resumed = |later: &&(usize, &super::model::Taken)| {
            later
                .1
                .effect
                .resumes
                .iter()
                .any(|(other, _)| *other == session)
        };
        let later = record.taken.iter().enumerate().skip(at + 1);
        let later: Vec<_> = later.collect();
        let (end, fails) = match &taken.effect.waits {
            None => (at, taken.effect.fails),
            Some(_) => later
                .iter()
                .find(resumed)
                .map_or((usize::MAX, true), |(end, taken)| {
                    let fails = taken
                        .effect
                        .resumes
                        .iter()
                        .any(|(other, fails)| *other == session && *fails);
                    (*end, fails)
                }),
        };
        for part in statement.split() {
            match part.kind() {
                Kind::Begin(level) => {
                    let level = level.unwrap_or(shapes.default_level());
                    let keeps = level != crate::sessions::IsolationLevel::ReadCommitted;
                    open[session] = Some((keeps, None));
                }
                Kind::Commit | Kind::Rollback => {
                    open[session] = None;
                    let own = std::mem::take(&mut pending[session]);
                    if part.kind() == Kind::Commit && !fails {
                        done.extend(own.into_iter().map(|access| Access {
                            committed: end,
                            ..access
                        }));
                    }
                }
                Kind::Query if !fails => {
                    let Some(touch) = shapes.touch(&part) else {
                        continue;
                    };
                    let seen = match &mut open[session] {
                        Some((true, snapshot)) => *snapshot.get_or_insert(at),
                        _ => end,
                    };
                    // An upsert may write over what is there.
                    let inserts = taken.next.label.starts_with("insert")
                        && !part.sql.to_lowercase().contains(" do update ");
                    let is_shown = touch.writes.is_empty();
                    let access = |thing: &Thing, writes| Access {
                        session,
                        step: full_name(names[session], &taken.next.label),
                        thing: thing.clone(),
                        writes,
                        inserts,
                        is_shown,
                        seen,
                        at: end,
                        committed: end,
                    };
                    let read = touch.reads.iter();
                    // What it writes itself it has seen as it was then.
                    let read = read.filter(|thing| !touch.writes.contains(thing));
                    let mut own: Vec<Access> = read.map(|thing| access(thing, false)).collect();
                    own.extend(touch.writes.iter().map(|thing| access(thing, true)));
                    match open[session] {
                        Some(_) => pending[session].extend(own),
                        None => done.extend(own),
                    }
                }
                _ => {}
            }
        }
    }
    done
}

fn edges(accesses: &[Access]) -> Vec<Edge<'_>> {
    let mut edges = Vec::new();
    for from in accesses {
        for to in accesses.iter().filter(|to| to.session != from.session) {
            if !from.thing.meets(&to.thing) {
                continue;
            }
            let kind = match (from.writes, to.writes) {
                (false, true) if from.seen < to.committed => Dependency::Overwritten,
                (true, false) if from.committed <= to.seen => Dependency::Seen,
                // What is new is written over nothing. And who need not wait for the other one's
                // commit has written another row.
                (true, true) if from.committed <= to.at && from.at < to.at && !to.inserts => {
                    Dependency::WrittenOver
                }
                _ => continue,
            };
            edges.push(Edge { kind, from, to });
        }
    }
    edges
}

/// The shortest cycle, and what it is called.
fn named<'a, 'e>(
    edges: &'e [Edge<'a>],
    accesses: &[Access],
) -> Option<(&'static str, Vec<&'e Edge<'a>>)> {
    use Dependency::{Overwritten, Seen, WrittenOver};
    let pair = |one: Dependency, other: Dependency, same: bool| {
        edges
            .iter()
            .filter(|edge| edge.kind == one)
            .find_map(|edge| {
                let back = edges.iter().find(|back| {
                    back.kind == other
                        && back.from.session == edge.to.session
                        && back.to.session == edge.from.session
                        && (!same || back.from.thing.meets(&edge.from.thing))
                });
                back.map(|back| vec![edge, back])
            })
    };
    if let Some(cycle) = pair(Overwritten, WrittenOver, true) {
        return Some(("lost update (P4, G-single)", cycle));
    }
    let skew = pair(Overwritten, Seen, false);
    let is_shown = |cycle: &[&Edge<'_>]| cycle.iter().all(|edge| !edge.is_asked_for());
    if let Some(cycle) = skew.clone().filter(|cycle| is_shown(cycle)) {
        return Some(("read skew (A5A, G-single)", cycle));
    }
    if let Some(cycle) = pair(Overwritten, WrittenOver, false) {
        return Some(("write after a stale read (G-single)", cycle));
    }
    if let Some(cycle) = skew {
        return Some(("read skew (A5A, G-single)", cycle));
    }
    if let Some(cycle) = pair(Overwritten, Overwritten, false) {
        let inserts = cycle.iter().any(|edge| edge.to.inserts);
        let name = match inserts {
            true => "phantom (P3, G2)",
            false => "write skew (A5B, G2-item)",
        };
        return Some((name, cycle));
    }
    if let Some(cycle) = pair(WrittenOver, WrittenOver, false) {
        return Some(("interleaved writes (G0)", cycle));
    }
    let cycle = longer(edges)?;
    let writes = |session: usize| {
        accesses
            .iter()
            .any(|access| access.session == session && access.writes)
    };
    let reader = cycle.iter().any(|edge| !writes(edge.from.session));
    let name = match reader {
        true => "read-only anomaly (G2)",
        false => "serialization anomaly (G2)",
    };
    Some((name, cycle))
}

/// A cycle of more than two sessions.
fn longer<'a, 'e>(edges: &'e [Edge<'a>]) -> Option<Vec<&'e Edge<'a>>> {
    for first in edges {
        let mut ways: Vec<Vec<&Edge<'_>>> = vec![vec![first]];
        let mut seen = vec![first.to.session];
        let mut at = 0;
        while at < ways.len() {
            let last = *ways[at].last()?;
            for edge in edges
                .iter()
                .filter(|edge| edge.from.session == last.to.session)
            {
                let mut way = ways[at].clone();
                way.push(edge);
                if edge.to.session == first.from.session {
                    return Some(way);
                }
                if !seen.contains(&edge.to.session) {
                    seen.push(edge.to.session);
                    ways.push(way);
                }
            }
            at += 1;
        }
    }
    None
}
