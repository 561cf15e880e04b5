//! Progress on stderr: a bar on a terminal, otherwise a line for each step; both with the time left.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use aquatint_model::Progress;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Shows how far a picture is.
pub(crate) struct Display {
    bar: Option<ProgressBar>,
    start: Instant,
    /// About how long a step will take, and how many pictures take it together.
    expected: Option<Duration>,
    pictures: usize,
}

/// "2 minutes".
fn rounded(time: Duration) -> HumanDuration {
    HumanDuration(Duration::from_secs(time.as_secs_f64().ceil() as u64))
}

impl Display {
    /// For a walk of so many pictures.
    pub(crate) fn new(pictures: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} step {pos}/{len}, {elapsed} so far, {msg}")
                .expect("the template is valid");
            ProgressBar::no_length().with_style(style)
        });
        Self { bar, start: Instant::now(), expected: None, pictures }
    }

    /// Takes note of an event and shows it.
    pub(crate) fn update(&mut self, event: Progress) {
        match event {
            Progress::Truncated { text, cut } => {
                crate::warn(format_args!(
                    "the {text} is too long for the model; ignored is its end: \"{cut}\""
                ));
            }
            Progress::Expected { step } => self.expected = Some(step),
            Progress::Step { done, total } => self.step(done, total),
            Progress::Decoding => match &self.bar {
                Some(bar) => bar.set_message("decoding"),
                None => eprintln!("decoding"),
            },
            _ => {}
        }
    }

    fn step(&mut self, done: usize, total: usize) {
        let left = match done {
            0 => {
                self.start = Instant::now();
                match self.expected {
                    Some(step) => {
                        let whole = u32::try_from(total * self.pictures).unwrap_or(u32::MAX);
                        format!(
                            "perhaps {} left, judged by the text encoder's speed",
                            rounded(step.saturating_mul(whole))
                        )
                    }
                    None => "estimating the time left".to_owned(),
                }
            }
            _ => {
                let left = self.start.elapsed().mul_f64((total - done) as f64 / done as f64);
                format!("{} left", rounded(left))
            }
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

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
