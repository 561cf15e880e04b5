//! A server on the loopback address that speaks as the Hub of Hugging Face does, and as badly as
//! wanted: it drops connections, lies about lengths and hashes, and knows no ranges.
//!
//! Large files are on a second server, to which the first one points, as on the Hub.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// The commit of the one repository, `org/tiny`.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server does wrong with files of which the name contains `file`.
#[derive(Clone, Debug, Default)]
pub struct Fault {
    /// A part of the name of the file.
    pub file: &'static str,
    /// The connection ends after this many bytes of a content.
    pub drops_after: Option<usize>,
    /// So many times; then all is well.
    pub times: usize,
    /// The length that it promises, less the true one.
    pub promises_more: i64,
    /// Sends a content whose last byte is another.
    pub damages: bool,
    /// Sends everything, whatever range is asked for.
    pub ignores_ranges: bool,
    /// Answers with this status.
    pub status: Option<&'static str>,
    /// Adds these headers.
    pub headers: &'static str,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// Whether it came to the server of large files.
    pub elsewhere: bool,
    /// What stood behind `Range:`.
    pub range: Option<String>,
    /// What stood behind `Authorization:`.
    pub authorization: Option<String>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    faults: Vec<Fault>,
    requests: Vec<Request>,
}

/// A running server; it ends when it is dropped.
pub struct HubServer {
    state: Arc<Mutex<State>>,
    ends: Arc<AtomicBool>,
    addresses: [SocketAddr; 2],
    threads: Vec<JoinHandle<()>>,
}

impl HubServer {
    /// Serves all files of a folder.
    ///
    /// # Panics
    /// If they cannot be read, or no port is free.
    pub fn of(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        read(folder, folder, &mut files);
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let ends = Arc::new(AtomicBool::new(false));
        let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
        let addresses = [0, 1].map(|i| listeners[i].local_addr().expect("it is bound"));
        let threads = listeners.into_iter().enumerate().map(|(i, listener)| {
            let (state, ends) = (Arc::clone(&state), Arc::clone(&ends));
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if ends.load(Ordering::Relaxed) {
                        return;
                    }
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
                    let _ = answer(stream, &state, i == 1, addresses[1]); // a client may hang up
                }
            })
        });
        let threads = threads.collect();
        Self { state, ends, addresses, threads }
    }

    /// What `HF_ENDPOINT` is to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addresses[0])
    }

    /// Does these things wrong from now on.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        lock(&self.state).faults = faults;
    }

    /// What was asked since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.state).requests)
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for address in self.addresses {
            let _ = TcpStream::connect(address); // so that it looks
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            read(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("it is below").to_string_lossy().replace('\\', "/");
            files.insert(name, std::fs::read(&path).expect("readable"));
        }
    }
}

/// Whether a file is one of those that the Hub keeps elsewhere and knows by their SHA-256.
fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin")
}

fn answer(
    mut stream: TcpStream,
    state: &Mutex<State>,
    elsewhere: bool,
    other: SocketAddr,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        elsewhere,
        range: None,
        authorization: None,
    };
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => {
                request.range = Some(value.to_owned());
            }
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                request.authorization = Some(value.to_owned());
            }
            Some(_) => {}
            None => break,
        }
    }
    let (body, head, cut) = response(&mut lock(state), &request, other);
    stream.write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(&body[..cut.unwrap_or(body.len()).min(body.len())])?;
    }
    Ok(())
}

/// The body, the status with the headers, and after how many bytes the connection ends.
fn response(state: &mut State, request: &Request, other: SocketAddr) -> (Vec<u8>, String, Option<usize>) {
    state.requests.push(request.clone());
    let plain = |status: &str, body: Vec<u8>| {
        let head = format!("{status}\r\nContent-Length: {}", body.len());
        (body, head, None)
    };
    let fault = state.faults.iter_mut().find(|fault| {
        let concerns = request.path.contains(fault.file) && !fault.file.is_empty();
        concerns && request.method != "HEAD" && fault.times > 0
    });
    let wrong = fault.map(|fault| {
        fault.times -= 1;
        fault.clone()
    });
    let lied = state.faults.iter().find(|fault| request.path.contains(fault.file) && !fault.file.is_empty());
    let lie = lied.map_or(0, |fault| fault.promises_more);
    let wrong = wrong.unwrap_or_default();
    if let Some(status) = wrong.status {
        return (Vec::new(), format!("{status}\r\nContent-Length: 0\r\n{}", wrong.headers), None);
    }
    if request.path.starts_with("/api/models/org/tiny/revision/main") {
        let siblings: Vec<_> =
            state.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        let list = serde_json::json!({ "sha": COMMIT, "siblings": siblings });
        return plain("200 OK", list.to_string().into_bytes());
    }
    let resolved = request.path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/"));
    let name = resolved.or_else(|| request.path.strip_prefix("/large/")).unwrap_or_default().to_owned();
    let Some(content) = state.files.get(&name) else {
        let code = if resolved.is_some() { "EntryNotFound" } else { "RepoNotFound" };
        return plain(&format!("404 Not Found\r\nX-Error-Code: {code}"), Vec::new());
    };
    let promised = content.len().saturating_add_signed(lie as isize);
    if is_large(&name) && !request.elsewhere {
        let hash = Sha256::digest(content);
        let head = format!(
            "302 Found\r\nContent-Length: 0\r\nX-Linked-Etag: \"{hash:x}\"\r\nX-Linked-Size: {promised}\r\nETag: \"of-the-answer\"\r\n\
             Location: http://{other}/large/{name}"
        );
        return (Vec::new(), head, None);
    }
    let mut content = content.clone();
    if let Some(last) = content.last_mut().filter(|_| wrong.damages) {
        *last ^= 1;
    }
    let hash = format!("{:x}", Sha256::digest(&content))[..40].to_owned();
    let from = request
        .range
        .as_ref()
        .filter(|_| !wrong.ignores_ranges)
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let status = match from {
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
            content.drain(..from);
            format!("206 Partial Content\r\nContent-Range: {range}")
        }
        None => "200 OK".to_owned(),
    };
    let length = content.len().saturating_add_signed(lie as isize);
    (content, format!("{status}\r\nETag: \"{hash}\"\r\nContent-Length: {length}"), wrong.drops_after)
}
