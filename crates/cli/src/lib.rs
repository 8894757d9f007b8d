//! Client verbs and the printer: words people read, data programs read. Everything goes through the public API.
//! Never here: decisions, SQL, or a door that other clients of the API do not have.

use std::process::ExitCode;

use clap::{Args, FromArgMatches, Subcommand};

mod access;
mod audit;
mod catalogue;
mod chat;
mod content;
mod context;
mod dataset;
mod endpoint;
mod failure;
mod files;
mod invoice;
mod job;
mod key;
mod ledger;
mod lines;
mod login;
mod member;
mod model;
mod operator;
mod options;
mod organisation;
mod placement;
mod policy;
mod printer;
mod project;
mod quota;
mod reservation;
mod service_account;
mod sign_in;
mod site;
mod sku;
mod surroundings;
mod table;
mod usage;
mod whoami;
mod words;

pub use options::{Options, Secret};
pub use printer::Printer;
pub use surroundings::Surroundings;

use context::Cx;
use failure::Failure;

/// What a client can ask of a cloud: nouns, then verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Who pays: make, list and read organisations, and say where their content may be
    #[command(alias = "organization")]
    Organisation(Noun<organisation::OrganisationVerb>),
    /// Who shares: make, list and read projects
    Project(Noun<project::ProjectVerb>),
    /// What organisations and projects have of each SKU: guaranteed, lent and borrowed
    Quota(Noun<quota::QuotaVerb>),
    /// Reserve room at a site for a time; list, read and call off reservations
    Reservation(Noun<reservation::ReservationVerb>),
    /// Read what is free at a site, and when
    Calendar(reservation::CalendarArgs),
    /// Make, list, rotate and revoke keys
    Key(Noun<key::KeyVerb>),
    /// Names that programs act under: make, list and disable them, and let a CI's tokens stand for them
    ServiceAccount(Noun<service_account::ServiceAccountVerb>),
    /// Invite, list, change and take out members of an organisation
    Member(Noun<member::MemberVerb>),
    /// Say which domains sign in with a provider of their organisation's own
    Domain(Noun<member::DomainVerb>),
    /// Looks that operators ask for into what an organisation owns
    Access(Noun<access::AccessVerb>),
    /// The keys of those who run the cloud
    Operator(Noun<operator::OperatorVerb>),
    /// Register, list and read sites
    Site(Noun<site::SiteVerb>),
    /// What can be rented
    Sku(Noun<sku::SkuVerb>),
    /// What it costs
    Price(Noun<catalogue::PriceVerb>),
    /// Store, list and remove datasets; their bytes go to the site itself
    Dataset(Noun<dataset::DatasetVerb>),
    /// Train a model or run a command; watch, read and cancel jobs
    Job(Noun<job::JobVerb>),
    /// List models and show where they came from
    Model(Noun<model::ModelVerb>),
    /// Serve models
    Endpoint(Noun<endpoint::EndpointVerb>),
    /// Ask a served model; the answer streams
    Chat(chat::ChatArgs),
    /// Ask where content could be placed, and which rule forbids the rest
    Place(Noun<placement::PlaceVerb>),
    /// Guardrails and permits of one's own; why something is allowed or not, and what would have to change
    Policy(Noun<policy::PolicyVerb>),
    /// Read what was used
    Usage(Noun<usage::UsageVerb>),
    /// Read the draft invoice, or compute it again from the raw records
    Invoice(Noun<invoice::InvoiceVerb>),
    /// Read what is available, held and used
    Balance(Noun<ledger::BalanceVerb>),
    /// Read every movement of money
    Ledger(Noun<ledger::LedgerVerb>),
    /// Read the audit log, or prove it against its signed checkpoint
    Audit(Noun<audit::AuditVerb>),
    /// Sign in as a person, in a browser here or with a code on any machine
    Login(login::LoginArgs),
    /// End the sign-in
    Logout(login::LogoutArgs),
    /// Say whom the key acts for and what it may do
    Whoami(whoami::WhoamiArgs),
}

/// A noun: the options every client verb takes, and one of its verbs.
#[derive(Debug, Args)]
pub struct Noun<V: Subcommand + FromArgMatches> {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    verb: V,
}

/// Carries out a verb on the terminal and prints its errors itself.
/// Exit: 0 fine, 1 the caller's mistake or a refusal, 2 the cloud's fault (out of reach, or an error of its own).
pub async fn run(command: Command) -> ExitCode {
    let mut here = Surroundings::of_process();
    ExitCode::from(run_in(command, &mut here).await)
}

/// Carries out a verb in given surroundings, as [`run`] does, and returns the exit status.
pub async fn run_in(command: Command, here: &mut Surroundings) -> u8 {
    match carry_out(command, here).await.and_then(|()| here.printer.flush()) {
        Ok(()) => 0,
        Err(failure) => failure.print(&mut here.printer),
    }
}

async fn carry_out(mut command: Command, here: &mut Surroundings) -> Result<(), Failure> {
    // Some of their verbs work from a file, with the cloud out of reach.
    let may_be_alone = matches!(command, Command::Audit(_) | Command::Invoice(_));
    if let Some(options) = options(&mut command) {
        match sign_in::act_with(here, options).await {
            Err(failure) if !(may_be_alone && failure.passing) => return Err(failure),
            _ => {}
        }
    }
    match command {
        Command::Organisation(noun) => organisation::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Project(noun) => project::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Quota(noun) => quota::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Reservation(noun) => reservation::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Calendar(args) => reservation::run_calendar(&mut Cx::open(args.options, here)?, args.calendar).await,
        Command::Key(noun) => key::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::ServiceAccount(noun) => service_account::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Member(noun) => member::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Domain(noun) => member::run_domain(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Login(args) => login::login(args, here).await,
        Command::Logout(args) => login::logout(args, here).await,
        Command::Access(noun) => access::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Operator(noun) => operator::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Site(noun) => site::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Sku(noun) => sku::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Price(noun) => catalogue::run_price(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Dataset(noun) => dataset::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Job(noun) => job::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Model(noun) => model::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Endpoint(noun) => endpoint::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Chat(args) => chat::run(&mut Cx::open(args.options, here)?, args.chat).await,
        Command::Place(noun) => placement::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Policy(noun) => policy::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Usage(noun) => usage::run(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Invoice(noun) => invoice::run(noun.options, here, noun.verb).await,
        Command::Balance(noun) => ledger::run_balance(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Ledger(noun) => ledger::run_ledger(&mut Cx::open(noun.options, here)?, noun.verb).await,
        Command::Audit(noun) => audit::run(noun.options, here, noun.verb).await,
        Command::Whoami(args) => whoami::run(&mut Cx::open(args.options, here)?).await,
    }
}

/// The options of a verb that acts with a key; none for those that make and end sign-ins, and those that may do without one.
const fn options(command: &mut Command) -> Option<&mut Options> {
    match command {
        Command::Organisation(noun) => Some(&mut noun.options),
        Command::Project(noun) => Some(&mut noun.options),
        Command::Quota(noun) => Some(&mut noun.options),
        Command::Reservation(noun) => Some(&mut noun.options),
        Command::Calendar(args) => Some(&mut args.options),
        Command::Key(noun) => Some(&mut noun.options),
        Command::ServiceAccount(noun) => Some(&mut noun.options),
        Command::Member(noun) => Some(&mut noun.options),
        Command::Domain(noun) => Some(&mut noun.options),
        Command::Access(noun) => Some(&mut noun.options),
        Command::Operator(noun) => Some(&mut noun.options),
        Command::Policy(noun) => Some(&mut noun.options),
        Command::Site(noun) => Some(&mut noun.options),
        Command::Sku(noun) => Some(&mut noun.options),
        Command::Price(noun) => Some(&mut noun.options),
        Command::Dataset(noun) => Some(&mut noun.options),
        Command::Job(noun) => Some(&mut noun.options),
        Command::Model(noun) => Some(&mut noun.options),
        Command::Endpoint(noun) => Some(&mut noun.options),
        Command::Chat(args) => Some(&mut args.options),
        Command::Place(noun) => Some(&mut noun.options),
        Command::Usage(noun) => Some(&mut noun.options),
        Command::Invoice(noun) => Some(&mut noun.options),
        Command::Balance(noun) => Some(&mut noun.options),
        Command::Ledger(noun) => Some(&mut noun.options),
        Command::Audit(noun) => Some(&mut noun.options),
        Command::Whoami(args) => Some(&mut args.options),
        Command::Login(_) | Command::Logout(_) => None,
    }
}
