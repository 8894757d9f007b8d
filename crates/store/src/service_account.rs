//! Service accounts, and the tokens that were exchanged for keys of them.

use gregal_core::{
    id::{OrganisationId, ProjectId, ServiceAccountId},
    service_account::ServiceAccount,
    time::Time,
};
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter, sea_query::OnConflict};

use crate::{Listed, Page, Result, Tx, View, noun};

/// How far the clocks of two control planes over one store may be apart, in seconds: a claim that is over by one clock is kept
/// for this much longer, so that the other, for which the token still holds, finds it.
const CLOCKS_APART_S: i64 = 60;

noun::row!(ServiceAccount, "service_accounts", "service account" {
    organisation: String = |it| it.organisation.to_string();
    project: Option<String> = |it| it.project.map(|id| id.to_string());
});

mod exchange {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "exchanges")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub digest: String,
        pub until: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl View {
    /// The service account with this id.
    pub async fn service_account_get(&self, id: ServiceAccountId) -> Result<Option<ServiceAccount>> {
        self.noun_get(&id.to_string()).await
    }

    /// An organisation's service accounts, oldest first; with a project, only those of it.
    pub async fn service_accounts_list(
        &self,
        organisation: OrganisationId,
        project: Option<ProjectId>,
        page: &Page,
    ) -> Result<Listed<ServiceAccount>> {
        let of = row::Column::Organisation.eq(organisation.to_string());
        let within = project.map(|project| row::Column::Project.eq(project.to_string()));
        self.nouns_page(Condition::all().add(of).add_option(within), page).await
    }

    /// How many service accounts an organisation has.
    pub async fn service_accounts_count(&self, organisation: OrganisationId) -> Result<u64> {
        let of = row::Column::Organisation.eq(organisation.to_string());
        self.nouns_count::<ServiceAccount>(Condition::all().add(of)).await
    }
}

impl Tx {
    /// Adds a service account.
    pub async fn service_account_insert(&self, account: &ServiceAccount) -> Result<()> {
        self.noun_insert(account).await
    }

    /// Writes a changed service account; the stored one must be one version behind.
    pub async fn service_account_update(&self, account: &ServiceAccount) -> Result<()> {
        self.noun_update(account).await
    }

    /// Removes a service account. Its keys must have been ended.
    pub async fn service_account_remove(&self, id: ServiceAccountId) -> Result<()> {
        self.guard(async {
            row::Entity::delete_many().filter(row::Column::Id.eq(id.to_string())).exec(&self.db()).await?;
            Ok(())
        })
        .await
    }

    /// Claims a token for one use, by its digest; says whether nobody had before. What was over a minute before
    /// `now` is forgotten.
    pub async fn exchange_claim(&self, digest: &str, until: Time, now: Time) -> Result<bool> {
        self.guard(async {
            let over = exchange::Column::Until.lt(now.plus_seconds(-CLOCKS_APART_S).as_millis());
            exchange::Entity::delete_many().filter(over).exec(&self.db()).await?;
            let claimed = exchange::ActiveModel { digest: Set(digest.to_owned()), until: Set(until.as_millis()) };
            let on_conflict = OnConflict::column(exchange::Column::Digest).do_nothing().to_owned();
            let added =
                exchange::Entity::insert(claimed).on_conflict(on_conflict).exec_without_returning(&self.db()).await?;
            Ok(added == 1)
        })
        .await
    }
}
