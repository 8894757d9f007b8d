//! Reservations and the capacity calendar over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    catalogue::Empty,
    page::ReservationList,
    reservation::{CalendarQuery, CalendarView, ReservationCreate, ReservationQuote, ReservationView},
};
use gregal_core::id::{ProjectId, ReservationId};

use crate::{
    Control, Cx, Result,
    http::extract::{Asked, Body, Id, Name, Paged},
};

pub(crate) async fn create(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Body(wanted): Body<ReservationCreate>,
) -> Result<Json<ReservationView>> {
    Ok(Json(control.reservation_create(&cx, project, wanted).await?))
}

pub(crate) async fn quote(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Body(wanted): Body<ReservationCreate>,
) -> Result<Json<ReservationQuote>> {
    Ok(Json(control.reservation_quote(&cx, project, wanted).await?))
}

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Paged(page): Paged,
) -> Result<Json<ReservationList>> {
    let listed = control.reservations_list(&cx, project, &page).await?;
    Ok(Json(ReservationList { items: listed.items, next: listed.next }))
}

pub(crate) async fn read(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<ReservationId>,
) -> Result<Json<ReservationView>> {
    Ok(Json(control.reservation_read(&cx, id).await?))
}

pub(crate) async fn cancel(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<ReservationId>,
    Body(Empty {}): Body<Empty>,
) -> Result<Json<ReservationView>> {
    Ok(Json(control.reservation_cancel(&cx, id).await?))
}

pub(crate) async fn calendar(
    State(control): State<Control>,
    cx: Cx,
    Name(site): Name,
    Asked(query): Asked<CalendarQuery>,
) -> Result<Json<CalendarView>> {
    Ok(Json(control.calendar_read(&cx, &site, &query).await?))
}
