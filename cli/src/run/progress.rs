//! Progress on stderr: a bar on a terminal, otherwise a line for each step; both with the time
//! left.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use aquatint_model::Progress;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::platform::console::warn;

/// Shows how far a picture is.
pub(crate) struct Display {
    bar: Option<ProgressBar>,
    /// When the UNet's first step began.
    start: Instant,
    /// Steps that are known from a checkpoint, and take no time.
    known: usize,
    /// About how long a step will take, and how many pictures take it together.
    expected: Option<Duration>,
    pictures: usize,
}

/// "2 minutes".
fn rounded(time: Duration) -> HumanDuration {
    HumanDuration(Duration::from_secs(time.as_secs_f64().ceil() as u64))
}

impl Display {
    /// For a run of `pictures` pictures whose first `known` steps are in a checkpoint.
    pub(crate) fn new(pictures: usize, known: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} step {pos}/{len}, {elapsed} so far, {msg}")
                .expect("the template is valid");
            ProgressBar::no_length().with_style(style)
        });
        Self { bar, start: Instant::now(), known, expected: None, pictures }
    }

    /// Takes note of an event and shows it.
    pub(crate) fn update(&mut self, event: Progress) {
        match event {
            Progress::Truncated { text, cut } => {
                warn(format_args!("the {text} is too long for the model; ignored is its end: \"{cut}\""));
            }
            Progress::ReadAsWords { text, tags } => {
                let tags = tags.join("`, `");
                warn(format_args!("the {text} has `{tags}`, which is read as words here"));
            }
            Progress::Expected { step } => self.expected = Some(step),
            Progress::Step { done, total } => self.step(done, total),
            Progress::Enlarging => self.say("enlarging"),
            Progress::Decoding => self.say("decoding"),
            _ => {}
        }
    }

    fn say(&self, what: &'static str) {
        match &self.bar {
            Some(bar) => bar.set_message(what),
            None => eprintln!("{what}"),
        }
    }

    fn step(&mut self, done: usize, total: usize) {
        if done <= self.known {
            self.start = Instant::now();
        }
        let steps = total.saturating_sub(done.max(self.known)) * self.pictures;
        let left = match (self.left(done, total), self.expected) {
            (Some(left), _) => format!("{} left", rounded(left)),
            (None, Some(step)) => {
                let whole = step.saturating_mul(steps.try_into().unwrap_or(u32::MAX));
                format!("perhaps {} left, judged by the text encoder's speed", rounded(whole))
            }
            (None, None) => "estimating the time left".to_owned(),
        };
        match &self.bar {
            Some(bar) => {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                bar.set_message(left);
            }
            None => eprintln!("step {done}/{total}, {left}"),
        }
    }

    /// The time that is left, judged by the steps that the UNet has made; `None` before the first.
    fn left(&self, done: usize, total: usize) -> Option<Duration> {
        let made = done.checked_sub(self.known).filter(|&made| made > 0)?;
        Some(self.start.elapsed().mul_f64((total - done) as f64 / made as f64))
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_a_checkpoint_do_not_count_as_fast_ones() {
        let mut display = Display::new(1, 5);
        display.start =
            Instant::now().checked_sub(Duration::from_secs(10)).expect("the machine has run so long");
        assert_eq!((display.left(0, 8), display.left(5, 8)), (None, None));
        let left = display.left(6, 8).expect("a step was made").as_secs_f64();
        assert!((20.0..21.0).contains(&left), "two steps of 10 s: {left}");
    }
}
