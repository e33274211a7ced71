//! The breaker, the journal and the deadlines, against a tier that fails on command and a clock that stands still.

#[path = "remote/fake.rs"]
mod fake;
mod log;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use storehaus_cache::l2::{L2, L2Error, Reply};
use storehaus_cache::remote::{Bypass, Invalidated, RemoteSettings};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::fake::{Answer, Fake, TOKEN, TTL, claims, gone, keys, over, read, refused, remote};

const CONFIRMED: Invalidated = Invalidated::Confirmed { lost: 0 };

#[tokio::test(start_paused = true)]
async fn a_silent_server_costs_one_budget_and_then_nothing() {
    let (fake, remote) = remote();
    fake.0.reads.set(Answer::Hang);
    fake.0.probes.set(Answer::Hang);
    let start = Instant::now();
    assert_eq!(read(&remote).await, Err(Bypass::Failed));
    assert!(start.elapsed() <= Duration::from_millis(51), "{:?}", start.elapsed());
    assert!(!remote.is_up());
    let start = Instant::now();
    for _ in 0..1000 {
        assert_eq!(read(&remote).await, Err(Bypass::Down));
        assert_eq!(remote.get_many(&keys(&["k"]), remote.deadline()).await, Err(Bypass::Down));
        assert_eq!(remote.lease("k", TOKEN, TTL, remote.deadline()).await, Err(Bypass::Down));
        assert_eq!(remote.fill(&[], remote.deadline()).await, Err(Bypass::Down));
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!((fake.0.reads.calls(), fake.0.writes.calls()), (1, 0));
    let stats = remote.stats();
    assert_eq!((stats.timeouts, stats.breaker_opened), (1, 1));
    assert_eq!(fake.0.resets.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn many_readers_of_a_silent_server_open_the_breaker_once() {
    let (fake, remote) = remote();
    fake.0.reads.set(Answer::Hang);
    let readers = (0..50).map(|_| read(&remote));
    for answer in futures_util::future::join_all(readers).await {
        assert!(answer.is_err());
    }
    let stats = remote.stats();
    assert_eq!((stats.timeouts, stats.breaker_opened), (50, 1));
    assert_eq!(fake.0.resets.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_tier_is_used_again_soon_after_the_server_answers() {
    let (fake, remote) = remote();
    fake.0.reads.once(gone());
    fake.0.probes.set(gone());
    assert_eq!(read(&remote).await, Err(Bypass::Failed));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!remote.is_up());
    assert!((95..=104).contains(&fake.0.probes.calls()), "{} probes in 10 s", fake.0.probes.calls());
    let back = Instant::now();
    fake.0.probes.set(Answer::Succeed);
    remote.wait_until_up().await;
    assert!(back.elapsed() <= Duration::from_millis(101), "{:?}", back.elapsed());
    assert_eq!(read(&remote).await, Ok(Some(b"old".to_vec())));
}

#[tokio::test(start_paused = true)]
async fn a_failed_invalidation_is_replayed_before_anything_is_read() {
    let (fake, remote) = remote();
    fake.0.clears.set(gone());
    assert_eq!(remote.invalidate(claims(&["k"])).await, Invalidated::Journaled);
    assert_eq!(read(&remote).await, Err(Bypass::Down));
    assert_eq!(remote.stats().pending_invalidations, 1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(fake.0.probes.calls() > 10, "the server answers, only removals fail");
    assert_eq!(read(&remote).await, Err(Bypass::Down));
    assert_eq!(fake.0.reads.calls(), 0);
    fake.0.clears.set(Answer::Succeed);
    remote.wait_until_up().await;
    assert_eq!(read(&remote).await, Ok(None));
    let stats = remote.stats();
    assert_eq!((stats.pending_invalidations, stats.journal_replayed), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn only_the_first_invalidation_of_an_outage_waits() {
    let (fake, remote) = remote();
    fake.0.clears.set(Answer::Hang);
    fake.0.probes.set(Answer::Hang);
    let start = Instant::now();
    assert_eq!(remote.invalidate(claims(&["a"])).await, Invalidated::Journaled);
    assert!(start.elapsed() <= Duration::from_millis(1001), "{:?}", start.elapsed());
    let (start, tried) = (Instant::now(), fake.0.clears.calls());
    for name in ["b", "c", "d"] {
        assert_eq!(remote.invalidate(claims(&[name])).await, Invalidated::Journaled);
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(fake.0.clears.calls(), tried);
    assert_eq!(remote.stats().pending_invalidations, 4);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_does_not_postpone_an_invalidation() {
    let (fake, remote) = remote();
    fake.0.reads.once(gone());
    fake.0.probes.set(gone());
    assert_eq!(read(&remote).await, Err(Bypass::Failed));
    assert_eq!(remote.invalidate(claims(&["k"])).await, CONFIRMED);
    assert!(fake.0.store.lock().unwrap().is_empty());
    assert!(!remote.is_up());
    assert_eq!(remote.stats().pending_invalidations, 0);
}

#[tokio::test(start_paused = true)]
async fn connection_errors_are_repeated_until_the_keys_are_removed() {
    let (fake, remote) = remote();
    fake.0.clears.once(gone());
    fake.0.clears.once(refused("LOADING"));
    let start = Instant::now();
    assert_eq!(remote.invalidate(claims(&["k"])).await, CONFIRMED);
    assert!(start.elapsed() >= Duration::from_millis(200) && start.elapsed() <= Duration::from_millis(204));
    let stats = remote.stats();
    assert_eq!((stats.retries, stats.connection_errors, stats.refused), (2, 1, 1));
    assert!(remote.is_up());
    assert!(fake.0.store.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_may_not_be_done_is_not_repeated() {
    let (fake, remote) = remote();
    fake.0.clears.set(refused("NOPERM"));
    let start = Instant::now();
    assert_eq!(remote.invalidate(claims(&["k"])).await, Invalidated::Journaled);
    assert_eq!((fake.0.clears.calls(), start.elapsed()), (1, Duration::ZERO));
    assert_eq!(read(&remote).await, Err(Bypass::Down));
}

#[tokio::test(start_paused = true)]
async fn a_silent_removal_gets_company_on_a_new_connection() {
    let (fake, remote) = remote();
    fake.0.clears.once(Answer::Hang);
    assert_eq!(remote.invalidate(claims(&["k"])).await, CONFIRMED);
    assert_eq!(fake.0.clears.calls(), 2);
    assert_eq!(fake.0.resets.load(Ordering::Relaxed), 1);
    // And one that is only slow is still heard.
    let (fake, remote) = crate::remote();
    let answer = Arc::new(Notify::new());
    fake.0.clears.once(Answer::Held(Arc::clone(&answer)));
    fake.0.clears.set(Answer::Hang);
    let late = async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        answer.notify_one();
    };
    assert_eq!(tokio::join!(remote.invalidate(claims(&["k"])), late).0, CONFIRMED);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_invalidation_is_remembered() {
    let (fake, remote) = remote();
    fake.0.clears.once(Answer::Hang);
    let dropped = tokio::time::timeout(Duration::from_millis(5), remote.invalidate(claims(&["k"]))).await;
    assert!(dropped.is_err());
    assert_eq!(read(&remote).await, Err(Bypass::Down));
    remote.wait_until_up().await;
    assert_eq!(read(&remote).await, Ok(None));
    assert_eq!(remote.stats().journal_replayed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_changed_during_its_replay_is_removed_again() {
    let (fake, remote) = remote();
    fake.0.clears.once(refused("NOPERM"));
    assert_eq!(remote.invalidate(claims(&["k"])).await, Invalidated::Journaled);
    let replay = Arc::new(Notify::new());
    fake.0.clears.once(Answer::Held(Arc::clone(&replay)));
    tokio::time::sleep(Duration::from_millis(1001)).await;
    assert_eq!(fake.0.clears.calls(), 2, "the replay is under way");
    // The same key again: the replay under way may have removed it before this write.
    assert_eq!(remote.invalidate(claims(&["k"])).await, Invalidated::Journaled);
    replay.notify_one();
    remote.wait_until_up().await;
    assert_eq!(fake.0.clears.calls(), 3);
    assert_eq!(read(&remote).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn no_entry_slips_in_between_the_replay_and_the_return() {
    let (fake, remote) = remote();
    fake.0.clears.once(refused("NOPERM"));
    assert_eq!(remote.invalidate(claims(&["a"])).await, Invalidated::Journaled);
    let replay = Arc::new(Notify::new());
    fake.0.clears.once(Answer::Held(Arc::clone(&replay)));
    tokio::time::sleep(Duration::from_millis(1001)).await;
    assert_eq!(remote.invalidate(claims(&["b"])).await, Invalidated::Journaled);
    let second = Arc::new(Notify::new());
    fake.0.clears.once(Answer::Held(Arc::clone(&second)));
    replay.notify_one();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!((read(&remote).await, remote.stats().pending_invalidations), (Err(Bypass::Down), 1));
    second.notify_one();
    remote.wait_until_up().await;
    assert_eq!(remote.stats().journal_replayed, 2);
}

#[tokio::test(start_paused = true)]
async fn too_many_keys_are_replayed_as_everything() {
    let fake = Fake::default();
    fake.0.store.lock().unwrap().insert("other".to_owned(), b"old".to_vec());
    let settings = RemoteSettings { journal_capacity: 10, ..RemoteSettings::new("app:*") };
    let remote = over(&fake, settings);
    fake.0.clears.set(refused("NOPERM"));
    let many = (0..11).map(|n| (format!("k{n}"), None)).collect();
    assert_eq!(remote.invalidate(many).await, Invalidated::Journaled);
    assert_eq!(remote.stats().pending_invalidations, 11);
    fake.0.flushes.once(gone());
    remote.wait_until_up().await;
    assert_eq!(fake.0.flushes.calls(), 2);
    assert!(fake.0.store.lock().unwrap().is_empty());
    let stats = remote.stats();
    assert_eq!((stats.pending_invalidations, stats.journal_replayed), (0, 11));
}

#[tokio::test(start_paused = true)]
async fn a_long_journal_is_replayed_in_batches() {
    let (fake, remote) = remote();
    fake.0.clears.once(refused("NOPERM"));
    let many = (0..1000).map(|n| (format!("k{n}"), None)).collect();
    assert_eq!(remote.invalidate(many).await, Invalidated::Journaled);
    remote.wait_until_up().await;
    assert_eq!(fake.0.clears.calls(), 1 + 2);
    assert_eq!(remote.stats().journal_replayed, 1000);
}

#[tokio::test(start_paused = true)]
async fn lack_of_memory_and_a_wrong_type_leave_reads_alone() {
    let (fake, remote) = remote();
    fake.0.writes.set(refused("OOM"));
    assert_eq!(remote.lease("k", TOKEN, TTL, remote.deadline()).await, Err(Bypass::Failed));
    assert_eq!(remote.fill(&[], remote.deadline()).await, Err(Bypass::Failed));
    fake.0.writes.set(Answer::Fail(L2Error::WrongType));
    assert_eq!(remote.lease("k", TOKEN, TTL, remote.deadline()).await, Err(Bypass::WrongType));
    assert_eq!(read(&remote).await, Ok(Some(b"old".to_vec())));
    let stats = remote.stats();
    assert_eq!((stats.oom, stats.wrong_type, stats.breaker_opened), (2, 1, 0));
    assert!(remote.state().last_error.unwrap().contains("OOM"));
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_asked_about_once_a_second() {
    let (fake, remote) = remote();
    fake.0.reads.set(refused("WRONGPASS"));
    fake.0.probes.set(refused("WRONGPASS"));
    assert_eq!(read(&remote).await, Err(Bypass::Failed));
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    assert_eq!(fake.0.probes.calls(), 10);
    let state = remote.state();
    assert!(!state.up && state.last_error.unwrap().contains("WRONGPASS"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_writes_is_back_when_it_takes_a_removal() {
    let (fake, remote) = remote();
    fake.0.writes.set(refused("READONLY"));
    fake.0.clears.set(refused("READONLY"));
    assert_eq!(remote.lease("k", TOKEN, TTL, remote.deadline()).await, Err(Bypass::Failed));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!remote.is_up(), "the probe alone proves nothing");
    assert_eq!(remote.stats().pending_invalidations, 0);
    fake.0.clears.set(Answer::Succeed);
    remote.wait_until_up().await;
    assert_eq!(remote.stats().breaker_opened, 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_from_before_the_recovery_is_old_news() {
    let (fake, remote) = remote();
    let late = Arc::new(Notify::new());
    fake.0.reads.once(Answer::Held(Arc::clone(&late)));
    let slow = {
        let (remote, deadline) = (remote.clone(), Instant::now() + Duration::from_secs(1));
        tokio::spawn(async move { remote.get("k", deadline).await })
    };
    tokio::task::yield_now().await;
    fake.0.reads.once(gone());
    assert_eq!(read(&remote).await, Err(Bypass::Failed));
    remote.wait_until_up().await;
    // Its value was read before whatever happened meanwhile.
    late.notify_one();
    assert_eq!(slow.await.unwrap(), Err(Bypass::Down));
    assert!(remote.is_up());
    assert_eq!(remote.stats().breaker_opened, 1);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_a_command_from_before_the_recovery_does_not_open_the_breaker_again() {
    let (fake, remote) = remote();
    fake.0.reads.once(Answer::Hang);
    let slow = {
        let (remote, deadline) = (remote.clone(), Instant::now() + Duration::from_secs(1));
        tokio::spawn(async move { remote.get("k", deadline).await })
    };
    tokio::task::yield_now().await;
    fake.0.reads.once(gone());
    assert_eq!(read(&remote).await, Err(Bypass::Failed));
    remote.wait_until_up().await;
    assert_eq!(slow.await.unwrap(), Err(Bypass::Failed));
    assert!(remote.is_up());
    let stats = remote.stats();
    assert_eq!((stats.timeouts, stats.breaker_opened), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_over_blames_nobody() {
    let (fake, remote) = remote();
    assert_eq!(remote.get("k", Instant::now()).await, Err(Bypass::Failed));
    assert!(remote.is_up());
    assert_eq!(fake.0.reads.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn manual_operations_are_retried_and_bounded() {
    let (fake, remote) = remote();
    fake.0.reads.once(gone());
    fake.0.reads.once(Answer::Hang);
    let start = Instant::now();
    let ttl = remote.retrying(|l2| async move { l2.ttl("k").await }).await;
    assert_eq!(ttl, Ok(None));
    assert!(start.elapsed() >= Duration::from_millis(1200) && start.elapsed() < Duration::from_millis(1210));
    assert_eq!(remote.stats().retries, 2);
    fake.0.reads.set(gone());
    assert!(remote.retrying(|l2| async move { l2.ttl("k").await }).await.is_err());
    assert_eq!(fake.0.reads.calls(), 6);
    assert!(remote.is_up());
}

#[tokio::test(start_paused = true)]
async fn manual_reads_see_nothing_while_invalidations_wait() {
    let (fake, remote) = remote();
    fake.0.clears.set(refused("NOPERM"));
    assert_eq!(remote.invalidate(claims(&["k"])).await, Invalidated::Journaled);
    let error = remote.retrying_coherent(|l2| async move { l2.get("k").await }).await.unwrap_err();
    assert_eq!(error.to_string(), "no connection to the cache server: 1 invalidations wait for their delivery");
    assert_eq!(fake.0.reads.calls(), 0);
    assert!(remote.retrying(|l2| async move { l2.ttl("k").await }).await.is_ok());
}

#[test]
fn a_probe_that_lost_its_runtime_is_started_again() {
    let (fake, remote) = remote();
    fake.0.reads.once(gone());
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    assert_eq!(runtime().block_on(read(&remote)), Err(Bypass::Failed));
    assert!(!remote.is_up());
    runtime().block_on(async {
        assert_eq!(read(&remote).await, Err(Bypass::Down));
        remote.wait_until_up().await;
        assert_eq!(read(&remote).await, Ok(Some(b"old".to_vec())));
    });
}

#[tokio::test(start_paused = true)]
async fn the_probe_ends_with_the_last_handle() {
    let (fake, remote) = remote();
    fake.0.reads.set(gone());
    fake.0.probes.set(gone());
    assert_eq!(read(&remote).await, Err(Bypass::Failed));
    drop(remote);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.0.probes.calls(), 0);
    assert_eq!(Arc::strong_count(&fake.0), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_two_lines_in_the_log() {
    let (fake, remote) = remote();
    fake.0.reads.set(gone());
    fake.0.probes.set(gone());
    for _ in 0..100 {
        assert!(remote.get("secret-key", remote.deadline()).await.is_err());
    }
    fake.0.clears.once(gone());
    remote.invalidate(claims(&["secret-key"])).await;
    fake.0.probes.set(Answer::Succeed);
    remote.wait_until_up().await;
    // Another outage at once is not worth another line.
    assert!(read(&remote).await.is_err());
    remote.wait_until_up().await;
    let lines = log::lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("WARN") && lines[0].contains("connection refused"), "{lines:?}");
    assert!(lines[1].starts_with("INFO"), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("secret-key")));
}

#[test]
fn operations_can_be_spawned() {
    fn spawnable<T: Send + 'static>(_: T) {}
    let (_, remote) = remote();
    let (one, two, three) = (remote.clone(), remote.clone(), remote);
    spawnable(async move { read(&one).await });
    spawnable(async move { two.invalidate(claims(&["k"])).await });
    spawnable(async move { three.retrying(|l2| async move { l2.ttl("k").await }).await });
}

/// Four writers whose removals fail at random, on two threads: what a read after an invalidation returns is never older
/// than the write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stale_is_read_after_an_invalidation_returned() {
    let fake = Fake::default();
    let settings = RemoteSettings {
        retry_attempts: 1,
        probe_interval: Duration::from_millis(1),
        read_budget: Duration::from_secs(5),
        ..RemoteSettings::new("app:*")
    };
    let remote = over(&fake, settings);
    let writers = (0..4_u64).map(|writer| {
        let (fake, remote) = (fake.clone(), remote.clone());
        tokio::spawn(async move {
            let key = format!("k{writer}");
            let (mut random, mut served, mut journaled) = (writer + 1, 0, 0);
            for version in 0..500_u64 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if random >> 61 == 0 {
                    fake.0.clears.once(gone());
                }
                if remote.invalidate(vec![(key.clone(), None)]).await == Invalidated::Journaled {
                    journaled += 1;
                }
                for _ in 0..4 {
                    match remote.get(&key, remote.deadline()).await {
                        Ok(Reply { bytes: Some(bytes), .. }) => {
                            assert_eq!(bytes, version.to_le_bytes()[..]);
                            served += 1;
                        }
                        Ok(_) => {
                            fake.0.store.lock().unwrap().insert(key.clone(), version.to_le_bytes().to_vec());
                        }
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
                if version % 16 == 0 {
                    remote.wait_until_up().await;
                }
            }
            (served, journaled)
        })
    });
    let done: Vec<(u64, u64)> = futures_util::future::join_all(writers).await.into_iter().map(Result::unwrap).collect();
    assert!(done.iter().all(|(served, _)| *served > 0) && done.iter().any(|(_, journaled)| *journaled > 0), "{done:?}");
    remote.wait_until_up().await;
    assert_eq!(remote.stats().pending_invalidations, 0);
}
