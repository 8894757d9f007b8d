//! SKUs over HTTP.

use axum::{Json, extract::State};
use gregal_api::{
    page::SkuList,
    sku::{SkuCreate, SkuPriceWrite, SkuQuery, SkuView},
};

use crate::{
    Control, Cx, Result,
    http::extract::{Asked, Body, Name},
};

pub(crate) async fn list(
    State(control): State<Control>,
    cx: Cx,
    Asked(query): Asked<SkuQuery>,
) -> Result<Json<SkuList>> {
    Ok(Json(SkuList { items: control.skus_list(&cx, query.all).await?, next: None }))
}

pub(crate) async fn read(State(control): State<Control>, cx: Cx, Name(name): Name) -> Result<Json<SkuView>> {
    Ok(Json(control.sku_read(&cx, &name).await?))
}

pub(crate) async fn create(
    State(control): State<Control>,
    cx: Cx,
    Body(wanted): Body<SkuCreate>,
) -> Result<Json<SkuView>> {
    Ok(Json(control.sku_create(&cx, wanted).await?))
}

pub(crate) async fn price(
    State(control): State<Control>,
    cx: Cx,
    Name(name): Name,
    Body(wanted): Body<SkuPriceWrite>,
) -> Result<Json<SkuView>> {
    Ok(Json(control.sku_price(&cx, &name, &wanted).await?))
}

pub(crate) async fn retire(State(control): State<Control>, cx: Cx, Name(name): Name) -> Result<Json<SkuView>> {
    Ok(Json(control.sku_retire(&cx, &name).await?))
}
