use std::fmt::Write;

use super::WaitGraph;
use crate::observe::lock::LockWait;
use crate::observe::words::Time;

impl WaitGraph {
    /// The graph in the language of Graphviz: `dot -Tsvg`. An arrow leads from who waits to who is
    /// in the way; root blockers have a thick border, and the arrows of a deadlock are red.
    pub fn to_dot(&self) -> String {
        let parts = Parts::of(self);
        let mut dot = "digraph waits {\n    rankdir=LR;\n    node [shape=box];\n".to_owned();
        for (at, (label, is_root)) in parts.nodes.iter().enumerate() {
            let border = if *is_root { ", penwidth=3" } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(dot, "    s{at} [label=\"{}\"{border}];", dot_text(label));
        }
        for (from, to, label, is_cycle) in &parts.edges {
            let colour = if *is_cycle { ", color=red" } else { "" };
            let label = dot_text(label);
            let _ = writeln!(dot, "    s{from} -> s{to} [label=\"{label}\"{colour}];");
        }
        dot.push_str("}\n");
        dot
    }

    /// The graph in the language of Mermaid, which GitHub and others draw. The same arrows as of
    /// [`to_dot`](Self::to_dot).
    pub fn to_mermaid(&self) -> String {
        let parts = Parts::of(self);
        let mut mermaid = "flowchart LR\n".to_owned();
        for (at, (label, _)) in parts.nodes.iter().enumerate() {
            let _ = writeln!(mermaid, "    s{at}[\"{}\"]", mermaid_text(label));
        }
        let mut cycle = Vec::new();
        for (nth, (from, to, label, is_cycle)) in parts.edges.iter().enumerate() {
            let _ = writeln!(
                mermaid,
                "    s{from} -->|\"{}\"| s{to}",
                mermaid_text(label)
            );
            if *is_cycle {
                cycle.push(nth.to_string());
            }
        }
        let roots = parts
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, (_, root))| *root);
        for (at, _) in roots {
            let _ = writeln!(mermaid, "    style s{at} stroke-width:3px");
        }
        if !cycle.is_empty() {
            let _ = writeln!(mermaid, "    linkStyle {} stroke:red", cycle.join(","));
        }
        mermaid
    }
}

/// What both languages say in their own words.
struct Parts {
    /// What stands in a box, and whether it is a root blocker's.
    nodes: Vec<(String, bool)>,
    /// From whom to whom, for what, and whether it is part of a cycle.
    edges: Vec<(usize, usize, String, bool)>,
}

impl Parts {
    fn of(graph: &WaitGraph) -> Self {
        let analysis = graph.analysis();
        let roots = analysis.roots();
        let is_root = |at: usize| roots.iter().any(|(members, _)| members.contains(&at));
        let nodes = analysis.sessions.iter().enumerate().map(|(at, session)| {
            let label = format!(
                "{}\n{}",
                session.who(),
                session.doing().trim_start_matches(", ")
            );
            (label.trim_end().to_owned(), is_root(at))
        });
        let mut edges = Vec::new();
        for (waiter, blockers) in analysis.blockers.iter().enumerate() {
            for &blocker in blockers {
                let id = analysis.sessions[blocker].id();
                let waits = analysis.waits[waiter].iter();
                let label: Vec<_> = waits
                    .filter(|wait| wait.blockers.contains(&id))
                    .map(|wait| edge(wait))
                    .collect();
                let is_cycle = analysis.is_cycle(waiter, blocker);
                edges.push((waiter, blocker, label.join("\n"), is_cycle));
            }
        }
        Self {
            nodes: nodes.collect(),
            edges,
        }
    }
}

fn edge(wait: &LockWait) -> String {
    let lock = &wait.lock;
    match lock.waiting {
        Some(waiting) => format!("{}, {}, {}", lock.object, lock.mode, Time(waiting)),
        None => format!("{}, {}", lock.object, lock.mode),
    }
}

fn dot_text(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}

/// What could be a sign of Mermaid's, or of HTML's, is said by its number.
fn mermaid_text(text: &str) -> String {
    let mut safe = String::new();
    for letter in text.chars() {
        match letter {
            '\n' => safe.push_str("<br/>"),
            ' ' | ',' | '.' | '_' | '(' | ')' | '=' | '…' => safe.push(letter),
            letter if letter.is_alphanumeric() => safe.push(letter),
            letter => {
                let _ = write!(safe, "#{};", u32::from(letter));
            }
        }
    }
    safe
}
