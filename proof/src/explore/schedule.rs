//! One schedule from its beginning to its end.

use std::sync::Arc;

use super::database::Content;
use super::history::Breach;
use super::instance::Instance;
use super::scenario::{Scenario, Tiers};
use super::state::TIME;
use super::step::{Footprint, Phase, Step};
use super::twin::Twin;
use super::world::World;

/// Who decides what happens next.
pub(super) trait Guide {
    /// The next step among those that can be taken; nothing to leave the schedule at that.
    fn next(&mut self, enabled: &[Step]) -> Option<Step>;

    /// What the step that was chosen last touched.
    fn took(&mut self, _touched: Footprint) {}

    /// What happened within it, when the schedule is told.
    fn told(&mut self, _notes: Vec<String>) {}
}

/// How a schedule ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) breach: Option<Breach>,
    pub(super) steps: u64,
    /// The guide had nothing more to choose.
    pub(super) left: bool,
    /// What each actor read.
    pub(super) outcome: Vec<(u8, u8, Content)>,
}

/// Runs a schedule.
///
/// # Errors
/// When the runtime cannot be made, the scenario is not possible, or a real server cannot be reached.
pub(super) fn run(
    scenario: &Scenario,
    guide: &mut dyn Guide,
    twin: Option<&Arc<Twin>>,
    told: bool,
) -> Result<Ended, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        // All that is ready is polled before the driver of the schedule is.
        .event_interval(u32::MAX)
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(drive(scenario, guide, twin, told))
}

async fn drive(
    scenario: &Scenario,
    guide: &mut dyn Guide,
    twin: Option<&Arc<Twin>>,
    told: bool,
) -> Result<Ended, String> {
    let world = World::new(scenario, twin.cloned(), told);
    if let Some(twin) = twin {
        twin.reset(&world.state().database)?;
    }
    let made = (0..).zip(scenario.instances).map(|(id, _)| Instance::new(&world, id, scenario));
    let instances: Vec<Instance> = made.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let mut schedule = Schedule { world: &world, instances: &instances, ended: Ended::default(), enabled: Vec::new() };
    let mishaps = std::mem::replace(&mut world.state().mishaps, super::mishap::Mishaps::NONE);
    for instance in scenario.warm {
        schedule.read_everything(*instance).await;
    }
    schedule.ended.steps = 0;
    world.state().begin(mishaps);
    for (id, actor) in (0..).zip(scenario.actors) {
        tokio::spawn(instances[usize::from(actor.instance)].clone().act(id, *actor));
    }
    world.settle().await;
    schedule.follow(guide).await;
    if !schedule.ended.left && schedule.ended.breach.is_none() {
        schedule.ended.outcome = world.state().take_outcome();
        schedule.wind_up(scenario).await;
    }
    Ok(schedule.ended)
}

struct Schedule<'a> {
    world: &'a Arc<World>,
    instances: &'a [Instance],
    ended: Ended,
    enabled: Vec<Step>,
}

impl Schedule<'_> {
    /// Takes the steps that the guide chooses, until nothing is left to do.
    async fn follow(&mut self, guide: &mut dyn Guide) {
        loop {
            {
                let mut state = self.world.state();
                state.enabled(&mut self.enabled);
                // What may break does, if only at the end: a step is left out of a schedule by no other.
                if self.enabled.is_empty() {
                    return;
                }
            }
            if self.ended.steps >= MOST_STEPS {
                let waiting = self.world.state().still_waiting();
                self.ended.breach = Some(Breach::Stuck(format!("{MOST_STEPS} steps; {waiting}")));
                return;
            }
            let Some(step) = guide.next(&self.enabled) else {
                self.ended.left = true;
                return;
            };
            self.take(step).await;
            guide.took(self.world.state().footprint());
            guide.told(self.world.state().take_notes());
            if self.ended.breach.is_some() {
                return;
            }
        }
    }

    async fn take(&mut self, step: Step) {
        self.ended.steps += 1;
        if step == TIME {
            self.world.state().take_time();
            if !self.world.pass_time().await {
                let waiting = self.world.state().still_waiting();
                self.world.fail(Breach::Stuck(waiting));
            }
        } else {
            self.world.state().take(step);
        }
        self.world.settle().await;
        for (id, instance) in (0..).zip(self.instances) {
            if self.world.state().history.owes(id) && !instance.owes().await {
                self.world.state().delivered(id);
            }
        }
        let mut state = self.world.state();
        state.check_entries();
        self.ended.breach = state.breach.take();
    }

    /// Everything that broke is mended, everything owed is delivered, and whoever lives reads every row.
    async fn wind_up(&mut self, scenario: &Scenario) {
        self.world.state().mishaps.end();
        self.calm(|| true).await;
        let undecided = self.world.state().history.undecided();
        if !undecided.is_zero() {
            // What was committed late counts from here on. Not later: entries expire.
            tokio::time::advance(undecided).await;
            self.world.settle().await;
            self.world.state().check_entries();
            if self.is_broken() {
                return;
            }
        }
        let living: Vec<u8> = {
            let state = self.world.state();
            (0..state.instances()).filter(|instance| !state.mishaps.is_dead(*instance)).collect()
        };
        // Elsewhere everything that could be read was looked at after each step.
        let is_local = scenario.instances.iter().any(|tiers| *tiers != Tiers::Redis);
        if is_local || scenario.is_disturbed() {
            for instance in living {
                self.read_everything(instance).await;
            }
        }
    }

    async fn read_everything(&mut self, instance: u8) {
        let Some(reader) = self.instances.get(usize::from(instance)).cloned() else { return };
        let keys = self.world.state().database.keys();
        let reading = tokio::spawn(async move {
            for key in keys.iter() {
                reader.read(NOBODY, key).await;
            }
        });
        self.world.settle().await;
        self.calm(|| reading.is_finished()).await;
    }

    /// Whether a promise is broken. A read that is served in process shows that without a step.
    fn is_broken(&mut self) -> bool {
        let found = self.world.state().breach.take();
        self.ended.breach = self.ended.breach.take().or(found);
        self.ended.breach.is_some()
    }

    /// Takes the calmest steps until everything is done.
    async fn calm(&mut self, is_done: impl Fn() -> bool) {
        for _ in 0..MOST_STEPS {
            if self.is_broken() {
                return;
            }
            let step = {
                let mut state = self.world.state();
                state.enabled(&mut self.enabled);
                if is_done() && state.is_over() && !state.is_owing() {
                    return;
                }
                self.enabled
                    .iter()
                    .copied()
                    .find(|step| !matches!(step.phase, Phase::Break | Phase::Leave | Phase::Fault))
            };
            self.take(step.unwrap_or(TIME)).await;
        }
        let waiting = self.world.state().still_waiting();
        self.ended.breach = Some(Breach::Stuck(waiting));
    }
}

/// The actor of the reads before and after a schedule.
const NOBODY: u8 = u8::MAX;

/// A schedule with more steps does not end.
const MOST_STEPS: u64 = 1_000;
