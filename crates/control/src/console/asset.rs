//! Style, script and icon: built into the program, the same for everybody.

use axum::{
    extract::Path,
    http::header,
    response::{IntoResponse as _, Response},
};
use gregal_api::problem::{Code, Problem};

use super::failure::Failure;

const STYLE: &str = include_str!("../../assets/console.css");
const SCRIPT: &str = include_str!("../../assets/console.js");
const PASSKEY: &str = include_str!("../../assets/passkey.js");
const ICON: &str = include_str!("../../assets/icon.svg");

pub(crate) async fn read(Path(name): Path<String>) -> Result<Response, Failure> {
    let (kind, text) = match name.as_str() {
        "console.css" => ("text/css; charset=utf-8", STYLE),
        "console.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "passkey.js" => ("text/javascript; charset=utf-8", PASSKEY),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Err(Problem::new(Code::NotFound, "the console has no such file").into()),
    };
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=300")], text).into_response())
}
