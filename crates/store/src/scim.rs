//! Whom organisations' directories told us of.

use gregal_core::{
    id::{OrganisationId, PersonId, ScimUserId},
    scim::{self, ScimUser},
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter};

use crate::{Result, Tx, View, noun};

noun::row!(ScimUser, "scim_users", "SCIM user" {
    organisation: String = |it| it.organisation.to_string();
    name: String = |it| it.name_key();
    address: Option<String> = |it| it.address();
    person: Option<String> = |it| it.person.map(|id| id.to_string());
});

impl View {
    /// The SCIM user with this id.
    pub async fn scim_user_get(&self, id: ScimUserId) -> Result<Option<ScimUser>> {
        self.noun_get(&id.to_string()).await
    }

    /// The one of this name in an organisation; case tells nothing apart.
    pub async fn scim_user_named(&self, organisation: OrganisationId, name: &str) -> Result<Option<ScimUser>> {
        let named = row::Column::Name.eq(scim::name_key(name));
        self.noun_where(Condition::all().add(of(organisation)).add(named)).await
    }

    /// Those of an organisation with this address.
    pub async fn scim_users_at(&self, organisation: OrganisationId, address: &str) -> Result<Vec<ScimUser>> {
        self.nouns_all(Condition::all().add(of(organisation)).add(row::Column::Address.eq(address))).await
    }

    /// All of an organisation, oldest first.
    pub async fn scim_users_of(&self, organisation: OrganisationId) -> Result<Vec<ScimUser>> {
        self.nouns_all(Condition::all().add(of(organisation))).await
    }

    /// How many an organisation has.
    pub async fn scim_users_count(&self, organisation: OrganisationId) -> Result<u64> {
        self.nouns_count::<ScimUser>(Condition::all().add(of(organisation))).await
    }

    /// Everything directories told of a person, or of their address.
    pub async fn scim_users_about(&self, person: PersonId, address: &str) -> Result<Vec<ScimUser>> {
        let theirs = row::Column::Person.eq(person.to_string());
        self.nouns_all(Condition::any().add(theirs).add(row::Column::Address.eq(address))).await
    }
}

impl Tx {
    /// Adds a SCIM user. The name must be free in the organisation.
    pub async fn scim_user_insert(&self, user: &ScimUser) -> Result<()> {
        self.noun_insert(user).await
    }

    /// Writes a changed SCIM user; the stored one must be one version behind.
    pub async fn scim_user_update(&self, user: &ScimUser) -> Result<()> {
        self.noun_update(user).await
    }

    /// Forgets a SCIM user.
    pub async fn scim_user_remove(&self, id: ScimUserId) -> Result<()> {
        self.guard(async {
            row::Entity::delete_many().filter(row::Column::Id.eq(id.to_string())).exec(&self.db()).await?;
            Ok(())
        })
        .await
    }
}

fn of(organisation: OrganisationId) -> sea_orm::sea_query::SimpleExpr {
    row::Column::Organisation.eq(organisation.to_string())
}
