//! A terminal by tmux.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A terminal in which the command runs, and which stays open when that has ended.
pub(crate) struct Terminal(String);

impl Terminal {
    pub(crate) fn start(width: u32, height: u32, arguments: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let terminal = Self(format!("diesel_locks-{}-{count}", std::process::id()));
        let (width, height) = (width.to_string(), height.to_string());
        let shell = r#"trap : INT; "$0" "$@"; echo "exit status $?"; exec cat"#;
        let mut command = vec!["sh", "-c", shell, env!("CARGO_BIN_EXE_diesel_locks")];
        command.extend(arguments);
        terminal.tmux(
            &["new-session", "-d", "-x", &width, "-y", &height, "-s"],
            &command,
        );
        terminal
    }

    /// A server of its own, so that nobody's sessions are touched.
    fn tmux(&self, command: &[&str], rest: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-L", &self.0, "-f", "/dev/null"])
            .args(command)
            .arg(&self.0)
            .args(rest)
            .output()
            .expect("tmux is not installed (Debian: apt-get install tmux)");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn press(&self, keys: &[&str]) {
        self.tmux(&["send-keys", "-t"], keys);
    }

    /// The screen, as soon as it shows all of `texts`.
    pub(crate) fn shows(&self, texts: &[&str]) -> String {
        self.until(&format!("{texts:?}"), |screen| {
            texts.iter().all(|text| screen.contains(text))
        })
    }

    /// The screen, as soon as it is so.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.tmux(&["capture-pane", "-p", "-t"], &[]);
            if is_so(&screen) {
                return screen;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "not {what} in\n{screen}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-session", "-t"], &[]);
    }
}
