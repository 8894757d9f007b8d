//! The log for other programs: CEF lines for a SIEM, OpenTelemetry logs as JSON. Values come from tenants, so each format's
//! own marks are escaped: no value can begin a field or a line of its own.

use gregal_api::audit::AuditRecord;
use gregal_core::audit::AuditEntry;
use serde_json::{Value, json};

/// Records in one line of OpenTelemetry JSON.
const RECORDS_MAX: usize = 500;

/// One CEF line an entry (`ArcSight` Common Event Format, version 0).
pub(crate) fn cef(items: &[AuditRecord]) -> String {
    items.iter().map(|record| cef_line(record) + "\n").collect()
}

fn cef_line(record: &AuditRecord) -> String {
    let Ok(entry) = serde_json::from_str::<AuditEntry>(&record.body) else {
        // An entry of a newer version is still an entry.
        let fields = [("externalId", record.index.to_string()), ("msg", record.body.clone())];
        return cef_of("unreadable", 5, fields);
    };
    let severity = match entry.result.as_str() {
        "done" => 3,
        "denied" => 7,
        _ => 5,
    };
    let facts = if entry.facts.is_empty() { None } else { Some(Value::Object(entry.facts).to_string()) };
    let organisation = entry.organisation.map(|id| id.to_string());
    let request = entry.request.map(|id| id.to_string());
    let mut fields = vec![
        ("rt", entry.at.as_millis().to_string()),
        ("externalId", record.index.to_string()),
        ("suid", entry.actor),
        ("act", entry.action.clone()),
        ("outcome", entry.result),
        ("cs1Label", "object".into()),
        ("cs1", entry.object),
    ];
    let optional = [
        ("cs2Label", "organisation", "cs2", organisation),
        ("cs3Label", "policy", "cs3", entry.policy),
        ("cs4Label", "request", "cs4", request),
        ("cs5Label", "source", "cs5", entry.source),
        ("cs6Label", "facts", "cs6", facts),
    ];
    for (label, name, field, value) in optional {
        if let Some(value) = value {
            fields.extend([(label, name.to_owned()), (field, value)]);
        }
    }
    fields.extend(entry.reason.map(|reason| ("reason", reason)));
    cef_of(&entry.action, severity, fields)
}

fn cef_of<'a>(action: &str, severity: u8, fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let (version, action) = (env!("CARGO_PKG_VERSION"), in_header(action));
    let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("{name}={}", in_field(&value))).collect();
    format!("CEF:0|Gregal|Gregal|{version}|{action}|{action}|{severity}|{}", fields.join(" "))
}

/// A value in the header: a pipe would end it, and there is no way to write a line end.
fn in_header(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, c| {
        match c {
            '\\' | '|' => text.extend(['\\', c]),
            c if breaks(c) => text.push(' '),
            c => text.push(c),
        }
        text
    })
}

/// A value in the extension: an equals sign would begin a field, a line end a line.
fn in_field(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, c| {
        match c {
            '\\' | '=' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            c if breaks(c) => text.push('\u{fffd}'),
            c => text.push(c),
        }
        text
    })
}

/// Whether some reader ends a line here, or a terminal obeys it.
fn breaks(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// OpenTelemetry logs as JSON (OTLP), some hundred records a line.
pub(crate) fn otlp(items: &[AuditRecord]) -> String {
    let line = |records: &[AuditRecord]| {
        let records: Vec<Value> = records.iter().map(otlp_record).collect();
        let scope = json!({ "name": "gregal.audit", "version": env!("CARGO_PKG_VERSION") });
        let resource = json!({ "attributes": [attribute("service.name", json!("gregal"))] });
        let logs = json!([{ "resource": resource, "scopeLogs": [{ "scope": scope, "logRecords": records }] }]);
        format!("{}\n", json!({ "resourceLogs": logs }))
    };
    items.chunks(RECORDS_MAX).map(line).collect()
}

fn otlp_record(record: &AuditRecord) -> Value {
    let index = attribute("audit.index", json!(record.index));
    let Ok(entry) = serde_json::from_str::<AuditEntry>(&record.body) else {
        return json!({ "severityNumber": 13, "severityText": "WARN", "body": { "stringValue": record.body },
            "attributes": [index] });
    };
    let (number, text) = if entry.result == "done" { (9, "INFO") } else { (13, "WARN") };
    // Protobuf's JSON writes 64-bit numbers as text.
    let nanoseconds = (i128::from(entry.at.as_millis()) * 1_000_000).to_string();
    let mut attributes = vec![index];
    let named = [
        ("audit.actor", Some(entry.actor)),
        ("audit.action", Some(entry.action.clone())),
        ("audit.object", Some(entry.object)),
        ("audit.result", Some(entry.result)),
        ("audit.organisation", entry.organisation.map(|id| id.to_string())),
        ("audit.reason", entry.reason),
        ("audit.policy", entry.policy),
        ("audit.request", entry.request.map(|id| id.to_string())),
        ("audit.source", entry.source),
    ];
    attributes.extend(named.into_iter().filter_map(|(name, value)| Some(attribute(name, json!(value?)))));
    if !entry.facts.is_empty() {
        attributes.push(attribute("audit.facts", json!(Value::Object(entry.facts).to_string())));
    }
    json!({ "timeUnixNano": nanoseconds, "severityNumber": number, "severityText": text,
        "body": { "stringValue": entry.action }, "attributes": attributes })
}

fn attribute(name: &str, value: Value) -> Value {
    let value = match value {
        Value::String(text) => json!({ "stringValue": text }),
        other => json!({ "intValue": other.to_string() }),
    };
    json!({ "key": name, "value": value })
}
