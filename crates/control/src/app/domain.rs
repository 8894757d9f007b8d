//! Domains: whose people sign in with a provider of their organisation's own. Theirs by the operator's word.

use gregal_api::{
    person::{DomainView, DomainWrite},
    problem::Code,
};
use gregal_core::{access::Action, audit::AuditEntry, id::OrganisationId, person::domain_of, provider::Domain};
use gregal_store::Tx;

use crate::{Control, Cx, Error, Result, context::Facts as _, names, wakes::Wake};

/// The most domains of one organisation.
const DOMAINS_MAX: usize = 100;

impl Control {
    /// An organisation's domains.
    pub(crate) async fn domains_list(&self, cx: &Cx, id: OrganisationId) -> Result<Vec<DomainView>> {
        self.organisation_seen(cx, id, Action::DomainRead).await?;
        Ok(self.store().domains_of(id).await?.iter().map(Into::into).collect())
    }

    /// Gives a domain to an organisation, or says anew who vouches for its people.
    pub(crate) async fn domain_write(
        &self,
        cx: &Cx,
        id: OrganisationId,
        name: &str,
        wanted: &DomainWrite,
    ) -> Result<DomainView> {
        let (_, policies) = self.organisation_seen(cx, id, Action::DomainWrite).await?;
        let name =
            domain_of(name).ok_or_else(|| Error::invalid("the path holds no domain: one looks like `example.eu`"))?;
        names::words("client_id", &wanted.client_id, 200)?;
        names::words("issuer", &wanted.issuer, 500)?;
        self.identity().check_issuer(&wanted.issuer)?;
        let tx = self.begin(cx).await?;
        if let Some(before) = tx.domain_get(&name).await? {
            if before.organisation != id {
                return Err(Error::refused(Code::Taken, format!("`{name}` belongs to another organisation")));
            }
            tx.domain_remove(&name).await?;
        } else if tx.domains_of(id).await?.len() >= DOMAINS_MAX {
            return Err(Error::refused(Code::Conflict, format!("an organisation has at most {DOMAINS_MAX} domains")));
        }
        let domain = Domain {
            name,
            organisation: id,
            issuer: wanted.issuer.clone(),
            client_id: wanted.client_id.clone(),
            created_at: cx.now,
            version: 1,
        };
        tx.domain_insert(&domain).await?;
        let entry = cx
            .done(Some(id), Action::DomainWrite.as_str(), &domain.name)
            .by(&policies)
            .fact("issuer", domain.issuer.as_str());
        let mut entries = vec![entry];
        entries.extend(self.unvouched_end(cx, &tx, id, &domain.name).await?);
        self.finish(cx, tx, &entries, Wake::Sites).await?;
        Ok((&domain).into())
    }

    /// Takes a domain away.
    pub(crate) async fn domain_remove(&self, cx: &Cx, id: OrganisationId, name: &str) -> Result<DomainView> {
        let (_, policies) = self.organisation_seen(cx, id, Action::DomainWrite).await?;
        let tx = self.begin(cx).await?;
        let found = tx.domain_get(name).await?.filter(|domain| domain.organisation == id);
        let domain = found.ok_or_else(|| Error::missing("domain", name))?;
        tx.domain_remove(&domain.name).await?;
        let entry = cx.done(Some(id), Action::DomainWrite.as_str(), &domain.name).by(&policies).fact("removed", true);
        let mut entries = vec![entry];
        entries.extend(self.unvouched_end(cx, &tx, id, &domain.name).await?);
        self.finish(cx, tx, &entries, Wake::Sites).await?;
        Ok((&domain).into())
    }

    /// Ends the sessions of the organisation's members with addresses of a domain for which their provider may not vouch any
    /// more. Members of other organisations who have such addresses are found out at their next page or renewal.
    async fn unvouched_end(&self, cx: &Cx, tx: &Tx, id: OrganisationId, domain: &str) -> Result<Vec<AuditEntry>> {
        let mut entries = Vec::new();
        for member in tx.members_of(id).await? {
            let person = self.person_of(tx, member.person).await?;
            let is_of_it = person.email.rsplit_once('@').is_some_and(|(_, host)| host == domain);
            let issuer = person.subject.as_ref().map_or("", |subject| subject.issuer.as_str());
            if is_of_it && !self.still_vouches(tx, issuer, &person.email).await? {
                entries.extend(self.sessions_end(cx, tx, &person, None).await?);
            }
        }
        Ok(entries)
    }
}
