//! The ledger: postings are added and never edited; the balances they come to stand beside them.

use gregal_core::{
    id::OrganisationId,
    ledger::{Account, Balances, Posting},
    money::Nano,
};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set, sea_query::OnConflict};

use crate::{
    Error, Listed, Page, Result, Tx, View,
    noun::{decode, encode},
    usage::sequence_of,
};

mod posting {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "postings")]
    pub(crate) struct Model {
        #[sea_orm(primary_key)]
        pub sequence: i64,
        pub id: String,
        pub organisation: String,
        pub kind: String,
        pub reference: String,
        pub available: i64,
        pub held: i64,
        pub accrued: i64,
        pub funding: i64,
        pub at: i64,
        #[sea_orm(column_type = "Text")]
        pub document: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod balance {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "balances")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub organisation: String,
        pub available: i64,
        pub held: i64,
        pub accrued: i64,
        pub funding: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl balance::Model {
    fn balances(self) -> Balances {
        let nano = Nano::new;
        Balances {
            available: nano(self.available),
            held: nano(self.held),
            accrued: nano(self.accrued),
            funding: nano(self.funding),
        }
    }
}

impl View {
    /// Where an organisation's accounts stand; all zero before its first posting. Inside a
    /// transaction they stay as they are until it ends.
    pub async fn balances_get(&self, organisation: OrganisationId) -> Result<Balances> {
        let found = balance::Entity::find_by_id(organisation.to_string()).one(&self.db()).await?;
        Ok(found.map_or_else(Balances::default, balance::Model::balances))
    }

    /// Where an organisation's accounts must stand by its postings alone: equals [`View::balances_get`], or the ledger
    /// is broken.
    pub async fn balances_recomputed(&self, organisation: OrganisationId) -> Result<Balances> {
        let sum = |column: posting::Column| Expr::col(column).sum().cast_as("bigint");
        let found = posting::Entity::find()
            .filter(posting::Column::Organisation.eq(organisation.to_string()))
            .select_only()
            .column_as(sum(posting::Column::Available), "available_sum")
            .column_as(sum(posting::Column::Held), "held_sum")
            .column_as(sum(posting::Column::Accrued), "accrued_sum")
            .column_as(sum(posting::Column::Funding), "funding_sum")
            .into_tuple::<(Option<i64>, Option<i64>, Option<i64>, Option<i64>)>()
            .one(&self.db())
            .await?
            .unwrap_or_default();
        let nano = |sum: Option<i64>| Nano::new(sum.unwrap_or(0));
        Ok(Balances { available: nano(found.0), held: nano(found.1), accrued: nano(found.2), funding: nano(found.3) })
    }

    /// An organisation's postings, in the order they were entered.
    pub async fn postings_list(&self, organisation: OrganisationId, page: &Page) -> Result<Listed<Posting>> {
        let mut found = posting::Entity::find().filter(posting::Column::Organisation.eq(organisation.to_string()));
        if let Some(after) = page.after.as_deref() {
            found = found.filter(posting::Column::Sequence.gt(sequence_of(after)?));
        }
        let rows = found.order_by_asc(posting::Column::Sequence).limit(page.rows()).all(&self.db()).await?;
        let Listed { items, next } = Listed::cut(rows, page, |row| row.sequence.to_string());
        let items = items.iter().map(|row| decode(&row.document, "posting")).collect::<Result<_>>()?;
        Ok(Listed { items, next })
    }
}

impl Tx {
    /// Enters a posting and moves the organisation's balances by it; answers where they stand now. A posting that core
    /// refuses is [`Error::Ledger`]. Whether an account may go below zero is for the caller to decide beforehand.
    pub async fn posting_insert(&self, posting: &Posting) -> Result<Balances> {
        self.guard(async {
            let organisation = posting.organisation.to_string();
            // The turn of the writer already keeps others out; the row's own lock also holds against other programs.
            let found = balance::Entity::find_by_id(organisation.clone()).lock_exclusive().one(&self.db()).await?;
            let before = found.map_or_else(Balances::default, balance::Model::balances);
            let after = before.apply(posting).map_err(|source| Error::Ledger { id: posting.id.to_string(), source })?;
            posting::Entity::insert(row_of(posting)?).exec_without_returning(&self.db()).await?;
            let row = balance::ActiveModel {
                organisation: Set(organisation),
                available: Set(after.available.get()),
                held: Set(after.held.get()),
                accrued: Set(after.accrued.get()),
                funding: Set(after.funding.get()),
            };
            let moved = OnConflict::column(balance::Column::Organisation)
                .update_columns([
                    balance::Column::Available,
                    balance::Column::Held,
                    balance::Column::Accrued,
                    balance::Column::Funding,
                ])
                .to_owned();
            balance::Entity::insert(row).on_conflict(moved).exec_without_returning(&self.db()).await?;
            Ok(after)
        })
        .await
    }
}

fn row_of(posting: &Posting) -> Result<posting::ActiveModel> {
    let moved = |account: Account| {
        let legs = posting.legs.iter().filter(|leg| leg.account == account);
        legs.into_iter().try_fold(Nano::ZERO, |sum, leg| sum.add(leg.amount)).map(Nano::get)
    };
    Ok(posting::ActiveModel {
        sequence: sea_orm::NotSet,
        id: Set(posting.id.to_string()),
        organisation: Set(posting.organisation.to_string()),
        kind: Set(kind_word(posting)?),
        reference: Set(posting.reference.clone()),
        available: Set(moved(Account::Available)?),
        held: Set(moved(Account::Held)?),
        accrued: Set(moved(Account::Accrued)?),
        funding: Set(moved(Account::Funding)?),
        at: Set(posting.at.as_millis()),
        document: Set(encode(posting, "posting", &posting.id.to_string())?),
    })
}

/// The kind as the document spells it.
fn kind_word(posting: &Posting) -> Result<String> {
    match serde_json::to_value(posting.kind) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        other => Err(Error::Unstorable { noun: "posting", id: posting.id.to_string(), why: format!("{other:?}") }),
    }
}
