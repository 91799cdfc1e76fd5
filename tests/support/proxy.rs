//! A proxy between clients and a server: it counts the server's answers, and breaks the wire.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use diesel_locks_harness::TempPostgres;

/// How a connection breaks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// Both ends are told at once.
    Now,
    /// After so many more bytes of either side, be it in the middle of a message.
    After(usize),
    /// After the server's next message of this kind.
    AfterMessage(u8),
    /// The server is told, and the client waits for so long until it is.
    HalfOpen(Duration),
}

/// A socket before that of a server.
pub(crate) struct Proxy {
    directory: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: AtomicUsize,
    wires: Mutex<Vec<Arc<Wire>>>,
}

impl Proxy {
    pub(crate) fn before(server: &TempPostgres) -> Self {
        let directory = server.directory().with_extension("proxy");
        std::fs::create_dir(&directory).unwrap();
        let listener = UnixListener::bind(socket_in(&directory)).unwrap();
        let shared = Arc::<Shared>::default();
        let (theirs, server) = (Arc::clone(&shared), socket_in(server.directory()));
        thread::spawn(move || {
            for client in listener.incoming() {
                // Where the server is not there, the client's end is closed.
                if let (Ok(client), Ok(server)) = (client, UnixStream::connect(&server)) {
                    connect(&theirs, client, server);
                }
            }
        });
        Self { directory, shared }
    }

    /// The URL of the database `postgres` behind it.
    pub(crate) fn url(&self) -> String {
        let host = self.directory.to_str().unwrap();
        format!("postgres://postgres@/postgres?host={host}&port=5432&sslmode=disable")
    }

    /// How often the server has said that it is ready for a query.
    pub(crate) fn answers(&self) -> usize {
        self.shared.answers.load(Ordering::SeqCst)
    }

    /// Breaks one of the connections that are open, if there is one.
    pub(crate) fn cut(&self, nth: usize, cut: Cut) {
        let wires = self.shared.wires.lock().unwrap();
        if !wires.is_empty() {
            wires[nth % wires.len()].cut(cut);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn socket_in(directory: &Path) -> PathBuf {
    directory.join(".s.PGSQL.5432")
}

fn connect(shared: &Arc<Shared>, client: UnixStream, server: UnixStream) {
    let wire = Arc::new(Wire {
        client,
        server,
        cut: Mutex::new(None),
    });
    shared.wires.lock().unwrap().push(Arc::clone(&wire));
    let (shared, answering) = (Arc::clone(shared), Arc::clone(&wire));
    thread::spawn(move || wire.pass_on(&wire.client, &wire.server, |_| None));
    thread::spawn(move || {
        let mut message = Message::default();
        answering.pass_on(&answering.server, &answering.client, |byte| {
            let kind = message.ends_with(byte)?;
            // ReadyForQuery ends an answer.
            shared
                .answers
                .fetch_add(usize::from(kind == b'Z'), Ordering::SeqCst);
            Some(kind)
        });
        let mut wires = shared.wires.lock().unwrap();
        wires.retain(|wire| !Arc::ptr_eq(wire, &answering));
    });
}

struct Wire {
    client: UnixStream,
    server: UnixStream,
    cut: Mutex<Option<Cut>>,
}

impl Wire {
    fn cut(&self, cut: Cut) {
        *self.cut.lock().unwrap() = Some(cut);
        // An end that is closed already needs no telling.
        match cut {
            Cut::Now => self.close(),
            Cut::HalfOpen(_) => drop(self.server.shutdown(Shutdown::Both)),
            Cut::After(_) | Cut::AfterMessage(_) => {}
        }
    }

    /// `message` says for each byte which kind of message it ends.
    fn pass_on(
        &self,
        mut from: &UnixStream,
        mut to: &UnixStream,
        mut message: impl FnMut(u8) -> Option<u8>,
    ) {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let bytes = &buffer[..length];
            let last = bytes.iter().position(|&byte| self.ends_at(message(byte)));
            let passing = last.map_or(length, |last| last + 1);
            if to.write_all(&bytes[..passing]).is_err() || last.is_some() {
                break;
            }
        }
        if let Some(Cut::HalfOpen(pause)) = *self.cut.lock().unwrap() {
            thread::sleep(pause);
        }
        self.close();
    }

    /// Whether the wire is cut after a byte, which ends a message of that kind.
    fn ends_at(&self, message: Option<u8>) -> bool {
        match &mut *self.cut.lock().unwrap() {
            Some(Cut::After(rest)) => {
                *rest = rest.saturating_sub(1);
                *rest == 0
            }
            Some(Cut::AfterMessage(kind)) => message == Some(*kind),
            _ => false,
        }
    }

    fn close(&self) {
        for end in [&self.client, &self.server] {
            // It may be closed already.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// The server's message that is passing: a kind, a length, and the rest.
#[derive(Default)]
struct Message {
    head: Vec<u8>,
    rest: u32,
}

impl Message {
    /// The kind of the message that ends with `byte`, if one does.
    fn ends_with(&mut self, byte: u8) -> Option<u8> {
        if self.head.len() < 5 {
            self.head.push(byte);
            if let [_, a, b, c, d] = self.head[..] {
                self.rest = u32::from_be_bytes([a, b, c, d]) - 4;
            }
        } else {
            self.rest -= 1;
        }
        let is_whole = self.head.len() == 5 && self.rest == 0;
        is_whole.then(|| self.head.drain(..).next()).flatten()
    }
}
