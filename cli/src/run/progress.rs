//! Progress on stderr: on a terminal one line that is drawn over and over, a bar in it and the time
//! left; elsewhere at most a line a second.
//!
//! The time left is that of the steps, judged by those that were made, and of decoding, which the
//! library compares with a step. Before the second step there is none: the first one fills caches
//! and tells little.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aquatint_model::{Progress, PromptSyntax};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::platform::console::{self, warn};

/// Between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(1);

/// Between two drawings on a terminal: the clock in the line goes on while a step is computed.
const TICK: Duration = Duration::from_millis(250);

/// Columns of the bar itself.
const BAR: usize = 24;

/// Shows how far a picture is.
pub(crate) struct Display {
    bar: Option<ProgressBar>,
    /// What the bar's line says.
    line: Arc<Mutex<Line>>,
    pace: Pace,
    /// Steps that are known from a checkpoint, and take no time.
    known: usize,
    /// Steps at the last report; a second pass begins with the same.
    done: usize,
    last_line: Instant,
}

/// The text beside the bar.
#[derive(Default)]
struct Line {
    text: String,
    /// When the picture will be done.
    end: Option<Instant>,
}

impl Line {
    /// The text at a moment.
    fn at(&self, now: Instant) -> String {
        match self.end {
            Some(end) => format!("{}, {} left", self.text, duration(end.saturating_duration_since(now))),
            None => self.text.clone(),
        }
    }
}

/// "0.2 s", "47.1 s", "3 min 20 s": how long something took.
pub(crate) fn elapsed(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        _ => duration(time),
    }
}

/// "47 s", "3 min 20 s", "2 h 5 min".
fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().ceil() as u64;
    match seconds {
        0..60 => format!("{} s", seconds.max(1)),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

impl Display {
    /// For a run of which the first `known` steps are in a checkpoint.
    pub(crate) fn new(known: usize) -> Self {
        let line = Arc::new(Mutex::new(Line::default()));
        let bar = (std::io::stderr().is_terminal() && !console::is_quiet()).then(|| bar(Arc::clone(&line)));
        Self { bar, line, pace: Pace::default(), known, done: 0, last_line: Instant::now() }
    }

    /// Takes note of an event and shows it.
    pub(crate) fn update(&mut self, event: Progress) {
        match event {
            Progress::Truncated { text, cut } => {
                self.warn(format_args!(
                    "the {text} is too long for the model; ignored is its end: \"{cut}\""
                ));
            }
            Progress::ReadAsWords { text, tags, syntax } => {
                let hint = tags.iter().find_map(|tag| hint(tag, syntax)).unwrap_or_default();
                let tags = tags.join("`, `");
                self.warn(format_args!("the {text} has `{tags}`, which is read as words here{hint}"));
            }
            Progress::ReadAsWeight { weight } => self.warn(format_args!(
                "the prompt ends in `{weight}`, which is read as its weight, as in A1111; words end in a comma"
            )),
            Progress::Loading { network, percent } => {
                self.show(format!("loading the {network}, {percent} %"), None, false);
            }
            Progress::Denoising { decoding_percent } => self.pace.decoding = decoding_percent as f64 / 100.0,
            Progress::Step { done, total } => self.step(done, total),
            Progress::Enlarging => self.show("enlarging".into(), None, console::is_verbose()),
            Progress::Decoding => self.show("decoding".into(), self.pace.left(0), console::is_verbose()),
            _ => {}
        }
    }

    fn step(&mut self, done: usize, total: usize) {
        let now = Instant::now();
        self.pace.step(now, done > self.known.max(self.done));
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        }
        let mut text = format!("step {done}/{total}");
        if let Some(last) = self.pace.last.filter(|_| console::is_verbose()) {
            let _ = write!(text, " in {:.2} s", last.as_secs_f64());
        }
        self.show(text, self.pace.left(total - done), console::is_verbose());
    }

    /// Shows a text; elsewhere than on a terminal not within a second of the last one, unless
    /// `always`.
    fn show(&mut self, text: String, left: Option<Duration>, always: bool) {
        let now = Instant::now();
        let line = Line { text, end: left.map(|left| now + left) };
        if self.bar.is_none() && !console::is_quiet() && (always || now - self.last_line >= PAUSE) {
            self.last_line = now;
            eprintln!("{}", line.at(now));
        }
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
        if let Some(bar) = &self.bar {
            bar.tick();
        }
    }

    /// A warning beside the bar.
    fn warn(&self, message: std::fmt::Arguments<'_>) {
        match &self.bar {
            Some(bar) => bar.suspend(|| warn(message)),
            None => warn(message),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The flag that gives a meaning to what is read as words.
fn hint(tag: &str, syntax: PromptSyntax) -> Option<&'static str> {
    let a1111 = tag == "AND" || tag.starts_with(['[', '(']) || tag.starts_with("<lora:");
    match tag {
        _ if tag.starts_with("__") => Some("; --wildcards FOLDER draws a line of a file for it"),
        _ if a1111 && syntax == PromptSyntax::Plain => Some("; --prompt-syntax a1111 reads it"),
        _ => None,
    }
}

/// A line that is drawn again and again, never longer than the terminal is wide.
fn bar(line: Arc<Mutex<Line>>) -> ProgressBar {
    let line = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let now = Instant::now();
        let text = line.lock().unwrap_or_else(PoisonError::into_inner).at(now);
        let elapsed = duration(state.elapsed());
        let columns = usize::from(console::columns());
        let _ = out.write_str(&fitted(&text, &elapsed, state.len().map(|_| state.fraction()), columns));
    };
    let style = ProgressStyle::with_template("{line}").expect("the template is valid").with_key("line", line);
    let bar = ProgressBar::no_length().with_style(style);
    bar.enable_steady_tick(TICK);
    bar
}

/// `━━━━────  step 3/20, 12 s left (4 s)`, or as much of it as fits into `columns`.
fn fitted(text: &str, elapsed: &str, share: Option<f32>, columns: usize) -> String {
    let with_clock = format!("{text} ({elapsed})");
    let room = columns.saturating_sub(1); // a full line makes some terminals begin another
    let length = |text: &str| text.chars().count();
    match share {
        Some(share) if BAR + 2 + length(&with_clock) <= room => {
            let full = ((share * BAR as f32) as usize).min(BAR);
            format!("{}{}  {with_clock}", "━".repeat(full), "─".repeat(BAR - full))
        }
        _ if length(&with_clock) <= room => with_clock,
        _ => text.chars().take(room).collect(),
    }
}

/// How long steps take.
#[derive(Default)]
struct Pace {
    /// When the last step ended, or the first began.
    before: Option<Instant>,
    /// The time of the last step.
    last: Option<Duration>,
    /// Of all steps but the first: how many, and their time. Later ones count more.
    weight: f64,
    seconds: f64,
    made: usize,
    /// The time that decoding takes, in steps.
    decoding: f64,
}

impl Pace {
    /// What is left of a step's weight when the next one comes: about the last eight count, so that
    /// the judgement follows a machine whose other work comes and goes.
    const MEMORY: f64 = 0.88;

    /// A step ended, or the first begins; `computed` unless it was known before.
    fn step(&mut self, now: Instant, computed: bool) {
        let time = self.before.replace(now).map(|before| now - before).filter(|_| computed);
        self.last = time;
        let Some(time) = time else { return };
        self.made += 1;
        if self.made > 1 {
            self.weight = Self::MEMORY * self.weight + 1.0;
            self.seconds = Self::MEMORY * self.seconds + time.as_secs_f64();
        }
    }

    /// The time for this many more steps and decoding; `None` before the second step is done.
    fn left(&self, steps: usize) -> Option<Duration> {
        let step = (self.weight > 0.0).then(|| self.seconds / self.weight)?;
        Duration::try_from_secs_f64(step * (steps as f64 + self.decoding)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(seconds: &[f64], known: usize) -> Pace {
        let mut pace = Pace { decoding: 1.5, ..Pace::default() };
        let mut now = Instant::now();
        pace.step(now, false);
        for (i, &time) in seconds.iter().enumerate() {
            now += Duration::from_secs_f64(time);
            pace.step(now, i >= known);
        }
        pace
    }

    #[track_caller]
    fn about(found: Option<Duration>, expected: f64) {
        let found = found.expect("two steps were made").as_secs_f64();
        assert!((found / expected - 1.0).abs() < 0.01, "{found}, not {expected}");
    }

    #[test]
    fn the_time_left_is_unknown_before_the_second_step_and_near_the_truth_after_it() {
        for early in [&[][..], &[9.0]] {
            assert_eq!(pace(early, 0).left(8), None);
        }
        // A slow first step does not count; decoding does.
        about(pace(&[9.0, 2.0], 0).left(18), 2.0 * 19.5);
        about(pace(&[9.0, 2.0, 2.0], 0).left(0), 3.0);
    }

    #[test]
    fn steps_of_a_checkpoint_do_not_count_as_fast_ones() {
        assert_eq!(pace(&[0.0, 0.0, 0.0, 5.0], 3).left(4), None);
        about(pace(&[0.0, 0.0, 0.0, 5.0, 5.0], 3).left(3), 5.0 * 4.5);
    }

    #[test]
    fn the_judgement_follows_a_machine_that_becomes_slower() {
        let steps = [&[1.0; 10][..], &[3.0; 12]].concat();
        let left = pace(&steps, 0).left(10).expect("many steps were made").as_secs_f64();
        assert!((3.0 * 11.5 / 1.5..=3.0 * 11.5).contains(&left), "{left}");
    }

    #[test]
    fn a_line_is_never_longer_than_the_terminal() {
        let line = |columns| fitted("step 3/20, 12 s left", "4 s", Some(0.5), columns);
        assert_eq!(line(80), format!("{}{}  step 3/20, 12 s left (4 s)", "━".repeat(12), "─".repeat(12)));
        assert_eq!(
            (line(40).as_str(), line(20).as_str()),
            ("step 3/20, 12 s left (4 s)", "step 3/20, 12 s lef")
        );
        assert!((0..100).all(|columns| line(columns).chars().count() <= columns));
    }

    #[test]
    fn times_are_said_in_two_units() {
        let said = |seconds| duration(Duration::from_secs_f64(seconds));
        assert_eq!(
            [said(0.2), said(59.5), said(200.0), said(7500.0)],
            ["1 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]
        );
    }
}
