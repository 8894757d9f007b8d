//! Looks into JSON without taking it apart: finds the fields of an object as pieces of the text they stand in. What an engine
//! streams is passed on as it came but for two fields, and most of it is never read. It finds the bounds of values and does
//! not judge what stands between them.

use std::ops::Range;

/// A field of an object: its name as it is written, and where its value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: Range<usize>,
}

/// The fields of an object, in order; `None` ends a text that is no object.
pub(crate) struct Fields<'a> {
    text: &'a [u8],
    at: usize,
}

/// The fields of the object that `text` is.
pub(crate) fn fields(text: &[u8]) -> Option<Fields<'_>> {
    let at = space(text, 0);
    (text.get(at) == Some(&b'{')).then_some(Fields { text, at: at + 1 })
}

impl<'a> Fields<'a> {
    /// The next field; `Ok(None)` after the last, `Err` where the text is no JSON.
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, Broken> {
        let mut at = space(self.text, self.at);
        if self.text.get(at) == Some(&b',') {
            at = space(self.text, at + 1);
        }
        if self.text.get(at) == Some(&b'}') {
            return Ok(None);
        }
        let end = string(self.text, at).ok_or(Broken)?;
        let name = &self.text[at + 1..end - 1];
        let colon = space(self.text, end);
        if self.text.get(colon) != Some(&b':') {
            return Err(Broken);
        }
        let start = space(self.text, colon + 1);
        let end = value(self.text, start).ok_or(Broken)?;
        self.at = end;
        Ok(Some(Field { name, value: start..end }))
    }
}

/// The text is no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// The value of one field of an object.
pub(crate) fn field<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut fields = fields(text)?;
    while let Ok(Some(field)) = fields.next() {
        if field.name == name.as_bytes() {
            return Some(&text[field.value]);
        }
    }
    None
}

/// The first element of an array; none if it is empty, or no array.
pub(crate) fn first(text: &[u8]) -> Option<&[u8]> {
    let at = space(text, 0);
    if text.get(at) != Some(&b'[') {
        return None;
    }
    let start = space(text, at + 1);
    if text.get(start) == Some(&b']') {
        return None;
    }
    Some(&text[start..value(text, start)?])
}

/// A whole number, if the text is one.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Whether the text is a string with something in it.
pub(crate) fn is_words(text: &[u8]) -> bool {
    text.len() > 2 && text[0] == b'"'
}

fn space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// The end of the string that begins at `at`.
fn string(text: &[u8], at: usize) -> Option<usize> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The end of the value that begins at `at`. No call nests, however deep the text does.
fn value(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => string(text, at),
        b'{' | b'[' => nested(text, at),
        _ => {
            let length =
                text[at..].iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'));
            let end = at + length?;
            (end > at).then_some(end)
        }
    }
}

fn nested(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match text.get(at)? {
            b'"' => at = string(text, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth -= 1;
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<(String, String)>, Broken> {
        let mut fields = fields(text.as_bytes()).ok_or(Broken)?;
        let mut found = Vec::new();
        while let Some(field) = fields.next()? {
            found.push((String::from_utf8_lossy(field.name).into_owned(), text[field.value].to_owned()));
        }
        Ok(found)
    }

    #[test]
    fn fields_are_found_whatever_stands_in_strings_and_nests() {
        let text = r#" {"a" : "x\"},{" , "b":[1,{"c":"]"}], "d":null,"e":-1.5e3 } "#;
        let found = names(text).unwrap();
        let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, [("a", r#""x\"},{""#), ("b", r#"[1,{"c":"]"}]"#), ("d", "null"), ("e", "-1.5e3")]);
        assert_eq!(first(br#"[ {"x":[]} , 2]"#), Some(&br#"{"x":[]}"#[..]));
        assert_eq!((first(b"[ ]"), first(b"{}")), (None, None));
    }

    #[test]
    fn a_text_that_was_cut_is_broken_wherever_it_was_cut() {
        let text = r#"{"a":"x\"","b":[1,{"c":2}],"d":12}"#;
        for end in 0..text.len() {
            assert!(names(&text[..end]).is_err(), "cut at {end}");
        }
        assert!(names(text).is_ok());
    }
}
