//! Policies that organisations wrote for themselves.

use gregal_core::{
    id::{OrganisationId, ProjectId},
    policy::OwnPolicy,
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter};

use crate::{Error, Result, Tx, View, noun};

noun::row!(OwnPolicy, "policies", "policy" {
    organisation: String = |it| it.organisation.to_string();
    project: Option<String> = |it| it.project.map(|id| id.to_string());
    name: String = |it| it.name.clone();
});

impl View {
    /// An organisation's own policies and its projects', in the order they were first written.
    pub async fn policies_of_organisation(&self, organisation: OrganisationId) -> Result<Vec<OwnPolicy>> {
        self.nouns_all(Condition::all().add(row::Column::Organisation.eq(organisation.to_string()))).await
    }

    /// The policy of this name, of the organisation itself or of one of its projects.
    pub async fn policy_named(
        &self,
        organisation: OrganisationId,
        project: Option<ProjectId>,
        name: &str,
    ) -> Result<Option<OwnPolicy>> {
        let of = Condition::all().add(row::Column::Organisation.eq(organisation.to_string()));
        let of = match project {
            Some(project) => of.add(row::Column::Project.eq(project.to_string())),
            None => of.add(row::Column::Project.is_null()),
        };
        self.noun_where(of.add(row::Column::Name.eq(name))).await
    }
}

impl Tx {
    /// Adds a policy. Its name must be free where it stands: whoever writes looks first, in the same transaction.
    pub async fn policy_insert(&self, policy: &OwnPolicy) -> Result<()> {
        self.noun_insert(policy).await
    }

    /// Writes a changed policy; the stored one must be one version behind.
    pub async fn policy_update(&self, policy: &OwnPolicy) -> Result<()> {
        self.noun_update(policy).await
    }

    /// Removes a policy; the stored one must be of this version.
    pub async fn policy_remove(&self, policy: &OwnPolicy) -> Result<()> {
        self.guard(async {
            let removed = row::Entity::delete_many()
                .filter(row::Column::Id.eq(policy.id.to_string()))
                .filter(row::Column::Version.eq(noun::int(policy.version, "a version")?))
                .exec(&self.db())
                .await?;
            if removed.rows_affected == 1 {
                return Ok(());
            }
            Err(Error::Conflict { noun: "policy", id: policy.id.to_string() })
        })
        .await
    }
}
