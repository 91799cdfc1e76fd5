use std::fmt;

/// The modes of PostgreSQL's table locks, from the weakest to the strongest.
///
/// See [*Table-Level Locks*], section 13.3.1 of the PostgreSQL documentation, for what takes each
/// of them by itself. A mode conflicts with those marked, held by another transaction:
///
/// | | AS | RS | RX | SUX | S | SRX | X | AX |
/// |---|---|---|---|---|---|---|---|---|
/// | `AccessShare` | | | | | | | | × |
/// | `RowShare` | | | | | | | × | × |
/// | `RowExclusive` | | | | | × | × | × | × |
/// | `ShareUpdateExclusive` | | | | × | × | × | × | × |
/// | `Share` | | | × | × | | × | × | × |
/// | `ShareRowExclusive` | | | × | × | × | × | × | × |
/// | `Exclusive` | | × | × | × | × | × | × | × |
/// | `AccessExclusive` | × | × | × | × | × | × | × | × |
///
/// [*Table-Level Locks*]: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableLockMode {
    /// `ACCESS SHARE`, which every `SELECT` takes.
    AccessShare,
    /// `ROW SHARE`, which `SELECT … FOR UPDATE` and its sisters take.
    RowShare,
    /// `ROW EXCLUSIVE`, which `INSERT`, `UPDATE` and `DELETE` take.
    RowExclusive,
    /// `SHARE UPDATE EXCLUSIVE`, which `VACUUM` and `CREATE INDEX CONCURRENTLY` take.
    ShareUpdateExclusive,
    /// `SHARE`, which `CREATE INDEX` takes: nobody writes, and several may hold it.
    Share,
    /// `SHARE ROW EXCLUSIVE`: nobody writes, and one may hold it.
    ShareRowExclusive,
    /// `EXCLUSIVE`: everybody else may only read.
    Exclusive,
    /// `ACCESS EXCLUSIVE`, which `DROP TABLE` and most `ALTER TABLE` take: nobody even reads.
    AccessExclusive,
}

impl TableLockMode {
    /// All of them, from the weakest to the strongest.
    pub const ALL: [Self; 8] = [
        Self::AccessShare,
        Self::RowShare,
        Self::RowExclusive,
        Self::ShareUpdateExclusive,
        Self::Share,
        Self::ShareRowExclusive,
        Self::Exclusive,
        Self::AccessExclusive,
    ];
}

/// As SQL spells it.
impl fmt::Display for TableLockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AccessShare => "ACCESS SHARE",
            Self::RowShare => "ROW SHARE",
            Self::RowExclusive => "ROW EXCLUSIVE",
            Self::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Self::Share => "SHARE",
            Self::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Self::Exclusive => "EXCLUSIVE",
            Self::AccessExclusive => "ACCESS EXCLUSIVE",
        })
    }
}
