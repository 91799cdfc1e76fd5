//! Which transaction has to be before which, and the circle in that.

use super::access::Access;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dependency {
    /// The first one read what the second one then overwrote.
    Overwritten,
    /// The second one saw what the first one wrote.
    Seen,
    /// The second one wrote over what the first one wrote.
    WrittenOver,
}

#[derive(Debug)]
pub(super) struct Edge<'a> {
    pub(super) kind: Dependency,
    pub(super) from: &'a Access,
    pub(super) to: &'a Access,
}

impl Edge<'_> {
    /// Whether a statement that writes has read it, as a foreign key or a trigger asks for it.
    fn is_asked_for(&self) -> bool {
        self.kind == Dependency::Seen && !self.to.is_shown
    }
}

pub(super) fn edges(accesses: &[Access]) -> Vec<Edge<'_>> {
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
pub(super) fn named<'a, 'e>(
    edges: &'e [Edge<'a>],
    accesses: &[Access],
) -> Option<(&'static str, Vec<&'e Edge<'a>>)> {
    use Dependency::{Overwritten, Seen, WrittenOver};
    let pair = |one, other, of_same| pair(edges, one, other, of_same);
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

/// A cycle of two sessions: a dependency, and another one back, of the same thing if it must be.
fn pair<'a, 'e>(
    edges: &'e [Edge<'a>],
    one: Dependency,
    other: Dependency,
    of_same: bool,
) -> Option<Vec<&'e Edge<'a>>> {
    let mut firsts = edges.iter().filter(|edge| edge.kind == one);
    firsts.find_map(|edge| {
        let back = edges.iter().find(|back| {
            back.kind == other
                && back.from.session == edge.to.session
                && back.to.session == edge.from.session
                && (!of_same || back.from.thing.meets(&edge.from.thing))
        });
        back.map(|back| vec![edge, back])
    })
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
