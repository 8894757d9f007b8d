//! Training data as users bring it: JSON lines of chat messages or of prompt and completion, or plain text.
//! A line that cannot be used is named by its number, with what was expected; its content is never repeated.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Largest data file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 30;
/// Longest line of a JSON lines file, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Most messages in one conversation.
pub const MESSAGES_MAX: usize = 256;

const CHAT: &str = "`messages`, a list of `{\"role\", \"content\"}`";
const LINE: &str = "a JSON object with `messages`, or with `prompt` and `completion`";

/// Why data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("could not read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// One line cannot be used.
    #[error("line {line} of `{}`: expected {expected}, found {found}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// What the line should have held.
        expected: String,
        /// What it holds, in kind: never its content.
        found: String,
    },
    /// There is nothing to learn from.
    #[error("`{}` holds no examples", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is larger than what is read.
    #[error("`{}` is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Standing instructions.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Messages in order; at least one is the model's, and it answers something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The messages.
    pub messages: Vec<Message>,
}

/// What a file of data holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dataset {
    /// Conversations; the model's messages are learned.
    Conversations(Vec<Conversation>),
    /// Plain text; all of it is learned.
    Text(String),
}

/// The form of a file of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON lines: chat messages or prompt/completion.
    JsonLines,
    /// Plain text.
    Text,
}

/// What [`validate`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The form of the file.
    pub format: Format,
    /// Conversations, or non-empty lines of text.
    pub examples: u64,
    /// Size of the file.
    pub bytes: u64,
}

/// Reads the whole file and says what is in it, or what is wrong with it. Keeps nothing.
pub fn validate(path: &Path) -> Result<Found, Error> {
    scan(path, &mut |_| {})
}

/// Reads training data.
pub fn read(path: &Path) -> Result<Dataset, Error> {
    let mut conversations = Vec::new();
    let mut text = String::new();
    let found = scan(path, &mut |piece| match piece {
        Piece::Conversation(conversation) => conversations.push(conversation),
        Piece::Text(line) => text.push_str(line),
    })?;
    Ok(match found.format {
        Format::JsonLines => Dataset::Conversations(conversations),
        Format::Text => Dataset::Text(text),
    })
}

/// Reads conversations; plain text is refused, for example as held-out questions.
pub fn read_conversations(path: &Path) -> Result<Vec<Conversation>, Error> {
    match read(path)? {
        Dataset::Conversations(conversations) => Ok(conversations),
        Dataset::Text(_) => Err(Error::Line {
            path: path.to_owned(),
            line: 1,
            expected: LINE.to_owned(),
            found: "plain text".to_owned(),
        }),
    }
}

enum Piece<'a> {
    Conversation(Conversation),
    Text(&'a str),
}

fn scan(path: &Path, take: &mut dyn FnMut(Piece<'_>)) -> Result<Found, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(Error::TooLarge { path: path.to_owned() });
    }
    let mut lines = Lines { path, reader: BufReader::new(file.take(FILE_BYTES_MAX)), number: 0, buffer: Vec::new() };
    let mut format = match path.extension().and_then(|e| e.to_str()) {
        Some("jsonl" | "ndjson") => Some(Format::JsonLines),
        Some("txt" | "md") => Some(Format::Text),
        _ => None,
    };
    let mut examples = 0u64;
    while let Some((number, line)) = lines.next()? {
        let blank = line.trim().is_empty();
        if format.is_none() && !blank {
            // Text may well begin with a brace, or JSON lines with a broken one: a first line that starts as an object
            // and is not one is more likely a mistake than prose.
            format = Some(if line.trim_start().starts_with('{') { Format::JsonLines } else { Format::Text });
        }
        match format {
            Some(Format::JsonLines) if !blank => {
                let conversation = conversation(line).map_err(|(expected, found)| Error::Line {
                    path: path.to_owned(),
                    line: number,
                    expected,
                    found,
                })?;
                examples += 1;
                take(Piece::Conversation(conversation));
            }
            Some(Format::Text) => {
                examples += u64::from(!blank);
                take(Piece::Text(line));
            }
            _ => {}
        }
    }
    match format {
        Some(format) if examples > 0 => Ok(Found { format, examples, bytes }),
        _ => Err(Error::Empty { path: path.to_owned() }),
    }
}

/// Reads lines with their ends, each checked for length and encoding.
struct Lines<'a, R> {
    path: &'a Path,
    reader: R,
    number: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<'_, R> {
    fn next(&mut self) -> Result<Option<(u64, &str)>, Error> {
        self.buffer.clear();
        self.number += 1;
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read = (&mut self.reader).take(limit).read_until(b'\n', &mut self.buffer);
        read.map_err(|source| Error::Read { path: self.path.to_owned(), source })?;
        let wrong = |expected: String, found: &str| Error::Line {
            path: self.path.to_owned(),
            line: self.number,
            expected,
            found: found.to_owned(),
        };
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err(wrong(format!("at most {LINE_BYTES_MAX} bytes"), "a longer line"));
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let start = if self.number == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        match std::str::from_utf8(&self.buffer[start..]) {
            Ok(line) => Ok(Some((self.number, line))),
            Err(error) => {
                Err(wrong("UTF-8".to_owned(), &format!("another byte at {}", start + error.valid_up_to() + 1)))
            }
        }
    }
}

/// Parses one line; an error is what was expected and what was found.
fn conversation(line: &str) -> Result<Conversation, (String, String)> {
    let expected = |what: &str, found: &str| Err((what.to_owned(), found.to_owned()));
    let value: Value = match serde_json::from_str(line.trim_end()) {
        Ok(value) => value,
        Err(error) => return expected(LINE, &format!("no JSON at column {}", error.column())),
    };
    let Value::Object(mut fields) = value else { return expected(LINE, kind(&value)) };
    let messages = match (fields.remove("messages"), fields.remove("prompt"), fields.remove("completion")) {
        (Some(Value::Array(list)), None, None) => messages(list)?,
        (Some(other), None, None) => return expected(CHAT, &format!("`messages` that is {}", kind(&other))),
        (None, Some(prompt), Some(completion)) => vec![
            Message { role: Role::User, content: text("prompt", prompt)? },
            Message { role: Role::Assistant, content: text("completion", completion)? },
        ],
        (None, Some(_), None) => return expected("`completion` beside `prompt`", "none"),
        (None, None, Some(_)) => return expected("`prompt` beside `completion`", "none"),
        (None, None, None) => return expected(LINE, "an object with neither"),
        (Some(_), ..) => return expected(LINE, "both"),
    };
    let asked = messages.iter().position(|m| m.role == Role::User);
    let answered = messages.iter().rposition(|m| m.role == Role::Assistant);
    match (asked, answered) {
        (Some(asked), Some(answered)) if asked < answered => Ok(Conversation { messages }),
        (Some(_), _) => expected("a message of role `assistant` that answers", "none"),
        (None, _) => expected("a message of role `user`", "none"),
    }
}

fn messages(list: Vec<Value>) -> Result<Vec<Message>, (String, String)> {
    if list.len() > MESSAGES_MAX {
        return Err((format!("at most {MESSAGES_MAX} messages"), list.len().to_string()));
    }
    let mut messages = Vec::with_capacity(list.len());
    for value in list {
        let Value::Object(mut fields) = value else {
            return Err((CHAT.to_owned(), format!("a message that is {}", kind(&value))));
        };
        let role = match fields.remove("role").as_ref().and_then(Value::as_str) {
            Some("system") => Role::System,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            other => {
                let found = if other.is_some() { "another" } else { "none" };
                return Err(("`role` to be `system`, `user` or `assistant`".to_owned(), found.to_owned()));
            }
        };
        messages.push(Message { role, content: text("content", fields.remove("content").unwrap_or(Value::Null))? });
    }
    Ok(messages)
}

fn text(name: &str, value: Value) -> Result<String, (String, String)> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Ok(text),
        Value::String(_) => Err((format!("`{name}` to be a text that is not empty"), "an empty one".to_owned())),
        other => Err((format!("`{name}` to be a text"), kind(&other).to_owned())),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
