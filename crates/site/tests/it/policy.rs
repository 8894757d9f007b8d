//! Organisations' own policies at the site: decided from the intent alone, also while control is away.

use std::sync::atomic::Ordering;

use gregal_api::protocol::{Intent, SitePolicy};
use serde_json::json;

use super::{
    control::{ORG, OWNER, PROJECT, VIEWER},
    world::{World, until},
};

fn write(intent: &mut Intent, policies: &[(Option<gregal_core::id::ProjectId>, &str)]) {
    let own = intent.organisations.iter_mut().find(|one| one.organisation == ORG).unwrap();
    let told = policies.iter().enumerate();
    own.policies = told
        .map(|(index, (project, text))| SitePolicy {
            project: *project,
            name: format!("p{index}"),
            text: (*text).to_owned(),
        })
        .collect();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_organisation_wrote_is_decided_at_the_site_and_holds_while_control_is_away() {
    let world = World::new().await;
    let site = world.start_ready().await;
    let body = json!({"model": "chat", "messages": [{"role": "user", "content": "count:1"}]});
    let told =
        async |key: u8, status: u16| Some(site.chat(key, &body).await).filter(|response| response.status() == status);
    assert!(told(OWNER, 200).await.is_some() && told(VIEWER, 403).await.is_some(), "by roles alone");

    let permit = "permit (principal is Holder in Role::\"viewer\", action == Action::\"endpoint:infer\", resource);";
    world.control.change(|intent| write(intent, &[(Some(PROJECT), permit)]));
    until("the project's permit", async || told(VIEWER, 200).await).await;

    let forbid = "forbid (principal is Holder in Role::\"owner\", action == Action::\"endpoint:infer\", resource);";
    world.control.change(|intent| write(intent, &[(None, forbid), (Some(PROJECT), permit)]));
    let refused = until("the guardrail", async || told(OWNER, 403).await).await;
    let text = refused.text().await.unwrap();
    assert!(text.contains("organisation:p0"), "{text}");
    world.control.state.away.store(true, Ordering::SeqCst);
    assert!(told(OWNER, 403).await.is_some() && told(VIEWER, 200).await.is_some(), "nothing is asked of control");
    world.control.state.away.store(false, Ordering::SeqCst);

    // What cannot be read may have been a guardrail: nothing goes until it is mended.
    world.control.change(|intent| write(intent, &[(None, "forbid (principal is"), (Some(PROJECT), permit)]));
    until("the unreadable policy", async || told(VIEWER, 403).await).await;

    let nowhere = "forbid (principal is Ceiling, action == Action::\"place:route\", resource is Ground);";
    world.control.change(|intent| write(intent, &[(None, nowhere)]));
    let refused = until("the guardrail about places", async || {
        let response = told(OWNER, 403).await?;
        let text = response.text().await.unwrap();
        text.contains("residency_refused").then_some(text)
    })
    .await;
    assert!(refused.contains("organisation:p0"), "{refused}");
}
