//! Issued invoices, kept as they were issued, and the seller's book beside them. Both only grow.

use std::ops::ControlFlow;

use gregal_core::{
    id::OrganisationId,
    invoice::{Entry, Invoice, Kind, Reach, digest},
    time::Time,
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set};

use crate::{
    Error, Listed, Page, Result, StoredUsage, Tx, View,
    noun::{count, decode, encode, int},
    usage::{self, sequence_of},
};

mod row {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "invoices")]
    pub(crate) struct Model {
        #[sea_orm(primary_key)]
        pub sequence: i64,
        pub number: String,
        pub series: String,
        pub place: i64,
        pub organisation: String,
        pub kind: String,
        pub about: String,
        pub period_from: i64,
        pub period_until: i64,
        pub through: i64,
        pub digest: String,
        #[sea_orm(column_type = "Text")]
        pub document: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod entry {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "invoice_entries")]
    pub(crate) struct Model {
        #[sea_orm(primary_key)]
        pub sequence: i64,
        pub invoice: String,
        pub organisation: String,
        pub reference: String,
        pub receivable: i64,
        pub revenue: i64,
        pub vat: i64,
        pub bank: i64,
        pub at: i64,
        #[sea_orm(column_type = "Text")]
        pub document: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Most documents about one invoice, and entries of it, that are read together.
const ABOUT_MAX: u64 = 10_000;
/// Usage events in memory at a time.
const CHUNK: u64 = 1_000;

/// An issued invoice as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptInvoice {
    /// The invoice.
    pub invoice: Invoice,
    /// The very text that was issued.
    pub document: String,
    /// SHA-256 of that text, hex.
    pub digest: String,
    /// Its place in the order of issue.
    sequence: i64,
}

impl row::Model {
    fn kept(self) -> Result<KeptInvoice> {
        let invoice = decode(&self.document, "invoice")?;
        Ok(KeptInvoice { invoice, document: self.document, digest: self.digest, sequence: self.sequence })
    }
}

/// What is added up has to be there whole: a sum over a part would be a wrong sum.
const fn whole(rows: usize, what: &'static str) -> Result<()> {
    if rows as u64 > ABOUT_MAX { Err(Error::TooMany { what, limit: ABOUT_MAX }) } else { Ok(()) }
}

const fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Invoice => "invoice",
        Kind::CreditNote => "credit_note",
    }
}

impl View {
    async fn invoice_where(&self, condition: Condition) -> Result<Option<KeptInvoice>> {
        let found = row::Entity::find().filter(condition).one(&self.db()).await?;
        found.map(row::Model::kept).transpose()
    }

    /// The invoice or credit note of this number.
    pub async fn invoice_get(&self, number: &str) -> Result<Option<KeptInvoice>> {
        self.invoice_where(Condition::all().add(row::Column::Number.eq(number))).await
    }

    /// The invoice of a month, told by its first instant.
    pub async fn invoice_of_month(&self, organisation: OrganisationId, from: Time) -> Result<Option<KeptInvoice>> {
        let condition = Condition::all()
            .add(row::Column::Organisation.eq(organisation.to_string()))
            .add(row::Column::Kind.eq(kind_word(Kind::Invoice)))
            .add(row::Column::PeriodFrom.eq(from.as_millis()));
        self.invoice_where(condition).await
    }

    /// How far an organisation's invoices reach; nowhere before the first.
    pub async fn invoice_reach(&self, organisation: OrganisationId) -> Result<Reach> {
        let found = row::Entity::find()
            .filter(row::Column::Organisation.eq(organisation.to_string()))
            .filter(row::Column::Kind.eq(kind_word(Kind::Invoice)))
            .order_by_desc(row::Column::PeriodUntil)
            .select_only()
            .column(row::Column::PeriodUntil)
            .column(row::Column::Through)
            .into_tuple::<(i64, i64)>()
            .one(&self.db())
            .await?;
        let Some((until, through)) = found else { return Ok(Reach::default()) };
        Ok(Reach { until: Time::from_millis(until), through: count(through, "invoice")? })
    }

    /// An organisation's invoices and credit notes, in the order they were issued.
    pub async fn invoices_list(&self, organisation: OrganisationId, page: &Page) -> Result<Listed<KeptInvoice>> {
        let mut wanted = row::Entity::find().filter(row::Column::Organisation.eq(organisation.to_string()));
        if let Some(after) = page.after.as_deref().map(sequence_of).transpose()? {
            wanted = wanted.filter(row::Column::Sequence.gt(after));
        }
        let rows = wanted.order_by_asc(row::Column::Sequence).limit(page.rows()).all(&self.db()).await?;
        let kept = rows.into_iter().map(row::Model::kept).collect::<Result<Vec<_>>>()?;
        Ok(Listed::cut(kept, page, |kept| kept.sequence.to_string()))
    }

    /// The credit notes that take an invoice back, oldest first.
    pub async fn invoice_credits(&self, number: &str) -> Result<Vec<Invoice>> {
        let rows = row::Entity::find()
            .filter(row::Column::About.eq(number))
            .filter(row::Column::Kind.eq(kind_word(Kind::CreditNote)))
            .order_by_asc(row::Column::Sequence)
            .limit(ABOUT_MAX + 1)
            .all(&self.db())
            .await?;
        whole(rows.len(), "credit notes of an invoice")?;
        rows.into_iter().map(|row| Ok(row.kept()?.invoice)).collect()
    }

    /// The next place in a series. Inside a transaction nobody else takes it; one that is undone has used none.
    pub async fn invoice_place_next(&self, series: &str) -> Result<u64> {
        let last = row::Entity::find()
            .filter(row::Column::Series.eq(series))
            .select_only()
            .column_as(row::Column::Place.max(), "last")
            .into_tuple::<Option<i64>>()
            .one(&self.db())
            .await?
            .flatten();
        Ok(count(last.unwrap_or(0), "invoice")?.saturating_add(1))
    }

    /// When the newest document of a series was issued.
    pub async fn invoice_issued_last(&self, series: &str) -> Result<Option<Time>> {
        let newest = row::Entity::find()
            .filter(row::Column::Series.eq(series))
            .order_by_desc(row::Column::Place)
            .one(&self.db())
            .await?;
        newest.map(|row| Ok(row.kept()?.invoice.issued_at)).transpose()
    }

    /// The seller's book about one invoice, in the order of entry.
    pub async fn invoice_entries(&self, number: &str) -> Result<Vec<Entry>> {
        let rows = entry::Entity::find()
            .filter(entry::Column::Invoice.eq(number))
            .order_by_asc(entry::Column::Sequence)
            .limit(ABOUT_MAX + 1)
            .all(&self.db())
            .await?;
        whole(rows.len(), "entries about an invoice")?;
        rows.iter().map(|row| decode(&row.document, "invoice entry")).collect()
    }

    /// The newest place in the order of arrival that an organisation's use has.
    pub async fn usage_newest(&self, organisation: OrganisationId) -> Result<u64> {
        let newest = usage::Entity::find()
            .filter(usage::Column::Organisation.eq(organisation.to_string()))
            .select_only()
            .column_as(usage::Column::Sequence.max(), "newest")
            .into_tuple::<Option<i64>>()
            .one(&self.db())
            .await?
            .flatten();
        count(newest.unwrap_or(0), "usage event")
    }

    /// Shows every event of an organisation that ended before `until`, arrived after place `after` and not after place
    /// `through`, and is not covered by `reach`, to `see`, until that breaks; in no order worth relying on.
    pub async fn usage_uncovered_each<B: Send>(
        &self,
        organisation: OrganisationId,
        until: Time,
        reach: Reach,
        (after, through): (u64, u64),
        mut see: impl FnMut(&StoredUsage) -> ControlFlow<B> + Send,
    ) -> Result<ControlFlow<B>> {
        let within = Condition::all()
            .add(usage::Column::Organisation.eq(organisation.to_string()))
            .add(usage::Column::EndedAt.lt(until.as_millis()))
            .add(usage::Column::Sequence.lte(int(through, "a place")?));
        // The months that no invoice covers, by the index over periods.
        let fresh = within.clone().add(usage::Column::Sequence.gt(int(after, "a place")?));
        let (mut from, mut at) = (reach.until.as_millis(), 0);
        loop {
            let beyond = Condition::any().add(usage::Column::EndedAt.gt(from)).add(usage::Column::Sequence.gt(at));
            let rows = usage::Entity::find()
                .filter(fresh.clone().add(usage::Column::EndedAt.gte(from)).add(beyond))
                .order_by_asc(usage::Column::EndedAt)
                .order_by_asc(usage::Column::Sequence)
                .limit(CHUNK)
                .all(&self.db())
                .await?;
            let is_last = (rows.len() as u64) < CHUNK;
            for row in rows {
                (from, at) = (row.ended_at, row.sequence);
                if let ControlFlow::Break(why) = see(&row.stored()?) {
                    return Ok(ControlFlow::Break(why));
                }
            }
            if is_last {
                break;
            }
        }
        // Months that an invoice covers, and what arrived since, by the index over arrival.
        let mut at = int(reach.through.max(after), "a place")?;
        loop {
            let late = within.clone().add(usage::Column::EndedAt.lt(reach.until.as_millis()));
            let rows = usage::Entity::find()
                .filter(late.add(usage::Column::Sequence.gt(at)))
                .order_by_asc(usage::Column::Sequence)
                .limit(CHUNK)
                .all(&self.db())
                .await?;
            let is_last = (rows.len() as u64) < CHUNK;
            for row in rows {
                at = row.sequence;
                if let ControlFlow::Break(why) = see(&row.stored()?) {
                    return Ok(ControlFlow::Break(why));
                }
            }
            if is_last {
                return Ok(ControlFlow::Continue(()));
            }
        }
    }

    /// The raw records an issued invoice was made of, in the order of arrival.
    pub async fn invoice_records(&self, invoice: &Invoice, page: &Page) -> Result<Listed<StoredUsage>> {
        let after = page.after.as_deref().map(sequence_of).transpose()?;
        let uncovered = Condition::any()
            .add(usage::Column::EndedAt.gte(invoice.since.until.as_millis()))
            .add(usage::Column::Sequence.gt(int(invoice.since.through, "a place")?));
        let rows = usage::Entity::find()
            .filter(usage::Column::Organisation.eq(invoice.organisation.to_string()))
            .filter(usage::Column::EndedAt.lt(invoice.until.as_millis()))
            .filter(usage::Column::Sequence.lte(int(invoice.through, "a place")?))
            .filter(Condition::all().add(uncovered).add_option(after.map(|after| usage::Column::Sequence.gt(after))))
            .order_by_asc(usage::Column::Sequence)
            .limit(page.rows())
            .all(&self.db())
            .await?;
        let items = rows.into_iter().map(usage::Model::stored).collect::<Result<Vec<_>>>()?;
        Ok(Listed::cut(items, page, |item| item.sequence.to_string()))
    }
}

impl Tx {
    /// Keeps an issued document at its place in a series, and enters it into the seller's book. Both are for ever.
    pub async fn invoice_insert(&self, series: &str, place: u64, invoice: &Invoice) -> Result<KeptInvoice> {
        let document = encode(invoice, "invoice", &invoice.number)?;
        let digest = digest(&document);
        let about = invoice.credits.as_ref().map_or(&invoice.number, |credits| &credits.number);
        self.guard(async {
            let row = row::ActiveModel {
                sequence: sea_orm::NotSet,
                number: Set(invoice.number.clone()),
                series: Set(series.to_owned()),
                place: Set(int(place, "a place")?),
                organisation: Set(invoice.organisation.to_string()),
                kind: Set(kind_word(invoice.kind).to_owned()),
                about: Set(about.clone()),
                period_from: Set(invoice.from.as_millis()),
                period_until: Set(invoice.until.as_millis()),
                through: Set(int(invoice.through, "a place")?),
                digest: Set(digest.clone()),
                document: Set(document.clone()),
            };
            row::Entity::insert(row).exec_without_returning(&self.db()).await?;
            Ok(())
        })
        .await?;
        self.invoice_entry_insert(&Entry::issued(invoice)).await?;
        Ok(KeptInvoice { invoice: invoice.clone(), document, digest, sequence: 0 })
    }

    /// Enters something into the seller's book. The same reference about the same invoice is refused by the database.
    pub async fn invoice_entry_insert(&self, entry: &Entry) -> Result<()> {
        assert_eq!(entry.sum(), 0, "the entry `{}` about `{}` does not balance", entry.reference, entry.invoice);
        self.guard(async {
            let row = entry::ActiveModel {
                sequence: sea_orm::NotSet,
                invoice: Set(entry.invoice.clone()),
                organisation: Set(entry.organisation.to_string()),
                reference: Set(entry.reference.clone()),
                receivable: Set(entry.receivable.get()),
                revenue: Set(entry.revenue.get()),
                vat: Set(entry.vat.get()),
                bank: Set(entry.bank.get()),
                at: Set(entry.at.as_millis()),
                document: Set(encode(entry, "invoice entry", &entry.reference)?),
            };
            entry::Entity::insert(row).exec_without_returning(&self.db()).await?;
            Ok(())
        })
        .await
    }
}
