//! A network between the command and a server, which may die.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use diesel_locks_harness::TempPostgres;

/// A port that leads to a server's socket.
pub(crate) struct Network {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_dead: AtomicBool,
    /// How often it has died: what was connected before stays silent.
    deaths: AtomicUsize,
}

impl Network {
    pub(crate) fn before(server: &TempPostgres) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<State>::default();
        let (theirs, socket) = (Arc::clone(&state), server.directory().join(".s.PGSQL.5432"));
        thread::spawn(move || {
            for client in listener.incoming() {
                connect(client.unwrap(), &socket, &theirs);
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        let address = self.address;
        format!("postgres://postgres@{address}/postgres?sslmode=disable&connect_timeout=2")
    }

    /// Nobody gets an answer, and nobody is told that it will not come.
    pub(crate) fn dies(&self) {
        self.state.is_dead.store(true, Ordering::SeqCst);
        self.state.deaths.fetch_add(1, Ordering::SeqCst);
    }

    /// Who connects from now on gets answers.
    pub(crate) fn lives(&self) {
        self.state.is_dead.store(false, Ordering::SeqCst);
    }
}

fn connect(client: TcpStream, socket: &PathBuf, state: &Arc<State>) {
    let server = UnixStream::connect(socket).unwrap();
    let born = match state.is_dead.load(Ordering::SeqCst) {
        // Before all deaths of its time.
        true => usize::MAX,
        false => state.deaths.load(Ordering::SeqCst),
    };
    let (there, back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    pump(there, server, born, Arc::clone(state));
    pump(back, client, born, Arc::clone(state));
}

/// Carries what comes, as long as the network lives; then it only reads.
fn pump(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    born: usize,
    state: Arc<State>,
) {
    thread::spawn(move || {
        let mut bytes = [0; 4_096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let lives = state.deaths.load(Ordering::SeqCst) == born;
            if lives && to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        // Both ends stay open for the other one, which is told nothing.
        thread::park();
        drop(to);
    });
}
