//! What is seen of a run while it goes on: bars on a terminal, a line every few seconds in a log, or nothing.

use super::{errors, figures};
use crate::engine::notice::Notice;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Bars,
    Lines,
    Silent,
}

impl Style {
    /// `quiet`: nothing. Otherwise bars where somebody can see them, and lines where they are kept, unless a program
    /// reads standard error for its JSON.
    pub fn choose(quiet: bool, json: bool) -> Style {
        match (quiet, std::io::stderr().is_terminal(), json) {
            (true, ..) => Style::Silent,
            (false, true, _) => Style::Bars,
            (false, false, true) => Style::Silent,
            (false, false, false) => Style::Lines,
        }
    }
}

/// Shows notices until every sender is gone.
pub fn follow(notices: &Receiver<Notice>, style: Style) {
    match style {
        Style::Silent => notices.iter().for_each(drop),
        Style::Lines => Lines { every: Duration::from_secs(5), tell: errors::tell }.follow(notices),
        Style::Bars => Bars::new(ProgressDrawTarget::stderr()).follow(notices),
    }
}

/// How far one export is. A fold of its notices.
struct Watched {
    export: String,
    /// Fetched in this invocation.
    rows: u64,
    bytes: u64,
    /// Committed by earlier ones.
    rows_done: u64,
    estimated_rows: u64,
    files: u64,
    slices: u32,
    slices_done: u32,
    stage: Option<String>,
    finished: bool,
    /// When, rows, bytes: a few seconds of history for the rates.
    history: VecDeque<(Instant, u64, u64)>,
}

/// The stage of an export that was asked to stop.
const STOPPING: &str = "stopping";

/// Rates are taken over this long.
const WINDOW: Duration = Duration::from_secs(5);

impl Watched {
    fn new(export: &str) -> Watched {
        Watched {
            export: export.to_owned(),
            rows: 0,
            bytes: 0,
            rows_done: 0,
            estimated_rows: 0,
            files: 0,
            slices: 0,
            slices_done: 0,
            stage: None,
            finished: false,
            history: VecDeque::new(),
        }
    }

    fn apply(&mut self, notice: &Notice) {
        match notice {
            Notice::Planned { slices, slices_done, estimated_rows, rows_done, .. } => {
                self.slices = *slices;
                self.slices_done = *slices_done;
                self.estimated_rows = *estimated_rows;
                self.rows_done = *rows_done;
            }
            Notice::Rows { rows, bytes, .. } => {
                self.rows += rows;
                self.bytes += bytes;
            }
            Notice::RowsDiscarded { rows, bytes, .. } => {
                self.rows = self.rows.saturating_sub(*rows);
                self.bytes = self.bytes.saturating_sub(*bytes);
                self.history.clear();
            }
            Notice::Part { .. } => self.files += 1,
            Notice::SliceDone { .. } => self.slices_done += 1,
            Notice::Closing { stage, .. } => self.stage = Some(stage.clone()),
            Notice::Stopping { .. } => self.stage = Some(STOPPING.to_owned()),
            Notice::Finished { .. } => self.finished = true,
            Notice::Started { .. } | Notice::Warning { .. } | Notice::Retry { .. } => {}
        }
    }

    fn is_stopping(&self) -> bool {
        self.stage.as_deref() == Some(STOPPING)
    }

    fn sample(&mut self, now: Instant) {
        self.history.push_back((now, self.rows, self.bytes));
        while self.history.len() > 2 && now.saturating_duration_since(self.history[1].0) >= WINDOW {
            self.history.pop_front();
        }
    }

    /// Rows and bytes per second over the window.
    fn rates(&self) -> Option<(u64, u64)> {
        let (first, last) = (self.history.front()?, self.history.back()?);
        let time = last.0.saturating_duration_since(first.0);
        let rows = figures::per_second(last.1.saturating_sub(first.1), time)?;
        Some((rows, figures::per_second(last.2.saturating_sub(first.2), time)?))
    }

    fn total_rows(&self) -> u64 {
        self.rows_done + self.rows
    }

    /// Statistics are estimates: a table that turns out longer moves the goal.
    fn goal(&self) -> u64 {
        self.estimated_rows.max(self.total_rows())
    }

    fn remaining(&self) -> Option<Duration> {
        let (rows_per_second, _) = self.rates().filter(|(rows, _)| *rows > 0)?;
        let left = self.goal().checked_sub(self.total_rows()).filter(|left| *left > 0)?;
        Some(Duration::from_secs(left / rows_per_second + 1))
    }

    /// `1,234,567 of about 6,000,000 rows (20 %), 250,000 rows/s, 31.2 MB/s, about 19 s left`, or as much of it as fits
    /// into `room` characters: what tells least goes first.
    fn figures(&self, room: usize) -> String {
        let rows = self.total_rows();
        let (mut done, mut shortest) = (figures::counted(rows, "row"), figures::count(rows));
        if rows < self.estimated_rows {
            shortest = format!("{} %", u128::from(rows) * 100 / u128::from(self.estimated_rows));
            done =
                format!("{} of about {} rows ({shortest})", figures::count(rows), figures::count(self.estimated_rows));
        }
        if let Some(stage) = &self.stage {
            return shortened(&format!("{done}, {stage}"), room);
        }
        let rates = self.rates();
        let rows_rate = rates.map(|(rows, _)| format!(", {} rows/s", figures::count(rows))).unwrap_or_default();
        let bytes_rate = rates.map(|(_, bytes)| format!(", {}/s", figures::bytes(bytes))).unwrap_or_default();
        let left = self.remaining().map_or_else(String::new, |left| match left.as_secs() {
            seconds @ 0..60 => format!(", about {seconds} s left"),
            _ => format!(", about {} left", figures::duration(left)),
        });
        let texts = [
            format!("{done}{rows_rate}{bytes_rate}{left}"),
            format!("{done}{rows_rate}{left}"),
            format!("{done}{left}"),
            done,
        ];
        let fits = |text: &String| text.chars().count() <= room;
        texts.into_iter().find(fits).unwrap_or_else(|| shortened(&shortest, room))
    }
}

fn shortened(text: &str, room: usize) -> String {
    text.chars().take(room).collect()
}

/// A notice that deserves a line of its own. What the whole process was asked for is said once, and not by each of its `exports`.
fn announcement(notice: &Notice, exports: &[Watched]) -> Option<String> {
    let export = errors::single_line(notice.export());
    if matches!(notice, Notice::Stopping { .. }) && exports.iter().any(Watched::is_stopping) {
        return None;
    }
    let text = match notice {
        Notice::Started { run_id, resumed, source, location, .. } => {
            let verb = if *resumed { "resuming" } else { "running" };
            format!("{verb} {run_id}: {source} → {location}")
        }
        Notice::Planned { slices, slices_done, reason, .. } => {
            let done = match slices_done {
                0 => String::new(),
                done => format!("; {done} of {} done before", figures::counted(u64::from(*slices), "slice")),
            };
            format!("{reason}{done}")
        }
        Notice::Warning { code, message, .. } => format!("warning[{code}]: {message}"),
        Notice::Retry { slice, attempt, delay_ms, reason, .. } => {
            let pause = figures::duration(Duration::from_millis(*delay_ms));
            format!("slice {slice} failed, attempt {attempt} in {pause}: {reason}")
        }
        Notice::Stopping { .. } => "stopping; a second signal ends the process at once".to_owned(),
        _ => return None,
    };
    Some(format!("{export}: {}", errors::single_line(&text)))
}

fn watched<'a>(exports: &'a mut Vec<Watched>, notice: &Notice) -> (usize, &'a mut Watched) {
    let name = notice.export();
    let index = match exports.iter().position(|watched| watched.export == name) {
        Some(index) => index,
        None => {
            exports.push(Watched::new(name));
            exports.len() - 1
        }
    };
    (index, &mut exports[index])
}

struct Lines {
    every: Duration,
    tell: fn(&str),
}

impl Lines {
    fn follow(&self, notices: &Receiver<Notice>) {
        let mut exports: Vec<Watched> = Vec::new();
        let mut next = Instant::now() + self.every;
        loop {
            match notices.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(notice) => {
                    let now = Instant::now();
                    let told = announcement(&notice, &exports);
                    let (_, watched) = watched(&mut exports, &notice);
                    if watched.history.is_empty() {
                        watched.sample(now);
                    }
                    watched.apply(&notice);
                    if let Some(text) = told {
                        (self.tell)(&format!("{text}\n"));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if now >= next {
                next = now + self.every;
                for watched in exports.iter_mut().filter(|watched| !watched.finished) {
                    watched.sample(now);
                    (self.tell)(&format!("{}: {}\n", watched.export, watched.figures(usize::MAX)));
                }
            }
        }
    }
}

/// How a line is divided, in characters. A line that is longer than the terminal is wide wraps, and what wraps is not
/// taken away again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    name: usize,
    bar: usize,
    figures: usize,
}

impl Layout {
    fn of(columns: usize, longest_name: usize) -> Layout {
        // Some terminals wrap a line that reaches their last column.
        let columns = columns.max(20) - 1;
        let name = longest_name.min(columns / 3);
        let bar = match columns {
            0..50 => 6,
            50..100 => 12,
            _ => 24,
        };
        Layout { name, bar, figures: columns.saturating_sub(name + 1 + bar + 1) }
    }

    fn style(self) -> ProgressStyle {
        let Layout { name, bar, .. } = self;
        let style = ProgressStyle::with_template(&format!("{{prefix:>{name}!.bold}} {{bar:{bar}.cyan/dim}} {{msg}}"));
        // The template is one for all numbers; were it wrong, a plain bar is better than no run.
        style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
    }
}

/// What standard error's terminal is wide; 80 when it does not say.
fn terminal_columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

struct Bars {
    multi: MultiProgress,
    layout: Layout,
    bars: Vec<ProgressBar>,
}

const REDRAW: Duration = Duration::from_millis(200);

impl Bars {
    fn new(target: ProgressDrawTarget) -> Bars {
        Bars { multi: MultiProgress::with_draw_target(target), layout: Layout::of(80, 16), bars: Vec::new() }
    }

    fn follow(mut self, notices: &Receiver<Notice>) {
        let mut exports: Vec<Watched> = Vec::new();
        let mut next = Instant::now();
        loop {
            match notices.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(notice) => {
                    let told = announcement(&notice, &exports);
                    let (index, watched) = watched(&mut exports, &notice);
                    watched.apply(&notice);
                    if let Some(text) = told {
                        // Drawing is for eyes; a terminal that went away stops nothing.
                        let _ = self.multi.println(text);
                    }
                    if index >= self.bars.len() {
                        self.lay_out(&exports);
                        self.add(&exports[index].export);
                    }
                    if exports[index].finished {
                        self.bars[index].finish_and_clear();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            if now >= next {
                next = now + REDRAW;
                self.lay_out(&exports);
                self.draw(&mut exports, now);
            }
        }
        self.bars.iter().for_each(ProgressBar::finish_and_clear);
    }

    /// By the terminal as it is now, and the exports that are known by now.
    fn lay_out(&mut self, exports: &[Watched]) {
        let longest = exports.iter().map(|watched| watched.export.chars().count()).max().unwrap_or(0);
        let layout = Layout::of(terminal_columns(), longest);
        if layout != self.layout {
            self.layout = layout;
            self.bars.iter().for_each(|bar| bar.set_style(layout.style()));
        }
    }

    fn add(&mut self, export: &str) {
        let bar = self.multi.add(ProgressBar::new(1).with_style(self.layout.style()));
        bar.set_prefix(export.to_owned());
        self.bars.push(bar);
    }

    fn draw(&self, exports: &mut [Watched], now: Instant) {
        for (watched, bar) in exports.iter_mut().zip(&self.bars).filter(|(watched, _)| !watched.finished) {
            watched.sample(now);
            bar.set_length(watched.goal().max(1));
            bar.set_position(watched.total_rows());
            bar.set_message(watched.figures(self.layout.figures));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn planned() -> Notice {
        Notice::Planned {
            export: "orders".into(),
            slices: 4,
            slices_done: 1,
            estimated_rows: 1000,
            rows_done: 100,
            reason: "histogram".into(),
        }
    }

    fn rows(rows: u64) -> Notice {
        Notice::Rows { export: "orders".into(), rows, bytes: rows * 1024 }
    }

    #[test]
    fn rates_and_remaining_time_come_from_the_last_seconds() {
        let mut watched = Watched::new("orders");
        let start = Instant::now();
        watched.apply(&planned());
        watched.sample(start);
        watched.apply(&rows(100));
        watched.sample(start + Duration::from_secs(1));
        for (room, told) in [
            (usize::MAX, "200 of about 1,000 rows (20 %), 100 rows/s, 100 KB/s, about 9 s left"),
            (68, "200 of about 1,000 rows (20 %), 100 rows/s, 100 KB/s, about 9 s left"),
            (67, "200 of about 1,000 rows (20 %), 100 rows/s, about 9 s left"),
            (57, "200 of about 1,000 rows (20 %), about 9 s left"),
            (45, "200 of about 1,000 rows (20 %)"),
            (29, "20 %"),
        ] {
            assert_eq!(watched.figures(room), told);
        }
        for second in 2..20 {
            watched.apply(&rows(10));
            watched.sample(start + Duration::from_secs(second));
        }
        assert_eq!(watched.rates(), Some((10, 10 * 1024)), "the fast first second is forgotten");
    }

    #[test]
    fn an_estimate_that_was_too_low_never_shows_more_than_everything() {
        let mut watched = Watched::new("orders");
        watched.apply(&planned());
        watched.apply(&rows(5000));
        assert_eq!(watched.figures(80), "5,100 rows");
        assert_eq!(watched.goal(), 5100);
        watched.apply(&Notice::RowsDiscarded { export: "orders".into(), rows: 6000, bytes: 0 });
        assert_eq!(watched.figures(80), "100 of about 1,000 rows (10 %)");
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_is_wide() {
        let mut watched = Watched::new("orders");
        let start = Instant::now();
        watched.apply(&Notice::Planned {
            export: "orders".into(),
            slices: 9,
            slices_done: 0,
            estimated_rows: 123_456_789_012,
            rows_done: 12_345_678_901,
            reason: String::new(),
        });
        watched.sample(start);
        watched.apply(&rows(1_234_567));
        watched.sample(start + Duration::from_secs(1));
        for columns in 20..200 {
            for longest in [1, 16, 128] {
                let layout = Layout::of(columns, longest);
                let figures = watched.figures(layout.figures).chars().count();
                assert!(layout.name + 1 + layout.bar + 1 + figures < columns, "{columns} columns: {layout:?}");
            }
        }
        assert_eq!(
            Layout::of(160, 6),
            Layout { name: 6, bar: 24, figures: 127 },
            "a short name takes no more than it is"
        );
    }

    #[test]
    fn a_log_gets_announcements_at_once_and_figures_now_and_then() {
        static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let (sender, receiver) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let tell = |text: &str| LINES.lock().expect("no writer panics").push(text.to_owned());
            Lines { every: Duration::from_millis(1), tell }.follow(&receiver);
        });
        sender.send(planned()).unwrap();
        let warning = Notice::Warning { export: "orders".into(), code: "w".into(), message: "a\u{7}b".into() };
        sender.send(warning).unwrap();
        while !LINES.lock().unwrap().iter().any(|line| line.contains("10 %")) {
            std::thread::yield_now();
        }
        drop(sender);
        reader.join().unwrap();
        let lines = LINES.lock().unwrap();
        assert_eq!(lines[0], "orders: histogram; 1 of 4 slices done before\n");
        assert!(lines.contains(&"orders: warning[w]: a b\n".to_owned()), "{lines:?}");
    }

    #[test]
    fn bars_end_when_the_run_does() {
        let (sender, receiver) = std::sync::mpsc::channel();
        for notice in [planned(), rows(5)] {
            sender.send(notice).unwrap();
        }
        let finished = Notice::Finished {
            export: "orders".into(),
            run_id: "r".into(),
            status: "success".into(),
            rows: 5,
            files: 1,
            bytes: 1,
        };
        sender.send(finished).unwrap();
        drop(sender);
        Bars::new(ProgressDrawTarget::hidden()).follow(&receiver);
    }

    #[test]
    fn a_stop_of_the_whole_process_is_said_once() {
        let stop = |export: &str| Notice::Stopping { export: export.to_owned() };
        let mut exports = vec![Watched::new("a"), Watched::new("b")];
        assert!(announcement(&stop("a"), &exports).is_some_and(|text| text.contains("a second signal")));
        exports[0].apply(&stop("a"));
        assert_eq!(announcement(&stop("b"), &exports), None);
    }
}
