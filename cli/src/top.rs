//! `diesel_locks top`: who waits for whom, live.

mod app;
mod source;
mod tree;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use crossbeam::channel::{self, Receiver};
use crossbeam::select;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};

use crate::duration;
use crate::failure::Failure;
use crate::observe::Look;
use app::{App, Next};
use source::{Source, Wish};

/// Shows live who waits for whom, the root blockers first, and ends whom one chooses
#[derive(Debug, Args)]
#[command(after_help = "\
Keys:
  up, down, k, j  choose a session         s  sort by another column
  c               cancel its statement     /  show only what contains a text
  t               terminate it             Tab  who waits, or all locks
  p               pause                    + -  look more, or less often
  r               look now                 q  quit

It asks before it ends anybody. It waits for no lock itself, and connects again if it has to.

Examples:
  diesel_locks top
  diesel_locks top --interval 5s --name nightly-report")]
pub(crate) struct TopArguments {
    /// How often to look
    #[arg(long, short, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    interval: Duration,
    #[command(flatten)]
    look: Look,
}

pub(crate) fn top(arguments: &TopArguments) -> Result<ExitCode, Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::new(
            "top needs a terminal; `waits` and `graph` print the same, once",
        ));
    }
    // Before the screen is taken: what is wrong from the start is told and not shown.
    let conn = arguments.look.connect()?;
    let source = source::start(Some(conn), arguments.look.clone()).map_err(Failure::new)?;
    let events = events().map_err(Failure::new)?;
    let mut app = App::new(arguments.interval);
    let mut terminal = ratatui::try_init().map_err(Failure::new)?;
    let shown = show(&mut terminal, &mut app, &events, source, &arguments.look);
    // A terminal that is gone needs no restoring, and nobody there can be told.
    let _ = ratatui::try_restore();
    shown.map_err(Failure::new)?;
    Ok(ExitCode::SUCCESS)
}

const REDRAW: Duration = Duration::from_secs(1);

/// Until the user has seen enough.
fn show(
    terminal: &mut DefaultTerminal,
    app: &mut App,
    events: &Receiver<Input>,
    mut source: Source,
    look: &Look,
) -> io::Result<()> {
    let mut time_to_look = channel::after(Duration::ZERO);
    loop {
        if app.gives_up() {
            source = source::start(None, look.clone())?;
            time_to_look = channel::after(Duration::ZERO);
        }
        terminal.draw(|frame| view::draw(frame, app))?;
        let next = select! {
            recv(events) -> input => match input {
                Ok(Input::Terminal(event)) => app.heed(&event),
                Ok(Input::Quit) | Err(_) => Next::Quit,
            },
            recv(source.news) -> news => match news {
                Ok(news) => {
                    // A slow server is not asked more often than it answers.
                    time_to_look = channel::after(app.interval());
                    app.learn(news);
                    Next::Show
                }
                Err(_) => Next::Quit,
            },
            recv(time_to_look) -> _ => match app.is_paused() {
                true => Next::Show,
                false => Next::Ask(Wish::Look(app.subject())),
            },
            // So that one sees for how long a server has been silent.
            default(REDRAW) => Next::Show,
        };
        match next {
            Next::Show => {}
            Next::Quit => return Ok(()),
            Next::Ask(wish) => {
                app.wait();
                // Without their source there are no news, which ends this.
                let _ = source.wishes.send(wish);
            }
        }
    }
}

enum Input {
    Terminal(Event),
    Quit,
}

/// Keys and changes of the terminal's size, and the signals that end it in good order.
fn events() -> io::Result<Receiver<Input>> {
    let (sender, receiver) = channel::unbounded();
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
        let sender = sender.clone();
        let ends = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
        let mut signals = signal_hook::iterator::Signals::new(ends)?;
        let wait = move || {
            for _ in signals.forever() {
                let _ = sender.send(Input::Quit);
            }
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)?;
    }
    let read = move || {
        while let Ok(event) = event::read() {
            if sender.send(Input::Terminal(event)).is_err() {
                break;
            }
        }
        let _ = sender.send(Input::Quit);
    };
    thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(receiver)
}
