use gregal_core::{
    endpoint::{
        Endpoint, EndpointMove,
        EndpointState::{self, Draining, Failed, Loading, Pending, Ready, Stopped},
    },
    id::{EndpointId, ModelId, OrganisationId, ProjectId, SiteId},
    job::Billed,
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
        shared: None,
        sku: "cpu.1".into(),
        hold: None,
        held_ms: 0,
        billed: Billed::default(),
        placed_at: None,
        promised: None,
        state,
        message: None,
        created_at: Time::default(),
        ready_at: None,
        version: 3,
    }
}

fn moves() -> [EndpointMove; 8] {
    [
        EndpointMove::Load,
        EndpointMove::Ready { at: Time::from_millis(7) },
        EndpointMove::Drain { why: None },
        EndpointMove::Stop,
        EndpointMove::Fail { why: "no memory".into() },
        EndpointMove::Reload,
        EndpointMove::Place { at: Time::from_millis(5) },
        EndpointMove::Wait { why: "no room".into(), promise: None },
    ]
}

#[test]
fn every_state_makes_its_legal_moves_and_refuses_all_others() {
    let legal = |state| -> &[&str] {
        match state {
            Pending => &["stop", "fail", "place", "wait"],
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
    let [load, ready, _, _, fail, reload, place, _] = moves();
    let first = endpoint(Pending).apply(place).unwrap().apply(load).unwrap().apply(ready).unwrap();
    let again = first.apply(reload).unwrap().apply(EndpointMove::Ready { at: Time::from_millis(50) }).unwrap();
    assert_eq!(again.ready_at, Some(Time::from_millis(7)));
    assert_eq!(again.apply(fail).unwrap().message.as_deref(), Some("no memory"));
}

#[test]
fn room_is_taken_from_the_placing_to_the_proved_end() {
    let [load, _, drain, stop, _, _, place, wait] = moves();
    let waiting = endpoint(Pending).apply(wait.clone()).unwrap();
    assert_eq!(waiting.message.as_deref(), Some("no room"));
    assert!(!waiting.takes_room() && !waiting.is_for_site());
    assert!(waiting.apply(stop.clone()).is_ok_and(|gone| !gone.takes_room() && gone.message.is_none()));
    assert!(waiting.apply(drain.clone()).is_err(), "nothing runs that could be drained");
    assert!(waiting.apply(load.clone()).is_err(), "nothing loads in room that it has not");

    let placed = waiting.apply(place.clone()).unwrap();
    assert!(placed.takes_room() && placed.is_for_site() && placed.message.is_none());
    assert!(placed.apply(place).is_err() && placed.apply(wait).is_err(), "it has its room");
    assert!(placed.apply(stop.clone()).is_err(), "its site may have begun: the end has to be proved");
    let why = Some("the credit is short".to_owned());
    let draining = placed.apply(load).unwrap().apply(EndpointMove::Drain { why: why.clone() }).unwrap();
    assert!(draining.takes_room(), "what drains still runs");
    let gone = draining.apply(stop).unwrap();
    assert!(!gone.takes_room());
    assert_eq!(gone.message, why);
}
