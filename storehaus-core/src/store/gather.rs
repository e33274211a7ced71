//! Requests that come together and are sent together.
//!
//! A request that finds another under way waits one turn of the runtime before it is sent: until the tasks that are ready
//! now had their turn. What comes meanwhile goes with it, and one that is alone waits for nothing. The technique is that of
//! Facebook's DataLoader.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storehaus_cache::env::turn;
use tokio::sync::oneshot;

/// Requests `Q` of one kind, each with an answer `A`. Clones share them.
pub(super) struct Gather<Q, A> {
    shared: Arc<Shared<Q, A>>,
}

struct Shared<Q, A> {
    /// What is to be sent next, in pieces; the last takes more.
    next: Mutex<VecDeque<Gathered<Q, A>>>,
    /// How many requests are under way.
    under_way: AtomicUsize,
    /// How many requests a piece takes.
    most: usize,
}

/// Requests to send together, each with who is to be told. Who is not, sends its own.
pub(super) type Gathered<Q, A> = Vec<(Q, oneshot::Sender<A>)>;

/// A request that is under way, until this is dropped.
pub(super) struct UnderWay<Q, A>(Gather<Q, A>);

/// A request that goes with others.
pub(super) struct Part<Q, A> {
    /// For the one that is to send them.
    pub(super) first: Option<First<Q, A>>,
    /// Without one, the request is to be sent alone.
    pub(super) answer: oneshot::Receiver<A>,
}

/// The right and duty to send requests that have gathered, on a task of its own: the caller may never be polled again, and
/// others wait. Dropped, they have no answer.
pub(super) struct First<Q, A> {
    gather: Gather<Q, A>,
    is_closed: bool,
}

impl<Q, A> Gather<Q, A> {
    /// Sends at most so many requests together.
    pub(super) fn new(most: usize) -> Self {
        Self { shared: Arc::new(Shared { next: Mutex::default(), under_way: AtomicUsize::new(0), most }) }
    }

    /// Begins a request; without a part it is alone.
    pub(super) fn join(&self, request: impl FnOnce() -> Q) -> (UnderWay<Q, A>, Option<Part<Q, A>>) {
        let others = self.shared.under_way.fetch_add(1, Ordering::Relaxed);
        let under_way = UnderWay(self.clone());
        if others == 0 {
            return (under_way, None);
        }
        let (sender, answer) = oneshot::channel();
        let request = (request(), sender);
        let mut next = self.shared.next();
        let first = match next.back_mut().filter(|piece| piece.len() < self.shared.most) {
            Some(piece) => {
                piece.push(request);
                None
            }
            None => {
                next.push_back(vec![request]);
                Some(First { gather: self.clone(), is_closed: false })
            }
        };
        drop(next);
        (under_way, Some(Part { first, answer }))
    }
}

impl<Q, A> Shared<Q, A> {
    fn next(&self) -> MutexGuard<'_, VecDeque<Gathered<Q, A>>> {
        // Each critical section is one operation on the queue.
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q, A> Clone for Gather<Q, A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Q, A> Drop for UnderWay<Q, A> {
    fn drop(&mut self) {
        self.0.shared.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<Q, A> First<Q, A> {
    /// Waits one turn of the runtime; what has come by then, unless it is one request alone. What comes from then on is
    /// not among it.
    pub(super) async fn gathered(mut self) -> Option<Gathered<Q, A>> {
        turn().await;
        self.is_closed = true;
        let piece = self.gather.shared.next().pop_front();
        piece.filter(|piece| piece.len() > 1)
    }
}

impl<Q, A> Drop for First<Q, A> {
    fn drop(&mut self) {
        if !self.is_closed {
            // Outside the lock: who waits is woken.
            let piece = self.gather.shared.next().pop_front();
            drop(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn part(gather: &Gather<u8, u8>, request: u8) -> (UnderWay<u8, u8>, Part<u8, u8>) {
        let (under_way, part) = gather.join(|| request);
        (under_way, part.expect("it is not alone"))
    }

    #[tokio::test]
    async fn what_comes_in_one_turn_goes_together() {
        let gather = Gather::new(3);
        assert!(gather.join(|| 0).1.is_none(), "nothing is under way");
        assert!(gather.join(|| 0).1.is_none(), "the first is over");
        let (_alone, none) = gather.join(|| 0);
        assert!(none.is_none());
        let mut parts: Vec<_> = (1..=5).map(|request| part(&gather, request)).collect();
        let firsts: Vec<_> = parts.iter_mut().map(|(_, part)| part.first.take()).collect();
        let shown: Vec<_> = firsts.iter().map(Option::is_some).collect();
        assert_eq!(shown, [true, false, false, true, false], "three are a piece");
        for first in firsts.into_iter().flatten() {
            for (request, sender) in first.gathered().await.unwrap() {
                sender.send(10 * request).unwrap();
            }
        }
        for (request, (_under_way, part)) in (1..).zip(parts) {
            assert_eq!(part.answer.await, Ok(10 * request));
        }
    }

    #[tokio::test]
    async fn one_that_stays_alone_sends_its_own() {
        let gather = Gather::new(3);
        let _alone = gather.join(|| 0);
        let (_under_way, mut lonely) = part(&gather, 1);
        assert!(lonely.first.take().unwrap().gathered().await.is_none());
        assert!(lonely.answer.await.is_err());
        // And the next one begins anew.
        assert!(part(&gather, 2).1.first.is_some());
    }

    #[tokio::test]
    async fn one_that_goes_away_takes_nobody_along() {
        let gather = Gather::new(3);
        let _alone = gather.join(|| 0);
        let (_one, mut one) = part(&gather, 1);
        let (_two, two) = part(&gather, 2);
        let mut gathered = Box::pin(one.first.take().unwrap().gathered());
        assert!(gathered.as_mut().now_or_never().is_none());
        drop(gathered);
        assert!(two.answer.await.is_err());
        assert!(part(&gather, 3).1.first.is_some());
    }
}
