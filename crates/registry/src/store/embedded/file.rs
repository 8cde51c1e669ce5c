//! The file of the embedded engine: tables, format, and what damage looks like.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
};

use super::super::{Entry, Identity, Key, Snapshot, StoreError, Write};
use super::{io_error, shown};

/// Path to header and value: revision and time of the write, 8 bytes each, little-endian, then the value.
const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
/// `format`, `base`, `revision`.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// `epoch`.
const TEXTS: TableDefinition<'_, &str, &str> = TableDefinition::new("texts");
/// The layout described here.
const FORMAT: u64 = 1;
const HEADER_BYTES: usize = 16;
/// The database keeps at most this much of the file in memory.
const CACHE_BYTES: usize = 16 << 20;

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    /// `None` after a failure: the database refuses everything until it is opened again.
    database: Option<Database>,
}

/// What the file says of itself.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) identity: Identity,
    pub(super) revision: u64,
}

impl File {
    /// Opens the file, or makes it with `identity`.
    pub(super) fn open(path: &Path, identity: Identity) -> Result<(File, Head), StoreError> {
        let database = open_database(path)?;
        let head = undamaged(path, || read_or_make_head(path, &database, identity))?;
        Ok((File { path: path.to_owned(), database: Some(database) }, head))
    }

    /// Opens the file again after a failure. The revision that is really there, when that was needed.
    pub(super) fn reopen_if_failed(&mut self) -> Result<Option<u64>, StoreError> {
        if self.database.is_some() {
            return Ok(None);
        }
        let database = open_database(&self.path)?;
        let head = undamaged(&self.path, || read_or_make_head(&self.path, &database, Identity::new(0, 0)))?;
        self.database = Some(database);
        Ok(Some(head.revision))
    }

    /// Everything in the file.
    pub(super) fn load(&self) -> Result<Snapshot, StoreError> {
        let database = self.database.as_ref().ok_or(StoreError::Closed)?;
        undamaged(&self.path, || read_all(database).map_err(|error| self.failed("read", error)))
    }

    /// Runs `apply` in one durable write. When it fails the file must be opened again.
    pub(super) fn write<T>(
        &mut self,
        apply: impl FnOnce(&mut Tables<'_, '_>) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let database = self.database.take().ok_or(StoreError::Closed)?;
        let written = undamaged(&self.path, || write(&database, apply).map_err(|error| self.failed("write", error)))?;
        self.database = Some(database);
        Ok(written)
    }

    fn failed(&self, verb: &str, error: redb::Error) -> StoreError {
        io_error(format!("{verb} store at `{}`", shown(&self.path)), error)
    }
}

/// The tables within one write.
pub(super) struct Tables<'txn, 'a> {
    entries: redb::Table<'txn, &'static str, &'static [u8]>,
    numbers: &'a mut redb::Table<'txn, &'static str, u64>,
}

impl Tables<'_, '_> {
    /// The revision and value of a key, handed to `look`.
    pub(super) fn look<T>(&self, key: &Key, look: impl FnOnce(Option<(u64, &[u8])>) -> T) -> Result<T, redb::Error> {
        let found = self.entries.get(key.to_string().as_str())?;
        Ok(look(found.as_ref().and_then(|guard| split(guard.value())).map(|(revision, _, value)| (revision, value))))
    }

    /// Applies one write of the commit at `revision`.
    pub(super) fn apply(&mut self, write: &Write, revision: u64, at_ms: u64) -> Result<(), redb::Error> {
        match write {
            Write::Put(key, value) => {
                let mut bytes = Vec::with_capacity(HEADER_BYTES + value.len());
                bytes.extend_from_slice(&revision.to_le_bytes());
                bytes.extend_from_slice(&at_ms.to_le_bytes());
                bytes.extend_from_slice(value);
                self.entries.insert(key.to_string().as_str(), bytes.as_slice())?;
            }
            Write::Delete(key) => {
                self.entries.remove(key.to_string().as_str())?;
            }
        }
        Ok(())
    }

    /// Notes the newest revision.
    pub(super) fn note_revision(&mut self, revision: u64) -> Result<(), redb::Error> {
        self.numbers.insert("revision", revision)?;
        Ok(())
    }
}

fn open_database(path: &Path) -> Result<Database, StoreError> {
    let opened = undamaged(path, || Ok(Database::builder().set_cache_size(CACHE_BYTES).create(path)))?;
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Locked(shown(path)),
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() != std::io::ErrorKind::InvalidData => {
            io_error(format!("open store at `{}`", shown(path)), source)
        }
        other => StoreError::Corrupt { path: shown(path), source: Arc::new(other) },
    })
}

/// Runs `read`; a damaged file must not bring the program down, and redb asserts what it believes of its pages.
fn undamaged<T>(path: &Path, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        let source = Arc::new(std::io::Error::other("the file contradicts itself"));
        Err(StoreError::Corrupt { path: shown(path), source })
    })
}

fn read_or_make_head(path: &Path, database: &Database, identity: Identity) -> Result<Head, StoreError> {
    let head = read_head(database).map_err(|error| corrupt(path, error))?;
    match head {
        Some((FORMAT, head)) => Ok(head),
        Some((found, _)) => Err(StoreError::Format { path: shown(path), found, known: FORMAT }),
        None => {
            make_head(database, &identity)
                .map_err(|error| io_error(format!("make store at `{}`", shown(path)), error))?;
            Ok(Head { identity, revision: 0 })
        }
    }
}

fn corrupt(path: &Path, error: redb::Error) -> StoreError {
    StoreError::Corrupt { path: shown(path), source: Arc::new(error) }
}

/// The format and the head; `None` when the file is new.
fn read_head(database: &Database) -> Result<Option<(u64, Head)>, redb::Error> {
    let reading = database.begin_read()?;
    let numbers = match reading.open_table(NUMBERS) {
        Ok(numbers) => numbers,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let texts = reading.open_table(TEXTS)?;
    let number = |name| Ok::<_, redb::Error>(numbers.get(name)?.map(|guard| guard.value()));
    let missing = || redb::Error::Corrupted("its head is incomplete".to_owned());
    let epoch = texts.get("epoch")?.map(|guard| guard.value().to_owned()).ok_or_else(missing)?;
    let head = Head {
        identity: Identity { epoch, base: number("base")?.ok_or_else(missing)? },
        revision: number("revision")?.ok_or_else(missing)?,
    };
    Ok(Some((number("format")?.ok_or_else(missing)?, head)))
}

fn make_head(database: &Database, identity: &Identity) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    {
        let mut numbers = writing.open_table(NUMBERS)?;
        numbers.insert("format", FORMAT)?;
        numbers.insert("base", identity.base)?;
        numbers.insert("revision", 0)?;
        writing.open_table(TEXTS)?.insert("epoch", identity.epoch.as_str())?;
        writing.open_table(ENTRIES)?;
    }
    writing.commit()?;
    Ok(())
}

fn read_all(database: &Database) -> Result<Snapshot, redb::Error> {
    let reading = database.begin_read()?;
    let revision = reading.open_table(NUMBERS)?.get("revision")?.map_or(0, |guard| guard.value());
    let mut entries = Vec::new();
    for item in reading.open_table(ENTRIES)?.iter()? {
        let (path, bytes) = item?;
        if let Some((revision, at_ms, value)) = split(bytes.value()) {
            let key = Key::parse(path.value());
            entries.push(Entry { key, value: Bytes::copy_from_slice(value), revision, at_ms });
        }
    }
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Snapshot { revision, entries })
}

fn write<T>(
    database: &Database,
    apply: impl FnOnce(&mut Tables<'_, '_>) -> Result<T, redb::Error>,
) -> Result<T, redb::Error> {
    let mut writing = database.begin_write()?;
    writing.set_durability(Durability::Immediate)?;
    let result = {
        let mut numbers = writing.open_table(NUMBERS)?;
        apply(&mut Tables { entries: writing.open_table(ENTRIES)?, numbers: &mut numbers })?
    };
    writing.commit()?;
    Ok(result)
}

/// Revision, time and value of a stored entry.
fn split(bytes: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (header, value) = bytes.split_at_checked(HEADER_BYTES)?;
    let (revision, at_ms) = header.split_at(8);
    Some((u64::from_le_bytes(revision.try_into().ok()?), u64::from_le_bytes(at_ms.try_into().ok()?), value))
}
