//! The thread that asks the server.

use std::io;
use std::thread;

use crossbeam::channel::{self, Receiver, Sender};
use diesel::PgConnection;
use diesel_locks::{End, LockError, LockInfo, ObserveExt, SessionEnd, SessionInfo, WaitGraph};

use crate::failure::chain;
use crate::observe::{Look, interesting_locks};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Waits,
    Locks,
}

/// What is asked of the server.
#[derive(Debug)]
pub(super) enum Wish {
    Look(Subject),
    End(Box<SessionInfo>, End),
}

/// What the server has said.
#[derive(Debug)]
pub(super) enum News {
    Waits(WaitGraph),
    Locks(Vec<LockInfo>),
    Ended(Vec<SessionEnd>),
    /// It has not: a new connection is tried with the next wish.
    Failed(String),
}

/// Who asks the server. It answers each wish, in the order in which they come.
///
/// One that is dropped while the server is silent ends with its connection: by libpq's limits, if
/// the network is dead.
pub(super) struct Source {
    pub(super) news: Receiver<News>,
    pub(super) wishes: Sender<Wish>,
}

/// With the first wish it connects, if it has no connection.
pub(super) fn start(mut conn: Option<PgConnection>, look: Look) -> io::Result<Source> {
    let (wish_sender, wishes) = channel::unbounded();
    let (news_sender, news) = channel::unbounded();
    let answer = move || {
        for wish in wishes {
            let answer = match &mut conn {
                Some(conn) => fulfil(conn, wish),
                None => look
                    .connect()
                    .and_then(|new| fulfil(conn.insert(new), wish)),
            };
            let answer = answer.unwrap_or_else(|error| {
                conn = None;
                News::Failed(chain(&error))
            });
            if news_sender.send(answer).is_err() {
                break;
            }
        }
    };
    thread::Builder::new()
        .name("server".to_owned())
        .spawn(answer)?;
    let wishes = wish_sender;
    Ok(Source { news, wishes })
}

fn fulfil(conn: &mut PgConnection, wish: Wish) -> Result<News, LockError> {
    Ok(match wish {
        Wish::Look(Subject::Waits) => News::Waits(WaitGraph::load(conn)?),
        Wish::Look(Subject::Locks) => News::Locks(interesting_locks(conn)?),
        Wish::End(session, how) => News::Ended(conn.end_sessions([*session], how)?),
    })
}
