//! An exploration as one page, without references to anything else.

#[cfg(test)]
#[expect(clippy::unwrap_used)]
mod properties;

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use super::report::{Exploration, Run, RunStep};

impl Exploration {
    /// Writes the schedules with problems to a file, as one page of HTML that refers to nothing
    /// else: the sessions beside each other, the statements with their binds and results, step by
    /// step with the arrow keys, and the cycle of dependencies as a picture.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    pub fn write_html(&self, path: impl AsRef<Path>) -> io::Result<()> {
        fs::write(path, page(self, &self.sessions))
    }
}

/// The page.
fn page(exploration: &Exploration, sessions: &[String]) -> String {
    let mut page = String::from(HEAD);
    // Writing to a string can't fail.
    let _ = write!(page, "<h1>{}</h1>", escaped(&exploration.summary()));
    if exploration.failures().is_empty() {
        page.push_str("<p>No schedule has a problem.</p>");
    }
    page.push_str("<nav><ol>");
    for (number, run) in exploration.failures().iter().enumerate() {
        let _ = write!(
            page,
            "<li><a href=\"#run{number}\">{}</a></li>",
            escaped(run.schedule())
        );
    }
    page.push_str("</ol></nav>");
    for (number, run) in exploration.failures().iter().enumerate() {
        section(&mut page, number, run, sessions);
    }
    page.push_str(SCRIPT);
    page
}

fn section(page: &mut String, number: usize, run: &Run, sessions: &[String]) {
    let _ = write!(
        page,
        "<section id=\"run{number}\" tabindex=\"0\"><h2>{}</h2>",
        number + 1
    );
    for problem in run.problems() {
        let _ = write!(
            page,
            "<pre class=\"problem\">{}</pre>",
            escaped(&problem.to_string())
        );
    }
    if let Some(picture) = cycle(run, sessions) {
        page.push_str(&picture);
    }
    page.push_str("<table><thead><tr>");
    for session in sessions {
        let _ = write!(page, "<th>{}</th>", escaped(session));
    }
    page.push_str("</tr></thead><tbody>");
    for step in &run.steps {
        row(page, step, sessions.len());
    }
    let _ = write!(
        page,
        "</tbody></table><pre>{}</pre>",
        escaped(run.outcome())
    );
    let _ = write!(
        page,
        "<pre class=\"again\">{}</pre></section>",
        escaped(&run.again())
    );
}

/// A step in its session's lane.
fn row(page: &mut String, step: &RunStep, sessions: usize) {
    page.push_str("<tr>");
    for session in 0..sessions {
        if session != step.session {
            page.push_str("<td></td>");
            continue;
        }
        let label = step.name.split_once('.').map_or("", |(_, label)| label);
        let class = if step.error.is_some() {
            "failed"
        } else {
            "done"
        };
        let _ = write!(page, "<td class=\"{class}\"><b>{}</b>", escaped(label));
        if let Some((sql, binds)) = &step.statement {
            let _ = write!(page, "<code>{}</code>", escaped(sql));
            if !binds.is_empty() {
                let _ = write!(
                    page,
                    "<code class=\"binds\">{}</code>",
                    escaped(&binds.join(", "))
                );
            }
        }
        let result = step.error.as_deref().unwrap_or("done");
        let _ = write!(page, "<i>{}</i></td>", escaped(result));
    }
    page.push_str("</tr>");
}

/// The sessions in a ring, with what none of them can come before.
fn cycle(run: &Run, sessions: &[String]) -> Option<String> {
    let edges: Vec<(usize, usize, &str)> = run
        .cycle()
        .iter()
        .filter_map(|line| {
            let (why, order) = line.rsplit_once(": ")?;
            let (from, to) = order.split_once(" before ")?;
            let place = |name: &str| sessions.iter().position(|session| session == name);
            Some((place(from)?, place(to)?, why))
        })
        .collect();
    if edges.is_empty() {
        return None;
    }
    let place = |session: usize| {
        let angle = session as f64 / sessions.len() as f64 * std::f64::consts::TAU;
        (200.0 + 130.0 * angle.cos(), 110.0 + 75.0 * angle.sin())
    };
    let mut picture = String::from(
        "<svg viewBox=\"0 0 400 220\" width=\"400\" role=\"img\"><defs><marker id=\"tip\" \
         viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>",
    );
    for (from, to, why) in edges {
        let ((x1, y1), (x2, y2)) = (place(from), place(to));
        // To the right of the straight line, so that there and back are two.
        let (mx, my) = (
            (x1 + x2) / 2.0 - (y2 - y1) / 5.0,
            (y1 + y2) / 2.0 + (x2 - x1) / 5.0,
        );
        let _ = write!(
            picture,
            "<path d=\"M{x1:.0} {y1:.0}Q{mx:.0} {my:.0} {x2:.0} {y2:.0}\" class=\"edge\" \
             marker-end=\"url(#tip)\"><title>{}</title></path>",
            escaped(why)
        );
    }
    for (session, name) in sessions.iter().enumerate() {
        let (x, y) = place(session);
        let _ = write!(
            picture,
            "<text x=\"{x:.0}\" y=\"{y:.0}\">{}</text>",
            escaped(name)
        );
    }
    Some(picture + "</svg>")
}

/// Nothing in it is HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            // Neither is a character of XML, which a picture in the page is.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}');
            }
            c => escaped.push(c),
        }
    }
    escaped
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'\"><title>Schedules</title><style>\
body{font:14px/1.4 system-ui,sans-serif;margin:2em;max-width:80em}\
table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.3em .6em;vertical-align:top;\
text-align:left}code,i{display:block}code{font-size:12px;color:#246}i{color:#575;font-size:12px}\
.failed i{color:#b00}.problem{color:#b00}tr.now{background:#ffd}tr.later td *{opacity:.25}\
pre{white-space:pre-wrap}section{border-top:2px solid #888;margin-top:2em}\
.edge{fill:none;stroke:#b00}text{text-anchor:middle;paint-order:stroke;stroke:#fff;\
stroke-width:6px}</style></head><body>";

/// The arrow keys go from step to step.
const SCRIPT: &str = "<p>Up and down: step by step in the schedule that has the focus.</p><script>\
'use strict';for(const section of document.querySelectorAll('section')){\
const rows=[...section.querySelectorAll('tbody tr')];let at=rows.length;\
const show=()=>rows.forEach((row,i)=>{row.classList.toggle('now',i===at);\
row.classList.toggle('later',i>at)});\
section.addEventListener('keydown',event=>{\
const by={ArrowDown:1,ArrowRight:1,ArrowUp:-1,ArrowLeft:-1}[event.key];if(!by)return;\
event.preventDefault();at=at===rows.length?(by>0?0:rows.length-1):\
Math.max(0,Math.min(rows.length-1,at+by));show();});}</script></body></html>";
