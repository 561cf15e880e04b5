//! Counters, for Prometheus.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What happened since the server began.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) requests: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) done: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) images: AtomicU64,
    pub(crate) steps: AtomicU64,
    /// Microseconds in which something was drawn.
    drawing: AtomicU64,
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    pub(crate) fn drew(&self, time: Duration) {
        self.drawing.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// The text that Prometheus reads, with what is counted elsewhere.
    pub(crate) fn text(&self, uptime: Duration, waiting: usize, running: usize) -> String {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let mut text = String::new();
        let mut add = |name: &str, kind: &str, help: &str, value: f64| {
            // Writing into a text cannot fail.
            let _ = write!(
                text,
                "# HELP aquatint_{name} {help}\n# TYPE aquatint_{name} {kind}\naquatint_{name} {value}\n"
            );
        };
        let counters = [
            ("http_requests_total", "HTTP requests.", value(&self.requests)),
            ("http_refused_total", "HTTP requests that were answered with 4xx or 5xx.", value(&self.refused)),
            ("jobs_accepted_total", "Jobs that were accepted.", value(&self.accepted)),
            ("jobs_done_total", "Jobs whose pictures are all there.", value(&self.done)),
            ("jobs_failed_total", "Jobs that failed.", value(&self.failed)),
            (
                "jobs_cancelled_total",
                "Jobs that were cancelled while they were drawn.",
                value(&self.cancelled),
            ),
            ("images_total", "Pictures that were finished.", value(&self.images)),
            ("steps_total", "Evaluations of the UNet.", value(&self.steps)),
            ("drawing_seconds_total", "Seconds in which something was drawn.", value(&self.drawing) / 1e6),
        ];
        for (name, help, value) in counters {
            add(name, "counter", help, value);
        }
        add("jobs_waiting", "gauge", "Jobs that wait.", waiting as f64);
        add("jobs_running", "gauge", "Jobs that are being drawn.", running as f64);
        add("uptime_seconds", "gauge", "Seconds since the server began.", uptime.as_secs_f64());
        text
    }
}
