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

macro_rules! sections {
    ($($title:literal: $module:ident, $on_one_processor:literal;)*) => {
        pub(crate) const ALL: &[Section] = &[$(Section {
            title: $title,
            on_one_processor: $on_one_processor,
            measure: $module::measure,
        }),*];
    };
}

sections! {
    "advisory locks": locks, true;
    "sets of advisory locks": sets, true;
    "locks of a transaction": transactions, true;
    "row locks": rows, true;
    "pools": pool, true;
    "looking at a busy server": observation, true;
    "hand-over to a waiter": hand_over, false;
    "two contenders": contention, false;
    "isolation specs of PostgreSQL": specs, false;
    "every order of ordinary code": explorer, false;
    "instances that migrate": migrations, false;
    "the command run": run, false;
}

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);
