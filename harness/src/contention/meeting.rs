use std::panic;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel;

use super::error::ContentionError;
use super::hold::Hold;
use super::outcome::Outcome;
use super::standings::Standings;
use crate::connection::HarnessConnection;

/// What became of an attempt. None if it was not to begin, because another contender could not
/// connect.
pub(super) type Attempted<E> = Result<Option<Result<(), E>>, ContentionError>;

/// Has each contender, by its number, contend in a thread of its own, and returns when all have
/// ended. `observe` opens the connection that asks who waits.
pub(super) fn meet<C, E>(
    contenders: usize,
    timeout: Duration,
    observe: impl Fn() -> Result<C, ContentionError>,
    contend: impl Fn(usize, Hold) -> Attempted<E> + Sync,
) -> Result<Outcome<E>, ContentionError>
where
    C: HarnessConnection,
    E: Send,
{
    let (event_sender, events) = channel::unbounded();
    let (begin_sender, begin) = channel::bounded(contenders);
    // Contenders hold until the sender of this channel, which sends nothing, is dropped.
    let (let_go_sender, let_go) = channel::bounded::<()>(0);
    let mut standings = Standings::new(contenders, events, observe);
    let contend = &contend;

    let (settled, ended) = thread::scope(|scope| {
        // Whatever happens here, nobody waits for these for ever.
        let (begin_sender, let_go_sender) = (begin_sender, let_go_sender);
        let start = |contender| {
            let (events, begin, let_go) = (event_sender.clone(), begin.clone(), let_go.clone());
            let hold = Hold::new(contender, events, begin, let_go);
            thread::Builder::new()
                .name(format!("contender {contender}"))
                .spawn_scoped(scope, move || contend(contender, hold))
                .map_err(ContentionError::Thread)
        };
        let threads: Vec<_> = (0..contenders).map(start).collect::<Result<_, _>>()?;
        if standings.all_ready() {
            for _ in 0..contenders {
                // One that has panicked meanwhile need not begin.
                let _ = begin_sender.send(());
            }
        }
        drop(begin_sender);
        // None is a time that no clock reaches.
        let deadline = Instant::now().checked_add(timeout);
        let settled = standings.until_settled(deadline);
        drop(let_go_sender);
        standings.until_ended(deadline);
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        Ok((settled, ended))
    })?;
    let attempted: Vec<Attempted<E>> = ended
        .into_iter()
        .map(|ended| ended.unwrap_or_else(|payload| panic::resume_unwind(payload)))
        .collect();
    let results = attempted.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut outcome = Outcome::new();
    for (standing, result) in settled?.into_iter().zip(results.into_iter().flatten()) {
        outcome.add(standing, result);
    }
    Ok(outcome)
}
