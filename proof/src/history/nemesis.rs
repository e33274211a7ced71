//! The faults of a run: a script made from a seed, and what carries it out.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::plan::Variant;
use super::rig::Rig;
use crate::proxy::{Delay, Prank, Proxy};
use crate::rng::Rng;

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The link of a process to the cache server.
    Cache(usize),
    /// The link of a process to the database.
    Database(usize),
    /// The cache server.
    Server,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every open connection is closed.
    Cut,
    /// Some replies are sent twice; the link is cut when the fault is over.
    Duplicate,
    /// The server forgets every key.
    Flush,
    /// The server forgets the scripts.
    Forget,
    /// Replies are held back.
    Hold,
    /// Some replies are not sent; the link is cut when the fault is over.
    Lose,
    /// Every open connection is closed and none is accepted.
    Refuse,
    /// The server is killed and comes back with what it held when the fault began.
    Restore,
    /// Every byte is swallowed; the link is cut when the fault is over.
    Silence,
    /// One reply in three is late.
    Slow,
}

/// One fault of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it begins, since the script was begun.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// Where.
    pub place: Place,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, lasts, place, fault } = self;
        write!(f, "{:>8.3} s for {:>5.3} s: {place:?} {fault:?}", at.as_secs_f64(), lasts.as_secs_f64())
    }
}

const DATABASE: &[Fault] =
    &[Fault::Cut, Fault::Cut, Fault::Hold, Fault::Hold, Fault::Refuse, Fault::Silence, Fault::Slow, Fault::Slow];
const CACHE: &[Fault] = &[
    Fault::Cut,
    Fault::Duplicate,
    Fault::Duplicate,
    Fault::Hold,
    Fault::Lose,
    Fault::Refuse,
    Fault::Silence,
    Fault::Slow,
    Fault::Slow,
];
const FORGETFUL: &[Fault] = &[Fault::Forget];
const MORTAL: &[Fault] = &[Fault::Flush, Fault::Forget, Fault::Restore, Fault::Restore];

/// The faults of a run, in the order in which they begin. The same seed makes the same script.
pub fn script(variant: Variant, seed: u64, processes: usize, lasts: Duration) -> Vec<Step> {
    let mut lanes: Vec<(Place, &[Fault])> = Vec::new();
    for process in 0..processes {
        lanes.push((Place::Database(process), DATABASE));
        if variant.cache_fails() {
            lanes.push((Place::Cache(process), CACHE));
        }
    }
    lanes.push((Place::Server, if variant.cache_fails() { MORTAL } else { FORGETFUL }));
    let mut steps = Vec::new();
    for (lane, (place, faults)) in lanes.into_iter().enumerate() {
        let mut rng = Rng::new(seed, 0x5c12_0000 + lane as u64);
        let mut millis = |from: u64, to: u64| Duration::from_millis(from + rng.below(to - from));
        let mut at = millis(50, 800);
        while at < lasts {
            let fault = faults[millis(0, faults.len() as u64).as_millis() as usize];
            let long = match fault {
                Fault::Silence | Fault::Slow => millis(100, 600),
                _ => millis(20, 300),
            };
            let long = long.min(lasts - at);
            steps.push(Step { at, lasts: long, place, fault });
            at += long + millis(200, 1_500);
        }
    }
    steps.sort_by_key(|step| (step.at, step.place));
    steps
}

/// Carries the script out, each place by itself.
///
/// # Errors
/// When the cache server cannot be controlled or a port cannot be opened again.
pub async fn play(rig: &mut Rig, steps: &[Step]) -> Result<(), Box<dyn std::error::Error>> {
    let started = Instant::now();
    let Rig { server, links, .. } = rig;
    let at = |place: Place| steps.iter().filter(move |step| step.place == place);
    let links = links.iter().enumerate().flat_map(|(process, (database, cache))| {
        [(Place::Database(process), database), (Place::Cache(process), cache)]
    });
    let links = links.map(async |(place, link)| {
        for step in at(place) {
            sleep_until(started + step.at).await;
            strike(link, step).await?;
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    });
    let server = async {
        for step in at(Place::Server) {
            sleep_until(started + step.at).await;
            let mut admin = server.connect().await?;
            match step.fault {
                Fault::Flush => redis::cmd("FLUSHALL").exec_async(&mut admin).await?,
                Fault::Forget => redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut admin).await?,
                Fault::Restore => {
                    redis::cmd("SAVE").exec_async(&mut admin).await?;
                    sleep(step.lasts).await;
                    server.kill()?;
                    server.restart().await?;
                }
                _ => {}
            }
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    let links = futures_util::future::try_join_all(links);
    tokio::try_join!(links, server).map(drop)
}

/// What is always there: one reply in twenty is late.
pub fn everyday(link: &Proxy, place: Place, seed: u64) {
    let millis = if matches!(place, Place::Cache(_)) { 1..=10 } else { 1..=20 };
    link.delay_replies(Some(Delay { probability: 0.05, millis, seed }));
}

async fn strike(link: &Proxy, step: &Step) -> Result<(), Box<dyn std::error::Error>> {
    match step.fault {
        Fault::Cut => link.cut(),
        Fault::Hold => link.hold_replies(true),
        Fault::Refuse => {
            link.refuse_new(true).await?;
            link.cut();
        }
        Fault::Silence => link.drop_silently(true),
        Fault::Slow => {
            link.delay_replies(Some(Delay { probability: 0.33, millis: 5..=400, seed: step.at.as_nanos() as u64 }))
        }
        Fault::Duplicate | Fault::Flush | Fault::Forget | Fault::Lose | Fault::Restore => {}
    }
    match step.fault {
        Fault::Duplicate => spoil(link, Prank::Duplicate, step.lasts).await,
        Fault::Lose => spoil(link, Prank::Drop, step.lasts).await,
        _ => sleep(step.lasts).await,
    }
    match step.fault {
        Fault::Duplicate | Fault::Lose => link.cut(),
        Fault::Hold => link.hold_replies(false),
        Fault::Refuse => link.refuse_new(false).await?,
        Fault::Silence => {
            link.drop_silently(false);
            link.cut();
        }
        Fault::Slow => everyday(link, step.place, step.at.as_nanos() as u64),
        Fault::Cut | Fault::Flush | Fault::Forget | Fault::Restore => {}
    }
    Ok(())
}

/// Plays a prank on replies every few milliseconds.
async fn spoil(link: &Proxy, prank: Prank, lasts: Duration) {
    let end = Instant::now() + lasts;
    while Instant::now() < end {
        link.play(prank);
        sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_repeats_its_script() {
        let script = |seed| script(Variant::Outages, seed, 3, MINUTE);
        assert_eq!(script(1), script(1));
        assert_ne!(script(1), script(2));
    }

    #[test]
    fn faults_of_one_place_do_not_overlap_and_end_in_time() {
        let steps = script(Variant::Outages, 1, 3, MINUTE);
        assert!(steps.len() > 100, "{}", steps.len());
        for (at, step) in steps.iter().enumerate() {
            let end = step.at + step.lasts;
            assert!(end <= MINUTE, "{step}");
            let next = steps[at + 1..].iter().find(|next| next.place == step.place);
            assert!(next.is_none_or(|next| next.at > end), "{step}");
        }
    }

    #[test]
    fn only_outages_touch_the_way_to_the_cache() {
        for variant in [Variant::Links, Variant::Bounded, Variant::Validated] {
            let steps = script(variant, 1, 3, MINUTE);
            assert!(steps.iter().all(|step| !matches!(step.place, Place::Cache(_)) && step.fault != Fault::Restore));
        }
    }
}
