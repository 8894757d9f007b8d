//! Passkeys, found by the digest of what their authenticator calls them.

use gregal_core::{
    id::{PasskeyId, PersonId},
    passkey::Passkey,
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter};

use crate::{Error, Result, Tx, View, noun};

noun::row!(Passkey, "passkeys", "passkey" {
    person: String = |it| it.person.to_string();
    credential: String = |it| it.digest.clone();
});

impl View {
    /// The passkey whose credential id has this SHA-256, hex.
    pub async fn passkey_by_digest(&self, digest: &str) -> Result<Option<Passkey>> {
        self.noun_where(Condition::all().add(row::Column::Credential.eq(digest))).await
    }

    /// The passkey with this id.
    pub async fn passkey_get(&self, id: PasskeyId) -> Result<Option<Passkey>> {
        self.noun_get(&id.to_string()).await
    }

    /// A person's passkeys, oldest first.
    pub async fn passkeys_of(&self, person: PersonId) -> Result<Vec<Passkey>> {
        self.nouns_all(Condition::all().add(row::Column::Person.eq(person.to_string()))).await
    }
}

impl Tx {
    /// Adds a passkey. Its credential must be nobody's.
    pub async fn passkey_insert(&self, passkey: &Passkey) -> Result<()> {
        self.noun_insert(passkey).await
    }

    /// Writes a changed passkey; the stored one must be one version behind.
    pub async fn passkey_update(&self, passkey: &Passkey) -> Result<()> {
        self.noun_update(passkey).await
    }

    /// Removes a passkey; the stored one must be of this version.
    pub async fn passkey_remove(&self, passkey: &Passkey) -> Result<()> {
        self.guard(async {
            let removed = row::Entity::delete_many()
                .filter(row::Column::Id.eq(passkey.id.to_string()))
                .filter(row::Column::Version.eq(noun::int(passkey.version, "a version")?))
                .exec(&self.db())
                .await?;
            let id = passkey.id.to_string();
            if removed.rows_affected == 1 { Ok(()) } else { Err(Error::Conflict { noun: "passkey", id }) }
        })
        .await
    }
}
