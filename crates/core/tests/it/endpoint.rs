use gregal_core::{
    endpoint::{
        Endpoint, EndpointMove,
        EndpointState::{self, Draining, Failed, Loading, Pending, Ready, Stopped},
    },
    id::{EndpointId, ModelId, OrganisationId, ProjectId, SiteId},
    time::Time,
};

const STATES: [EndpointState; 6] = [Pending, Loading, Ready, Draining, Stopped, Failed];

fn endpoint(state: EndpointState) -> Endpoint {
    Endpoint {
        id: EndpointId::from_u128(1),
        organisation: OrganisationId::from_u128(1),
        project: ProjectId::from_u128(1),
        site: SiteId::from_u128(1),
        name: "chat".into(),
        model: ModelId::from_u128(1),
        state,
        message: None,
        created_at: Time::default(),
        ready_at: None,
        version: 3,
    }
}

fn moves() -> [EndpointMove; 6] {
    [
        EndpointMove::Load,
        EndpointMove::Ready { at: Time::from_millis(7) },
        EndpointMove::Drain,
        EndpointMove::Stop,
        EndpointMove::Fail { why: "no memory".into() },
        EndpointMove::Reload,
    ]
}

#[test]
fn every_state_makes_its_legal_moves_and_refuses_all_others() {
    let legal = |state| -> &[&str] {
        match state {
            Pending => &["load", "stop", "fail"],
            Loading => &["ready", "drain", "fail"],
            Ready => &["drain", "fail", "reload"],
            Draining => &["stop", "fail"],
            Stopped | Failed => &[],
        }
    };
    for state in STATES {
        for step in moves() {
            let (name, to) = (step.name(), step.leads_to());
            match endpoint(state).apply(step) {
                Ok(after) => {
                    assert!(legal(state).contains(&name), "{state:?} made `{name}`");
                    assert_eq!((after.state, after.version), (to, 4));
                }
                Err(refused) => {
                    assert!(!legal(state).contains(&name), "{state:?} refused `{name}`: {refused}");
                    assert_eq!((refused.from, refused.to, refused.by), (state, to, name));
                }
            }
        }
    }
}

#[test]
fn a_reloaded_endpoint_keeps_when_it_first_answered_and_a_failed_one_says_why() {
    let [load, ready, _, _, fail, reload] = moves();
    let first = endpoint(Pending).apply(load).unwrap().apply(ready).unwrap();
    let again = first.apply(reload).unwrap().apply(EndpointMove::Ready { at: Time::from_millis(50) }).unwrap();
    assert_eq!(again.ready_at, Some(Time::from_millis(7)));
    assert_eq!(again.apply(fail).unwrap().message.as_deref(), Some("no memory"));
}
