//! `aquatint serve`: a page to draw on, and interfaces for other programs.
//!
//! ```text
//! request → security → route ──submit──→ queue ←─take── worker ──→ files, journal
//!                        ↑                 └── events ──→ listeners        │
//!                        └───────────── what has become of it ←───────────┘
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `router`, `security` | all routes and what is around them; who may ask |
//! | `api/`, `a1111/`, `openai/` | our own routes, and those of other programs |
//! | `page`, `openapi` | the page, the description of the routes |
//! | `wait`, `extract`, `error`, `forms` | what routes have in common |
//! | `accept`, `fields` | a request becomes a job; which fields it may have |
//! | `queue`, `events`, `journal`, `job` | jobs in memory, for listeners, on disk |
//! | `worker`, `callbacks`, `outcome`, `preview`, `speed` | drawing, and what is reported meanwhile |
//! | `model` | which model is loaded, which there are |
//!
//! Routes run on tokio's threads and never compute; one thread draws, on all cores.

#![allow(unused_qualifications, reason = "utoipa's macros write whole paths")]

mod a1111;
mod accept;
mod api;
mod callbacks;
mod error;
mod events;
mod extract;
mod fields;
mod forms;
mod job;
mod journal;
mod metrics;
mod model;
mod openai;
mod openapi;
mod outcome;
mod page;
mod preview;
mod queue;
mod router;
mod security;
mod server;
mod speed;
#[cfg(test)]
mod tests;
mod wait;
mod worker;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aquatint_model::Error;
use clap::Args;
use tokio::net::TcpListener;

use crate::flags::model::ModelChoice;
use crate::flags::precision::Precision;
use crate::platform::signals;
use crate::run::model::{computing, machine};
use job::Job;
use journal::Journal;
use model::Models;
use queue::Queue;
use security::Access;
use server::Server;

/// The environment variable for the API key, which a command line would show to everybody on the
/// machine.
const KEY: &str = "AQUATINT_API_KEY";

/// Threads for the routes, which do little.
const ROUTE_THREADS: usize = 2;

/// Threads for what waits for a disk or decodes a picture, of which each may take 0.8 GB.
const BLOCKING_THREADS: usize = 4;

/// How long open connections are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    model: ModelChoice,

    /// Address to listen on. Other machines reach the server only at another one than this, and
    /// then there must be an API key.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,

    /// Port to listen on; 0 for any that is free.
    #[arg(long, default_value_t = 7860)]
    port: u16,

    /// Key that requests must bring (Authorization: Bearer KEY). The environment variable
    /// AQUATINT_API_KEY says it as well, and shows it to no other user.
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,

    /// Name under which the server is reached, beside addresses and localhost. May be given several
    /// times.
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,

    /// Site whose pages may use this server, as in https://example.org. May be given several times.
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,

    /// Folder for pictures and for the journal of jobs.
    #[arg(long, value_name = "FOLDER", default_value = "aquatint-server")]
    output_dir: PathBuf,

    /// Jobs that may wait; further ones are refused until there is room.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    max_queue: u32,

    /// The largest picture that is made, in pixels.
    #[arg(long, value_name = "N", default_value_t = 2048 * 2048)]
    max_pixels: usize,

    /// Threads to compute with [default: one for each core].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Number format of the large products [default: auto].
    #[arg(long, value_enum)]
    precision: Option<Precision>,
}

/// Serves until it is interrupted.
pub(crate) fn run(args: &Serve) -> Result<(), Error> {
    let key = args.api_key.clone().or_else(|| std::env::var(KEY).ok()).filter(|key| !key.is_empty());
    if !args.host.is_loopback() && key.is_none() {
        return Err(Error::request(format_args!(
            "{} is reached by other machines, and there is no API key: everybody there could use this one; \
             give --api-key KEY or the environment variable {KEY}, or listen on 127.0.0.1",
            args.host
        )));
    }
    let isa = machine(args.threads.map(usize::from))?;
    signals::listen(true)?;
    fs::create_dir_all(&args.output_dir).map_err(Error::writing(&args.output_dir))?;
    let journal = Journal::open(&args.output_dir.join("journal.redb"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(ROUTE_THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(Error::run)?;
    // The address is taken before the model is loaded: a second server ends at once.
    let address = SocketAddr::new(args.host, args.port);
    let listener = runtime.block_on(TcpListener::bind(address)).map_err(|error| {
        Error::run(format_args!("cannot listen on {address}: {error}; --port names another port"))
    })?;
    let address = listener.local_addr().map_err(Error::run)?;
    let precision = args.precision.unwrap_or(Precision::Auto).on(isa);
    let models = Models::load(args.model.spec()?, args.model.library()?, isa, precision)?;
    eprintln!("{}", computing(isa, precision));
    // A run that was broken off is gone on with, alone.
    let broken_off = |id| server::run_checkpoint(&args.output_dir, id).exists();
    let likeness =
        |job: &Job| accept::stored_likeness(&models.current(), job).filter(|_| !broken_off(job.id));
    let queue = Queue::new(journal, args.max_queue as usize, likeness)?;
    match queue.waiting() {
        0 => {}
        waiting => eprintln!("{waiting} jobs of the last time are still to be made"),
    }
    let access = Access { hosts: args.allow_host.clone(), origins: args.cors.clone(), key };
    let folder = args.output_dir.clone();
    let server = Arc::new(Server::new(models, queue, Arc::new(access), folder, args.max_pixels));
    let worker = {
        let server = Arc::clone(&server);
        thread::Builder::new()
            .name("worker".into())
            .spawn(move || worker::run(&server))
            .map_err(Error::run)?
    };
    println!("http://{address}/");
    runtime.block_on(serve(listener, Arc::clone(&server)))?;
    runtime.shutdown_timeout(PATIENCE);
    worker.join().map_err(|_| Error::run("the worker failed where it should not"))
}

/// Answers until the server is asked to end; then waits for the answers that are on their way.
async fn serve(listener: TcpListener, server: Arc<Server>) -> Result<(), Error> {
    let app = router::router(Arc::clone(&server));
    let asked = async || {
        while !signals::requested() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ending = async move {
        asked().await;
        server.end();
        server.queue.close();
    };
    let patience = async {
        asked().await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        served = axum::serve(listener, app).with_graceful_shutdown(ending) => served.map_err(Error::run),
        () = patience => Ok(()), // connections that are kept open without a request
    }
}
