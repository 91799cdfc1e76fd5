use std::fmt;
use std::time::Duration;

/// What migrations would lock, by [`MigrationLock::dry_run`](crate::MigrationLock::dry_run).
///
/// `Display` is a table for a terminal, and [`to_markdown`](Self::to_markdown) one for a pull
/// request.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct DryRun {
    /// Of each pending migration, in their order.
    pub migrations: Vec<MigrationReport>,
}

/// What one migration would lock.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MigrationReport {
    /// The migration's name.
    pub migration: String,
    /// What became of it.
    pub tried: Tried,
}

/// What became of a migration in a dry run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Tried {
    /// It was run, and taken back.
    Done(Touched),
    /// It runs outside a transaction, and was not tried.
    NotInTransaction,
    /// It failed, perhaps because one before it was not tried.
    #[non_exhaustive]
    Failed {
        /// What it failed for.
        error: String,
    },
}

/// What a migration has locked, rewritten and read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Touched {
    /// The locks on relations that were there before it, the strongest first.
    pub locks: Vec<LockTaken>,
    /// The tables of which every row was written anew: their file is another one.
    pub rewritten: Vec<String>,
    /// The tables of which every row was read.
    pub scanned: Vec<String>,
    /// How long it took, and so how long each lock was held at most.
    pub took: Duration,
}

/// A lock that a migration takes on a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockTaken {
    /// In the server's words: `AccessExclusiveLock`.
    pub mode: String,
    /// The relation's name, with the schema.
    pub relation: String,
    /// `table`, `index`, `sequence`, `view` and others.
    pub kind: &'static str,
    /// Which statements of an application it blocks.
    pub blocks: Blocks,
    /// Whether a migration before this one has the lock already, and this one names the relation
    /// and cannot be run without that one: then the server does not tell whether it takes the lock
    /// too. Of several such modes it is the strongest.
    pub is_uncertain: bool,
}

/// Which statements of an application a lock on their table blocks: table 13.2 of the PostgreSQL
/// documentation's section on [*Table-Level Locks*].
///
/// [*Table-Level Locks*]: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Blocks {
    /// Neither `SELECT` nor `INSERT`, `UPDATE`, `DELETE`: other migrations, and `VACUUM`, at most.
    Neither,
    /// `INSERT`, `UPDATE`, `DELETE`; a `SELECT` goes on. Under `ExclusiveLock` one that locks rows
    /// waits too.
    Writes,
    /// All of them.
    ReadsAndWrites,
}

impl Blocks {
    pub(super) fn by(mode: &str) -> Self {
        match mode {
            "AccessExclusiveLock" => Self::ReadsAndWrites,
            "ExclusiveLock" | "ShareRowExclusiveLock" | "ShareLock" => Self::Writes,
            _ => Self::Neither,
        }
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Neither => "neither",
            Self::Writes => "writes",
            Self::ReadsAndWrites => "reads and writes",
        })
    }
}

/// A row of the report for a lock, or one for what has no lock.
type Row = [String; 5];

const HEAD: [&str; 5] = ["migration", "lock", "on", "blocks", "notes"];

impl DryRun {
    /// A table in Markdown.
    pub fn to_markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| in_markdown(cell)).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = line(&HEAD.map(str::to_owned));
        text.push_str("|---|---|---|---|---|\n");
        for row in self.rows() {
            text.push_str(&line(&row));
        }
        text
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = (self.migrations.iter())
            .flat_map(MigrationReport::rows)
            .collect();
        // A name may have anything in it.
        for cell in rows.iter_mut().flatten() {
            *cell = cell.replace(char::is_control, " ");
        }
        rows
    }
}

impl MigrationReport {
    fn rows(&self) -> Vec<Row> {
        let touched = match &self.tried {
            Tried::Done(touched) => touched,
            Tried::NotInTransaction => {
                return vec![self.row("not tried: it runs outside a transaction")];
            }
            Tried::Failed { error } => return vec![self.row(&format!("failed: {error}"))],
        };
        let took = format!("{:.1} ms", touched.took.as_secs_f64() * 1_000.0);
        if touched.locks.is_empty() {
            return vec![self.row(&format!("locks nothing that was there, {took}"))];
        }
        (touched.locks.iter().enumerate())
            .map(|(at, lock)| {
                let mut notes = Vec::new();
                if at == 0 {
                    notes.push(format!("held for {took}"));
                }
                let is_first_of_it =
                    (touched.locks[..at].iter()).all(|other| other.relation != lock.relation);
                if is_first_of_it && touched.rewritten.contains(&lock.relation) {
                    notes.push("rewritten".to_owned());
                } else if is_first_of_it && touched.scanned.contains(&lock.relation) {
                    notes.push("scanned".to_owned());
                }
                let mut blocks = lock.blocks.to_string();
                if lock.is_uncertain {
                    blocks.push('?');
                    notes.push("an earlier migration has it".to_owned());
                }
                let name = if at == 0 { &*self.migration } else { "" };
                [
                    name.to_owned(),
                    lock.mode.clone(),
                    format!("{} {}", lock.kind, lock.relation),
                    blocks,
                    notes.join(", "),
                ]
            })
            .collect()
    }

    fn row(&self, note: &str) -> Row {
        let nothing = || "–".to_owned();
        let note = note.split_whitespace().collect::<Vec<_>>().join(" ");
        [
            self.migration.clone(),
            nothing(),
            nothing(),
            nothing(),
            note,
        ]
    }
}

/// A name that looks like Markdown stays a name.
fn in_markdown(cell: &str) -> String {
    let mut text = String::new();
    for char in cell.chars() {
        match char {
            '|' | '*' | '_' | '`' | '[' | ']' | '<' | '>' | '\\' | '~' | '#' => {
                text.extend(['\\', char]);
            }
            '&' => text.push_str("&amp;"),
            char => text.push(char),
        }
    }
    text
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let head = HEAD.map(str::to_owned);
        let all = || [&head].into_iter().chain(&rows);
        let widths: Vec<usize> = (0..HEAD.len())
            .map(|column| {
                all()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for row in all() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
