//! A terminal without a screen: it takes what is written to it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::pty::{OpenptyResult, Winsize, openpty};

use crate::support::soon;

/// A command in a terminal, which is killed when this is dropped.
pub(crate) struct Terminal {
    pub(crate) process: Child,
    keys: File,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub(crate) fn run(command: &mut Command) -> Self {
        let size = Winsize {
            ws_row: 60,
            ws_col: 200,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        let side = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(side()).stdout(side()).stderr(side());
        let process = command.env("TERM", "xterm-256color").spawn().unwrap();
        // The command keeps its copies until it is dropped or told of others.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        drop(slave);
        let keys = File::from(master);
        let mut screen = keys.try_clone().unwrap();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let all = Arc::clone(&written);
        thread::spawn(move || {
            let mut bytes = [0; 4_096];
            // An error tells that nobody has the terminal any more.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                all.lock().unwrap().extend(&bytes[..count]);
            }
        });
        Self {
            process,
            keys,
            written,
        }
    }

    /// All that was written so far, with what moves the cursor and gives colours.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    pub(crate) fn shows(&self, text: &str) {
        soon(text, || self.written().contains(text));
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn ends(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
