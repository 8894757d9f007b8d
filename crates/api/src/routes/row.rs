//! How a row of the route table is written down: by what the route does.

use gregal_core::access::Action;

use super::{Access, Route};

pub(super) const fn read(
    id: &'static str,
    path: &'static str,
    access: Access,
    response: &'static str,
    summary: &'static str,
) -> Route {
    Route {
        id,
        method: "GET",
        path,
        access,
        request: None,
        response: Some(response),
        status: 200,
        changes: false,
        summary,
    }
}

pub(super) const fn create(
    id: &'static str,
    path: &'static str,
    action: Action,
    (request, response): (&'static str, &'static str),
    summary: &'static str,
) -> Route {
    Route {
        id,
        method: "POST",
        path,
        access: Access::Key(action),
        request: Some(request),
        response: Some(response),
        status: 201,
        changes: true,
        summary,
    }
}

pub(super) const fn ask(
    id: &'static str,
    path: &'static str,
    access: Access,
    (request, response): (&'static str, &'static str),
    changes: bool,
    summary: &'static str,
) -> Route {
    Route {
        id,
        method: "POST",
        path,
        access,
        request: Some(request),
        response: Some(response),
        status: 200,
        changes,
        summary,
    }
}

pub(super) const fn put(
    id: &'static str,
    path: &'static str,
    action: Action,
    (request, response): (&'static str, &'static str),
    summary: &'static str,
) -> Route {
    Route {
        id,
        method: "PUT",
        path,
        access: Access::Key(action),
        request: Some(request),
        response: Some(response),
        status: 200,
        changes: true,
        summary,
    }
}

pub(super) const fn delete(
    id: &'static str,
    path: &'static str,
    action: Action,
    response: &'static str,
    summary: &'static str,
) -> Route {
    Route {
        id,
        method: "DELETE",
        path,
        access: Access::Key(action),
        request: None,
        response: Some(response),
        status: 200,
        changes: true,
        summary,
    }
}
