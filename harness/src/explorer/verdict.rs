//! What is wrong with how a session has ended.

use std::error::Error;

use diesel::result::Error as DieselError;
use diesel_locks::{Condition, LockError, condition};

use super::end::End;
use super::ends::without_numbers;
use super::problem::Problem;
use super::program::Program;
use crate::chain::{chain, words};
use crate::sessions::StepProblem;

#[derive(Default)]
pub(super) struct Verdict {
    pub(super) problem: Option<Problem>,
    /// It has failed as it may.
    pub(super) is_excused: bool,
}

/// What the session returned, the same for the same.
pub(super) fn result(end: &End, cause: Option<&DieselError>) -> String {
    let known = cause
        .filter(|_| end.has_failed)
        .and_then(|cause| condition(cause));
    match (known, &end.result, &end.panic, &end.error) {
        (Some(Condition::Deadlock), ..) => "Err(deadlock)".to_owned(),
        (Some(Condition::SerializationFailure), ..) => "Err(serialization failure)".to_owned(),
        (_, Some(result), ..) => without_numbers(result),
        (_, _, Some(panic), _) => format!("panicked: {panic}"),
        (_, _, _, Some(error)) => format!("failed: {}", without_numbers(&words(&**error))),
        _ if end.has_crashed => "crashed".to_owned(),
        _ => "done".to_owned(),
    }
}

/// `cause` is the last error that the server sent, if nothing has gone well since.
pub(super) fn verdict<C>(
    program: &Program<'_, C>,
    step: String,
    end: End,
    cause: Option<DieselError>,
) -> Verdict {
    if let Some(message) = end.panic {
        let problem = StepProblem::Panicked { message };
        return Verdict {
            problem: Some(Problem::Broken { step, problem }),
            is_excused: false,
        };
    }
    if !end.has_failed || end.has_crashed {
        return Verdict::default();
    }
    let excused = Verdict {
        problem: None,
        is_excused: true,
    };
    let is_code = end.result.is_some();
    let result = end.result.unwrap_or_default();
    if is_code && (program.allowed_results)(&result) {
        return excused;
    }
    let error = match end.error {
        Some(error) if (program.allowed_errors)(&*error) => return excused,
        Some(error) => Some(match error.downcast::<DieselError>() {
            Ok(error) => LockError::from(*error).into(),
            Err(error) => error,
        }),
        None => None,
    };
    // Whatever the application has made of it.
    let cause = cause.map(LockError::from);
    if is_allowed(program, error.as_deref(), cause.as_ref()) {
        return excused;
    }
    let known = error.as_deref().and_then(|error| condition(error));
    let known = known.or_else(|| cause.as_ref().and_then(LockError::condition));
    let is_deadlock = known == Some(Condition::Deadlock);
    let error = error.unwrap_or_else(|| result.into());
    let problem = match is_deadlock {
        true => Some(Problem::Deadlock {
            step,
            error,
            circle: Vec::new(),
        }),
        // An error is a result like any other, where results are compared.
        false if is_code && program.is_serializable => None,
        false => Some(Problem::Failed { step, error }),
    };
    Verdict {
        problem,
        is_excused: false,
    }
}

/// Whether the session may fail with this: the first error of its chain that is Diesel's or this
/// crate's, or what the server has sent.
fn is_allowed<C>(
    program: &Program<'_, C>,
    error: Option<&(dyn Error + Send + Sync + 'static)>,
    cause: Option<&LockError>,
) -> bool {
    let own = error.and_then(|error| {
        let mut known = chain(error).filter_map(|error| {
            let lock = error
                .downcast_ref::<LockError>()
                .map(|error| (program.allowed)(error));
            let diesel = error.downcast_ref::<DieselError>();
            lock.or_else(|| diesel.map(|_| false))
        });
        known.next()
    });
    own == Some(true) || cause.is_some_and(|cause| (program.allowed)(cause))
}
