//! The journal: jobs, and the pictures that came with them, in an embedded database (`redb`).
//!
//! ```text
//! jobs     id            → the job as JSON
//! inputs   (id, which)   → the bytes of a picture that came with it
//! meta     "next"        → the number of the next job, so that none is used twice
//! ```
//!
//! Every change is one transaction, which is on the disk when the call returns. A job is written
//! before its acceptance is answered, and a picture's file before the job that names it, so that a
//! process that is killed at any moment loses neither. What was running is queued again by the next
//! process; pictures that were finished are not made a second time.

use std::path::Path;
use std::sync::Arc;

use aquatint_model::Error;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::serve::job::{Input, Job};

const JOBS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("jobs");
const INPUTS: TableDefinition<'_, (u64, u8), &[u8]> = TableDefinition::new("inputs");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const NEXT: &str = "next";

/// Jobs on the disk.
#[derive(Clone)]
pub(crate) struct Journal {
    database: Arc<Database>,
}

/// Pictures that came with a job.
pub(crate) type Inputs = Vec<(Input, Vec<u8>)>;

impl Journal {
    /// Opens the journal, or begins one.
    ///
    /// # Errors
    /// If the file cannot be used; another process may have it open.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let refused = |error: &dyn std::fmt::Display| {
            Error::run(format_args!(
                "the journal `{}` cannot be opened: {error}; is another server using this folder?",
                path.display()
            ))
        };
        let database = Database::create(path).map_err(|error| refused(&error))?;
        let journal = Self { database: Arc::new(database) };
        journal.write(|_| Ok(())).map_err(|error| refused(&error))?; // creates the tables
        Ok(journal)
    }

    /// Writes a job, and what came with it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn insert(&self, job: &Job, inputs: &Inputs) -> Result<(), Error> {
        self.write(|transaction| {
            let mut table = transaction.open_table(INPUTS)?;
            for (input, bytes) in inputs {
                table.insert((job.id, *input as u8), bytes.as_slice())?;
            }
            transaction.open_table(META)?.insert(NEXT, job.id + 1)?;
            put(transaction, job)
        })
    }

    /// Writes what has become of a job.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn update(&self, job: &Job) -> Result<(), Error> {
        self.write(|transaction| put(transaction, job))
    }

    /// Forgets a job and what came with it.
    ///
    /// # Errors
    /// If that cannot be written.
    pub(crate) fn remove(&self, id: u64) -> Result<(), Error> {
        self.write(|transaction| {
            transaction.open_table(JOBS)?.remove(id)?;
            let mut inputs = transaction.open_table(INPUTS)?;
            for input in Input::ALL {
                inputs.remove((id, input as u8))?;
            }
            Ok(())
        })
    }

    /// A job.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(crate) fn get(&self, id: u64) -> Result<Option<Job>, Error> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(JOBS)?;
            Ok(table.get(id)?.and_then(|bytes| serde_json::from_slice(bytes.value()).ok()))
        };
        read().map_err(failed)
    }

    /// A picture that came with a job.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(crate) fn input(&self, id: u64, input: Input) -> Result<Option<Vec<u8>>, Error> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(INPUTS)?;
            Ok(table.get((id, input as u8))?.map(|bytes| bytes.value().to_vec()))
        };
        read().map_err(failed)
    }

    /// The jobs before `before`, newest first, at most `limit`.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(crate) fn newest(&self, before: Option<u64>, limit: usize) -> Result<Vec<Job>, Error> {
        let read = || -> Result<Vec<Job>, redb::Error> {
            let table = self.database.begin_read()?.open_table(JOBS)?;
            let jobs = table.range(..before.unwrap_or(u64::MAX))?.rev();
            let jobs = jobs.filter_map(|entry| serde_json::from_slice(entry.ok()?.1.value()).ok());
            Ok(jobs.take(limit).collect())
        };
        read().map_err(failed)
    }

    /// The jobs that are still to be made, oldest first, and the number of the next job.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(crate) fn unfinished(&self) -> Result<(Vec<Job>, u64), Error> {
        let read = || -> Result<_, redb::Error> {
            let transaction = self.database.begin_read()?;
            let next = transaction.open_table(META)?.get(NEXT)?.map_or(1, |next| next.value());
            let table = transaction.open_table(JOBS)?;
            let jobs = table.iter()?.filter_map(|entry| serde_json::from_slice(entry.ok()?.1.value()).ok());
            Ok((jobs.filter(|job: &Job| !job.state.is_final()).collect(), next))
        };
        read().map_err(failed)
    }

    fn write(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), Error> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            transaction.open_table(JOBS)?;
            transaction.open_table(INPUTS)?;
            transaction.open_table(META)?;
            change(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        write().map_err(failed)
    }
}

fn put(transaction: &redb::WriteTransaction, job: &Job) -> Result<(), redb::Error> {
    let json = serde_json::to_vec(job).map_err(|error| redb::Error::Io(error.into()))?;
    transaction.open_table(JOBS)?.insert(job.id, json.as_slice())?;
    Ok(())
}

fn failed(error: redb::Error) -> Error {
    Error::run(format_args!("the journal of jobs: {error}"))
}
