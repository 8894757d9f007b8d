//! SKUs: the operator adds what can be rented, and retires what is no longer. A shape never changes under its name.

use gregal_api::{
    problem::{Code, Problem},
    sku::{SkuCreate, SkuPriceWrite, SkuView},
};
use gregal_core::{
    access::Action,
    audit::AuditEntry,
    job::JobState,
    price::{self, PriceBook},
    quote::{self, Prices},
    sku::{Catalogue, Offer, SKUS_MAX, Sku},
    time::Time,
};
use gregal_policy::Resource;
use gregal_store::{Tx, View};

use crate::{Control, Cx, Error, Result, context::Facts as _, wakes::Wake};

impl Control {
    /// What can be rented, by name; with what was, if all is wanted.
    pub(crate) async fn skus_list(&self, cx: &Cx, all: bool) -> Result<Vec<SkuView>> {
        self.authorize(cx, Action::CatalogueRead, &Resource::cloud()).await?;
        let catalogue = self.store().skus_all().await?;
        let books = self.store().price_books_all().await?;
        let wanted = catalogue.offers().iter().filter(|offer| all || offer.retired_at.is_none());
        Ok(wanted.map(|offer| priced(offer, &books, cx.now)).collect())
    }

    /// A SKU, retired or not.
    pub(crate) async fn sku_read(&self, cx: &Cx, name: &str) -> Result<SkuView> {
        self.authorize(cx, Action::CatalogueRead, &Resource::cloud()).await?;
        let offer = self.store().sku_get(name).await?.ok_or_else(|| Error::missing("sku", name))?;
        Ok(priced(&offer, &self.store().price_books_all().await?, cx.now))
    }

    /// Adds a SKU.
    pub(crate) async fn sku_create(&self, cx: &Cx, wanted: SkuCreate) -> Result<SkuView> {
        let policies = self.authorize(cx, Action::SkuWrite, &Resource::cloud()).await?;
        let first = wanted.price.as_ref().map(prices).transpose()?;
        let sku = checked(wanted)?;
        let tx = self.begin(cx).await?;
        let catalogue = tx.skus_all().await?;
        if let Some(there) = catalogue.offer(&sku.name) {
            return Err(taken(there));
        }
        if catalogue.offers().len() >= SKUS_MAX {
            let detail = format!("there are {SKUS_MAX} SKUs, retired ones included, and no more are kept");
            return Err(Problem::new(Code::Conflict, detail).hint("use those there are").into());
        }
        let offer = Offer { sku, created_at: cx.now, retired_at: None, version: 1 };
        tx.sku_insert(&offer).await?;
        let mut entries = Vec::new();
        if let Some(first) = first {
            entries = self.sku_first_price(cx, &tx, &offer.sku.name, &first, &policies).await?;
        }
        let answer = priced(&offer, &tx.price_books_all().await?, self.now());
        let entry = cx
            .done(None, Action::SkuWrite.as_str(), &offer.sku.name)
            .by(&policies)
            .fact("cpus_milli", offer.sku.cpus_milli)
            .fact("memory_bytes", offer.sku.memory_bytes)
            .fact("gpus", offer.sku.gpus)
            .fact("gpu_model", offer.sku.gpu_model.clone())
            .fact("family", offer.sku.family())
            .fact("units", offer.sku.units());
        let wake = if entries.is_empty() { Wake::Nobody } else { Wake::Sites };
        entries.insert(0, entry);
        self.finish_created(cx, tx, &entries, wake, &answer).await?;
        Ok(answer)
    }

    /// Sets what a SKU costs, in a new price book that begins once nothing that was rated by the old one can lie in it. What is
    /// used until then stays rated by the old one.
    pub(crate) async fn sku_price(&self, cx: &Cx, name: &str, wanted: &SkuPriceWrite) -> Result<SkuView> {
        let policies = self.authorize(cx, Action::SkuWrite, &Resource::cloud()).await?;
        let prices = prices(wanted)?;
        let tx = self.begin(cx).await?;
        let offer = tx.sku_get(name).await?.ok_or_else(|| Error::missing("sku", name))?;
        let mut books = tx.price_books_all().await?;
        // The newest book goes on, and what was rated until now keeps its price: a site's clock may be ahead of ours.
        let book = books.iter().max_by_key(|book| (book.from, book.version));
        let book = book.ok_or_else(|| Error::Broken("there is no price book".into()))?;
        let now = self.now();
        let from = price::soonest(&books, now);
        let rows = prices.rows(name);
        if rows.iter().all(|row| book.rows.contains(row)) {
            // Said already: the same act again changes nothing.
            return Ok(priced(&offer, &books, now));
        }
        if rows.iter().any(|row| quote::is_dearer(book, row)) {
            // What was held for what is on it is what it may cost: nobody pays more than was said.
            self.nothing_on(&tx, name).await?;
        }
        let version = books.iter().map(|book| book.version).max().unwrap_or(0).saturating_add(1);
        let next = quote::repriced(book, version, from, rows);
        next.check().map_err(|error| Error::invalid(error.to_string()))?;
        tx.price_book_insert(&next).await?;
        let entry =
            cx.done(None, "price_book:create", version).by(&policies).fact("sku", name).fact("from", from.to_string());
        books.push(next);
        let answer = priced(&offer, &books, now);
        // Sites price what they hold for by the books in their intent.
        self.finish(cx, tx, &[entry], Wake::Sites).await?;
        Ok(answer)
    }

    /// Prices a SKU that is made in this transaction, from now on: nothing was ever rated by its name, so no invoice can come
    /// out otherwise. Books that are to hold later get the same rows.
    async fn sku_first_price(
        &self,
        cx: &Cx,
        tx: &Tx,
        name: &str,
        first: &Prices,
        policies: &[String],
    ) -> Result<Vec<AuditEntry>> {
        let books = tx.price_books_all().await?;
        let now = self.now();
        let holds = price::at(&books, now).ok_or_else(|| Error::Broken("no price book holds now".into()))?;
        let mut version = books.iter().map(|book| book.version).max().unwrap_or(0);
        let mut entries = Vec::new();
        for book in [holds].into_iter().chain(price::ahead(&books, now)) {
            version = version.saturating_add(1);
            let next = quote::repriced(book, version, book.from.max(now), first.rows(name));
            next.check().map_err(|error| Error::invalid(error.to_string()))?;
            tx.price_book_insert(&next).await?;
            let entry = cx.done(None, "price_book:create", version).by(policies).fact("sku", name);
            entries.push(said(entry.fact("from", next.from.to_string()), first));
        }
        Ok(entries)
    }

    /// Refuses where a job that has not ended, a served model or a reservation is on a SKU.
    async fn nothing_on(&self, view: &View, name: &str) -> Result<()> {
        let jobs = view.jobs_in_states(&JobState::NOT_ENDED).await?;
        let jobs = jobs.iter().filter(|job| job.sku == name).count();
        let models = view.endpoints_live().await?.iter().filter(|model| model.sku == name).count();
        let reserved = view.reservations_live().await?.iter().filter(|one| one.sku == name).count();
        if jobs + models + reserved == 0 {
            return Ok(());
        }
        let detail = format!(
            "{jobs} jobs, {models} served models and {reserved} reservations are on `{name}` at the price it has"
        );
        let hint =
            "it gets dearer once they have ended: retire it and wait, or offer the same shape under another name";
        Err(Problem::new(Code::Conflict, detail).hint(hint).into())
    }

    /// Retires a SKU: it takes no new work, and what was admitted before runs, stands and is billed as it was. Again, it changes
    /// nothing.
    pub(crate) async fn sku_retire(&self, cx: &Cx, name: &str) -> Result<SkuView> {
        let policies = self.authorize(cx, Action::SkuWrite, &Resource::cloud()).await?;
        let tx = self.begin(cx).await?;
        let before = tx.sku_get(name).await?.ok_or_else(|| Error::missing("sku", name))?;
        let books = tx.price_books_all().await?;
        if before.retired_at.is_some() {
            return Ok(priced(&before, &books, cx.now));
        }
        let after = Offer { retired_at: Some(cx.now), version: before.version + 1, ..before };
        tx.sku_update(&after).await?;
        let entry = cx.done(None, Action::SkuWrite.as_str(), name).by(&policies).fact("retired", true);
        self.finish(cx, tx, &[entry], Wake::Nobody).await?;
        Ok(priced(&after, &books, cx.now))
    }
}

/// The SKU of this name, if new work may be put on it.
pub(crate) fn rentable<'a>(catalogue: &'a Catalogue, name: &str) -> Result<&'a Sku> {
    let (code, detail) = match catalogue.offer(name) {
        Some(Offer { sku, retired_at: None, .. }) => return Ok(sku),
        Some(_) => (Code::Conflict, format!("`{name}` is retired: it takes no new work")),
        None => (Code::InvalidRequest, "`sku` is not one that can be rented".to_owned()),
    };
    let known = catalogue.offered().map(|sku| format!("`{}`", sku.name)).collect::<Vec<_>>().join(", ");
    Err(Problem::new(code, detail).hint(format!("there are {known}")).into())
}

fn checked(wanted: SkuCreate) -> Result<Sku> {
    if wanted.gpu_milli == Some(0) {
        return Err(Error::invalid("`gpu_milli` is not usable: a part of an accelerator is at least 1 thousandth"));
    }
    let sku = wanted.into_sku();
    sku.check().map_err(|error| Error::invalid(error.to_string()))?;
    if sku.gpu_milli > 0 {
        // The engine gives device files whole, and time-slicing keeps no memory apart.
        let detail = "parts of an accelerator are not offered yet: nothing here holds two tenants apart on one";
        let hint = "rent out whole ones; MIG instances are to count as accelerators of a model of their own, once the engine \
                    offers them";
        return Err(Problem::new(Code::NotImplemented, detail).hint(hint).into());
    }
    Ok(sku)
}

fn taken(there: &Offer) -> Error {
    let (name, was) = (&there.sku.name, if there.retired_at.is_some() { "was" } else { "is" });
    Problem::new(Code::Taken, format!("there {was} a sku `{name}` already, and a shape never changes under its name"))
        .hint("choose another name for another shape; what was billed goes by the old one")
        .into()
}

/// The most an hour may cost, in nano-euro: 1,000,000 EUR.
const HOUR_NANO_MAX: u64 = 1_000_000_000_000_000;

fn prices(wanted: &SkuPriceWrite) -> Result<Prices> {
    let fields = [
        ("core_hour_nano", wanted.core_hour_nano),
        ("accelerator_hour_nano", wanted.accelerator_hour_nano),
        ("served_core_hour_nano", wanted.served_core_hour_nano),
    ];
    if fields.iter().all(|(_, nano)| nano.is_none()) {
        return Err(Error::invalid("no price is said: set one of the fields at least"));
    }
    if let Some((field, _)) = fields.iter().find(|(_, nano)| nano.is_some_and(|nano| nano > HOUR_NANO_MAX)) {
        return Err(Error::invalid(format!("`{field}` is larger than {HOUR_NANO_MAX}")));
    }
    let [core_hour, accelerator_hour, served_core_hour] = fields.map(|(_, nano)| nano);
    Ok(Prices { core_hour, accelerator_hour, served_core_hour })
}

/// An entry with the prices that were set.
fn said(entry: AuditEntry, prices: &Prices) -> AuditEntry {
    entry
        .fact("core_hour_nano", prices.core_hour)
        .fact("accelerator_hour_nano", prices.accelerator_hour)
        .fact("served_core_hour_nano", prices.served_core_hour)
}

/// An offer at what it costs now, and at what it will once every price that is set holds.
fn priced(offer: &Offer, books: &[PriceBook], now: Time) -> SkuView {
    let quoted = |book: &PriceBook| quote::quote(book, &offer.sku).ok();
    let newest = books.iter().max_by_key(|book| (book.from, book.version)).filter(|book| book.from > now);
    let later = newest.and_then(|book| Some((book.from, quoted(book)?)));
    SkuView::at(offer, price::at(books, now).and_then(quoted).as_ref(), later)
}
