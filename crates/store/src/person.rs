//! People, what they are in organisations, to whom that was offered, and the sign-ins that last.

use gregal_core::{
    id::{InvitationId, OrganisationId, PersonId},
    invitation::Invitation,
    member::Member,
    person::{Person, Subject},
    provider::Domain,
    session::Session,
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter};

use crate::{Error, Listed, Page, Result, Tx, View, noun};

mod somebody {
    use super::{Person, noun};
    noun::row!(Person, "persons", "person" {
        subject: Option<String> = |it| it.subject.as_ref().map(gregal_core::person::Subject::digest);
    });
    pub(crate) use row::Column;
}

mod member {
    use super::{Member, noun};
    noun::row!(Member, "members", "member", |it| super::member_id(it.organisation, it.person), {
        organisation: String = |it| it.organisation.to_string();
        person: String = |it| it.person.to_string();
    });
    pub(crate) use row::{Column, Entity};
}

mod invitation {
    use super::{Invitation, noun};
    noun::row!(Invitation, "invitations", "invitation" {
        organisation: String = |it| it.organisation.to_string();
        digest: String = |it| it.digest.clone();
        ended_at: Option<i64> = |it| crate::noun::millis(it.ended_at);
    });
    pub(crate) use row::Column;
}

mod session {
    use super::{Session, noun};
    noun::row!(Session, "sessions", "session" {
        family: String = |it| it.family.clone();
        person: String = |it| it.person.to_string();
        organisation: String = |it| it.organisation.to_string();
    });
    pub(crate) use row::{Column, Entity};
}

mod domain {
    use super::{Domain, noun};
    noun::row!(Domain, "domains", "domain", |it| it.name.clone(), {
        organisation: String = |it| it.organisation.to_string();
    });
    pub(crate) use row::{Column, Entity};
}

fn member_id(organisation: OrganisationId, person: PersonId) -> String {
    format!("{organisation}_{person}")
}

impl View {
    /// The person with this id.
    pub async fn person_get(&self, id: PersonId) -> Result<Option<Person>> {
        self.noun_get(&id.to_string()).await
    }

    /// The person a provider names so.
    pub async fn person_by_subject(&self, subject: &Subject) -> Result<Option<Person>> {
        self.noun_where(Condition::all().add(somebody::Column::Subject.eq(subject.digest()))).await
    }

    /// What a person is in an organisation.
    pub async fn member_get(&self, organisation: OrganisationId, person: PersonId) -> Result<Option<Member>> {
        self.noun_get(&member_id(organisation, person)).await
    }

    /// An organisation's members.
    pub async fn members_list(&self, organisation: OrganisationId, page: &Page) -> Result<Listed<Member>> {
        let of = member::Column::Organisation.eq(organisation.to_string());
        self.nouns_page(Condition::all().add(of), page).await
    }

    /// Every member of an organisation.
    pub async fn members_of(&self, organisation: OrganisationId) -> Result<Vec<Member>> {
        self.nouns_all(Condition::all().add(member::Column::Organisation.eq(organisation.to_string()))).await
    }

    /// Everything a person is a member of.
    pub async fn memberships_of(&self, person: PersonId) -> Result<Vec<Member>> {
        self.nouns_all(Condition::all().add(member::Column::Person.eq(person.to_string()))).await
    }

    /// The invitation with this id.
    pub async fn invitation_get(&self, id: InvitationId) -> Result<Option<Invitation>> {
        self.noun_get(&id.to_string()).await
    }

    /// The invitation whose text has this SHA-256, hex.
    pub async fn invitation_by_digest(&self, digest: &str) -> Result<Option<Invitation>> {
        self.noun_where(Condition::all().add(invitation::Column::Digest.eq(digest))).await
    }

    /// An organisation's invitations, those that are over among them, oldest first.
    pub async fn invitations_list(&self, organisation: OrganisationId, page: &Page) -> Result<Listed<Invitation>> {
        let of = invitation::Column::Organisation.eq(organisation.to_string());
        self.nouns_page(Condition::all().add(of), page).await
    }

    /// An organisation's invitations that were neither taken up nor taken back, expired ones among them.
    pub async fn invitations_kept(&self, organisation: OrganisationId) -> Result<Vec<Invitation>> {
        let of = invitation::Column::Organisation.eq(organisation.to_string());
        self.nouns_all(Condition::all().add(of).add(invitation::Column::EndedAt.is_null())).await
    }

    /// Every invitation that was neither taken up nor taken back.
    pub async fn invitations_kept_all(&self) -> Result<Vec<Invitation>> {
        self.nouns_all(Condition::all().add(invitation::Column::EndedAt.is_null())).await
    }

    /// The family of refresh credentials whose shared half has this SHA-256, hex.
    pub async fn session_by_family(&self, family: &str) -> Result<Option<Session>> {
        self.noun_where(Condition::all().add(session::Column::Family.eq(family))).await
    }

    /// A person's families, ended ones among them.
    pub async fn sessions_of(&self, person: PersonId) -> Result<Vec<Session>> {
        self.nouns_all(Condition::all().add(session::Column::Person.eq(person.to_string()))).await
    }

    /// The domain of this name.
    pub async fn domain_get(&self, name: &str) -> Result<Option<Domain>> {
        self.noun_get(name).await
    }

    /// An organisation's domains, by name.
    pub async fn domains_of(&self, organisation: OrganisationId) -> Result<Vec<Domain>> {
        self.nouns_all(Condition::all().add(domain::Column::Organisation.eq(organisation.to_string()))).await
    }
}

impl Tx {
    /// Adds a person. Their subject must be new.
    pub async fn person_insert(&self, person: &Person) -> Result<()> {
        self.noun_insert(person).await
    }

    /// Writes a changed person; the stored one must be one version behind.
    pub async fn person_update(&self, person: &Person) -> Result<()> {
        self.noun_update(person).await
    }

    /// Adds a member.
    pub async fn member_insert(&self, member: &Member) -> Result<()> {
        self.noun_insert(member).await
    }

    /// Writes a changed member; the stored one must be one version behind.
    pub async fn member_update(&self, member: &Member) -> Result<()> {
        self.noun_update(member).await
    }

    /// Removes a member; the stored one must be of this version.
    pub async fn member_remove(&self, member: &Member) -> Result<()> {
        let id = member_id(member.organisation, member.person);
        self.guard(async {
            let removed = member::Entity::delete_many()
                .filter(member::Column::Id.eq(&id))
                .filter(member::Column::Version.eq(noun::int(member.version, "a version")?))
                .exec(&self.db())
                .await?;
            if removed.rows_affected == 1 { Ok(()) } else { Err(Error::Conflict { noun: "member", id: id.clone() }) }
        })
        .await
    }

    /// Adds an invitation.
    pub async fn invitation_insert(&self, invitation: &Invitation) -> Result<()> {
        self.noun_insert(invitation).await
    }

    /// Writes a changed invitation; the stored one must be one version behind.
    pub async fn invitation_update(&self, invitation: &Invitation) -> Result<()> {
        self.noun_update(invitation).await
    }

    /// Adds a family of refresh credentials.
    pub async fn session_insert(&self, session: &Session) -> Result<()> {
        self.noun_insert(session).await
    }

    /// Writes a changed family; the stored one must be one version behind.
    pub async fn session_update(&self, session: &Session) -> Result<()> {
        self.noun_update(session).await
    }

    /// Forgets a family: it has ended, and nothing of it is worth keeping.
    pub async fn session_remove(&self, session: &Session) -> Result<()> {
        self.guard(async {
            let mine = session::Column::Id.eq(session.id.to_string());
            session::Entity::delete_many().filter(mine).exec(&self.db()).await?;
            Ok(())
        })
        .await
    }

    /// Adds a domain. It must be nobody's.
    pub async fn domain_insert(&self, domain: &Domain) -> Result<()> {
        self.noun_insert(domain).await
    }

    /// Takes a domain away.
    pub async fn domain_remove(&self, name: &str) -> Result<()> {
        self.guard(async {
            domain::Entity::delete_many().filter(domain::Column::Id.eq(name)).exec(&self.db()).await?;
            Ok(())
        })
        .await
    }
}
