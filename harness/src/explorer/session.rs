//! What sessions do: steps of the test's, or ordinary code.

use std::any::Any;
use std::fmt::Debug;
use std::panic::{self, AssertUnwindSafe};

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::end::End;
use super::gate::{self, Gate};
use super::steps::{Script, StepResult};
use crate::panics;

/// The first step of a session that was ended and begins again.
const AGAIN: &str = "again";

type Body<'e, C> = Box<dyn Fn(&mut C, &Gate) -> End + Send + Sync + 'e>;

/// A session, and how many steps it has, if that is known.
pub(super) struct SessionBody<'e, C> {
    pub(super) name: String,
    /// The labels of its steps, unless its statements are its steps.
    pub(super) labels: Option<Vec<String>>,
    pub(super) kind: SessionKind,
    pub(super) body: Body<'e, C>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionKind {
    Steps,
    Code,
    /// Code that finds its connections itself.
    Call,
}

pub(super) fn steps<'e, C, S>(script: Script<C, S>) -> Body<'e, C>
where
    C: LoadConnection<Backend = Pg> + 'static,
    S: Default + Send + 'static,
{
    Box::new(move |conn, gate| {
        let mut state = S::default();
        let mut end = End::default();
        for (label, step) in &script {
            let done = panic::catch_unwind(AssertUnwindSafe(|| {
                gate.arrive(label);
                step(conn, &mut state)
            }));
            fail(&mut end, done);
            if end.has_failed {
                // What it has is in nobody's way, and on a connection that is lost there is
                // nothing to roll back.
                let _ = conn.batch_execute("ROLLBACK");
                break;
            }
        }
        if !end.has_failed && gate.is_open() {
            let _ = conn.batch_execute("ROLLBACK");
        }
        end.state = Some(Box::new(state));
        end
    })
}

fn fail(end: &mut End, done: Result<StepResult, Box<dyn Any + Send>>) {
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            end.has_failed = true;
            // It may panic when it is shown.
            let shown = panic::catch_unwind(AssertUnwindSafe(|| crate::chain::words(&*error)));
            match shown {
                Ok(_) => end.error = Some(error),
                Err(payload) => end.panic = Some(panics::message(&*payload)),
            }
        }
        Err(payload) => {
            end.has_failed = true;
            end.has_crashed = gate::is_crash(&*payload);
            end.panic = (!end.has_crashed).then(|| panics::message(&*payload));
        }
    }
}

pub(super) fn code<'e, C, T, E>(
    code: impl Fn(&mut C) -> Result<T, E> + Send + Sync + 'e,
) -> Body<'e, C>
where
    C: LoadConnection<Backend = Pg> + 'static,
    T: Debug,
    E: Debug,
{
    Box::new(move |conn, gate| {
        let mut end = shown(gate, || {
            if gate.is_again() {
                gate.start(AGAIN);
            }
            code(conn)
        });
        if !end.has_crashed && gate.is_open() {
            // Who is done gives its connection back.
            let rolled_back = panic::catch_unwind(AssertUnwindSafe(|| {
                // On a connection that is lost there is nothing to roll back.
                let _ = conn.batch_execute("ROLLBACK");
            }));
            end.has_crashed = rolled_back.is_err();
        }
        end
    })
}

pub(super) fn call<'e, C, T, E>(call: impl Fn() -> Result<T, E> + Send + Sync + 'e) -> Body<'e, C>
where
    T: Debug,
    E: Debug,
{
    Box::new(move |_, gate| {
        shown(gate, || {
            gate.start(if gate.is_again() { AGAIN } else { "start" });
            call()
        })
    })
}

/// What comes of it, when all threads of the session have ended.
fn shown<T: Debug, E: Debug>(gate: &Gate, work: impl FnOnce() -> Result<T, E>) -> End {
    let done = panic::catch_unwind(AssertUnwindSafe(|| {
        let result = work();
        (format!("{result:?}"), result.is_err())
    }));
    gate.await_threads();
    match done {
        // A thread of it has unwound, which may have come out as anything.
        _ if gate.is_crashing() => End {
            has_failed: true,
            has_crashed: true,
            ..End::default()
        },
        Ok((result, has_failed)) => End {
            result: Some(result),
            has_failed,
            ..End::default()
        },
        Err(payload) => End {
            has_failed: true,
            panic: Some(panics::message(&*payload)),
            ..End::default()
        },
    }
}
