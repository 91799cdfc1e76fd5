use std::fmt;

use self::layout::{Drawing, GAP, LINE, MARGIN, Place};
use super::events::Transcript;
use super::rows::{Bar, Kind};

mod layout;

/// Half of a bar's width.
const BAR: usize = 3;

const TEXT: &str = "#1f2328";
const PALE: &str = "#59636e";
const WAIT: &str = "#bf8700";
const WAIT_TEXT: &str = "#7d4e00";

/// A box's fill and stroke.
type Colors = (&'static str, &'static str);
const BLUE: Colors = ("#ddf4ff", "#0969da");
const GREEN: Colors = ("#dafbe1", "#1a7f37");
const RED: Colors = ("#ffebe9", "#cf222e");

impl Transcript {
    /// As a drawing in SVG 1.1, for a file of its own.
    ///
    /// It has its own background, and needs no font, style or script from elsewhere. Time goes
    /// downwards, in the order of the events and not to scale. Of an error it has the first line.
    /// It costs no round trip.
    pub fn to_svg(&self) -> String {
        Svg(self).to_string()
    }
}

pub(super) struct Svg<'a>(pub(super) &'a Transcript);

impl fmt::Display for Svg<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drawing = Drawing::new(self.0);
        drawing.write_begin(f)?;
        drawing.write_lanes(f)?;
        drawing.write_bars(f)?;
        for place in &drawing.places {
            drawing.write_row(f, place)?;
        }
        writeln!(f, "</svg>")
    }
}

impl Drawing {
    fn write_begin(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = (self.width, self.bottom + MARGIN);
        writeln!(
            f,
            r##"<svg xmlns="http://www.w3.org/2000/svg" version="1.1" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="13">
<title>{}</title>
<rect x="0.5" y="0.5" width="{}" height="{}" rx="8" fill="#ffffff" stroke="#d1d9e0"/>"##,
            escaped(&self.title),
            width - 1,
            height - 1,
        )
    }

    fn write_lanes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_time(f, self.top - GAP / 2, "ms")?;
        for (session, header) in self.headers.iter().enumerate() {
            let x = self.stem(session);
            for (number, line) in header.iter().enumerate() {
                let y = MARGIN + LINE * (number + 1) - GAP / 2;
                let (x, line) = (self.lanes[session], escaped(line));
                writeln!(
                    f,
                    r#"<text x="{x}" y="{y}" fill="{TEXT}" font-weight="bold">{line}</text>"#
                )?;
            }
            writeln!(
                f,
                r##"<path d="M{x} {}V{}" stroke="#afb8c1" stroke-dasharray="3 3"/>"##,
                self.top + GAP / 2,
                self.bottom,
            )?;
        }
        Ok(())
    }

    /// The bars are under everything else, for the boxes to be whole.
    fn write_bars(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, place) in self.places.iter().enumerate() {
            if place.row.bar() != Bar::Begins {
                continue;
            }
            let session = place.row.session;
            let mut later = self.places[number..].iter();
            let end = later.find(|place| place.row.bars[session] == Bar::Ends);
            let end = end.map_or(self.bottom, |place| place.y);
            writeln!(
                f,
                r#"<rect x="{}" y="{}" width="{}" height="{}" rx="{BAR}" fill="{WAIT}"/>"#,
                self.stem(session) - BAR,
                place.y - BAR,
                BAR * 2,
                end + BAR * 2 - place.y,
            )?;
        }
        Ok(())
    }

    fn write_row(&self, f: &mut fmt::Formatter<'_>, place: &Place) -> fmt::Result {
        let x = self.lanes[place.row.session];
        let color = if place.waits() { WAIT_TEXT } else { TEXT };
        match &place.row.kind {
            Kind::Waiting(holders) => holders
                .iter()
                .try_for_each(|holder| self.write_arrow(f, place, *holder))?,
            Kind::Started => write_box(f, place, x, BLUE)?,
            Kind::Done => write_box(f, place, x, GREEN)?,
            Kind::Failed => write_box(f, place, x, RED)?,
        }
        self.write_time(f, place.text_y(), &place.row.at)?;
        for (number, line) in place.lines.iter().enumerate() {
            let (x, y) = (x + place.text_x(), place.text_y() + number * LINE);
            let line = escaped(line);
            writeln!(f, r#"<text x="{x}" y="{y}" fill="{color}">{line}</text>"#)?;
        }
        Ok(())
    }

    fn write_arrow(&self, f: &mut fmt::Formatter<'_>, place: &Place, holder: usize) -> fmt::Result {
        let (from, y) = (self.stem(place.row.session), place.y);
        let to = self.stem(holder);
        // The tip stays clear of the holder's own bar.
        let (tip, wing) = if to < from {
            (to + BAR + 1, to + BAR + 9)
        } else {
            (to - BAR - 1, to - BAR - 9)
        };
        let (up, down) = (y - 4, y + 4);
        writeln!(
            f,
            r#"<path d="M{from} {y}H{wing}" stroke="{WAIT}" stroke-width="2"/><path d="M{tip} {y}L{wing} {up}V{down}z" fill="{WAIT}"/>"#
        )
    }

    fn write_time(&self, f: &mut fmt::Formatter<'_>, y: usize, time: &str) -> fmt::Result {
        let lane = self.lanes.first().copied().unwrap_or(self.width);
        let x = lane - MARGIN;
        writeln!(
            f,
            r#"<text x="{x}" y="{y}" fill="{PALE}" text-anchor="end">{time}</text>"#
        )
    }
}

fn write_box(
    f: &mut fmt::Formatter<'_>,
    place: &Place,
    x: usize,
    (fill, stroke): Colors,
) -> fmt::Result {
    let (y, width, height) = (place.y, place.width(), place.height());
    writeln!(
        f,
        r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{fill}" stroke="{stroke}"/>"#
    )
}

/// The text in XML's entities, where it needs them.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&apos;",
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::examples::{handover, odd};
    use super::*;

    #[test]
    fn a_wait_is_a_bar_and_an_arrow_to_the_holder() {
        let svg = handover().to_svg();
        let arrows = svg.matches(&format!(r#"stroke="{WAIT}""#)).count();
        let bars = svg.matches(&format!(r#"rx="{BAR}" fill="{WAIT}""#)).count();
        assert_eq!((arrows, bars), (1, 1));
        assert!(svg.contains(">waits for first: ShareLock on transaction</text>"));
    }

    #[test]
    fn a_wide_name_has_the_room_that_it_takes() {
        let lane = |name: &str| {
            let mut transcript = Transcript::default();
            transcript.add_session(name);
            transcript.add_session("second");
            let svg = transcript.to_svg();
            let (before, _) = svg.split_once(">second<")?;
            let (_, x) = before.rsplit_once("<text x=\"")?;
            x.split('"').next()?.parse::<usize>().ok()
        };
        assert!(lane("abcd").is_some());
        assert_eq!(lane("漢字漢字"), lane("abcdefgh"));
        assert!(lane("漢字漢字") > lane("abcd"));
    }

    #[test]
    fn no_sessions_are_an_empty_drawing() {
        let svg = Transcript::default().to_svg();
        assert!(
            svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
            "{svg}"
        );
    }

    #[test]
    fn an_odd_content_is_no_markup() {
        let svg = odd().to_svg();
        let tags = [
            "svg ", "/svg>", "title>", "/title>", "rect ", "path ", "text ", "/text>",
        ];
        for tag in svg.split('<').skip(1) {
            assert!(tags.iter().any(|known| tag.starts_with(known)), "<{tag}");
            assert_eq!(tag.matches('>').count(), 1, "<{tag}");
        }
        let entities = ["amp;", "lt;", "gt;", "quot;", "apos;"];
        for entity in svg.split('&').skip(1) {
            assert!(
                entities.iter().any(|known| entity.starts_with(known)),
                "&{entity}"
            );
        }
        assert!(!svg.contains(|c: char| c.is_control() && c != '\n' || c == '\u{ffff}'));
    }
}
