//! LMDB without an index around it: what the benchmarks compare with. It keeps no data that anyone needs.

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, Result, WithoutTls};

use super::MAP_SIZE;
use super::lmdb::open_environment;

/// An environment with one table, with the same safety as the index: every commit is synced.
pub struct Bare {
    env: Env<WithoutTls>,
    table: Database<'static, Bytes, Bytes>,
}

impl Bare {
    /// Opens or makes it in a directory that exists.
    pub fn open(dir: &Path) -> Result<Self> {
        let (env, _) = open_environment(dir, MAP_SIZE)?;
        let created = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
            let table = opener.create_database::<Bytes, Bytes>(txn, Some("bare"))?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(table))
        })?;
        let table = created.unwrap_commit();
        Ok(Self { env, table })
    }

    /// Inserts a batch in the order given, in one transaction.
    pub fn insert<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, batch: impl Iterator<Item = (K, V)>) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for (key, value) in batch {
            self.table.put(&mut txn, key.as_ref(), value.as_ref())?;
        }
        txn.commit()
    }

    /// How many of these keys are there, looked up in one transaction; `read` gets each value.
    pub fn look_up<K: AsRef<[u8]>>(&self, keys: impl Iterator<Item = K>, mut read: impl FnMut(&[u8])) -> Result<u64> {
        let txn = self.env.read_txn()?;
        let mut found = 0;
        for key in keys {
            if let Some(value) = self.table.get(&txn, key.as_ref())? {
                read(value);
                found += 1;
            }
        }
        Ok(found)
    }

    /// Size of the file in bytes.
    pub fn file_bytes(&self) -> Result<u64> {
        self.env.real_disk_size()
    }
}
