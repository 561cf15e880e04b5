//! What becomes of a job that is not drawn any more: to the journal, to listeners, to the counters.

use std::fs;

use aquatint_model::{Error, ErrorKind};

use crate::platform::console::warn;
use crate::serve::job::{Job, State, now};
use crate::serve::metrics::count;
use crate::serve::server::Server;

/// Settles a job. One that was interrupted because the server ends is left as it is in the journal:
/// the next process goes on with it.
pub(crate) fn settle(server: &Server, job: &mut Job, result: Result<(), Error>) {
    (job.finished, job.eta_seconds) = (Some(now()), None);
    job.state = match result {
        Ok(()) => State::Done,
        Err(error) if error.kind() == ErrorKind::Interrupted && server.is_ending() => return,
        Err(error) if error.kind() == ErrorKind::Interrupted => State::Cancelled,
        Err(error) => {
            job.error = Some(error.to_string());
            State::Failed
        }
    };
    count(match job.state {
        State::Done => &server.metrics.done,
        State::Failed => &server.metrics.failed,
        _ => &server.metrics.cancelled,
    });
    let _ = fs::remove_file(server.run_checkpoint(job.id)); // mostly there is none
    if let Err(error) = server.queue.update(job) {
        warn(format_args!("job {}: {error}", job.id));
        (job.state, job.error) = (State::Failed, Some(error.to_string()));
        server.queue.settle(job);
    }
}
