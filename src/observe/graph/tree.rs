use std::collections::HashMap;
use std::fmt;

use super::WaitGraph;
use super::analysis::Analysis;
use crate::observe::words::Time;

/// How many of those that a session is behind besides are named.
const NAMED: usize = 8;

impl fmt::Display for WaitGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nobody waits for a lock");
        }
        let tree = Tree(self.analysis());
        let mut shown = vec![false; self.sessions.len()];
        for (members, holds_up) in tree.0.roots() {
            tree.root(f, members, holds_up, &mut shown)?;
        }
        Ok(())
    }
}

struct Tree<'g>(Analysis<'g>);

impl Tree<'_> {
    /// A root, and below it whoever was not below one before. Of a cycle it is the first one.
    fn root(
        &self,
        f: &mut fmt::Formatter<'_>,
        members: &[usize],
        holds_up: usize,
        shown: &mut [bool],
    ) -> fmt::Result {
        let Some(&root) = members.first() else {
            return Ok(());
        };
        let session = self.0.sessions[root];
        match members.len() {
            1 => writeln!(
                f,
                "{} holds up {holds_up}{}",
                session.who(),
                session.doing()
            )?,
            cycle => {
                writeln!(f, "a deadlock of {cycle}, which holds up {holds_up} more")?;
                writeln!(f, "{}", self.line(root, None))?;
            }
        }
        shown[root] = true;
        let mut below: HashMap<usize, Vec<usize>> = HashMap::new();
        for (waiter, blocker) in self.0.held_up(&[root]) {
            if !std::mem::replace(&mut shown[waiter], true) {
                below.entry(blocker).or_default().push(waiter);
            }
        }
        for waiters in below.values_mut() {
            let longest = |&at: &usize| self.0.waits[at].first().map(|wait| wait.lock.waiting);
            waiters.sort_by_key(|at| std::cmp::Reverse(longest(at)));
        }
        self.branches(f, root, &below)
    }

    /// What is below a session. Without recursion, which a long queue would make deep.
    fn branches(
        &self,
        f: &mut fmt::Formatter<'_>,
        root: usize,
        below: &HashMap<usize, Vec<usize>>,
    ) -> fmt::Result {
        let children = |at: usize, indent: &str| -> Vec<(usize, usize, String, bool)> {
            let children = below.get(&at).map_or(&[][..], Vec::as_slice);
            let count = children.len();
            (children.iter().enumerate().rev())
                .map(|(nth, &child)| (child, at, indent.to_owned(), nth + 1 == count))
                .collect()
        };
        let mut open = children(root, "");
        while let Some((at, parent, indent, is_last)) = open.pop() {
            let (branch, deeper) = if is_last {
                ("└─", "   ")
            } else {
                ("├─", "│  ")
            };
            writeln!(f, "{indent}{branch} {}", self.line(at, Some(parent)))?;
            open.extend(children(at, &format!("{indent}{deeper}")));
        }
        Ok(())
    }

    /// `pid 4712 (web) waits 12 s for row (0,1) of public.accounts, ShareLock: UPDATE …`
    fn line(&self, at: usize, parent: Option<usize>) -> String {
        let session = self.0.sessions[at];
        let mut line = session.who();
        let mut before = " waits ";
        for wait in &self.0.waits[at] {
            line.push_str(before);
            if let Some(waiting) = wait.lock.waiting {
                line.push_str(&format!("{} ", Time(waiting)));
            }
            line.push_str(&format!("for {}, {}", wait.lock.object, wait.lock.mode));
            before = ", and ";
        }
        line.push_str(&self.behind(at, parent));
        if self.0.is_in_cycle(at) {
            line.push_str(", in a deadlock");
        }
        line.push_str(&session.statement());
        line
    }

    /// Behind whom it is beside the one that it stands under.
    fn behind(&self, at: usize, parent: Option<usize>) -> String {
        let others = self.0.blockers[at].iter().filter(|&&it| Some(it) != parent);
        let others: Vec<_> = others
            .map(|&it| self.0.sessions[it].id().to_string())
            .collect();
        if others.is_empty() {
            return String::new();
        }
        let also = if parent.is_some() { "also " } else { "" };
        let named = others
            .iter()
            .take(NAMED)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        match others.len().saturating_sub(NAMED) {
            0 => format!(", {also}behind {named}"),
            more => format!(", {also}behind {named} and {more} more"),
        }
    }
}
