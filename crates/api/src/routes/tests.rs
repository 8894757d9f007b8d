//! What must hold for every route.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_route_has_its_own_name_and_its_own_place() {
    let names: BTreeSet<_> = ROUTES.iter().map(|route| route.id).collect();
    let places: BTreeSet<_> = ROUTES.iter().map(|route| (route.method, route.path)).collect();
    assert_eq!((names.len(), places.len()), (ROUTES.len(), ROUTES.len()));
}

#[test]
fn whatever_changes_something_asks_who_is_there() {
    for route in ROUTES.iter().filter(|route| route.changes) {
        assert!(!matches!(route.access, Public), "{} changes something and is open to anyone", route.id);
    }
}
