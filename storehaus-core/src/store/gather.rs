//! Reads of single rows that come together share one statement.
//!
//! A read that finds another under way waits one turn of the runtime before it sends its statement, and what comes
//! meanwhile is asked for with it. A read that is alone waits for nothing, and none waits for more than that turn. The
//! technique is that of Facebook's DataLoader.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::error::{Result, StorehausError};
use crate::model::{AssignedBy, Model, ModelKey as _};

/// The single-row reads of one store. Clones share them.
pub(super) struct Gather<T: Model> {
    shared: Arc<Shared<T>>,
}

struct Shared<T: Model> {
    /// What the next statements are for, one each; the last takes more.
    next: Mutex<VecDeque<Waiting<T>>>,
    /// How many reads are under way.
    reads: AtomicUsize,
}

/// Who waits for which row.
type Waiting<T> = HashMap<<T as Model>::Key, Vec<oneshot::Sender<Row<T>>>>;

type Row<T> = Result<Option<T>>;

/// A read that is under way.
pub(super) struct UnderWay<T: Model>(Gather<T>);

/// A read that is asked for with others. Without an answer, it is to ask for itself.
pub(super) struct Part<T: Model> {
    /// The one to send a statement.
    pub(super) first: Option<First<T>>,
    pub(super) answer: oneshot::Receiver<Row<T>>,
}

/// The right and duty to send the next statement. Dropped, there are no answers.
pub(super) struct First<T: Model> {
    gather: Gather<T>,
    is_closed: bool,
}

/// The reads of one statement. Dropped, they have no answer.
pub(super) struct Gathered<T: Model>(Waiting<T>);

impl<T: Model> Gather<T> {
    pub(super) fn new() -> Self {
        Self { shared: Arc::new(Shared { next: Mutex::default(), reads: AtomicUsize::new(0) }) }
    }

    /// Begins a read; without a part it is alone.
    pub(super) fn join(&self, key: &T::Key) -> (UnderWay<T>, Option<Part<T>>) {
        let others = self.shared.reads.fetch_add(1, Ordering::Relaxed);
        let under_way = UnderWay(self.clone());
        if others == 0 {
            return (under_way, None);
        }
        let (sender, answer) = oneshot::channel();
        let mut next = self.next();
        let first = match next.back_mut().filter(|waiting| waiting.len() < MOST) {
            Some(waiting) => {
                waiting.entry(key.clone()).or_default().push(sender);
                None
            }
            None => {
                next.push_back(HashMap::from([(key.clone(), vec![sender])]));
                Some(First { gather: self.clone(), is_closed: false })
            }
        };
        drop(next);
        (under_way, Some(Part { first, answer }))
    }

    fn next(&self) -> MutexGuard<'_, VecDeque<Waiting<T>>> {
        // Each critical section is one operation on the queue.
        self.shared.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Model> Clone for Gather<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Model> Drop for UnderWay<T> {
    fn drop(&mut self) {
        self.0.shared.reads.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Model> First<T> {
    /// The reads of one statement, unless it is one read alone. Who comes from now on is not among them.
    pub(super) fn close(mut self) -> Option<Gathered<T>> {
        self.is_closed = true;
        let waiting = self.gather.next().pop_front()?;
        let reads: usize = waiting.values().map(Vec::len).sum();
        (reads > 1).then_some(Gathered(waiting))
    }
}

impl<T: Model> Drop for First<T> {
    fn drop(&mut self) {
        if !self.is_closed {
            self.gather.next().pop_front();
        }
    }
}

impl<T: Model> Gathered<T> {
    pub(super) fn keys(&self) -> Vec<T::Key> {
        self.0.keys().cloned().collect()
    }

    /// Hands the rows out. Silent where the statement does not say what one for a single row would.
    pub(super) fn answer(self, rows: Result<Vec<(T::Key, T)>>) {
        let mut rows: HashMap<_, _> = match rows {
            Ok(rows) => rows.into_iter().collect(),
            // About the database as a whole, and not about one of the rows.
            Err(error @ (StorehausError::Unavailable(_) | StorehausError::Timeout(_))) => {
                return self.0.into_values().flatten().for_each(|answer| tell(answer, Err(error.clone())));
            }
            Err(_) => return,
        };
        for (key, mut answers) in self.0 {
            let row = rows.remove(&key);
            // The database may take texts for equal that are not: the row then came under its own key.
            if row.is_none() && T::Key::ASSIGNED_BY == AssignedBy::Caller {
                continue;
            }
            let last = answers.pop();
            answers.into_iter().for_each(|answer| tell(answer, Ok(row.clone())));
            if let Some(last) = last {
                tell(last, Ok(row));
            }
        }
    }
}

fn tell<T>(answer: oneshot::Sender<Row<T>>, row: Row<T>) {
    // Who went away is not told.
    answer.send(row).ok();
}

/// How many rows one statement is sent for: more make a row no cheaper, and the first would wait for the last.
const MOST: usize = 64;
