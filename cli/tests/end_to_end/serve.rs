//! The server as a process: where it listens, how it ends, what the next one finds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{aquatint, aquatint_with, refused};

/// A server that listens.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aquatint"));
        command.current_dir(folder).args(["serve", "--port", "0", "--output-dir", "output"]);
        let mut process =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line of text");
        let address =
            line.trim().strip_prefix("http://").expect("an address").trim_end_matches('/').to_owned();
        Self { process, address }
    }

    /// Status line, headers and body of an answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let (host, length) = (&self.address, body.len());
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .expect("it listens");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Ends it by a signal; returns its exit code.
    #[cfg(unix)]
    fn end(mut self, signal: i32) -> Option<i32> {
        let id = i32::try_from(self.process.id()).expect("a process id");
        // SAFETY: the call has no memory to harm; the process is our child, not waited for yet.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0);
        self.process.wait().expect("it ends").code()
    }
}

/// A server that a failed test leaves behind would listen for ever.
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn other_machines_need_a_key() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = aquatint(folder.path(), &["serve", "--host", "0.0.0.0", "--port", "0"]);
    refused(&run, 2, "there is no API key");
    let empty = [("AQUATINT_API_KEY", "")];
    refused(
        &aquatint_with(folder.path(), &["serve", "--host", "::", "--port", "0"], &empty),
        2,
        "no API key",
    );
    assert!(!folder.path().join("aquatint-server").exists());
}

#[test]
#[cfg(unix)]
fn a_server_ends_with_0_and_a_killed_one_loses_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path());
    let port = server.address.rsplit(':').next().expect("a port").to_owned();
    refused(
        &aquatint(folder.path(), &["serve", "--port", &port, "--output-dir", "other"]),
        1,
        "cannot listen on",
    );
    refused(
        &aquatint(folder.path(), &["serve", "--port", "0", "--output-dir", "output"]),
        1,
        "another server",
    );
    assert!(server.ask("GET", "/health", "").ends_with("ok\n"));
    let job = r#"{"kind": "txt2img", "request": {"prompt": "a fox", "width": 64, "height": 64, "steps": 300, "seed": 7}}"#;
    assert!(server.ask("POST", "/api/jobs", job).contains("202 Accepted"));
    assert_eq!(server.end(libc::SIGKILL), None);
    let next = Server::start(folder.path());
    let jobs = next.ask("GET", "/api/jobs", "");
    assert!(jobs.contains("\"id\":1") && jobs.contains("\"seed\":7"), "{jobs}");
    assert_eq!(next.end(libc::SIGTERM), Some(0));
}
