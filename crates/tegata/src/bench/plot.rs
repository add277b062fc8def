//! The plot: an SVG that a browser, an editor and a code forge show as it is.
//!
//! Two panels: what each subject costs of a processor, with the bound as a line through all of them; and
//! how long a request takes, on a logarithmic scale. Bars are medians, whiskers the least and the most
//! of the rounds.

use std::fmt::Write as _;

use super::figures::{Spread, Summary, milliseconds};
use super::report::Results;
use super::subject::Subject;

const WIDTH: f64 = 900.0;
/// Where bars begin.
const LEFT: f64 = 250.0;
/// Where the longest bar ends: room for its figures is on the right of it.
const RIGHT: f64 = 690.0;
const ROW: f64 = 46.0;
const BAR: f64 = 20.0;
const INK: &str = "#1f2933";
const FAINT: &str = "#7b8794";
const RULE: &str = "#e4e7eb";
const BOUND: &str = "#c81e1e";

/// The whole picture.
#[must_use]
pub fn svg(results: &Results) -> String {
    let mut body = String::new();
    let mut y = 34.0;
    text(&mut body, (28.0, y), &TITLE, "What a certificate costs");
    y += 22.0;
    let machine = &results.machine;
    let about = format!(
        "{} · {} · {} rounds of {} requests · server and client on processors {} and {}",
        machine.processor,
        machine.system,
        results.rounds.len(),
        results.requests,
        machine.cpus.server,
        machine.cpus.client
    );
    text(&mut body, (28.0, y), &SUBTITLE, &about);
    y += 40.0;
    y = costs(&mut body, y, &results.subjects);
    let timed = |s: &&Summary| s.p50_us.is_some();
    let timed: Vec<&Summary> = results.subjects.iter().filter(timed).collect();
    // What is measured without a server has no answers to wait for, and a scale of nothing has no end.
    if !timed.is_empty() {
        y = latencies(&mut body, y + 26.0, &timed);
    }
    let height = y + 16.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         width=\"{WIDTH}\" height=\"{height:.0}\" font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', \
         sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

fn colour(subject: Subject) -> &'static str {
    match subject {
        Subject::CryptoBound => BOUND,
        Subject::Nothing | Subject::Commit => "#9aa5b1",
        Subject::Called => "#a5cdf0",
        Subject::Memory => "#5aa9e6",
        Subject::Durable => "#1d4ed8",
        Subject::Cfssl => "#c4a484",
        _ => "#8b5e34",
    }
}

/// Processor time of each; gives where the panel ends.
fn costs(body: &mut String, top: f64, subjects: &[Summary]) -> f64 {
    heading(body, top, "Processor time of each, microseconds");
    let most = subjects.iter().map(|s| s.cpu_us.max).fold(1.0, f64::max);
    let at = |us: f64| LEFT + (RIGHT - LEFT) * us / most;
    let (first, rows) = (top + 18.0, count(subjects.len()));
    let bottom = first + ROW * rows;
    let bound = subjects.iter().find(|s| s.subject == Subject::CryptoBound);
    let line = bound.map(|bound| at(bound.cpu_us.median));
    for (number, s) in subjects.iter().enumerate() {
        let y = first + ROW * count(number);
        row_label(body, y, s.subject.label(), s.about);
        let (bar, middle) = (y + (ROW - BAR) / 2.0, y + ROW / 2.0);
        rect(
            body,
            LEFT,
            bar,
            at(s.cpu_us.median) - LEFT,
            colour(s.subject),
        );
        whisker(body, middle, at(s.cpu_us.min), at(s.cpu_us.max));
        let ratio = s.cpu_ratio_to_crypto_bound;
        let figures = match (s.subject, ratio) {
            (Subject::CryptoBound, _) => format!("{:.0} µs: the bound", s.cpu_us.median),
            (Subject::Nothing | Subject::Commit, _) | (_, None) => {
                format!("{:.0} µs", s.cpu_us.median)
            }
            (_, Some(ratio)) => format!(
                "{:.0} µs: bound ÷ CPU {:.2} ({:.2}–{:.2})",
                s.cpu_us.median, ratio.median, ratio.min, ratio.max
            ),
        };
        let wide = 6.6 * count(figures.chars().count());
        // Not across the line of the bound.
        let clear = |x: f64| match line {
            Some(line) if x - 6.0 < line && line < x + wide => line + 8.0,
            _ => x,
        };
        // Beside the bar, unless there is no room.
        let end = clear(at(s.cpu_us.max) + 10.0);
        if end + wide < WIDTH - 12.0 {
            text(body, (end, middle + 4.0), &FIGURES, &figures);
        } else {
            text(body, (clear(LEFT + 10.0), middle + 4.0), &IN_BAR, &figures);
        }
    }
    if let Some(x) = line {
        let _ = writeln!(
            body,
            "<line x1=\"{x:.1}\" y1=\"{first:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"{BOUND}\" \
             stroke-width=\"1.5\" stroke-dasharray=\"4 4\"/>"
        );
    }
    bottom
}

/// Latency; gives where the panel ends.
fn latencies(body: &mut String, top: f64, shown: &[&Summary]) -> f64 {
    heading(
        body,
        top,
        "Time to the answer: median (ring) and 99 % (dot) in the closed loop; 99 % at a fixed rate (diamond)",
    );
    let all = || {
        shown
            .iter()
            .flat_map(|s| [s.p50_us, s.p99_us, s.open_p99_us])
            .flatten()
    };
    let low = all().map(|s| s.median).fold(f64::MAX, f64::min).max(1.0);
    let high = all().map(|s| s.median).fold(low, f64::max);
    let (first_decade, last_decade) = (low.log10().floor(), (high * 1.05).log10().ceil());
    let decades = (last_decade - first_decade).max(1.0);
    let end = WIDTH - 60.0;
    let at = |us: f64| LEFT + (end - LEFT) * (us.max(1.0).log10() - first_decade) / decades;
    let first = top + 18.0;
    let bottom = first + ROW * count(shown.len());
    let mut decade = first_decade;
    while decade <= last_decade {
        let (x, us) = (at(10_f64.powf(decade)), 10_f64.powf(decade));
        let _ = writeln!(
            body,
            "<line x1=\"{x:.1}\" y1=\"{first:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"{RULE}\"/>"
        );
        let label = if us < 1e6 {
            milliseconds(us).replace(".0 ", " ")
        } else {
            format!("{:.0} s", us / 1e6)
        };
        text(body, (x, bottom + 16.0), &SCALE, &label);
        decade += 1.0;
    }
    for (number, s) in shown.iter().enumerate() {
        let y = first + ROW * count(number);
        let what = s.open_rates().map_or(String::new(), |[due, answered]| {
            format!("a second: {due} due, {answered} answered")
        });
        row_label(body, y, s.subject.label(), &what);
        latency_row(body, y + ROW / 2.0, s, &at);
    }
    let mut end = bottom + 24.0;
    for behind in shown.iter().filter_map(|s| s.fell_behind()) {
        end += 18.0;
        text(body, (28.0, end), &WARNING, &behind);
    }
    end
}

fn latency_row(body: &mut String, middle: f64, s: &Summary, at: &dyn Fn(f64) -> f64) {
    let fill = colour(s.subject);
    let median = |spread: Option<Spread>| spread.map(|s| s.median);
    let (Some(p50), Some(p99)) = (median(s.p50_us), median(s.p99_us)) else {
        return;
    };
    let (from, to) = (at(p50), at(p99));
    let _ = writeln!(
        body,
        "<line x1=\"{from:.1}\" y1=\"{middle:.1}\" x2=\"{to:.1}\" y2=\"{middle:.1}\" stroke=\"{fill}\" \
         stroke-width=\"3\" opacity=\"0.45\"/>\n\
         <circle cx=\"{from:.1}\" cy=\"{middle:.1}\" r=\"5\" fill=\"#ffffff\" stroke=\"{fill}\" \
         stroke-width=\"2.5\"/>\n<circle cx=\"{to:.1}\" cy=\"{middle:.1}\" r=\"6\" fill=\"{fill}\"/>"
    );
    text(body, (from, middle - 10.0), &MARK, &milliseconds(p50));
    if to - from > 44.0 {
        text(body, (to, middle - 10.0), &MARK, &milliseconds(p99));
    }
    if let Some(open) = median(s.open_p99_us) {
        let x = at(open);
        let _ = writeln!(
            body,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"9\" height=\"9\" fill=\"#f59e0b\" stroke=\"#ffffff\" \
             transform=\"rotate(45 {x:.1} {middle:.1})\"/>",
            x - 4.5,
            middle - 4.5
        );
        text(body, (x, middle + 20.0), &MARK, &milliseconds(open));
    }
}

fn heading(body: &mut String, y: f64, title: &str) {
    text(body, (28.0, y), &HEADING, title);
    let (rule, end) = (y + 8.0, WIDTH - 28.0);
    let _ = writeln!(
        body,
        "<line x1=\"28\" y1=\"{rule:.1}\" x2=\"{end:.1}\" y2=\"{rule:.1}\" stroke=\"{RULE}\"/>"
    );
}

fn row_label(body: &mut String, y: f64, label: &str, about: &str) {
    let middle = y + ROW / 2.0;
    text(body, (LEFT - 14.0, middle - 1.0), &LABEL, label);
    text(body, (LEFT - 14.0, middle + 13.0), &ABOUT, about);
}

fn rect(body: &mut String, x: f64, y: f64, width: f64, fill: &str) {
    let width = width.max(1.0);
    let _ = writeln!(
        body,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"3\" fill=\"{fill}\"/>"
    );
}

fn whisker(body: &mut String, y: f64, from: f64, to: f64) {
    let (up, down) = (y - 5.0, y + 5.0);
    let _ = writeln!(
        body,
        "<path d=\"M{from:.1} {up:.1}V{down:.1}M{from:.1} {y:.1}H{to:.1}M{to:.1} {up:.1}V{down:.1}\" \
         stroke=\"{INK}\" stroke-width=\"1.2\" fill=\"none\"/>"
    );
}

/// How a line of text is set.
struct Style {
    size: f64,
    fill: &'static str,
    anchor: &'static str,
    weight: u16,
}

const fn style(size: f64, fill: &'static str, anchor: &'static str, weight: u16) -> Style {
    Style {
        size,
        fill,
        anchor,
        weight,
    }
}

const TITLE: Style = style(20.0, INK, "start", 600);
const SUBTITLE: Style = style(12.0, FAINT, "start", 400);
const WARNING: Style = style(11.5, BOUND, "start", 400);
const HEADING: Style = style(13.5, INK, "start", 600);
const LABEL: Style = style(13.0, INK, "end", 600);
const ABOUT: Style = style(10.5, FAINT, "end", 400);
const FIGURES: Style = style(12.5, INK, "start", 500);
const IN_BAR: Style = style(12.5, "#ffffff", "start", 600);
const SCALE: Style = style(11.0, FAINT, "middle", 400);
const MARK: Style = style(11.0, INK, "middle", 500);

fn text(body: &mut String, (x, y): (f64, f64), style: &Style, words: &str) {
    let Style {
        size,
        fill,
        anchor,
        weight,
    } = style;
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        body,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size:.1}\" fill=\"{fill}\" \
         text-anchor=\"{anchor}\" font-weight=\"{weight}\">{words}</text>"
    );
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
