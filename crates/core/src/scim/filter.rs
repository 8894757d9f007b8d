//! Filters (RFC 7644, 3.4.2.2), as far as directories use them: `eq`, `and`, `or`.

use serde_json::Value;

use super::ScimError;

/// The longest filter, in bytes.
const FILTER_BYTES_MAX: usize = 2_000;

/// Some groups of comparisons: one group has to hold whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Vec<Vec<Comparison>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparison {
    path: Vec<String>,
    value: String,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// If it holds anything but comparisons by `eq`, joined by `and` and `or`.
    pub fn read(text: &str) -> Result<Self, ScimError> {
        let words = words(text)?;
        let mut groups = vec![Vec::new()];
        for part in words.chunks(4) {
            let [Word::Plain(path), Word::Plain(op), value, rest @ ..] = part else { return Err(ScimError::Filter) };
            if !op.eq_ignore_ascii_case("eq") {
                return Err(ScimError::Filter);
            }
            let comparison = Comparison { path: path_of(path)?, value: value.text().to_lowercase() };
            groups.last_mut().ok_or(ScimError::Filter)?.push(comparison);
            match rest {
                [Word::Plain(join)] if join.eq_ignore_ascii_case("or") => groups.push(Vec::new()),
                [Word::Plain(join)] if join.eq_ignore_ascii_case("and") => {}
                [] => {}
                _ => return Err(ScimError::Filter),
            }
        }
        // Every comparison but the last is followed by a joining word.
        if words.len() % 4 == 3 { Ok(Self(groups)) } else { Err(ScimError::Filter) }
    }

    /// Whether it is true of this. Case tells nothing apart but in ids.
    pub fn holds(&self, of: &Value) -> bool {
        self.0.iter().any(|group| group.iter().all(|one| one.holds(of)))
    }
}

impl Comparison {
    fn holds(&self, of: &Value) -> bool {
        found(of, &self.path).iter().any(|value| match value {
            Value::String(text) => text.to_lowercase() == self.value,
            Value::Bool(truth) => truth.to_string() == self.value,
            _ => false,
        })
    }
}

/// What stands at a path; of several values each, and a value's own `value` where the path ends before it.
fn found<'a>(of: &'a Value, path: &[String]) -> Vec<&'a Value> {
    match (of, path.split_first()) {
        (Value::Array(several), _) => several.iter().flat_map(|one| found(one, path)).collect(),
        (Value::Object(object), Some((name, rest))) => {
            super::at(object, name).map(|value| found(value, rest)).unwrap_or_default()
        }
        (Value::Object(object), None) => super::at(object, "value").into_iter().collect(),
        (one, None) => vec![one],
        _ => Vec::new(),
    }
}

fn path_of(text: &str) -> Result<Vec<String>, ScimError> {
    let prefix = format!("{}:", super::USER_SCHEMA);
    let bare = match text.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(&prefix) => &text[prefix.len()..],
        _ => text,
    };
    let is_name = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '$');
    let parts: Vec<String> = bare.split('.').map(str::to_owned).collect();
    if parts.iter().all(|part| is_name(part)) { Ok(parts) } else { Err(ScimError::Filter) }
}

#[derive(Debug)]
enum Word {
    Plain(String),
    Quoted(String),
}

impl Word {
    fn text(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Quoted(text) => text,
        }
    }
}

/// Words and quoted texts, which are JSON strings.
fn words(text: &str) -> Result<Vec<Word>, ScimError> {
    let mut rest = text.trim();
    if rest.len() > FILTER_BYTES_MAX {
        return Err(ScimError::Filter);
    }
    let mut words = Vec::new();
    while !rest.is_empty() {
        let end = if rest.starts_with('"') { quoted_end(rest)? } else { rest.find([' ', '"']).unwrap_or(rest.len()) };
        let (word, after) = rest.split_at(end);
        words.push(if word.starts_with('"') {
            Word::Quoted(serde_json::from_str(word).map_err(|_| ScimError::Filter)?)
        } else {
            Word::Plain(word.to_owned())
        });
        rest = after.trim_start();
    }
    Ok(words)
}

fn quoted_end(text: &str) -> Result<usize, ScimError> {
    let mut is_escaped = false;
    for (place, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Ok(place + 1),
            _ => {}
        }
    }
    Err(ScimError::Filter)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_filter_finds_by_what_it_names() {
        let ada = json!({
            "id": "scu_1", "userName": "Ada@x.eu", "externalId": "7 \"q\"", "active": true, "name": { "givenName": "Ada" },
            "emails": [{ "value": "a@x.eu", "type": "work" }],
        });
        for (filter, holds) in [
            (r#"userName eq "ada@X.eu""#, true),
            (r#"USERNAME EQ "bob""#, false),
            (r#"externalId eq "7 \"q\"""#, true),
            (r#"id eq "scu_1" and active eq true"#, true),
            (r#"id eq "scu_1" and active eq false"#, false),
            (r#"id eq "no" or userName eq "ada@x.eu" and active eq "true""#, true),
            (r#"emails.value eq "a@x.eu""#, true),
            (r#"emails eq "a@x.eu""#, true),
            (r#"name.givenName eq "ada""#, true),
            (r#"urn:ietf:params:scim:schemas:core:2.0:User:userName eq "ada@x.eu""#, true),
            (r#"nickName eq "ada""#, false),
        ] {
            assert_eq!(Filter::read(filter).unwrap().holds(&ada), holds, "{filter}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_rather_than_read_as_something_wider() {
        for wrong in [
            "",
            "userName",
            "userName eq",
            r#"userName co "a""#,
            r#"userName eq "a" and"#,
            r#"userName eq "a" xor id eq "b""#,
            r#"not (userName eq "a")"#,
            r#"userName eq "a"#,
            r#""userName" eq "a""#,
            r#"userName eq "a" or id"#,
            &"a".repeat(3_000),
        ] {
            assert_eq!(Filter::read(wrong), Err(ScimError::Filter), "{wrong}");
        }
    }
}
