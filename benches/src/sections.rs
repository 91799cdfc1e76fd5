mod contention;
mod explorer;
mod hand_over;
mod locks;
mod migrations;
mod observation;
mod pool;
mod rows;
mod run;
mod sets;
mod specs;
mod transactions;

use std::error::Error;

use crate::compare::Table;
use crate::server::Server;

type Section = fn(&Server) -> Result<Vec<Table>, Box<dyn Error>>;

pub(crate) const ALL: [(&str, Section); 12] = [
    ("advisory locks", locks::measure),
    ("sets of advisory locks", sets::measure),
    ("locks of a transaction", transactions::measure),
    ("row locks", rows::measure),
    ("hand-over to a waiter", hand_over::measure),
    ("pools", pool::measure),
    ("two contenders", contention::measure),
    ("PostgreSQL's isolation specs", specs::measure),
    ("every order of ordinary code", explorer::measure),
    ("looking at a busy server", observation::measure),
    ("instances that migrate", migrations::measure),
    ("the command run", run::measure),
];

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);
