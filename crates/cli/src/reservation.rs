//! `gregal reservation` and `gregal calendar`: room at a site for a time, and what is free when.

use clap::{Args, Subcommand};
use gregal_api::{
    catalogue::Empty,
    reservation::{CalendarFree, CalendarQuery, CalendarView, ReservationCreate, ReservationQuote, ReservationView},
};
use gregal_core::{id::ReservationId, time::Time};

use crate::{
    context::Cx,
    failure::Failure,
    options::Options,
    table::{Facts, Table},
    words,
};

#[derive(Debug, Subcommand)]
pub enum ReservationVerb {
    /// Reserve room at a site for a time: all of it or nothing, paid whole whether used or not
    Create(Create),
    /// List reservations
    List,
    /// Read a reservation
    Show {
        /// By name or id
        #[arg(value_name = "RESERVATION")]
        reference: String,
    },
    /// Call a reservation off: what has not begun is not paid; of one that has begun, the hour that has is its last
    Cancel {
        /// By name or id
        #[arg(value_name = "RESERVATION")]
        reference: String,
    },
}

#[derive(Debug, Args)]
pub struct Create {
    /// What people call it: 1 to 63 of `a-z`, `0-9`, `-`, beginning with a letter
    name: String,
    /// The site
    #[arg(long)]
    site: String,
    /// Instances of which SKU
    #[arg(long)]
    sku: String,
    /// How many, all on one machine
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// From when on, like 2026-11-22T09:30:00Z, at most 90 days ahead; absent: from now on
    #[arg(long, value_name = "TIME")]
    from: Option<Time>,
    /// Until when
    #[arg(long, value_name = "TIME", required_unless_present = "length")]
    until: Option<Time>,
    /// How long instead, like `90m`, `12h` or `30d`
    #[arg(long = "for", value_name = "SPAN", value_parser = words::stretch, conflicts_with = "until")]
    length: Option<u32>,
    /// Let jobs of the organisation's other projects run in it too
    #[arg(long)]
    shared: bool,
    /// Say what it would cost and whether it fits, and book nothing
    #[arg(long)]
    dry_run: bool,
}

/// `gregal calendar`.
#[derive(Debug, Args)]
pub struct CalendarArgs {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(flatten)]
    pub(crate) calendar: Calendar,
}

#[derive(Debug, Args)]
pub(crate) struct Calendar {
    /// By name or id
    #[arg(value_name = "SITE")]
    site: String,
    /// From when on, like 2026-11-22T09:30:00Z; absent: from now on
    #[arg(long, value_name = "TIME")]
    from: Option<Time>,
    /// Until when, at most 90 days later; absent: a week later
    #[arg(long, value_name = "TIME")]
    until: Option<Time>,
}

pub(crate) async fn run(cx: &mut Cx<'_>, verb: ReservationVerb) -> Result<(), Failure> {
    match verb {
        ReservationVerb::Create(args) => create(cx, args).await,
        ReservationVerb::List => {
            let project = cx.project().await?;
            let all: Vec<ReservationView> = cx.list("reservations_list", &[&project]).await?;
            cx.show_list("reservations", &all, |all| {
                let head = ["id", "name", "state", "site", "sku", "count", "from", "until", "charged"];
                let mut table = Table::new(head).right([5, 8]);
                for one in all {
                    table.row([
                        one.id.to_string(),
                        one.name.clone(),
                        one.state.as_str().into(),
                        one.site.to_string(),
                        one.sku.clone(),
                        one.count.to_string(),
                        one.from.to_string(),
                        one.until.to_string(),
                        words::euro(one.charged_nano),
                    ]);
                }
                table
            })
        }
        ReservationVerb::Show { reference } => {
            let found = find(cx, &reference).await?;
            cx.printer().data(&found, facts)
        }
        ReservationVerb::Cancel { reference } => {
            let id = find(cx, &reference).await?.id.to_string();
            let gone: ReservationView = cx.ask("reservation_cancel", &[&id], &Empty {}).await?;
            cx.printer().data(&gone, facts)
        }
    }
}

async fn create(cx: &mut Cx<'_>, args: Create) -> Result<(), Failure> {
    let project = cx.project().await?;
    let from = args.from;
    let after = |seconds: u32| from.unwrap_or_else(|| cx.here.world.now()).plus_seconds(i64::from(seconds));
    let until = args.until.or_else(|| args.length.map(after));
    let until = until.ok_or_else(|| Failure::yours("neither `--until` nor `--for` says how long"))?;
    let wanted = ReservationCreate {
        name: args.name,
        site: args.site,
        sku: args.sku,
        count: args.count,
        from,
        until,
        shared: args.shared,
    };
    if args.dry_run {
        let quote: ReservationQuote = cx.ask("reservation_quote", &[&project], &wanted).await?;
        return cx.printer().data(&quote, quoted);
    }
    let made: ReservationView = cx.create("reservation_create", &[&project], &wanted).await?;
    cx.printer().data(&made, facts)?;
    cx.printer().note(&format!("next: `gregal job run --reservation {} ...`", made.name));
    Ok(())
}

/// The reservation an id or a name stands for: the one that is not over, else the newest.
pub(crate) async fn find(cx: &mut Cx<'_>, reference: &str) -> Result<ReservationView, Failure> {
    if words::is_id::<ReservationId>(reference) {
        return cx.read("reservation_read", &[reference]).await;
    }
    let project = cx.project().await?;
    let all: Vec<ReservationView> = cx.list("reservations_list", &[&project]).await?;
    all.into_iter()
        .filter(|one| one.name == reference)
        .max_by_key(|one| (!one.state.is_final(), one.created_at))
        .ok_or_else(|| {
            Failure::yours(format!("no reservation is called `{reference}`"))
                .hint("`gregal reservation list` lists them")
        })
}

pub(crate) async fn run_calendar(cx: &mut Cx<'_>, args: Calendar) -> Result<(), Failure> {
    let query = CalendarQuery { from: args.from, until: args.until };
    let calendar: CalendarView = cx.read_where("calendar_read", &[&args.site], &query).await?;
    if !calendar.alive {
        cx.printer().note(&format!("`{}` does not answer now", calendar.name));
    }
    cx.printer().data(&calendar, |calendar| {
        let mut table = Table::new(["from", "until", "cores", "memory", "accelerators", "fits"]).right([2, 3, 4]);
        for step in &calendar.steps {
            table.row([
                step.from.to_string(),
                step.until.to_string(),
                of(step.free.cpus_milli, calendar.all.cpus_milli, cores),
                of(step.free.memory_bytes, calendar.all.memory_bytes, words::size),
                of(u64::from(step.free.accelerators), u64::from(calendar.all.accelerators), |count| count.to_string()),
                fits(&step.free),
            ]);
        }
        table.text()
    })
}

/// What is free, and of how much.
fn of(free: u64, all: u64, shown: impl Fn(u64) -> String) -> String {
    format!("{} of {}", shown(free), shown(all))
}

fn cores(milli: u64) -> String {
    words::cores(u32::try_from(milli).unwrap_or(u32::MAX))
}

fn fits(free: &CalendarFree) -> String {
    let fits: Vec<String> = free.fits.iter().map(|one| format!("{} {}", one.count, one.sku)).collect();
    if fits.is_empty() { "nothing".into() } else { fits.join(", ") }
}

fn quoted(quote: &ReservationQuote) -> String {
    Facts::new()
        .with("fits", if quote.fits { "yes" } else { "no" })
        .maybe("why not", quote.why.as_ref())
        .maybe("fits from", quote.next_from)
        .with("cost", words::euro(quote.cost_nano))
        .with("available", words::euro(quote.available_nano))
        .with("from", quote.from)
        .with("until", quote.until)
        .with("cleaning", format!("{} s before and after", quote.clean_ms / 1000))
        .text()
}

fn facts(one: &ReservationView) -> String {
    Facts::new()
        .with("id", one.id)
        .with("name", &one.name)
        .with("state", one.state.as_str())
        .maybe("message", one.message.as_ref())
        .with("site", one.site)
        .with("sku", &one.sku)
        .with("count", one.count)
        .with("from", one.from)
        .with("until", one.until)
        .with("for", if one.shared { "every project of the organisation" } else { "its project" })
        .with("project", one.project)
        .maybe("begun", one.active_since)
        .maybe("billed until", one.billed_until)
        .maybe("called off", one.cancelled_at)
        .maybe("over", one.ended_at)
        .with("price", format!("{}, {} of it charged", words::euro(one.held_nano), words::euro(one.charged_nano)))
        .text()
}
