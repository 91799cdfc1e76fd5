use diesel::QueryResult;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use crate::migrate::index::{self, Index};
use crate::migrate::ledger::Note;
use crate::migrate::words;
use crate::migrate_error::Boxed;

/// What is known when the migration's statements have ended.
pub(super) struct Ended<'e> {
    /// What they failed for.
    pub(super) source: Option<&'e Boxed>,
    pub(super) sent: Option<&'e [String]>,
    /// Before this attempt.
    pub(super) before: &'e [Index],
    pub(super) now: &'e [Index],
}

impl Ended<'_> {
    pub(super) fn is_one_statement(&self) -> bool {
        matches!(self.sent, Some([sql]) if words::is_one_statement(sql))
    }

    pub(super) fn is_new(&self, index: &Index) -> bool {
        self.before.iter().all(|before| before.oid != index.oid)
    }

    /// What the server says.
    fn message(&self) -> Option<String> {
        self.source.map(|source| source.to_string())
    }

    fn is_mentioned(&self, name: &str) -> bool {
        let message = self.message();
        let sent = self.sent.into_iter().flatten().map(|sql| &**sql);
        words::mention(sent.chain(message.as_deref()), name)
    }

    /// Whether the name of the index, or of its table, can stand for this one and not for one in
    /// another schema.
    fn may_be_meant(&self, index: &Index) -> bool {
        index.is_visible || self.is_mentioned(&index.schema)
    }

    /// Whether the table of the index is mentioned, or one of the indexes that it has.
    fn is_about_the_table_of(&self, index: &Index) -> bool {
        let mut indexes = (self.now.iter()).filter(|other| other.table_oid == index.table_oid);
        self.is_mentioned(&index.table_name) || indexes.any(|other| self.is_mentioned(&other.name))
    }

    /// Whether it may be what a `REINDEX SCHEMA` has left, which names neither it nor its table.
    fn is_of_a_reindex(&self, index: &Index) -> bool {
        let sent = self.sent.into_iter().flatten().map(|sql| &**sql);
        let is_a_copy = ["_ccnew", "_ccold"]
            .iter()
            .any(|end| index.name.contains(end));
        is_a_copy && words::mention(sent, "reindex")
    }

    fn is_in_the_message(&self, name: &str) -> bool {
        self.message()
            .is_some_and(|message| words::mention([&*message], name))
    }

    /// The indexes that are in the way of another attempt, or that this one has left.
    pub(super) fn leftovers<C>(
        &self,
        conn: &mut C,
        interrupted: Option<&Note>,
    ) -> QueryResult<Vec<Index>>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let mut leftovers = index::broken(conn, self.now)?;
        leftovers.retain(|index| {
            let is_named = self.may_be_meant(index) && self.is_mentioned(&index.name);
            let is_made_since =
                self.is_new(index) || interrupted.is_some_and(|note| note.is_older_than(index));
            // The server may have given it its name, or nobody knows what was sent.
            let may_be_its = self.sent.is_none()
                || (self.may_be_meant(index) && self.is_about_the_table_of(index))
                || self.is_of_a_reindex(index);
            is_named || (is_made_since && may_be_its)
        });
        // Of several statements, the interrupted run has done some.
        if let Some(note) = interrupted
            && !self.is_one_statement()
        {
            leftovers.extend(
                self.now
                    .iter()
                    .filter(|index| {
                        index.is_valid
                            && note.is_older_than(index)
                            && self.may_be_meant(index)
                            && self.is_in_the_message(&index.name)
                    })
                    .cloned(),
            );
        }
        Ok(leftovers)
    }

    /// Whether the one statement of the migration fails because the interrupted run has carried it
    /// out: the index that it makes is there, or the one that it drops is not.
    pub(super) fn was_done_before(&self, note: &Note) -> bool {
        let is_made = (self.now.iter()).any(|index| {
            index.is_valid
                && note.is_older_than(index)
                && self.may_be_meant(index)
                && self.is_in_the_message(&index.name)
        });
        let is_dropped = note.gone(self.now).any(|name| self.is_in_the_message(name));
        self.is_one_statement() && (is_made || is_dropped)
    }

    /// Whether the one statement of the migration fails because it was to drop what this run has
    /// cleared away.
    pub(super) fn was_done_by_dropping(&self, dropped: &[Index]) -> bool {
        let is_gone = |name: &str| self.now.iter().all(|index| index.name != name);
        let mut names = dropped.iter().map(|index| &*index.name);
        self.is_one_statement() && names.any(|name| self.is_in_the_message(name) && is_gone(name))
    }
}
