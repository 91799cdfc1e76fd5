//! What the server knows of sessions and locks, as tables of Diesel's.
//!
//! Each is a `WITH` query that [`Observed`](super::Observed) puts before the statement.

macro_rules! sessions_and {
    ($(#[$doc:meta])* $name:ident $sql_name:literal { $($more:tt)* }) => {
        diesel::table! {
            $(#[$doc])*
            #[sql_name = $sql_name]
            $name (pid) {
                /// Its backend pid; 0 for a prepared transaction.
                pid -> Integer,
                /// The name of a prepared transaction.
                prepared -> Nullable<Text>,
                /// Its `application_name`.
                application -> Nullable<Text>,
                /// Its role.
                user -> Nullable<Text>,
                /// The address of its client.
                client -> Nullable<Text>,
                /// Its database.
                database -> Nullable<Text>,
                /// `client backend` and others.
                backend_type -> Nullable<Text>,
                /// `active`, `idle in transaction` and others.
                state -> Nullable<Text>,
                /// What it runs, or has run last.
                query -> Nullable<Text>,
                /// How long ago its transaction began, or its state changed.
                age -> Nullable<Interval>,
                /// When it began.
                backend_start -> Nullable<Timestamptz>,
                /// The session that it works for, if it is a parallel worker.
                leader -> Nullable<Integer>,
                $($more)*
            }
        }
    };
}

macro_rules! locks_and {
    ($(#[$doc:meta])* $name:ident $sql_name:literal { $($more:tt)* }) => {
        sessions_and! {
            $(#[$doc])*
            $name $sql_name {
                /// What is locked: `relation`, `tuple`, `transactionid`, `advisory` and others.
                kind -> Text,
                /// The schema of the relation.
                schema -> Nullable<Text>,
                /// The name of the relation, of this database.
                relation -> Nullable<Text>,
                /// The number of the relation.
                relation_oid -> Nullable<Oid>,
                /// The page, and the first half of a row's `ctid`.
                page -> Nullable<Integer>,
                /// The second half of a row's `ctid`.
                row -> Nullable<SmallInt>,
                /// The virtual transaction.
                virtualxid -> Nullable<Text>,
                /// The transaction.
                transactionid -> Nullable<BigInt>,
                /// `classid`: of an advisory lock, the first half of its key.
                class -> Nullable<Oid>,
                /// `objid`: of an advisory lock, the second half of its key.
                object -> Nullable<Oid>,
                /// `objsubid`: of an advisory lock, 1 for a number and 2 for a pair.
                subobject -> Nullable<SmallInt>,
                /// `AccessShareLock` and others.
                mode -> Text,
                /// Whether it is held, or waited for.
                granted -> Bool,
                /// Whether it was taken on the fast path.
                fast_path -> Bool,
                /// How long it has been waited for.
                waiting -> Nullable<Interval>,
                $($more)*
            }
        }
    };
}

sessions_and! {
    /// The sessions and the prepared transactions of the server.
    sessions "diesel_locks_sessions" {}
}

locks_and! {
    /// All locks of the server that are held or waited for, each with its session.
    locks "diesel_locks_locks" {}
}

locks_and! {
    /// The locks that are waited for, each with whom its session waits for.
    lock_waits "diesel_locks_waits" {
        /// The backend pids of those in the way; 0 stands for prepared transactions.
        blockers -> Array<Integer>,
        /// The prepared transactions among them.
        prepared_blockers -> Array<Text>,
    }
}
