use crate::transcript::events::Transcript;
use crate::transcript::rows::{COLUMN, Kind, Row, rows};
use crate::transcript::words::{width, wrapped};

/// A line's height, and the width of a character of its font.
pub(super) const LINE: usize = 18;
const CHAR: usize = 8;
/// Around the drawing, and between lanes.
pub(super) const MARGIN: usize = 20;
/// Between rows.
pub(super) const GAP: usize = 8;
/// From a box's side to its text.
const PAD: usize = 8;
/// From a lane's left side to its line, and to what is written beside its bar.
const STEM: usize = 12;
const BESIDE: usize = 24;

/// Where everything is.
pub(super) struct Drawing {
    pub(super) title: String,
    pub(super) headers: Vec<Vec<String>>,
    /// Each lane's left side.
    pub(super) lanes: Vec<usize>,
    pub(super) places: Vec<Place>,
    /// Where the headers end.
    pub(super) top: usize,
    /// Where the lanes end.
    pub(super) bottom: usize,
    pub(super) width: usize,
}

/// A row's place.
pub(super) struct Place {
    pub(super) row: Row,
    pub(super) lines: Vec<String>,
    /// The upper side of a box, or a wait's arrow, under which its text is.
    pub(super) y: usize,
}

impl Place {
    fn new(row: Row, y: usize) -> Self {
        let lines = [Some(&row.head), row.details.first()];
        let lines = lines.into_iter().flatten();
        Self {
            lines: lines.flat_map(|text| wrapped(text, COLUMN)).collect(),
            row,
            y,
        }
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self.row.kind, Kind::Waiting(_))
    }

    pub(super) fn height(&self) -> usize {
        self.lines.len() * LINE + PAD
    }

    /// From the lane's left side.
    pub(super) fn text_x(&self) -> usize {
        if self.waits() { BESIDE } else { PAD }
    }

    /// From the lane's left side to the right of the text.
    pub(super) fn width(&self) -> usize {
        self.text_x() + widest(&self.lines) + PAD
    }

    /// The base of the first line.
    pub(super) fn text_y(&self) -> usize {
        self.y + LINE
    }
}

impl Drawing {
    pub(super) fn new(transcript: &Transcript) -> Self {
        let names = transcript.names();
        let headers: Vec<_> = names.iter().map(|name| wrapped(name, COLUMN)).collect();
        let header_lines = headers.iter().map(Vec::len).max().unwrap_or(0);
        let top = MARGIN + header_lines * LINE;
        let mut places = Vec::new();
        let mut bottom = top + GAP * 2;
        for row in rows(transcript) {
            let place = Place::new(row, bottom);
            bottom += place.height() + GAP;
            places.push(place);
        }
        let times = places.iter().map(|place| place.row.at.chars().count());
        let times = times.max().unwrap_or(0).max("ms".len()) * CHAR;
        let (lanes, width) = lanes(&headers, &places, MARGIN + times + MARGIN);
        Self {
            title: format!("What the sessions did, in order: {}", names.join(", ")),
            headers,
            lanes,
            places,
            top,
            bottom: bottom + GAP,
            width,
        }
    }

    pub(super) fn stem(&self, session: usize) -> usize {
        self.lanes[session] + STEM
    }
}

/// Each lane's left side, the first at `x`, and the width of it all.
fn lanes(headers: &[Vec<String>], places: &[Place], mut x: usize) -> (Vec<usize>, usize) {
    let mut lanes = Vec::new();
    for (session, header) in headers.iter().enumerate() {
        let own = places.iter().filter(|place| place.row.session == session);
        let width = own.map(Place::width).max().unwrap_or(0);
        lanes.push(x);
        x += width.max(widest(header)).max(BESIDE) + MARGIN;
    }
    (lanes, x)
}

/// The width of the widest line.
fn widest(lines: &[String]) -> usize {
    let widths = lines.iter().map(|line| width(line) * CHAR);
    widths.max().unwrap_or(0)
}
