//! The view of one organisation: its entries, numbered and chained, so that none can be left out unseen.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use super::CheckpointError;
use crate::{
    id::OrganisationId,
    merkle::{self, Hash},
};

/// First line of a view head: no checkpoint reads so, and none can pass for one.
const HEAD: &str = "gregal-audit-view/v1";

/// Where an entry stands in the view of its organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewPlace {
    /// How many entries of the view come before it.
    pub number: u64,
    /// Leaf hash of the one before it, hex; none for the first. With it, each entry vouches for all before it.
    pub before: Option<String>,
}

/// The state of one organisation's view at one moment, signed by the log's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewHead {
    /// The log's name.
    pub origin: String,
    /// Whose view.
    pub organisation: OrganisationId,
    /// How many entries it has.
    pub entries: u64,
    /// Leaf hash of the newest; that of the empty tree if there is none.
    pub newest: Hash,
    /// How many entries the whole log had.
    pub log_size: u64,
    /// Root of the whole log's tree.
    pub log_root: Hash,
}

impl ViewHead {
    /// The note's text: seven lines.
    pub fn to_text(&self) -> String {
        let Self { origin, organisation, entries, newest, log_size, log_root } = self;
        let (newest, log_root) = (BASE64.encode(newest), BASE64.encode(log_root));
        format!("{HEAD}\n{origin}\n{organisation}\n{entries}\n{newest}\n{log_size}\n{log_root}\n")
    }

    /// Reads a note's text. Only the one spelling is read.
    pub fn from_text(text: &str) -> Result<Self, CheckpointError> {
        let wrong = CheckpointError { why: "it is no head of a view" };
        let lines: Vec<&str> = text.lines().collect();
        let [HEAD, origin, organisation, entries, newest, log_size, log_root] = lines[..] else { return Err(wrong) };
        let hash = |text: &str| BASE64.decode(text).ok().and_then(|bytes| Hash::try_from(bytes).ok());
        let number = |text: &str| text.parse::<u64>().ok();
        let read = || {
            Some(Self {
                origin: origin.into(),
                organisation: organisation.parse().ok()?,
                entries: number(entries)?,
                newest: hash(newest)?,
                log_size: number(log_size)?,
                log_root: hash(log_root)?,
            })
        };
        read().filter(|head| head.to_text() == text).ok_or(wrong)
    }
}

/// What is wrong with a view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// A number is missing, doubled or out of order.
    #[error("entry {index} has number {found} in its view where {expected} was due: an entry is missing or doubled")]
    Gap {
        /// The entry's place in the log.
        index: u64,
        /// The number it carries.
        found: u64,
        /// The number due.
        expected: u64,
    },
    /// The entry before it is not the one it names, or it names none.
    #[error("entry {index} does not follow the entry before it in its view")]
    Chain {
        /// The entry's place in the log.
        index: u64,
    },
    /// An entry is of another view, or not readable.
    #[error("entry {index} is not of this view")]
    Foreign {
        /// The entry's place in the log.
        index: u64,
    },
    /// The view ends before or beyond its signed head.
    #[error("the view shows {found} entries, and its signed head says {expected}")]
    Short {
        /// Entries shown.
        found: u64,
        /// Entries due.
        expected: u64,
    },
    /// The view's newest entry is not the one its head names.
    #[error("the view's newest entry is not the one its signed head names")]
    Newest,
}

/// What a chain reads of an entry. An entry of a newer program has its place in the view all the same.
#[derive(Deserialize)]
struct Placed {
    organisation: Option<OrganisationId>,
    #[serde(default)]
    view: Option<ViewPlace>,
}

/// Reads a view in order and finds what is missing in it.
///
/// Entries of before views were numbered carry no place. They may only stand at the beginning, and the first numbered one
/// says how many of them there are.
#[derive(Debug, Clone)]
pub struct ViewChain {
    organisation: OrganisationId,
    entries: u64,
    newest: Option<Hash>,
    is_numbered: bool,
}

impl ViewChain {
    /// Begins at the first entry of an organisation's view.
    pub const fn new(organisation: OrganisationId) -> Self {
        Self { organisation, entries: 0, newest: None, is_numbered: false }
    }

    /// Takes in the next entry, given as it was logged.
    pub fn push(&mut self, index: u64, body: &str) -> Result<(), ViewError> {
        let entry: Placed = serde_json::from_str(body).map_err(|_| ViewError::Foreign { index })?;
        if entry.organisation != Some(self.organisation) {
            return Err(ViewError::Foreign { index });
        }
        match entry.view {
            Some(place) if place.number != self.entries => {
                return Err(ViewError::Gap { index, found: place.number, expected: self.entries });
            }
            Some(place) if place.before != self.newest.map(hex::encode) => return Err(ViewError::Chain { index }),
            Some(_) => self.is_numbered = true,
            None if self.is_numbered => return Err(ViewError::Chain { index }),
            None => {}
        }
        self.entries += 1;
        self.newest = Some(merkle::leaf_hash(body.as_bytes()));
        Ok(())
    }

    /// How many entries there are so far.
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// Leaf hash of the newest entry so far; that of the empty tree if there is none.
    pub fn newest(&self) -> Hash {
        self.newest.unwrap_or_else(merkle::empty_root)
    }

    /// Holds what was read against the signed head.
    pub fn ends_at(&self, head: &ViewHead) -> Result<(), ViewError> {
        if self.entries != head.entries {
            return Err(ViewError::Short { found: self.entries, expected: head.entries });
        }
        if self.newest() == head.newest { Ok(()) } else { Err(ViewError::Newest) }
    }
}
