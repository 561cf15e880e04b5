//! Models by their ids on the Hub: downloaded if they are not in the cache, with a bar on a
//! terminal, else a line for each tenth.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aquatint_model::Error;
use aquatint_model::source::hub::{DownloadEvent, HubSettings, Wanted, locate_or_download};
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

/// The path that `name` means: a file, a folder, or a model's id.
///
/// # Errors
/// `Model` if it is an id of which there is no model, or if that cannot be downloaded.
pub(crate) fn located(name: &Path, wanted: Wanted) -> Result<PathBuf, Error> {
    let mut display = Display::new();
    locate_or_download(name, wanted, &HubSettings::from_env()?, &mut |event| display.update(event))
}

/// Shows how far a download is.
struct Display {
    bar: Option<ProgressBar>,
    start: Instant,
    /// Bytes that were there before, that are there now, and that will be.
    known: u64,
    done: u64,
    total: u64,
    /// Tenths of which a line was written.
    told: u64,
}

impl Display {
    fn new() -> Self {
        Self { bar: None, start: Instant::now(), known: 0, done: 0, total: 0, told: 0 }
    }

    fn update(&mut self, event: DownloadEvent<'_>) {
        match event {
            DownloadEvent::Planned { id, files, known, bytes } => {
                self.planned(id, files, known, bytes);
            }
            DownloadEvent::File { name, bytes } => match &self.bar {
                Some(bar) => bar.set_message(name.to_owned()),
                None => eprintln!("{name}, {}", HumanBytes(bytes)),
            },
            DownloadEvent::Bytes(count) => self.bytes(count),
            DownloadEvent::Again { reason } => self.line(&format!("{reason}; asking again")),
            DownloadEvent::Done => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }

    fn planned(&mut self, id: &str, files: usize, known: u64, bytes: u64) {
        (self.known, self.done, self.total, self.told) = (known, known, bytes, 10 * known / bytes.max(1));
        self.start = Instant::now();
        let there = if known > 0 { format!(", {} of it is there", HumanBytes(known)) } else { String::new() };
        let count = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        self.line(&format!("downloading {id}: {count}, {}{there}", HumanBytes(bytes)));
        if std::io::stderr().is_terminal() {
            let template = "{bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left, {wide_msg}";
            let style = ProgressStyle::with_template(template).expect("the template is valid");
            let bar = ProgressBar::new(bytes).with_style(style).with_position(known);
            bar.reset_eta(); // what was there took no time
            self.bar = Some(bar);
        }
    }

    fn bytes(&mut self, count: i64) {
        self.done = self.done.saturating_add_signed(count);
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            return;
        }
        let tenths = 10 * self.done / self.total.max(1);
        if tenths > self.told && self.total > SMALL {
            self.told = tenths;
            eprintln!("{tenths}0 %, {} left", HumanDuration(self.left()));
        }
    }

    /// About how long the rest takes.
    fn left(&self) -> Duration {
        let made = self.done.saturating_sub(self.known).max(1) as f64;
        let rest = self.total.saturating_sub(self.done) as f64;
        Duration::from_secs(self.start.elapsed().mul_f64(rest / made).as_secs())
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }
}

/// Bytes that come at once.
const SMALL: u64 = 10_000_000;
