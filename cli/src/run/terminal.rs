//! The terminal: whose turn it is to read from it.
//!
//! The command is in a group of its own, and so in the background. It has the terminal lent as soon
//! as it wants to read from it. A command that does not want to leaves it to the script or the
//! pipeline that `diesel_locks` is a part of: what is typed there, such as Ctrl-C, goes to all of
//! them, and `diesel_locks` passes it on.

use std::fs::{File, OpenOptions};

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

pub(super) struct Terminal {
    /// Where there is one.
    tty: Option<File>,
    is_lent: bool,
}

impl Terminal {
    pub(super) fn new() -> Self {
        let tty = OpenOptions::new().read(true).write(true).open("/dev/tty");
        Self {
            tty: tty.ok(),
            is_lent: false,
        }
    }

    pub(super) fn is_lent(&self) -> bool {
        self.is_lent
    }

    /// Lends it to `group`, if it is ours to lend.
    pub(super) fn lend(&mut self, group: Pid) -> bool {
        let Some(tty) = &self.tty else {
            return false;
        };
        let is_ours = tcgetpgrp(tty) == Ok(getpgrp());
        let is_lent = is_ours && tcsetpgrp(tty, group).is_ok();
        self.is_lent |= is_lent;
        is_lent
    }

    /// Takes it back from `group`, if it was lent to it.
    pub(super) fn take_back(&mut self, group: Pid) {
        if let (Some(tty), true) = (&self.tty, self.is_lent)
            && tcgetpgrp(tty) == Ok(group)
        {
            let mut in_the_background = SigSet::empty();
            in_the_background.add(Signal::SIGTTOU);
            // Where it is refused, the shell takes the terminal by itself.
            let _ = in_the_background.thread_block();
            let _ = tcsetpgrp(tty, getpgrp());
            let _ = in_the_background.thread_unblock();
        }
        self.is_lent = false;
    }
}
