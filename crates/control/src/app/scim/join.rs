//! Joining by a directory's word: at the first sign-in with the organisation's own provider, without an invitation.

use gregal_core::{access::Action, member::Member, person::domain_of};

use crate::{Control, Result, app::sign_in::Vouched, context::Facts as _, wakes::Wake};

impl Control {
    /// Makes whoever was vouched for just now a member where their organisation's directory told of them. The organisation is
    /// the one to which the address's domain belongs, so no directory gives memberships to addresses of others.
    pub(crate) async fn scim_join(&self, vouched: &Vouched) -> Result<()> {
        let host = vouched.email.rsplit_once('@').and_then(|(_, host)| domain_of(host));
        let Some(host) = host else { return Ok(()) };
        let Some(domain) = self.store().domain_get(&host).await? else { return Ok(()) };
        let told = self.store().scim_users_at(domain.organisation, &vouched.email).await?;
        if !told.iter().any(|user| user.waits_for(&vouched.email)) {
            return Ok(());
        }
        let cx = self.system("sign-in");
        let tx = self.store().begin().await?;
        let is_theirs = tx.domain_get(&host).await?.is_some_and(|now| now.organisation == domain.organisation);
        if !is_theirs || !self.still_vouches(&tx, &vouched.subject.issuer, &vouched.email).await? {
            return Ok(());
        }
        let told = tx.scim_users_at(domain.organisation, &vouched.email).await?;
        let Some(mut user) = told.into_iter().find(|user| user.waits_for(&vouched.email)) else { return Ok(()) };
        let known = tx.person_by_subject(&vouched.subject).await?;
        let is_new = known.is_none();
        let person = known.unwrap_or_else(|| self.person_new(vouched, cx.now));
        if is_new {
            tx.person_insert(&person).await?;
        }
        let mut entries = Vec::new();
        if tx.member_get(domain.organisation, person.id).await?.is_none() {
            let member = Member {
                organisation: domain.organisation,
                person: person.id,
                role: user.role,
                project: None,
                created_at: cx.now,
                version: 1,
            };
            tx.member_insert(&member).await?;
            let mut entry = self.member_entry(&cx, Action::MemberWrite, &member, &person);
            entry = entry.fact("scim_user", user.id.to_string()).fact("by", user.by_key.to_string());
            entry.action = "scim:join".into();
            entry.actor = person.log_name().unwrap_or_default();
            entries.push(entry);
        }
        user.person = Some(person.id);
        user.version += 1;
        tx.scim_user_update(&user).await?;
        self.finish(&cx, tx, &entries, Wake::Nobody).await
    }
}
