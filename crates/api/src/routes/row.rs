//! What a row of the route table is, and how it is written down: by what the route does.

use gregal_core::access::Action;

/// How a route proves who is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone: health and the contract itself.
    Public,
    /// A key whose role allows this action on the object named.
    Key(Action),
    /// A key, whatever its role: it asks about itself.
    AnyKey,
    /// No key yet: what is sent proves itself (a code that a person allowed, a refresh credential), or gives nothing.
    Proof,
    /// A site's secret.
    Site,
    /// A directory's credential: a key that is narrowed to provisioning its organisation, and nothing else.
    Directory,
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Its name: noun, then verb. Handlers, client methods and `OpenAPI` operations share it.
    pub id: &'static str,
    /// HTTP method.
    pub method: &'static str,
    /// Path, parameters in braces.
    pub path: &'static str,
    /// Who may ask.
    pub access: Access,
    /// Schema of the request's body, if it has one.
    pub request: Option<&'static str>,
    /// Schema of the answer's body, if it has one.
    pub response: Option<&'static str>,
    /// Status of a good answer.
    pub status: u16,
    /// Whether it changes something (and so leaves an audit entry).
    pub changes: bool,
    /// What it is for, one sentence.
    pub summary: &'static str,
}

impl Route {
    /// Whether the route makes something and so takes an `Idempotency-Key`.
    pub fn creates(&self) -> bool {
        self.method == "POST" && self.status == 201
    }
}

/// Two lists in one.
pub(super) const fn joined<const N: usize>(first: &[Route], second: &[Route]) -> [Route; N] {
    let mut all = [first[0]; N];
    let mut place = 0;
    while place < N {
        all[place] = if place < first.len() { first[place] } else { second[place - first.len()] };
        place += 1;
    }
    all
}

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
