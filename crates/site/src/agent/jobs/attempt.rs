//! Carries one attempt: looks at intent and engine, lets [`super::decide`] say what to do, does it, and starts over.

mod keep;

use std::{io::Write as _, sync::Arc, time::Duration};

use gregal_api::protocol::AttemptPhase;
use gregal_core::{job::Program, time::Time};
use gregal_engine::{EngineError, Exit, Observation, State};

use super::{
    decide::{Action, RUNS_MAX, Seen, Wish, decide, end},
    run::{self, GRACE_MS, PrepareError},
    state::{AttemptState, Ended, JobFolder},
    train::{Line, Tail},
};
use crate::{
    agent::meter::{self, EnergyBilled, RunClock},
    metrics::Metric,
    objects,
    site::Shared,
    spool::Record,
};

/// How often the engine may fail to do its own part before the attempt is given back to control.
const START_TRIES_MAX: u32 = 3;

/// What this process knows of the newest run.
pub(super) struct Live {
    run: u32,
    tail: Tail,
    /// Whether this process saw it alive: only then is its time known well enough to be billed.
    witnessed: bool,
    /// Set when it is ready.
    pub(super) clock: Option<RunClock>,
    pub(super) energy: EnergyBilled,
    stop_sent: bool,
}

pub(crate) struct Attempt {
    pub(super) shared: Arc<Shared>,
    pub(super) state: AttemptState,
    folder: JobFolder,
    pub(super) live: Option<Live>,
    /// Records of intervals that are noted as billed and that the disk has not taken yet.
    pub(super) pending: Vec<Record>,
    start_failures: u32,
    keep_failures: u32,
}

impl Attempt {
    pub(crate) fn new(shared: Arc<Shared>, state: AttemptState) -> Self {
        let folder = shared.jobs.folder_of(state.wanted.job);
        Self { shared, state, folder, live: None, pending: Vec::new(), start_failures: 0, keep_failures: 0 }
    }

    /// Carries the attempt until its end is told, or the site stops.
    pub(crate) async fn carry(mut self) {
        let stop = self.shared.stop.clone();
        let tick_ms = self.shared.options.tuning.tick_ms;
        loop {
            if stop.is_cancelled() {
                return self.pause().await;
            }
            let wait_ms = match self.step().await {
                Next::Now => continue,
                Next::Later => tick_ms,
                Next::After { ms } => ms,
                Next::Done => return,
            };
            let wait = Duration::from_millis(wait_ms);
            tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(wait) => {} }
        }
    }

    async fn step(&mut self) -> Next {
        let (seen, observation) = self.look().await;
        self.follow(&seen, observation.as_ref()).await;
        match decide(&self.state, self.wish(), &seen) {
            Action::Wait => self.wait(&seen).await,
            Action::Prepare => self.prepare().await,
            Action::Start { run } => self.start(run).await,
            Action::Stop(why) => {
                self.state.stopping = Some(why);
                self.save().await;
                self.send_stop().await
            }
            Action::Keep => self.keep(observation.as_ref()).await,
            Action::End { end, succeeded, cancelled } => {
                self.note_in_log(observation.as_ref()).await;
                let at = self.ended_at(observation.as_ref());
                self.finish(Ended { at, end, succeeded, cancelled, product: None, heldout: None }).await
            }
            Action::Tell => self.tell().await,
        }
    }

    /// The engine's own word on the end belongs where the tenant looks: in the job's log, after the program's last line.
    async fn note_in_log(&self, observation: Option<&Observation>) {
        let Some(message) = observation.and_then(Observation::exit).and_then(|exit| exit.message.as_deref()) else {
            return;
        };
        let path = self.folder.log();
        let line = format!("gregal: {message}\n");
        let append = tokio::task::spawn_blocking(move || {
            std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
        });
        match append.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(job.id = %self.state.wanted.job, %error, "the engine's word did not reach the log");
            }
            Err(error) => {
                tracing::warn!(job.id = %self.state.wanted.job, %error, "the engine's word did not reach the log");
            }
        }
    }

    /// What control wants. Without any intent nothing is stopped: better to run on than to kill by mistake.
    fn wish(&self) -> Wish {
        let standing = self.shared.desk.current();
        let Some(intent) = &standing.intent else { return Wish::Run };
        let of = self.state.reference();
        let wanted = intent.attempts.iter().find(|wanted| wanted.job == of.job && wanted.attempt == of.attempt);
        match wanted {
            Some(wanted) if wanted.cancel => Wish::End,
            Some(wanted) if wanted.preempt => Wish::MakeRoom,
            // Its reservation ends, whether or not control can be reached to say so.
            Some(wanted) if wanted.leave_by.is_some_and(|at| self.shared.options.world.now() >= at) => Wish::MakeRoom,
            Some(_) => Wish::Run,
            None => Wish::End,
        }
    }

    async fn look(&self) -> (Seen, Option<Observation>) {
        if self.state.run == 0 || self.state.ended.is_some() {
            return (Seen::Nothing, None);
        }
        let Ok(id) = run::workload_id(self.state.reference(), self.state.run) else { return (Seen::Nothing, None) };
        match self.shared.options.engine.observe(&id).await {
            Ok(observation) => (seen(&observation), Some(observation)),
            Err(EngineError::NotFound(_)) => (Seen::Nothing, None),
            Err(error) => {
                tracing::warn!(%error, workload.id = %id, "the engine cannot be asked");
                (Seen::Unknown, None)
            }
        }
    }

    /// Reads what the program said, notices that it is ready, and meters.
    async fn follow(&mut self, seen: &Seen, observation: Option<&Observation>) {
        let Some(observation) = observation else { return };
        let (run, attempt) = (self.state.run, self.state.wanted.attempt);
        if self.live.as_ref().is_none_or(|live| live.run != run) {
            let tail = Tail::new(self.folder.progress(attempt, run));
            self.live =
                Some(Live { run, tail, witnessed: false, clock: None, energy: EnergyBilled::new(), stop_sent: false });
        }
        let Some(live) = &mut self.live else { return };
        live.witnessed |= *seen == Seen::Living;
        let is_train = matches!(self.state.wanted.program, Program::Train { .. });
        let lines = if is_train { live.tail.lines().unwrap_or_default() } else { Vec::new() };
        let running = matches!(observation.state, State::Running { .. });
        let ready = if is_train { lines.iter().any(|line| matches!(line, Line::Start { .. })) } else { running };
        if ready && live.witnessed && live.clock.is_none() {
            self.ready(observation).await;
        }
        self.note(&lines);
        self.meter(observation).await;
    }

    async fn ready(&mut self, observation: &Observation) {
        let world = &self.shared.options.world;
        let clock = RunClock::begin(world.now(), world.steady(), &self.state.metered);
        let since = *self.state.since.get_or_insert(clock.began());
        if let Some(live) = &mut self.live {
            live.clock = Some(clock);
            // What came before is not billed.
            live.energy = meter::energy_counted(&observation.usage.energy);
        }
        self.save().await;
        self.shared.jobs.set_phase(self.state.reference(), AttemptPhase::Running { since });
        self.shared.news.notify_one();
    }

    fn note(&mut self, lines: &[Line]) {
        let since = self.state.since;
        let elapsed = since.map_or(0, |since| self.shared.options.world.now().millis_since(since).max(0));
        let elapsed_ms = u64::try_from(elapsed).unwrap_or(0);
        for line in lines {
            let facts = &mut self.state.facts;
            facts.heldout = line.heldout().or(facts.heldout);
            match *line {
                Line::Start { parameters } => facts.parameters = parameters,
                Line::Step { tokens, .. } => facts.tokens = tokens,
                Line::Done { tokens, flop, parameters } => {
                    (facts.tokens, facts.flop, facts.parameters) = (tokens, flop, parameters);
                }
                Line::Heldout { .. } | Line::Other => {}
            }
        }
        let energy_mj = self.state.metered.energy_mj;
        let points = lines.iter().filter_map(|line| line.point(elapsed_ms, energy_mj));
        self.shared.jobs.add_points(self.state.reference(), points);
    }

    async fn wait(&mut self, seen: &Seen) -> Next {
        let unsent = self.live.as_ref().is_some_and(|live| !live.stop_sent);
        if *seen == Seen::Living && self.state.stopping.is_some() && unsent {
            return self.send_stop().await;
        }
        Next::Later
    }

    async fn send_stop(&mut self) -> Next {
        if let Ok(id) = run::workload_id(self.state.reference(), self.state.run) {
            match self.shared.options.engine.stop(&id, GRACE_MS).await {
                Ok(()) => {
                    if let Some(live) = &mut self.live {
                        live.stop_sent = true;
                    }
                }
                Err(error) => tracing::warn!(%error, workload.id = %id, "could not ask a run to stop; trying again"),
            }
        }
        Next::Later
    }

    async fn prepare(&mut self) -> Next {
        if !self.shared.spool.has_room() {
            tracing::warn!(job.id = %self.state.wanted.job, "a job waits: its usage could not be recorded");
            return Next::Later;
        }
        let (keep, folder, wanted) = (self.shared.keep.clone(), self.folder.clone(), self.state.wanted.clone());
        let prepared = tokio::task::spawn_blocking(move || run::prepare(&keep, &folder, &wanted)).await;
        match prepared {
            Ok(Ok(())) => {
                self.state.prepared = true;
                self.save().await;
                Next::Now
            }
            Ok(Err(PrepareError::Missing(dataset))) => {
                let hint =
                    format!("the dataset `{dataset}` is not stored at this site; store it and submit the job again");
                self.fail("failed", &hint).await
            }
            Ok(Err(error)) => {
                let full = matches!(&error, PrepareError::Objects(objects::Error::Full));
                tracing::error!(error = &error as &dyn std::error::Error, job.id = %self.state.wanted.job, "a job could not be prepared");
                let hint = if full { "the site's disk has no room" } else { "the site could not prepare its data" };
                self.fail("never_started", hint).await
            }
            Err(_) => self.fail("never_started", "the site could not prepare its data").await,
        }
    }

    async fn start(&mut self, run: u32) -> Next {
        let of = self.state.reference();
        let engine = Arc::clone(&self.shared.options.engine);
        if run > self.state.run && self.state.run > 0 {
            // What the last run may have left must be gone before the next one touches the same folder.
            if let Ok(last) = run::workload_id(of, self.state.run)
                && let Err(error) = engine.remove(&last).await
            {
                tracing::warn!(%error, workload.id = %last, "a run could not be cleaned up yet");
                return Next::Later;
            }
        }
        let count = self.state.wanted.sku.gpus as usize;
        let Some(gpus) = self.shared.jobs.take_gpus(of, count, &self.shared.options.capacity.accelerators) else {
            return Next::Later;
        };
        self.state.run = run;
        self.live = None;
        if !self.save().await {
            return Next::Later;
        }
        self.shared.jobs.set_runs(of, run);
        let started = match run::workload(&self.shared.options, &self.state, &self.folder, gpus) {
            Ok(workload) => engine.start(workload).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(()) => {
                self.shared.metrics.add(Metric::RunsStarted, 1);
                tracing::info!(job.id = %of.job, attempt = of.attempt, run, "a run of a job was started");
                Next::Later
            }
            Err(error) => self.start_failed(error, run).await,
        }
    }

    async fn start_failed(&mut self, error: EngineError, run: u32) -> Next {
        tracing::warn!(%error, job.id = %self.state.wanted.job, run, "a run could not be started");
        self.start_failures += 1;
        match error {
            EngineError::Unavailable(_) => Next::Later,
            // The name is taken by a run whose start was noted by an older program: the next name is free.
            EngineError::Conflict(_) if run < RUNS_MAX => {
                self.state.run = run + 1;
                Next::Later
            }
            EngineError::Io { .. } | EngineError::NotFound(_) if self.start_failures < START_TRIES_MAX => Next::Later,
            EngineError::Refused { why, hint } => {
                self.fail("failed", &format!("the site refused it: {why}; {hint}")).await
            }
            EngineError::Invalid { field, expected } => {
                self.fail("failed", &format!("`{field}`: expected {expected}")).await
            }
            EngineError::Io { .. } | EngineError::NotFound(_) | EngineError::Conflict(_) => {
                self.fail("never_started", "the site could not start it").await
            }
        }
    }

    async fn fail(&mut self, reason: &str, hint: &str) -> Next {
        let at = self.shared.options.world.now();
        let end = end(reason, None, Some(hint));
        self.finish(Ended { at, end, succeeded: false, cancelled: false, product: None, heldout: None }).await
    }

    fn ended_at(&self, observation: Option<&Observation>) -> Time {
        let now = self.shared.options.world.now();
        let at = observation.and_then(Observation::exit).map_or(now, |exit: &Exit| time_of(exit.at_ms).min(now));
        self.state.metered.until.map_or(at, |until| until.max(at))
    }

    async fn finish(&mut self, ended: Ended) -> Next {
        if !self.flush().await {
            return Next::Later;
        }
        if ended.succeeded {
            // What did its work was ready, even if it was too quick to be seen so.
            self.state.since.get_or_insert(ended.at);
        }
        tracing::info!(job.id = %self.state.wanted.job, reason = ended.end.reason, "an attempt ended");
        self.state.ended = Some(ended);
        if self.save().await {
            Next::Now
        } else {
            self.state.ended = None;
            Next::Later
        }
    }

    /// Tells control, once every usage record of the attempt is there.
    async fn tell(&mut self) -> Next {
        let Some(ended) = self.state.ended.clone() else { return Next::Later };
        tokio::select! {
            () = self.shared.stop.cancelled() => return Next::Done,
            () = self.shared.spool.handed_over_until(self.state.spooled_until) => {}
        }
        let Ended { at, end, succeeded, cancelled, product, heldout } = ended;
        let (since, billed) = (self.state.since, self.state.metered.billed());
        let phase = AttemptPhase::Ended { since, at, end, succeeded, cancelled, product, heldout, billed };
        self.shared.jobs.set_phase(self.state.reference(), phase);
        self.shared.news.notify_one();
        Next::Done
    }

    /// The site stops: the run is asked to save its work and goes on with the next start of the site.
    async fn pause(&mut self) {
        let Ok(id) = run::workload_id(self.state.reference(), self.state.run) else { return };
        let (seen, _) = self.look().await;
        if seen != Seen::Living {
            return;
        }
        let stopped = self.shared.options.engine.stop(&id, GRACE_MS).await;
        if let Err(error) = stopped {
            tracing::warn!(%error, workload.id = %id, "could not ask a run to save its work");
            return;
        }
        let tick = Duration::from_millis(self.shared.options.tuning.tick_ms);
        let mut left_ms = GRACE_MS + 2_000;
        while left_ms > 0 {
            let (seen, observation) = self.look().await;
            self.follow(&seen, observation.as_ref()).await;
            if seen != Seen::Living {
                return;
            }
            tokio::time::sleep(tick).await;
            left_ms = left_ms.saturating_sub(self.shared.options.tuning.tick_ms.max(1));
        }
    }

    /// Keeps the state. False if the disk refused: then nothing may be built on it.
    pub(super) async fn save(&self) -> bool {
        let (state, folder) = (self.state.clone(), self.folder.clone());
        let saved = tokio::task::spawn_blocking(move || {
            crate::durable::private_folder(folder.path())?;
            state.save(&folder)
        });
        match saved.await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, job.id = %self.state.wanted.job, "the state of a job could not be kept");
                false
            }
            Err(_) => false,
        }
    }
}

enum Next {
    /// Look again at once.
    Now,
    /// Look again after a tick.
    Later,
    /// Look again after so many milliseconds.
    After { ms: u64 },
    /// Nothing is left to do.
    Done,
}

fn seen(observation: &Observation) -> Seen {
    match &observation.state {
        State::Starting | State::Running { .. } => Seen::Living,
        State::Exited(exit) => {
            Seen::Exited { reason: exit.reason, code: exit.code, signal: exit.signal, began: exit.began_ms.is_some() }
        }
    }
}

pub(crate) fn time_of(unix_ms: u64) -> Time {
    Time::from_millis(i64::try_from(unix_ms).unwrap_or(i64::MAX))
}
