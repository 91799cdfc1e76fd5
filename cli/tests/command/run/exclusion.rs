//! Sixteen at a time who want one lock, while sessions, the server and they themselves are killed.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_locks_harness::TempPostgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serial_test::parallel;

use super::chance::Chance;
use crate::support::{diesel_locks, directory, soon};

const AT_A_TIME: usize = 16;

/// More than the usual, in `DIESEL_LOCKS_EXCLUSION_RUNS`.
const RUNS: u32 = 80;

/// `$1` is its number. It looks whether the command before is alive, which is its own affair alone.
const SCRIPT: &str = r#"
    before=$(cat current 2>/dev/null)
    case $(ps -o state= -p "${before#* }" 2>/dev/null) in
        ''|Z*) ;;
        *) test -n "$before" && echo "two $1 ${before% *}" >> events ;;
    esac
    echo "$1 $$" > current
    echo "begin $1 $DIESEL_LOCKS_BACKEND_PID $PPID" >> events
    sleep "0.$(printf %02d $(($1 % 3 * 6)))"
    echo "end $1" >> events
"#;

struct Attack {
    server: TempPostgres,
    directory: PathBuf,
    runs: u32,
    begun: AtomicU32,
    is_over: AtomicBool,
    ends: Mutex<HashMap<u32, End>>,
    /// When a backend was killed, with which the server ends every session.
    crashes: Mutex<Vec<Instant>>,
    /// The backend pids of sessions that were ended.
    ended: Mutex<Vec<String>>,
    /// The numbers of those who were killed while they had the lock.
    killed: Mutex<Vec<u32>>,
}

/// What is killed.
#[derive(Clone, Copy)]
enum What {
    Server,
    Session,
    Run,
}

struct End {
    begun: Instant,
    over: Instant,
    status: ExitStatus,
    told: String,
    was_killed: bool,
}

impl Attack {
    fn connect(&self) -> Option<PgConnection> {
        PgConnection::establish(self.server.url()).ok()
    }

    fn events(&self) -> Vec<Vec<String>> {
        let events = fs::read_to_string(self.directory.join("events")).unwrap_or_default();
        let words = |line: &str| line.split(' ').map(str::to_owned).collect();
        events.lines().map(words).collect()
    }

    /// One of those who want the lock, again and again.
    fn want(&self, chance: &Chance) {
        loop {
            let number = self.begun.fetch_add(1, Ordering::SeqCst);
            if number >= self.runs {
                break;
            }
            let begun = Instant::now();
            let process = diesel_locks()
                .current_dir(&self.directory)
                .args(["run", "attack", "--watch", "3s", "--kill-after", "100ms"])
                .args(["--database-url", self.server.url()])
                .args(["--", "sh", "-c", SCRIPT, "sh", &number.to_string()])
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let was_killed = chance.one_in(5);
            if was_killed {
                // It may be anywhere then: that is the attack.
                thread::sleep(Duration::from_millis(chance.below(400).into()));
                let _ = kill(Pid::from_raw(process.id() as i32), Signal::SIGKILL);
            }
            let output = process.wait_with_output().unwrap();
            let end = End {
                begun,
                over: Instant::now(),
                status: output.status,
                told: String::from_utf8(output.stderr).unwrap(),
                was_killed,
            };
            let was_refused = end.status.code() == Some(69);
            self.ends.lock().unwrap().insert(number, end);
            if was_refused {
                soon("the server is back", || self.connect().is_some());
            }
        }
    }

    /// Ends sessions that have the lock, and now and then all of them.
    fn disturb(&self, chance: &Chance) {
        while !self.is_over.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(chance.below(300).into()));
            let Some(mut conn) = self.connect() else {
                continue;
            };
            let events = self.events();
            let Some(last) = events.iter().rev().find(|event| event[0] == "begin") else {
                continue;
            };
            let kill = |process: &str| {
                let process = Pid::from_raw(process.parse().unwrap());
                // It may have ended by itself.
                let _ = kill(process, Signal::SIGKILL);
            };
            match chance.choose(&[(1, What::Server), (5, What::Session), (10, What::Run)]) {
                What::Server => {
                    self.crashes.lock().unwrap().push(Instant::now());
                    kill(&last[2]);
                }
                What::Session => {
                    self.ended.lock().unwrap().push(last[2].clone());
                    let end = format!("SELECT pg_catalog.pg_terminate_backend({})", last[2]);
                    // It may be over, or the server is just crashing.
                    let _ = diesel::sql_query(end).execute(&mut conn);
                }
                What::Run => {
                    self.killed.lock().unwrap().push(last[1].parse().unwrap());
                    kill(&last[3]);
                }
            }
        }
    }

    fn crashed_during(&self, end: &End) -> bool {
        // A crashed server takes a while until it is ready again.
        let mut crashes = self.crashes.lock().unwrap().clone();
        crashes.retain(|&crash| crash < end.over && end.begun < crash + Duration::from_secs(10));
        !crashes.is_empty()
    }

    /// Whether the server has been told to end its session.
    fn has_lost_its_session(&self, number: &str, backends: &HashMap<String, String>) -> bool {
        let ends = self.ends.lock().unwrap();
        let ended = self.ended.lock().unwrap();
        let backend = backends.get(number);
        backend.is_some_and(|backend| ended.contains(backend))
            || self.crashed_during(&ends[&number.parse().unwrap()])
    }

    fn judge(&self) -> String {
        let events = self.events();
        let mut backends = HashMap::new();
        let mut over = Vec::new();
        for event in &events {
            match event[0].as_str() {
                "begin" => drop(backends.insert(event[1].clone(), event[2].clone())),
                "end" => over.push(event[1].clone()),
                _ => {}
            }
        }
        let mut twice = 0;
        for event in events.iter().filter(|event| event[0] == "two") {
            let (second, first) = (&event[1], &event[2]);
            let is_lost = self.has_lost_its_session(first, &backends);
            assert!(is_lost, "{second} began beside {first}: {events:?}");
            twice += 1;
        }
        let mut counts = HashMap::<String, u32>::new();
        for (number, end) in self.ends.lock().unwrap().iter() {
            let number = number.to_string();
            let (begun, over) = (backends.contains_key(&number), over.contains(&number));
            let ended = self.ended.lock().unwrap();
            let lost = backends.get(&number).is_some_and(|it| ended.contains(it));
            let crashed = self.crashed_during(end);
            let (code, signal) = (end.status.code(), end.status.signal());
            let is_right = match (code, signal) {
                (Some(0), _) => begun && over,
                (Some(76), _) => lost || crashed,
                (Some(69), _) => crashed && !begun,
                (_, Some(9)) => {
                    end.was_killed
                        || self
                            .killed
                            .lock()
                            .unwrap()
                            .contains(&number.parse().unwrap())
                }
                _ => false,
            };
            let status = end.status;
            let told = &end.told;
            assert!(
                is_right,
                "{number}: {status}, begun {begun}, over {over}: {told}"
            );
            let what = code.map_or("killed".to_owned(), |code| format!("status {code}"));
            *counts.entry(what).or_default() += 1;
        }
        format!(
            "{counts:?}, {} sessions ended, {} crashes, {twice} beside one that had lost its session",
            self.ended.lock().unwrap().len(),
            self.crashes.lock().unwrap().len(),
        )
    }
}

#[test]
#[parallel]
fn never_two_at_once_as_long_as_the_server_knows_the_session_whoever_is_killed() {
    let runs = env::var("DIESEL_LOCKS_EXCLUSION_RUNS").map_or(RUNS, |runs| runs.parse().unwrap());
    let seed = env::var("DIESEL_LOCKS_EXCLUSION_SEED").map_or_else(
        |_| std::process::id().into(),
        |seed| seed.parse::<u64>().unwrap(),
    );
    println!("DIESEL_LOCKS_EXCLUSION_SEED={seed}");
    let attack = Attack {
        server: TempPostgres::start().unwrap(),
        directory: directory("attack"),
        runs,
        begun: AtomicU32::new(0),
        is_over: AtomicBool::new(false),
        ends: Mutex::default(),
        crashes: Mutex::default(),
        ended: Mutex::default(),
        killed: Mutex::default(),
    };
    thread::scope(|scope| {
        scope.spawn(|| attack.disturb(&Chance::new(seed, "disturb")));
        let who_want: Vec<_> = (0..AT_A_TIME)
            .map(|number| {
                let attack = &attack;
                scope.spawn(move || attack.want(&Chance::new(seed, &number.to_string())))
            })
            .collect();
        let results: Vec<_> = who_want.into_iter().map(|one| one.join()).collect();
        attack.is_over.store(true, Ordering::SeqCst);
        assert!(results.iter().all(Result::is_ok));
    });
    soon("no session is left", || sessions(&attack) == Some(0));
    soon("no process is left", || processes(&attack.directory) == 0);
    println!("{}", attack.judge());
}

fn sessions(attack: &Attack) -> Option<i64> {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'diesel_locks%'";
    let query = diesel::dsl::sql::<BigInt>(query);
    query.get_result(&mut attack.connect()?).ok()
}

/// How many processes work in the directory of the commands.
fn processes(directory: &Path) -> usize {
    let output = Command::new("pgrep")
        .args(["-f", directory.to_str().unwrap()])
        .output()
        .unwrap();
    let by_name = output.stdout.split(|&byte| byte == b'\n').count() - 1;
    let by_place = fs::read_dir("/proc").into_iter().flatten().flatten();
    let by_place = by_place.filter(|process| {
        fs::read_link(process.path().join("cwd")).is_ok_and(|place| place == directory)
    });
    by_name + by_place.count()
}
