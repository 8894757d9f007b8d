//! Reservations: the list, booking and calling off, and what is free at each site when.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};
use gregal_api::{
    catalogue::Empty,
    reservation::{CalendarView, ReservationCreate, ReservationView},
    sku::SkuView,
};
use gregal_core::{
    access::Action,
    id::{ProjectId, ReservationId},
    time::Time,
};
use serde::Deserialize;

use super::{
    failure::Failure,
    page::{self, Here, Shell},
    posted::{Posted, Really},
    visitor::{Id, Visitor},
    words,
};

/// The most reservations a list shows.
const LIST_MAX: usize = 200;
/// The most sites whose calendar is drawn.
const SITES_MAX: usize = 8;
/// Where the drawing begins and how wide and high it is, in its own units.
const LEFT: i64 = 52;
const WIDTH: i64 = 418;
const TOP: i64 = 12;
const HEIGHT: i64 = 178;

struct Row {
    id: ReservationId,
    name: String,
    state: &'static str,
    message: String,
    site: String,
    what: String,
    from: String,
    until: String,
    price: String,
    charged: String,
    may_cancel: bool,
}

/// A stretch of a calendar: how much is taken in it.
struct Bar {
    x: i64,
    y: i64,
    width: i64,
    height: i64,
    /// Whether it is the visitor's own reservation.
    is_own: bool,
    title: String,
}

struct Tick {
    x: i64,
    words: String,
}

struct Calendar {
    name: String,
    is_alive: bool,
    /// What the drawing shows the share of.
    unit: &'static str,
    all: String,
    bars: Vec<Bar>,
    ticks: Vec<Tick>,
    /// When and how much is free, in words.
    steps: Vec<(String, String, String)>,
}

#[derive(Template)]
#[template(path = "reservations.html")]
struct ListPage {
    shell: Shell,
    project: ProjectId,
    rows: Vec<Row>,
    is_all: bool,
    may_create: bool,
    sites: Vec<String>,
    skus: Vec<String>,
    calendars: Vec<Calendar>,
    once: String,
}

pub(crate) async fn list(visitor: Visitor, Id(project): Id<ProjectId>) -> Result<Response, Failure> {
    let (all, is_all) = visitor.api.gather::<ReservationView>("reservations_list", &[&project]).await?;
    let sites = visitor.sites().await?;
    let may_create = visitor.can(Action::ReservationCreate);
    let skus: Vec<SkuView> = if may_create { visitor.api.gather("skus_list", &[]).await?.0 } else { Vec::new() };
    let mut calendars = Vec::new();
    for site in sites.keys().take(SITES_MAX) {
        let calendar: CalendarView = visitor.api.read("calendar_read", &[site]).await?;
        calendars.push(drawn(&calendar, &all));
    }
    let may_cancel = visitor.can(Action::ReservationCancel);
    let named =
        |one: &ReservationView| sites.get(&one.site).map_or_else(|| one.site.to_string(), |site| site.name.clone());
    let rows: Vec<Row> = all.iter().rev().take(LIST_MAX).map(|one| Row::of(one, named(one), may_cancel)).collect();
    page::page(&ListPage {
        shell: visitor.shell("Reservations", Here::Reservations, Some(project)).await?,
        project,
        is_all: is_all && rows.len() == all.len(),
        rows,
        may_create,
        sites: sites.values().map(|site| site.name.clone()).collect(),
        skus: skus.into_iter().map(|sku| sku.name).collect(),
        calendars,
        once: visitor.once(),
    })
}

impl Row {
    fn of(one: &ReservationView, site: String, may_cancel: bool) -> Self {
        Self {
            id: one.id,
            name: one.name.clone(),
            state: one.state.as_str(),
            message: one.message.clone().unwrap_or_default(),
            site,
            what: format!("{} × {}", one.count, one.sku),
            from: words::when(one.from),
            until: words::when(one.until),
            price: words::euro(one.held_nano),
            charged: words::euro(one.charged_nano),
            may_cancel: may_cancel && !one.state.is_final() && one.cancelled_at.is_none(),
        }
    }
}

/// A calendar as a drawing: of accelerators where the site has some, else of cores.
fn drawn(calendar: &CalendarView, own: &[ReservationView]) -> Calendar {
    let has_gpus = calendar.all.accelerators > 0;
    let amount = |free: &gregal_api::reservation::CalendarFree| {
        if has_gpus { i64::from(free.accelerators) } else { i64::try_from(free.cpus_milli).unwrap_or(i64::MAX) }
    };
    let all = amount(&calendar.all).max(1);
    let span = calendar.until.millis_since(calendar.from).max(1);
    let x = |at: Time| LEFT + at.millis_since(calendar.from).clamp(0, span) * WIDTH / span;
    let shown =
        |amount: i64| if has_gpus { amount.to_string() } else { format!("{}.{}", amount / 1000, amount % 1000 / 100) };
    let mut bars: Vec<Bar> = Vec::new();
    for step in &calendar.steps {
        let taken = all - amount(&step.free).min(all);
        let height = taken * HEIGHT / all;
        let title = format!("{} of {} taken until {}", shown(taken), shown(all), words::when(step.until));
        let (left, right) = (x(step.from), x(step.until));
        bars.push(Bar {
            x: left,
            y: TOP + HEIGHT - height,
            width: (right - left).max(1),
            height,
            is_own: false,
            title,
        });
    }
    let mine = own.iter().filter(|one| one.site == calendar.site && !one.state.is_final() && one.until > calendar.from);
    for one in mine.filter(|one| one.from < calendar.until) {
        let (left, right) = (x(one.from), x(one.until));
        let title = format!("{}: {} × {}", one.name, one.count, one.sku);
        bars.push(Bar { x: left, y: TOP + HEIGHT - 8, width: (right - left).max(1), height: 8, is_own: true, title });
    }
    let tick = |part: i64| {
        let at = calendar.from.plus_millis(span * part / 4);
        Tick { x: LEFT + WIDTH * part / 4, words: words::when(at).chars().take(10).collect() }
    };
    let fits = |step: &gregal_api::reservation::CalendarStep| {
        let fits: Vec<String> = step.free.fits.iter().map(|one| format!("{} × {}", one.count, one.sku)).collect();
        if fits.is_empty() { "nothing".into() } else { fits.join(", ") }
    };
    Calendar {
        name: calendar.name.clone(),
        is_alive: calendar.alive,
        unit: if has_gpus { "accelerators" } else { "cores" },
        all: shown(all),
        bars,
        ticks: (0..4).map(tick).collect(),
        steps: calendar
            .steps
            .iter()
            .map(|step| (words::when(step.from), words::when(step.until), fits(step)))
            .collect(),
    }
}

/// The form that books a reservation. Times are as a browser's field gives them, UTC.
#[derive(Debug, Deserialize)]
pub(crate) struct Create {
    name: String,
    site: String,
    sku: String,
    count: u32,
    /// Empty: from now on.
    #[serde(default)]
    from: String,
    until: String,
    #[serde(default)]
    shared: String,
    once: String,
}

pub(crate) async fn create(
    Id(project): Id<ProjectId>,
    Posted { visitor, form }: Posted<Create>,
) -> Result<Response, Failure> {
    let wanted = ReservationCreate {
        name: form.name,
        site: form.site,
        sku: form.sku,
        count: form.count,
        from: if form.from.is_empty() { None } else { Some(time(&form.from)?) },
        until: time(&form.until)?,
        shared: form.shared == "yes",
    };
    let _: ReservationView = visitor.api.send("reservation_create", &[&project], &wanted, Some(&form.once)).await?;
    Ok(Redirect::to(&format!("/console/projects/{project}/reservations")).into_response())
}

/// `2026-11-22T09:30`, with seconds or without.
fn time(text: &str) -> Result<Time, Failure> {
    let whole = if text.len() == 16 { format!("{text}:00Z") } else { format!("{text}Z") };
    whole.parse().map_err(|_| Failure::invalid("a time looks like 2026-11-22T09:30, UTC; nothing was booked"))
}

pub(crate) async fn cancel(
    Id(id): Id<ReservationId>,
    Posted { visitor, form }: Posted<Really>,
) -> Result<Response, Failure> {
    form.check()?;
    let gone: ReservationView = visitor.api.send("reservation_cancel", &[&id], &Empty {}, None).await?;
    Ok(Redirect::to(&format!("/console/projects/{}/reservations", gone.project)).into_response())
}
