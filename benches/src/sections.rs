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

type Measure = fn(&Server) -> Result<Vec<Table>, Box<dyn Error>>;

pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// One client and its server take turns on one processor: on two, the time is that of waking up
    /// the other one, which is now this long and now that.
    pub(crate) on_one_processor: bool,
    pub(crate) measure: Measure,
}

const fn on_one(title: &'static str, measure: Measure) -> Section {
    Section {
        title,
        on_one_processor: true,
        measure,
    }
}

const fn on_all(title: &'static str, measure: Measure) -> Section {
    Section {
        title,
        on_one_processor: false,
        measure,
    }
}

pub(crate) const ALL: [Section; 12] = [
    on_one("advisory locks", locks::measure),
    on_one("sets of advisory locks", sets::measure),
    on_one("locks of a transaction", transactions::measure),
    on_one("row locks", rows::measure),
    on_one("pools", pool::measure),
    on_one("looking at a busy server", observation::measure),
    on_all("hand-over to a waiter", hand_over::measure),
    on_all("two contenders", contention::measure),
    on_all("every order of ordinary code", explorer::measure),
    // They leave thousands of dead rows in the server's catalogue, which the others would read.
    on_all("isolation specs of PostgreSQL", specs::measure),
    on_all("instances that migrate", migrations::measure),
    on_all("the command run", run::measure),
];

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);
