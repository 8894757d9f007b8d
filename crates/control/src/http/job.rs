//! Jobs over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    catalogue::Empty,
    job::{ExplainQuery, JobCreate, JobExplanation, JobPreempt, JobPreempted, JobView},
    page::{JobList, PageQuery, ProgressList},
};
use gregal_core::id::{JobId, ProjectId};

use crate::{
    Control, Cx, Error, Result,
    http::extract::{Asked, Body, Id, Paged, limit},
};

pub(crate) async fn create(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Body(wanted): Body<JobCreate>,
) -> Result<Json<JobView>> {
    Ok(Json(control.job_create(&cx, project, wanted).await?))
}

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Id(project): Id<ProjectId>,
    Paged(page): Paged,
) -> Result<Json<JobList>> {
    let listed = control.jobs_list(&cx, project, &page).await?;
    Ok(Json(JobList { items: listed.items.iter().map(Into::into).collect(), next: listed.next }))
}

pub(crate) async fn read(State(control): State<Control>, cx: Cx, Id(id): Id<JobId>) -> Result<Json<JobView>> {
    Ok(Json((&control.job_read(&cx, id).await?).into()))
}

pub(crate) async fn progress(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<JobId>,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<ProgressList>> {
    let after = query.after.map(|after| after.parse::<u64>()).transpose();
    let after = after.map_err(|_| Error::invalid("`after` is not a step: expected a whole number"))?;
    let limit = limit(query.limit)?;
    let mut points = control.job_progress(&cx, id, after, limit + 1).await?;
    let more = points.len() > limit as usize;
    points.truncate(limit as usize);
    let next = if more { points.last().map(|point| point.step.to_string()) } else { None };
    Ok(Json(ProgressList { items: points.into_iter().map(Into::into).collect(), next }))
}

pub(crate) async fn explain(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<JobId>,
    Asked(query): Asked<ExplainQuery>,
) -> Result<Json<JobExplanation>> {
    Ok(Json(control.job_explain(&cx, id, query.pass).await?))
}

pub(crate) async fn cancel(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<JobId>,
    Body(Empty {}): Body<Empty>,
) -> Result<Json<JobView>> {
    Ok(Json((&control.job_cancel(&cx, id).await?).into()))
}

pub(crate) async fn preempt(
    State(control): State<Control>,
    cx: Cx,
    Id(id): Id<JobId>,
    Body(wanted): Body<JobPreempt>,
) -> Result<Json<JobPreempted>> {
    Ok(Json((&control.job_preempt(&cx, id, &wanted.why).await?).into()))
}
