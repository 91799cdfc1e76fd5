use std::error::Error;
use std::fmt;
use std::sync::Arc;

use diesel::connection::Connection;
use diesel::pg::Pg;

use crate::sessions::{IsolationLevel, begin_at, commit};

/// What the closures of an [`Explorer`](crate::Explorer) return: any error will do, with `?`.
pub type StepResult<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

pub(super) type Step<C, S> = Arc<dyn Fn(&mut C, &mut S) -> StepResult + Send + Sync>;

/// Labelled steps, with their transaction.
pub(super) type Script<C, S> = Vec<(String, Step<C, S>)>;

/// What a session of an [`Explorer`](crate::Explorer) does: labelled steps, in this order.
///
/// A step is a closure over the session's connection and its state, and runs once in each
/// schedule. The state is what a program would keep in variables between its statements; it is a
/// new `S::default()` in each schedule.
///
/// ```
/// use diesel::prelude::*;
/// use diesel_locks_harness::{IsolationLevel, Steps};
/// # diesel::table! { accounts (id) { id -> Integer, balance -> BigInt, } }
///
/// let deposit: Steps<PgConnection, i64> = Steps::transaction(IsolationLevel::ReadCommitted)
///     .step("read", |conn, balance| {
///         *balance = accounts::table.find(1).select(accounts::balance).first(conn)?;
///         Ok(())
///     })
///     .step("write", |conn, balance| {
///         let account = diesel::update(accounts::table.find(1));
///         account.set(accounts::balance.eq(*balance + 10)).execute(conn)?;
///         Ok(())
///     });
/// ```
pub struct Steps<C, S> {
    level: Option<IsolationLevel>,
    steps: Script<C, S>,
}

impl<C, S> Steps<C, S> {
    /// Steps that begin and end their transactions themselves, if they need any, such as by
    /// [`begin`](crate::begin) in one and [`commit`] in another.
    pub fn new() -> Self {
        Self {
            level: None,
            steps: Vec::new(),
        }
    }

    /// The steps of one transaction. It begins with the first step, and there is one step more
    /// at the end, `commit`.
    pub fn transaction(level: IsolationLevel) -> Self {
        Self {
            level: Some(level),
            ..Self::new()
        }
    }

    /// Adds a step. Its label is without white space, because it becomes part of a schedule.
    pub fn step(
        mut self,
        label: &str,
        step: impl Fn(&mut C, &mut S) -> StepResult + Send + Sync + 'static,
    ) -> Self {
        self.steps.push((label.to_owned(), Arc::new(step)));
        self
    }
}

impl<C, S> Steps<C, S>
where
    C: Connection<Backend = Pg> + 'static,
    S: 'static,
{
    /// The steps with their transaction.
    pub(super) fn into_script(self) -> Script<C, S> {
        let mut steps = self.steps;
        let Some(level) = self.level else {
            return steps;
        };
        if let Some((_, first)) = steps.first_mut() {
            let step = Arc::clone(first);
            *first = Arc::new(move |conn, state| {
                begin_at(conn, level)?;
                step(conn, state)
            });
            steps.push(("commit".to_owned(), Arc::new(|conn, _| Ok(commit(conn)?))));
        }
        steps
    }
}

impl<C, S> Default for Steps<C, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C, S> Clone for Steps<C, S> {
    fn clone(&self) -> Self {
        Self {
            level: self.level,
            steps: self.steps.clone(),
        }
    }
}

impl<C, S> fmt::Debug for Steps<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.steps.iter().map(|(label, _)| label);
        f.debug_list().entries(labels).finish()
    }
}
