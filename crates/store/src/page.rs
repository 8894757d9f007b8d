//! Pages of a list.

/// The most items one page carries; a larger wish is cut down to it.
pub const PAGE_MAX: u32 = 500;

/// The most items a list without pages carries; a longer one is an error rather than a half-truth.
pub const LIST_MAX: u64 = 200_000;

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What `Listed::next` of the page before said; none starts at the beginning.
    pub after: Option<String>,
    /// How many items at most; cut down to [`PAGE_MAX`], and up to 1.
    pub limit: u32,
}

impl Page {
    /// The first so many items.
    pub const fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    /// The items that follow a page.
    pub const fn after(cursor: String, limit: u32) -> Self {
        Self { after: Some(cursor), limit }
    }

    /// The number of items to read: one more than wanted, which tells whether more follow.
    pub(crate) fn rows(&self) -> u64 {
        u64::from(self.size()) + 1
    }

    pub(crate) fn size(&self) -> u32 {
        self.limit.clamp(1, PAGE_MAX)
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::first(100)
    }
}

/// A page of a list, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; none when this is the last one.
    pub next: Option<String>,
}

impl<T> Listed<T> {
    /// Cuts what was read for a page down to the page; `cursor` names an item.
    pub(crate) fn cut(mut items: Vec<T>, page: &Page, cursor: impl Fn(&T) -> String) -> Self {
        let size = page.size() as usize;
        let more = items.len() > size;
        items.truncate(size);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}
