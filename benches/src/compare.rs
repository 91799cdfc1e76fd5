//! Several ways to do one thing, measured in turns.

use std::error::Error;
use std::fmt;
use std::time::Instant;

use crate::server::Server;

/// How often a way is gone while round trips are counted.
const TIMES: u32 = 10;

/// Does it so often, and gives the nanoseconds of one time.
pub(crate) type Run<'r> = Box<dyn FnMut(u32) -> f64 + 'r>;

/// A way to do it on the database with this URL, or what is missing for that.
pub(crate) type Make<'m> = Box<dyn Fn(&str) -> Result<Run<'static>, Box<dyn Error>> + 'm>;

/// What was measured of one way.
pub(crate) struct Figures {
    pub(crate) name: String,
    pub(crate) measured: Result<Measured, String>,
}

pub(crate) struct Measured {
    /// In nanoseconds.
    pub(crate) median: f64,
    /// A quarter of the rounds was faster, and a quarter slower.
    pub(crate) quartiles: (f64, f64),
    /// How often the server was waited for.
    pub(crate) round_trips: Option<f64>,
}

/// Ways beside each other; the ratios are to the first.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) note: String,
    pub(crate) rows: Vec<Figures>,
}

pub(crate) struct Comparison<'c> {
    title: String,
    note: String,
    rounds: usize,
    times: u32,
    ways: Vec<(String, Make<'c>)>,
}

impl<'c> Comparison<'c> {
    /// Each way is run so many `rounds`, in each of them so many `times`.
    pub(crate) fn new(title: impl Into<String>, rounds: usize, times: u32) -> Self {
        Self {
            title: title.into(),
            note: String::new(),
            rounds,
            times,
            ways: Vec::new(),
        }
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub(crate) fn way(
        mut self,
        name: impl Into<String>,
        make: impl Fn(&str) -> Result<Run<'static>, Box<dyn Error>> + 'c,
    ) -> Self {
        self.ways.push((name.into(), Box::new(make)));
        self
    }

    pub(crate) fn measure(self, server: &Server) -> Result<Table, Box<dyn Error>> {
        let mut runs: Vec<Result<Run<'static>, String>> = (self.ways.iter())
            .map(|(_, make)| make(server.url()).map_err(|error| error.to_string()))
            .collect();
        let mut samples = vec![Vec::new(); runs.len()];
        // The first round warms up.
        for round in 0..=self.rounds {
            for (run, samples) in runs.iter_mut().zip(&mut samples) {
                let Ok(run) = run else { continue };
                let sample = run(self.times);
                if round > 0 {
                    samples.push(sample);
                }
            }
        }
        let rows = (self.ways.iter().zip(runs).zip(samples))
            .map(|(((name, make), run), samples)| {
                let measured = run.and_then(|run| {
                    drop(run);
                    let round_trips = round_trips(make, server)?;
                    Ok(Measured::of(samples, round_trips))
                });
                Ok(Figures {
                    name: name.clone(),
                    measured,
                })
            })
            .collect::<Result<_, Box<dyn Error>>>()?;
        Ok(Table {
            title: self.title,
            note: self.note,
            rows,
        })
    }
}

/// How often one time has the server answer: what twice as many times have more.
fn round_trips(make: &Make<'_>, server: &Server) -> Result<Option<f64>, String> {
    let mut run = make(&server.counted_url()).map_err(|error| error.to_string())?;
    run(TIMES);
    let mut answers_of = |times| {
        let before = server.answers();
        run(times);
        server.answers() - before
    };
    let (once, twice) = (answers_of(TIMES), answers_of(2 * TIMES));
    let more = twice.saturating_sub(once);
    Ok((more > 0).then(|| more as f64 / f64::from(TIMES)))
}

impl Measured {
    pub(crate) fn of(mut samples: Vec<f64>, round_trips: Option<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |quarters: usize| samples[(samples.len() - 1) * quarters / 4];
        Self {
            median: at(2),
            quartiles: (at(1), at(3)),
            round_trips,
        }
    }
}

impl Table {
    /// How much slower than the first way.
    pub(crate) fn ratio(&self, measured: &Measured) -> Option<f64> {
        let first = self.rows.first()?.measured.as_ref().ok()?;
        Some(measured.median / first.median)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}", self.title)?;
        for row in &self.rows {
            write!(f, "    {:44}", row.name)?;
            match &row.measured {
                Ok(measured) => {
                    let ratio = self.ratio(measured);
                    let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:6.2}"));
                    write!(f, "{:>10}  {ratio}", time(measured.median))?;
                    if let Some(round_trips) = measured.round_trips {
                        write!(f, "  {round_trips} round trips")?;
                    }
                    writeln!(f)?;
                }
                Err(why) => writeln!(f, "not measured: {why}")?,
            }
        }
        Ok(())
    }
}

/// Nanoseconds, in words.
pub(crate) fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        small if small < 1e6 => format!("{:.1} µs", small / 1e3),
        middle if middle < 1e9 => format!("{:.1} ms", middle / 1e6),
        large => format!("{:.2} s", large / 1e9),
    }
}

/// Runs by calls in this process.
pub(crate) fn by_calls(mut call: impl FnMut() + 'static) -> Run<'static> {
    Box::new(move |times| {
        let begun = Instant::now();
        (0..times).for_each(|_| call());
        begun.elapsed().as_nanos() as f64 / f64::from(times)
    })
}
