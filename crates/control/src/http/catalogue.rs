//! Health, counters, the contract itself, and prices.

use std::sync::LazyLock;

use axum::{Json, extract::State};
use gregal_api::{
    catalogue::{Health, PriceView},
    openapi,
    page::PriceList,
};
use serde_json::Value;

use crate::{Control, Cx, Result};

/// The contract, made once.
static CONTRACT: LazyLock<Value> = LazyLock::new(openapi::document);

fn ok(control: &Control) -> Json<Health> {
    Json(Health { status: "ok".into(), version: control.options().code_version.clone() })
}

pub(crate) async fn health_live(State(control): State<Control>) -> Json<Health> {
    ok(&control)
}

pub(crate) async fn health_ready(State(control): State<Control>) -> Result<Json<Health>> {
    control.health_ready().await?;
    Ok(ok(&control))
}

pub(crate) async fn metrics_read(State(control): State<Control>) -> String {
    control.metrics().text()
}

pub(crate) async fn openapi_read() -> Json<&'static Value> {
    Json(&CONTRACT)
}

pub(crate) async fn prices_list(State(control): State<Control>, cx: Cx) -> Result<Json<PriceList>> {
    let book = control.prices_list(&cx).await?;
    Ok(Json(PriceList { items: book.rows.iter().map(|row| PriceView::of(&book, row)).collect(), next: None }))
}
