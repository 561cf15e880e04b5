//! The routes in process, with the embedded model at a small size.

mod a1111;
mod jobs;
mod models;
mod openai;
mod page;
mod security;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aquatint_kernels::Isa;
use aquatint_model::source::library::Library;
use aquatint_model::{EMBEDDED, ModelSpec, Precisions};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::job::Job;
use super::journal::Journal;
use super::model::Models;
use super::queue::Queue;
use super::security::Access;
use super::server::Server;
use super::{accept, router, worker};

/// A server and its worker.
struct Running {
    folder: Option<TempDir>,
    server: Arc<Server>,
    router: Router,
    worker: Option<JoinHandle<()>>,
}

/// An answer.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }
}

/// How a server is started.
struct Options {
    access: Access,
    max_queue: usize,
    /// Whether something draws.
    works: bool,
    /// Folders with further models.
    models: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let access = Access { hosts: Vec::new(), origins: Vec::new(), key: None };
        Self { access, max_queue: 100, works: true, models: Vec::new() }
    }
}

impl Running {
    fn start() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        Self::in_folder(tempfile::tempdir().expect("a temporary folder"), options)
    }

    /// A server on what another one has left in a folder.
    fn in_folder(folder: TempDir, options: Options) -> Self {
        let works = options.works;
        let server = Arc::new(server(folder.path(), options));
        let router = router::router(Arc::clone(&server));
        let worker = works.then(|| {
            let server = Arc::clone(&server);
            thread::spawn(move || worker::run(&server))
        });
        Self { folder: Some(folder), server, router, worker }
    }

    /// Ends it as SIGTERM does; returns what it leaves.
    fn end(mut self) -> TempDir {
        self.server.end();
        self.server.queue.close();
        if let Some(worker) = self.worker.take() {
            worker.join().expect("the worker ends");
        }
        self.folder.take().expect("it is there until now")
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("routes do not fail");
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await.expect("a body").to_bytes().to_vec();
        Answer { status, headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path).body(Body::empty()).expect("a request")).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(request("DELETE", path).body(Body::empty()).expect("a request")).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = request("POST", path).header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_string())).expect("a request")).await
    }

    /// Queues a job, and waits until it is finished.
    async fn job(&self, kind: &str, request: Value) -> Value {
        let answer = self.post("/api/jobs", &json!({ "kind": kind, "request": request })).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.json());
        self.finished(answer.json()["id"].as_u64().expect("a number")).await
    }

    /// A job when it is finished.
    async fn finished(&self, id: u64) -> Value {
        loop {
            let job = self.get(&format!("/api/jobs/{id}")).await.json();
            if !["queued", "running"].contains(&job["state"].as_str().expect("a state")) {
                return job;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.end();
        self.server.queue.close();
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "127.0.0.1:7860")
}

fn server(folder: &Path, Options { access, max_queue, models, .. }: Options) -> Server {
    let spec = ModelSpec::from(EMBEDDED);
    let library = Library::new(models).expect("folders");
    let models = Models::load(spec, library, Isa::best(), Precisions::default()).expect("the embedded model");
    let journal = Journal::open(&folder.join("journal.redb")).expect("a journal");
    let likeness = |job: &Job| accept::stored_likeness(&models.current(), job);
    let queue = Queue::new(journal, max_queue, likeness).expect("a readable journal");
    Server::new(models, queue, Arc::new(access), folder.to_owned(), 512 * 512)
}

/// A small, quick picture.
fn quick(more: Value) -> Value {
    let mut request = json!({ "prompt": "a fox", "seed": 7, "steps": 2, "width": 64, "height": 64 });
    let fields = request.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    request
}

/// Runs a test that waits.
fn wait(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(test);
}
