//! What a client says to the server, as it is on the wire.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use diesel_locks_harness::TempPostgres;

/// A proxy before a server, that keeps every statement which is sent through it.
pub(crate) struct Wire {
    directory: PathBuf,
    said: Arc<Mutex<BTreeSet<String>>>,
}

const SOCKET: &str = ".s.PGSQL.5432";

impl Wire {
    pub(crate) fn before(server: &TempPostgres) -> Self {
        let directory = server.directory().with_extension("wire");
        fs::create_dir(&directory).unwrap();
        let listener = UnixListener::bind(directory.join(SOCKET)).unwrap();
        let said = Arc::default();
        let socket = server.directory().join(SOCKET);
        let keep = Arc::clone(&said);
        thread::spawn(move || {
            for client in listener.incoming() {
                // A server that is gone, or full, is for the client to notice.
                let _ = client.and_then(|client| connect(client, &socket, &keep));
            }
        });
        Self { directory, said }
    }

    pub(crate) fn url(&self) -> String {
        let host = self.directory.display();
        format!("host={host} port=5432 user=postgres dbname=postgres")
    }

    /// All statements so far, each once.
    pub(crate) fn said(&self) -> BTreeSet<String> {
        self.said.lock().unwrap().clone()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn connect(
    client: UnixStream,
    socket: &Path,
    said: &Arc<Mutex<BTreeSet<String>>>,
) -> io::Result<()> {
    let server = UnixStream::connect(socket)?;
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let said = Arc::clone(said);
    thread::spawn(move || {
        let _ = listen(&client, &server, &said);
        let _ = server.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// Passes the messages on: each has a type, but for the first one, and a length.
fn listen(
    mut client: &UnixStream,
    mut server: &UnixStream,
    said: &Mutex<BTreeSet<String>>,
) -> io::Result<()> {
    let mut is_first = true;
    loop {
        let mut head = vec![0; if is_first { 4 } else { 5 }];
        client.read_exact(&mut head)?;
        let (kind, length) = head.split_at(head.len() - 4);
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        let mut body = vec![0; length as usize - 4];
        client.read_exact(&mut body)?;
        let mut parts = body.split(|&byte| byte == 0);
        let sql = match kind {
            b"Q" => parts.next(),
            // Its name comes first.
            b"P" => parts.nth(1),
            _ => None,
        };
        if let Some(sql) = sql {
            let sql = String::from_utf8_lossy(sql).into_owned();
            said.lock().unwrap().insert(sql);
        }
        server.write_all(&[head, body].concat())?;
        is_first = false;
    }
}
