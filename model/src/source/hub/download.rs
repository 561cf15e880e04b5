//! From the Hub into the cache: what is needed of a repository, each file whole and verified.
//!
//! ```text
//! list → model_index.json → is it a model that can be loaded? → plan → lengths and hashes
//! for each file:   HASH.incomplete: append what is missing
//!                  the connection broke → ask for the rest
//!                  length, SHA-256      → HASH, and its link in the snapshot
//! at last:         refs/main
//! ```
//!
//! An interrupted download goes on where it was, in this process or a later one. A branch's name
//! leads to the new commit only when all of it is there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::cache::{Blob, Repository};
use super::client::{Client, Failure, FileInfo, Listing};
use super::plan::{INDEX, Plan};
use super::{HubId, HubSettings, Wanted, absent, id_of};
use crate::error::{Error, Result};
use crate::source::folder::shards;
use crate::source::model::{check_classes, read_index};

/// How often a request is repeated while nothing comes.
const ATTEMPTS: u32 = 6;
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// What happens in a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownloadEvent<'a> {
    /// It begins, or is found to need further files.
    Planned {
        /// The id on the Hub.
        id: &'a str,
        /// Files of which some or all is missing.
        files: usize,
        /// Bytes of them that are there from an earlier run.
        known: u64,
        /// Bytes of them in all.
        bytes: u64,
    },
    /// This file is next.
    File {
        /// Its name in the repository.
        name: &'a str,
        /// Its length.
        bytes: u64,
    },
    /// So many bytes more are there; fewer, if some were of no use.
    Bytes(i64),
    /// A request failed and is repeated.
    Again {
        /// Why it failed.
        reason: &'a str,
    },
    /// All is there.
    Done,
}

/// The path that `name` means: a file or folder of this name, else the model of this id in the
/// cache; what of it is not there is downloaded first.
///
/// # Errors
/// If `name` is an id and there is no such model, or if the server cannot be reached or sends
/// something else than it says.
pub fn locate_or_download(
    name: &Path,
    wanted: Wanted,
    settings: &HubSettings,
    on_event: &mut dyn FnMut(DownloadEvent<'_>),
) -> Result<PathBuf> {
    let Some(id) = id_of(name) else { return Ok(name.to_owned()) };
    if let Some(cached) = id.cached(wanted, settings) {
        return Ok(cached);
    }
    if settings.offline {
        return Err(absent(&id, settings, "it is not downloaded, because HF_HUB_OFFLINE is set"));
    }
    let mut run = Run {
        repository: Repository::of(&id, &settings.cache),
        client: Client::new(settings),
        id,
        settings,
        on_event,
    };
    run.all(wanted)
}

/// A download.
struct Run<'a> {
    id: HubId,
    settings: &'a HubSettings,
    repository: Repository,
    client: Client<'a>,
    on_event: &'a mut dyn FnMut(DownloadEvent<'_>),
}

impl Run<'_> {
    fn all(&mut self, wanted: Wanted) -> Result<PathBuf> {
        let listing = self.patiently(|client, id| client.list(id))?;
        let snapshot = self.repository.snapshot_of(&listing.commit);
        let path = match self.id.file.clone() {
            Some(file) => {
                if !listing.names.contains(&file) {
                    return Err(self.no_model(&listing, format_args!("it has no file `{file}`")));
                }
                self.files(&listing, std::slice::from_ref(&file))?;
                snapshot.join(file)
            }
            None => {
                let plan = self.plan(&listing, wanted)?;
                self.files(&listing, &plan.indices)?;
                let mut names = plan.files;
                for index in &plan.indices {
                    names.extend(shard_names(&snapshot, index)?);
                }
                self.files(&listing, &names)?;
                snapshot
            }
        };
        self.repository.set_ref(&self.id.revision, &listing.commit)?;
        (self.on_event)(DownloadEvent::Done);
        Ok(path)
    }

    fn plan(&mut self, listing: &Listing, wanted: Wanted) -> Result<Plan> {
        if let Wanted::Component(component) = wanted {
            return Plan::of_component(component, &listing.names)
                .ok_or_else(|| self.no_model(listing, format_args!("it holds no {}", component.title)));
        }
        if !listing.names.iter().any(|name| name == INDEX) {
            return Err(self.no_model(listing, format_args!("it is no model folder: it has no `{INDEX}`")));
        }
        self.files(listing, &[INDEX.to_owned()])?;
        let (path, index) = read_index(&self.repository.snapshot_of(&listing.commit))?;
        check_classes(&path, &index)?; // before gigabytes of something else come
        Ok(Plan::of_model(&index, &listing.names, wanted == Wanted::Model))
    }

    fn no_model(&self, listing: &Listing, found: std::fmt::Arguments<'_>) -> Error {
        let id = &self.id.repository;
        let weights =
            listing.names.iter().filter(|name| crate::source::files::has_weights_ending(name.as_ref()));
        let names: Vec<String> = weights.take(6).map(|name| format!("`{id}:{name}`")).collect();
        let advice = match names.is_empty() {
            true => "it holds no weights at all".to_owned(),
            false => format!("expected one of its files, as in {}", names.join(", ")),
        };
        Error::model(format_args!("`{id}` on {}: {found}; {advice}", self.settings.endpoint))
    }

    /// Brings files into the cache, and into the snapshot.
    fn files(&mut self, listing: &Listing, names: &[String]) -> Result<()> {
        let mut missing = Vec::new();
        for name in names {
            if !self.repository.snapshot_of(&listing.commit).join(name).exists() {
                missing.push(self.patiently(|client, id| client.info(id, &listing.commit, name))?);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let blob = |file: &FileInfo| self.repository.blob(&self.id, &self.settings.cache, &file.hash);
        let known = missing.iter().map(|file| blob(file).known().min(file.size)).sum();
        let (id, bytes) = (self.id.to_string(), missing.iter().map(|file| file.size).sum());
        (self.on_event)(DownloadEvent::Planned { id: &id, files: missing.len(), known, bytes });
        for file in &missing {
            (self.on_event)(DownloadEvent::File { name: &file.name, bytes: file.size });
            let blob = self.repository.blob(&self.id, &self.settings.cache, &file.hash);
            let _locked = blob.lock()?;
            if !blob.path.exists() {
                self.fetch(&listing.commit, file, &blob)?;
            }
            self.repository.link(&listing.commit, &file.name, &blob)?;
        }
        Ok(())
    }

    /// Fetches what is missing of a content, verifies it and gives it its name.
    fn fetch(&mut self, commit: &str, file: &FileInfo, blob: &Blob) -> Result<()> {
        let writing = || Error::writing(&blob.incomplete);
        let mut target = Target::open(blob, file).map_err(writing())?;
        let (mut failed, mut anew) = (0, false);
        loop {
            let before = target.length;
            match self.append(commit, file, &mut target)? {
                Ok(()) => {}
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(reason, wait)) => {
                    failed = if target.length > before { 0 } else { failed + 1 };
                    self.wait(failed, &reason, wait)?;
                    continue;
                }
            }
            let wrong = match target.wrong(file) {
                None => break,
                Some(wrong) => wrong,
            };
            // What an earlier run left may be damaged; what has come anew may not.
            self.shrink(&mut target, 0).map_err(writing())?;
            if std::mem::replace(&mut anew, true) {
                return Err(Error::model(format_args!(
                    "`{}` of `{}`: {wrong}",
                    file.name, self.id.repository
                )));
            }
            (self.on_event)(DownloadEvent::Again { reason: &wrong });
        }
        let named = target.file.sync_all().and_then(|()| fs::rename(&blob.incomplete, &blob.path));
        named.map_err(Error::writing(&blob.path))
    }

    /// Appends what the server sends, until all is there.
    ///
    /// # Errors
    /// Outside, if it cannot be written; inside, if the rest is to be asked for again.
    fn append(
        &mut self,
        commit: &str,
        file: &FileInfo,
        target: &mut Target,
    ) -> Result<std::result::Result<(), Failure>> {
        if target.length == file.size {
            return Ok(Ok(()));
        }
        let mut download = match self.client.file(&self.id, commit, &file.name, target.length) {
            Err(failure) => return Ok(Err(failure)),
            Ok(download) => download,
        };
        let path = self.repository.blob(&self.id, &self.settings.cache, &file.hash).incomplete;
        if download.start < target.length {
            self.shrink(target, download.start).map_err(Error::writing(&path))?;
        }
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match download.bytes.read(&mut buffer) {
                Err(error) => return Ok(Err(Failure::Passing(error.to_string(), None))),
                Ok(count) => count,
            };
            if target.length + count as u64 > file.size {
                return Ok(Err(Failure::Final(Error::model(format_args!(
                    "`{}` of `{}`: the server sends more than the {} bytes that it promised",
                    file.name, self.id.repository, file.size
                )))));
            }
            if count == 0 {
                let short = target.length < file.size;
                let reason =
                    || format!("the connection ended after {} of {} bytes", target.length, file.size);
                return Ok(if short { Err(Failure::Passing(reason(), None)) } else { Ok(()) });
            }
            target.write(&buffer[..count]).map_err(Error::writing(&path))?;
            (self.on_event)(DownloadEvent::Bytes(count as i64));
        }
    }

    fn shrink(&mut self, target: &mut Target, length: u64) -> std::io::Result<()> {
        (self.on_event)(DownloadEvent::Bytes(length as i64 - target.length as i64));
        target.shrink(length)
    }

    /// Asks until there is an answer.
    fn patiently<T>(
        &mut self,
        ask: impl Fn(&Client<'_>, &HubId) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let mut failed = 0;
        loop {
            match ask(&self.client, &self.id) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(reason, wait)) => {
                    failed += 1;
                    self.wait(failed, &reason, wait)?;
                }
            }
        }
    }

    /// Waits before a request is repeated.
    ///
    /// # Errors
    /// If it was repeated often enough.
    fn wait(&mut self, failed: u32, reason: &str, asked: Option<Duration>) -> Result<()> {
        if failed >= ATTEMPTS {
            let advice = format!("it cannot be downloaded: {reason}; run this again to go on where it was");
            return Err(absent(&self.id, self.settings, advice));
        }
        (self.on_event)(DownloadEvent::Again { reason });
        let own = self.settings.pause * 2u32.pow(failed.saturating_sub(1));
        std::thread::sleep(asked.unwrap_or(own).min(LONGEST_WAIT));
        Ok(())
    }
}

/// The names in the repository of the shards that an index lists.
fn shard_names(snapshot: &Path, index: &str) -> Result<Vec<String>> {
    let path = snapshot.join(index);
    let folder = path.parent().unwrap_or(snapshot);
    let name = |path: PathBuf| {
        path.strip_prefix(snapshot).ok().map(|name| name.to_string_lossy().replace('\\', "/"))
    };
    Ok(shards(folder, &path)?.into_iter().filter_map(name).collect())
}

/// The file that grows, and the hash of what it holds.
struct Target {
    file: File,
    path: PathBuf,
    length: u64,
    hash: Sha256,
}

impl Target {
    fn open(blob: &Blob, file: &FileInfo) -> std::io::Result<Self> {
        let path = blob.incomplete.clone();
        let mut target = Self {
            file: File::options().create(true).append(true).open(&path)?,
            path,
            length: 0,
            hash: Sha256::new(),
        };
        let known = target.file.metadata()?.len();
        target.shrink(if known > file.size { 0 } else { known })?;
        Ok(target)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Keeps the first `length` bytes.
    fn shrink(&mut self, length: u64) -> std::io::Result<()> {
        self.file.set_len(length)?;
        self.hash = Sha256::new();
        std::io::copy(&mut File::open(&self.path)?, &mut self.hash)?;
        self.length = length;
        Ok(())
    }

    /// What is wrong with the content, if it is not the one that was promised.
    fn wrong(&self, file: &FileInfo) -> Option<String> {
        let found = format!("{:x}", self.hash.clone().finalize());
        let expected = file.sha256().filter(|expected| !expected.eq_ignore_ascii_case(&found))?;
        Some(format!("its SHA-256 is {found}; expected {expected}"))
    }
}
