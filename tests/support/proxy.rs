//! A proxy between clients and a server: it counts the server's answers, keeps the clients' statements,
//! and breaks the wire.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, chown};
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
    said: Mutex<BTreeSet<String>>,
    wires: Mutex<Vec<Arc<Wire>>>,
}

impl Proxy {
    pub(crate) fn before(server: &TempPostgres) -> Self {
        // The server takes it with it, also if this process is killed.
        let directory = server.directory().join("proxy");
        std::fs::create_dir(&directory).unwrap();
        // As root, the server is another user.
        let owner = std::fs::metadata(server.directory()).unwrap();
        chown(&directory, Some(owner.uid()), Some(owner.gid())).unwrap();
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

    /// All statements that were sent so far, each once.
    pub(crate) fn said(&self) -> BTreeSet<String> {
        self.shared.said.lock().unwrap().clone()
    }

    /// Breaks one of the connections that are open, if there is one.
    pub(crate) fn cut(&self, nth: usize, cut: Cut) {
        let wires = self.shared.wires.lock().unwrap();
        if !wires.is_empty() {
            wires[nth % wires.len()].cut(cut);
        }
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
    let (saying, answering) = (Arc::clone(&wire), Arc::clone(&wire));
    let (keeping, shared) = (Arc::clone(shared), Arc::clone(shared));
    thread::spawn(move || {
        let mut messages = Messages::of_a_client();
        saying.pass_on(&saying.client, &saying.server, |byte| {
            let (kind, body) = messages.ending_with(byte)?;
            keeping.said.lock().unwrap().extend(statement(kind, &body));
            // Wires are cut where the server's messages end.
            None
        });
    });
    thread::spawn(move || {
        let mut messages = Messages::of_a_server();
        answering.pass_on(&answering.server, &answering.client, |byte| {
            let (kind, _) = messages.ending_with(byte)?;
            // ReadyForQuery ends an answer.
            let answers = usize::from(kind == b'Z');
            shared.answers.fetch_add(answers, Ordering::SeqCst);
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

/// The statement that a client's message has.
fn statement(kind: u8, body: &[u8]) -> Option<String> {
    let mut parts = body.split(|&byte| byte == 0);
    let sql = match kind {
        b'Q' => parts.next(),
        // Its name comes first.
        b'P' => parts.nth(1),
        _ => None,
    };
    sql.map(|sql| String::from_utf8_lossy(sql).into_owned())
}

/// The messages of one side as they pass: a kind, a length, and the rest.
struct Messages {
    bytes: Vec<u8>,
    /// The length of the one that is passing, when it is known.
    length: Option<usize>,
}

impl Messages {
    /// Its first one has no kind.
    fn of_a_client() -> Self {
        Self {
            bytes: vec![0],
            length: None,
        }
    }

    fn of_a_server() -> Self {
        Self {
            bytes: Vec::new(),
            length: None,
        }
    }

    /// The kind and the rest of the message that ends with `byte`, if one does.
    fn ending_with(&mut self, byte: u8) -> Option<(u8, Vec<u8>)> {
        self.bytes.push(byte);
        if let [_, a, b, c, d] = self.bytes[..] {
            // The kind is not counted.
            self.length = Some(u32::from_be_bytes([a, b, c, d]) as usize + 1);
        }
        if self.length? > self.bytes.len() {
            return None;
        }
        self.length = None;
        let body = self.bytes.split_off(5);
        let kind = self.bytes[0];
        self.bytes.clear();
        Some((kind, body))
    }
}
