//! The conformance kit: what every engine must do, as stories told to a [`World`] around it.
//!
//! An adapter's tests build a world and call [`check`]. Each clause gets a world of its own, and says in its name what
//! must hold. Nothing here knows an adapter.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Engine, EngineError, Observation, Protection, Reason, State, Workload, WorkloadId};

/// An engine, and what a story needs around it.
#[async_trait]
pub trait World: Send + Sync {
    /// A door to the engine. A story lets go of its doors before it asks for [`World::restart`].
    fn engine(&self) -> Arc<dyn Engine>;

    /// A workload that does what the script says, with a grace of 200 ms. The same id and script give the same workload.
    fn workload(&self, id: &WorkloadId, script: Script) -> Workload;

    /// Lets so many milliseconds go by, really or by the world's own clock.
    async fn pass(&self, ms: u64);

    /// Ends the engine's process, kindly or not, and starts a new one on what the old one left.
    async fn restart(&mut self);

    /// How often the program of this workload really began; none where a world cannot know.
    async fn begun(&self, id: &WorkloadId) -> Option<usize>;
}

/// What a workload of a story does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Ends at once with code 0.
    Succeeds,
    /// Ends at once with this code.
    Exits(i32),
    /// Runs until it is asked to end.
    Endless,
    /// Runs on even when it is asked to end.
    Stubborn,
    /// Names a program that does not exist.
    CannotBegin,
}

/// One clause that an engine broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The clause.
    pub clause: &'static str,
    /// What was seen instead.
    pub seen: String,
}

/// Tells every story to a fresh world. The names of the clauses that held, or all breaches.
pub async fn check<M, F>(make_world: M) -> Result<Vec<&'static str>, Vec<Breach>>
where
    M: Fn() -> F,
    F: Future<Output = Box<dyn World>>,
{
    let (mut held, mut breaches) = (Vec::new(), Vec::new());
    for (clause, story) in stories() {
        let mut world = make_world().await;
        match story(&mut *world).await {
            Ok(()) => held.push(clause),
            Err(seen) => breaches.push(Breach { clause, seen }),
        }
    }
    if breaches.is_empty() { Ok(held) } else { Err(breaches) }
}

type Verdict = Result<(), String>;
type Story = for<'a> fn(&'a mut dyn World) -> std::pin::Pin<Box<dyn Future<Output = Verdict> + 'a>>;

macro_rules! stories {
    ($($story:ident,)*) => {
        fn stories() -> Vec<(&'static str, Story)> {
            vec![$((stringify!($story), |world| Box::pin($story(world)))),*]
        }
    };
}

stories! {
    an_unknown_id_is_not_found_and_removing_it_is_fine,
    a_program_that_ends_well_is_finished,
    a_program_that_ends_badly_is_failed_with_its_code,
    a_program_that_cannot_begin_is_failed_with_a_message_and_used_nothing,
    starting_the_same_again_is_the_same_act_even_after_its_end,
    another_workload_under_a_known_id_is_refused,
    a_workload_that_makes_no_sense_is_refused_and_leaves_nothing,
    stopping_ends_it_and_stopping_again_is_fine,
    one_that_will_not_stop_is_ended_after_its_grace,
    a_second_wish_may_shorten_the_grace,
    a_time_limit_is_kept,
    removing_ends_what_lives_and_forgets_it,
    everything_accepted_is_listed_in_order,
    an_end_is_still_known_after_a_restart,
    a_restart_loses_nothing_and_begins_nothing_twice,
    capabilities_say_something_about_every_protection,
}

async fn an_unknown_id_is_not_found_and_removing_it_is_fine(world: &mut dyn World) -> Verdict {
    let (engine, id) = (world.engine(), id("job_unknown.1")?);
    let not_found = |what: &str, e: Option<EngineError>| match e {
        Some(EngineError::NotFound(_)) => Ok(()),
        other => Err(format!("{what} answered {other:?}")),
    };
    not_found("observe", engine.observe(&id).await.err())?;
    not_found("stop", engine.stop(&id, 0).await.err())?;
    done("remove", engine.remove(&id).await)?;
    done("remove again", engine.remove(&id).await)
}

async fn a_program_that_ends_well_is_finished(world: &mut dyn World) -> Verdict {
    let seen = run(world, "job_well.1", Script::Succeeds).await?;
    let exit = seen.exit().ok_or("it did not end")?;
    ensure(exit.reason == Reason::Finished && exit.code == Some(0), &seen)?;
    let began = exit.began_ms.ok_or("it has no beginning")?;
    ensure(exit.at_ms >= began && seen.usage.wall_ms == exit.at_ms - began, &seen)?;
    ensure(!seen.usage.energy.parts.is_empty(), &seen)
}

async fn a_program_that_ends_badly_is_failed_with_its_code(world: &mut dyn World) -> Verdict {
    let seen = run(world, "job_badly.1", Script::Exits(7)).await?;
    let exit = seen.exit().ok_or("it did not end")?;
    ensure(exit.reason == Reason::Failed && exit.code == Some(7), &seen)
}

async fn a_program_that_cannot_begin_is_failed_with_a_message_and_used_nothing(world: &mut dyn World) -> Verdict {
    let seen = run(world, "job_never.1", Script::CannotBegin).await?;
    let exit = seen.exit().ok_or("it did not end")?;
    ensure(exit.reason == Reason::Failed && exit.message.is_some(), &seen)?;
    ensure(exit.began_ms.is_none() && exit.code.is_none() && seen.usage.wall_ms == 0, &seen)
}

async fn starting_the_same_again_is_the_same_act_even_after_its_end(world: &mut dyn World) -> Verdict {
    let id = id("job_again.1")?;
    let workload = world.workload(&id, Script::Succeeds);
    done("start", world.engine().start(workload.clone()).await)?;
    done("start again", world.engine().start(workload.clone()).await)?;
    let first = ended(world, &id).await?;
    done("start after the end", world.engine().start(workload).await)?;
    world.pass(200).await;
    let second = observed(world, &id).await?;
    if first != second {
        return Err(format!("an exited observation changed from {first:?} to {second:?}"));
    }
    begun_once(world, &id).await
}

async fn another_workload_under_a_known_id_is_refused(world: &mut dyn World) -> Verdict {
    let id = id("job_taken.1")?;
    done("start", world.engine().start(world.workload(&id, Script::Endless)).await)?;
    running(world, &id).await?;
    match world.engine().start(world.workload(&id, Script::Exits(1))).await {
        Err(EngineError::Conflict(taken)) if taken == id => {}
        other => return Err(format!("start of another answered {other:?}")),
    }
    let seen = observed(world, &id).await?;
    ensure(matches!(seen.state, State::Running { .. }), &seen)?;
    done("remove", world.engine().remove(&id).await)
}

async fn a_workload_that_makes_no_sense_is_refused_and_leaves_nothing(world: &mut dyn World) -> Verdict {
    let id = id("job_senseless.1")?;
    let damages: [fn(&mut Workload); 4] = [
        |w| w.argv.clear(),
        |w| w.resources.memory_bytes = 0,
        |w| w.resources.memory_bytes = u64::MAX,
        |w| w.mounts.push(crate::Mount::writable("/", "/etc")),
    ];
    for (at, damage) in damages.iter().enumerate() {
        let mut workload = world.workload(&id, Script::Succeeds);
        damage(&mut workload);
        match world.engine().start(workload).await {
            Err(EngineError::Invalid { .. } | EngineError::Refused { .. }) => {}
            other => return Err(format!("damage {at}: start answered {other:?}")),
        }
    }
    let listed = world.engine().list().await.map_err(|e| e.to_string())?;
    if listed.is_empty() { Ok(()) } else { Err(format!("left behind: {listed:?}")) }
}

async fn stopping_ends_it_and_stopping_again_is_fine(world: &mut dyn World) -> Verdict {
    let id = id("job_stopped.1")?;
    done("start", world.engine().start(world.workload(&id, Script::Endless)).await)?;
    running(world, &id).await?;
    done("stop", world.engine().stop(&id, 10_000).await)?;
    done("stop again", world.engine().stop(&id, 10_000).await)?;
    let first = ended(world, &id).await?;
    ensure(first.exit().is_some_and(|e| e.reason == Reason::Stopped), &first)?;
    done("stop after the end", world.engine().stop(&id, 0).await)?;
    let second = observed(world, &id).await?;
    ensure(first == second, &second)
}

async fn one_that_will_not_stop_is_ended_after_its_grace(world: &mut dyn World) -> Verdict {
    let id = id("job_stubborn.1")?;
    done("start", world.engine().start(world.workload(&id, Script::Stubborn)).await)?;
    running(world, &id).await?;
    // It must have had time to close its ears.
    world.pass(300).await;
    done("stop", world.engine().stop(&id, 500).await)?;
    world.pass(50).await;
    let seen = observed(world, &id).await?;
    ensure(seen.exit().is_none(), &seen)?;
    let seen = ended(world, &id).await?;
    ensure(seen.exit().is_some_and(|e| e.reason == Reason::Stopped), &seen)
}

async fn a_second_wish_may_shorten_the_grace(world: &mut dyn World) -> Verdict {
    let id = id("job_hurried.1")?;
    done("start", world.engine().start(world.workload(&id, Script::Stubborn)).await)?;
    running(world, &id).await?;
    done("stop", world.engine().stop(&id, 3_600_000).await)?;
    done("stop sooner", world.engine().stop(&id, 0).await)?;
    let seen = ended(world, &id).await?;
    ensure(seen.exit().is_some_and(|e| e.reason == Reason::Stopped), &seen)
}

async fn a_time_limit_is_kept(world: &mut dyn World) -> Verdict {
    let id = id("job_late.1")?;
    let mut workload = world.workload(&id, Script::Stubborn);
    workload.time_limit_ms = Some(400);
    done("start", world.engine().start(workload).await)?;
    let seen = ended(world, &id).await?;
    ensure(seen.exit().is_some_and(|e| e.reason == Reason::TimedOut) && seen.usage.wall_ms >= 400, &seen)
}

async fn removing_ends_what_lives_and_forgets_it(world: &mut dyn World) -> Verdict {
    let id = id("job_removed.1")?;
    done("start", world.engine().start(world.workload(&id, Script::Stubborn)).await)?;
    running(world, &id).await?;
    done("remove", world.engine().remove(&id).await)?;
    done("remove again", world.engine().remove(&id).await)?;
    match world.engine().observe(&id).await {
        Err(EngineError::NotFound(_)) => Ok(()),
        other => Err(format!("observe answered {other:?}")),
    }
}

async fn everything_accepted_is_listed_in_order(world: &mut dyn World) -> Verdict {
    let ids = [id("job_a.1")?, id("job_a.2")?, id("job_b.1")?];
    for id in ids.iter().rev() {
        done("start", world.engine().start(world.workload(id, Script::Succeeds)).await)?;
    }
    for id in &ids {
        ended(world, id).await?;
    }
    let listed = world.engine().list().await.map_err(|e| e.to_string())?;
    let names: Vec<_> = listed.iter().map(|o| &o.id).collect();
    if names != ids.iter().collect::<Vec<_>>() {
        return Err(format!("listed {names:?}"));
    }
    let seen = observed(world, &ids[0]).await?;
    ensure(listed[0] == seen, &listed[0])
}

async fn an_end_is_still_known_after_a_restart(world: &mut dyn World) -> Verdict {
    let before = run(world, "job_kept.1", Script::Exits(3)).await?;
    world.restart().await;
    let after = observed(world, &before.id).await?;
    if before == after { Ok(()) } else { Err(format!("{before:?} became {after:?}")) }
}

async fn a_restart_loses_nothing_and_begins_nothing_twice(world: &mut dyn World) -> Verdict {
    let id = id("job_survivor.1")?;
    let workload = world.workload(&id, Script::Endless);
    done("start", world.engine().start(workload.clone()).await)?;
    running(world, &id).await?;
    world.restart().await;
    done("start after a restart", world.engine().start(workload).await)?;
    world.pass(200).await;
    let seen = observed(world, &id).await?;
    let fine = match &seen.state {
        State::Running { .. } => true,
        // Not Stopped: nobody asked. Not Failed: it is not the program's fault.
        State::Exited(exit) => exit.reason == Reason::Lost && exit.began_ms.is_some(),
        State::Starting => false,
    };
    ensure(fine, &seen)?;
    begun_once(world, &id).await?;
    done("remove", world.engine().remove(&id).await)
}

async fn capabilities_say_something_about_every_protection(world: &mut dyn World) -> Verdict {
    let told = world.engine().capabilities().await.map_err(|e| e.to_string())?;
    match Protection::ALL.iter().find(|p| !told.protections.contains_key(p)) {
        None if told.capacity.cpus_milli > 0 && told.capacity.memory_bytes > 0 => Ok(()),
        None => Err(format!("no capacity: {:?}", told.capacity)),
        Some(silent) => Err(format!("nothing about {silent:?}")),
    }
}

fn id(text: &str) -> Result<WorkloadId, String> {
    WorkloadId::new(text).map_err(|e| e.to_string())
}

fn done(what: &str, answer: Result<(), EngineError>) -> Verdict {
    answer.map_err(|e| format!("{what} answered: {e}"))
}

fn ensure(holds: bool, seen: &Observation) -> Verdict {
    if holds { Ok(()) } else { Err(format!("{seen:?}")) }
}

async fn observed(world: &dyn World, id: &WorkloadId) -> Result<Observation, String> {
    world.engine().observe(id).await.map_err(|e| format!("observe answered: {e}"))
}

async fn run(world: &dyn World, name: &str, script: Script) -> Result<Observation, String> {
    let id = id(name)?;
    done("start", world.engine().start(world.workload(&id, script)).await)?;
    ended(world, &id).await
}

/// A story does not wait longer than 20 ms x this.
const LOOKS_MAX: usize = 1500;

async fn ended(world: &dyn World, id: &WorkloadId) -> Result<Observation, String> {
    wait_for(world, id, "end", |seen| seen.exit().is_some()).await
}

async fn running(world: &dyn World, id: &WorkloadId) -> Result<Observation, String> {
    let seen = wait_for(world, id, "begin", |seen| seen.state != State::Starting).await?;
    ensure(matches!(seen.state, State::Running { .. }), &seen)?;
    Ok(seen)
}

async fn wait_for(
    world: &dyn World,
    id: &WorkloadId,
    what: &str,
    reached: impl Fn(&Observation) -> bool,
) -> Result<Observation, String> {
    let rank = |o: &Observation| match o.state {
        State::Starting => 0,
        State::Running { .. } => 1,
        State::Exited(_) => 2,
    };
    let mut last = observed(world, id).await?;
    for _ in 0..LOOKS_MAX {
        if reached(&last) {
            return Ok(last);
        }
        world.pass(20).await;
        let next = observed(world, id).await?;
        if rank(&next) < rank(&last) {
            return Err(format!("it went back from {last:?} to {next:?}"));
        }
        last = next;
    }
    Err(format!("it did not {what}: {last:?}"))
}

async fn begun_once(world: &dyn World, id: &WorkloadId) -> Verdict {
    match world.begun(id).await {
        None | Some(1) => Ok(()),
        Some(times) => Err(format!("its program began {times} times")),
    }
}
