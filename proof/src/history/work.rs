//! The writes of a task.

use std::time::Duration;

use super::event::{Call, Op};
use super::table::Entry;
use super::worker::{Hand, Wrote};

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Hand {
    /// One operation.
    pub(super) async fn step(&mut self) -> Result<(), Failure> {
        match self.rng.below(100) {
            0..20 => {
                let key = self.key(2);
                self.desk.get(self.task, Call::Get, key).await.map(drop)
            }
            20..28 => {
                let keys = self.keys(6, 2);
                self.desk.get_many(self.task, Call::GetMany, &keys).await.map(drop)
            }
            28..56 => self.write(Call::Update).await,
            56..64 => self.write(Call::Upsert).await,
            64..70 => self.write(Call::Create).await,
            70..74 => self.write(Call::Delete).await,
            74..82 => self.write_many(Call::UpdateMany).await,
            82..87 => self.write_many(Call::UpsertMany).await,
            87..97 => self.transaction().await,
            _ => self.write_many(Call::DeleteMany).await,
        }
    }

    async fn write(&mut self, call: Call) -> Result<(), Failure> {
        let (key, op, store) = (self.key(0), self.desk.new_op(self.task), self.desk.store.clone());
        let row = Entry::new(key, op);
        let write = async move {
            match call {
                Call::Create => store.create(row).await.map(Wrote::from),
                Call::Upsert => store.upsert(row).await.map(Wrote::from),
                Call::Delete => {
                    let deleted = u64::from(store.delete(&key).await?);
                    Ok(Wrote { versions: Vec::new(), deleted })
                }
                _ => store.update(&key, row).await.map(Wrote::from),
            }
        };
        self.finish(op, call, vec![key], write).await
    }

    async fn write_many(&mut self, call: Call) -> Result<(), Failure> {
        let (keys, op, store) = (self.keys(4, 0), self.desk.new_op(self.task), self.desk.store.clone());
        let ids = keys.clone();
        let write = async move {
            let rows = ids.iter().map(|id| Entry::new(*id, op));
            match call {
                Call::DeleteMany => {
                    let deleted = store.delete_many(&ids).await?;
                    Ok(Wrote { versions: Vec::new(), deleted })
                }
                Call::UpsertMany => store.upsert_many(rows.collect()).await.map(Wrote::from),
                _ => store.update_many(rows.map(|row| (row.id, row)).collect()).await.map(Wrote::from),
            }
        };
        self.finish(op, call, keys, write).await
    }

    /// Runs a write between two lines of the log; some are dropped half way. Afterwards some rows are read at once.
    async fn finish(
        &mut self,
        op: Op,
        call: Call,
        keys: Vec<i64>,
        write: impl Future<Output = storehaus::Result<Wrote>>,
    ) -> Result<(), Failure> {
        let deletes = matches!(call, Call::Delete | Call::DeleteMany);
        let (writes, deletes) = if deletes { (Vec::new(), keys.clone()) } else { (keys.clone(), Vec::new()) };
        self.desk.begin(op, call, writes, deletes)?;
        let ended = match self.rng.below(32) {
            0 => tokio::time::timeout(Duration::from_micros(self.rng.below(5_000)), write).await.ok(),
            _ => Some(write.await),
        };
        self.desk.ended(op, ended)?;
        if self.rng.below(3) == 0 {
            let key = keys[self.rng.below(keys.len() as u64) as usize];
            self.desk.get(self.task, Call::Get, key).await?;
        }
        Ok(())
    }
}
