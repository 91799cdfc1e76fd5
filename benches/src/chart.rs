//! A table as bars.

use crate::compare::{Table, time};

const LINE: usize = 26;
const NAMES: usize = 330;
const BARS: usize = 300;
const FIGURES: usize = 90;

/// Nothing to compare is no chart.
pub(crate) fn svg(table: &Table) -> Option<String> {
    let rows: Vec<(&str, f64)> = (table.rows.iter())
        .filter_map(|row| Some((&*row.name, row.measured.as_ref().ok()?.median)))
        .collect();
    let longest = rows.iter().map(|(_, median)| *median).fold(0.0, f64::max);
    if rows.len() < 2 {
        return None;
    }
    let (width, height) = (NAMES + BARS + FIGURES, rows.len() * LINE + 12);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (nth, (name, median)) in rows.iter().enumerate() {
        let y = nth * LINE + 6;
        let bar = (median / longest * BARS as f64).max(1.0);
        let colour = if nth == 0 { "#8a99a8" } else { "#2f6db3" };
        let end = NAMES as f64 + bar + 8.0;
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{}\" width=\"{bar:.1}\" height=\"{}\" fill=\"{colour}\"/>\
             <text x=\"{end:.1}\" y=\"{}\">{}</text>\n",
            NAMES - 10,
            y + 17,
            name.replace('&', "&amp;").replace('<', "&lt;"),
            y + 4,
            LINE - 8,
            y + 17,
            time(*median),
        ));
    }
    svg.push_str("</svg>\n");
    Some(svg)
}
