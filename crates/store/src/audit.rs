//! The audit log: entries in one gapless order, the head of the Merkle tree over them, and the hashes of its full tiles.

use std::ops::Range;

use gregal_core::{
    audit::{AuditEntry, LoggedEntry},
    id::OrganisationId,
    merkle::{self, Frontier, Hash},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set, sea_query::Expr};

mod node;
mod view;

use crate::{
    Error, Result, View,
    noun::{count, int},
};

/// The most entries one call reads.
pub const AUDIT_PAGE_MAX: u32 = 1_000;

/// The most leaf hashes one call reads: 2 MiB of them. Proofs need a tile at a time.
pub const AUDIT_LEAVES_MAX: u64 = 1 << 16;

/// The most bytes of an entry's body: bundles of entries give its length in two bytes.
const ENTRY_BYTES_MAX: usize = u16::MAX as usize;

/// The most entries one statement writes: both databases bound the number of values.
const WRITE_MAX: usize = 500;

mod entry {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_entries")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub place: i64,
        pub organisation: Option<String>,
        pub at: i64,
        #[sea_orm(column_type = "Text")]
        pub body: String,
        pub leaf: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod head {
    use sea_orm::entity::prelude::*;

    /// The table's columns.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit_head")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub size: i64,
        pub frontier: Vec<u8>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The log's head as it was when its row was locked.
#[derive(Debug, Clone)]
pub(crate) struct Head(Frontier);

impl Head {
    /// How many entries there are.
    pub(crate) const fn size(&self) -> u64 {
        self.0.size()
    }
}

impl head::Model {
    fn frontier(self) -> Result<Frontier> {
        let unreadable = |why: String| Error::Unreadable { noun: "audit head", why };
        let (hashes, rest) = self.frontier.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(unreadable(format!("{} bytes are no whole hashes", self.frontier.len())));
        }
        Frontier::from_parts(count(self.size, "audit head")?, hashes.to_vec())
            .map_err(|error| unreadable(error.to_string()))
    }
}

impl entry::Model {
    fn logged(self) -> Result<LoggedEntry> {
        let unreadable = |why: String| Error::Unreadable { noun: "audit entry", why };
        Ok(LoggedEntry {
            index: count(self.place, "audit entry")?,
            organisation: self
                .organisation
                .map(|id| id.parse())
                .transpose()
                .map_err(|error: gregal_core::id::IdError| unreadable(error.to_string()))?,
            leaf: hash_of(&self.leaf)?,
            body: self.body,
        })
    }
}

fn hash_of(bytes: &[u8]) -> Result<Hash> {
    bytes
        .try_into()
        .map_err(|_| Error::Unreadable { noun: "audit entry", why: format!("its leaf hash has {} bytes", bytes.len()) })
}

/// Reads the head and keeps its row locked until the transaction ends: this is the turn of the writer.
pub(crate) async fn head_locked(view: &View) -> Result<Head> {
    let found = head::Entity::find().lock_exclusive().one(&view.db()).await?;
    let row = found.ok_or_else(|| Error::Unreadable { noun: "audit head", why: "it is not there".to_owned() })?;
    Ok(Head(row.frontier()?))
}

/// Appends entries after the locked head, and moves it.
pub(crate) async fn append(view: &View, Head(before): Head, entries: &[AuditEntry]) -> Result<Vec<LoggedEntry>> {
    let mut frontier = before.clone();
    let mut views = view::Ends::of(view, entries).await?;
    let (mut logged, mut nodes) = (Vec::with_capacity(entries.len()), Vec::new());
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        // Only whoever holds the head's row can number an entry.
        let placed = AuditEntry { view: views.place(entry), ..entry.clone() };
        let (index, body) = (frontier.size(), placed.body());
        if body.len() > ENTRY_BYTES_MAX {
            return Err(Error::TooMany { what: "bytes of an audit entry", limit: ENTRY_BYTES_MAX as u64 });
        }
        let leaf = merkle::leaf_hash(body.as_bytes());
        views.push(entry, leaf);
        frontier.push_told(leaf, |level, place, hash| nodes.push((level, place, hash)));
        rows.push(entry::ActiveModel {
            place: Set(int(index, "the audit log")?),
            organisation: Set(entry.organisation.map(|id| id.to_string())),
            at: Set(entry.at.as_millis()),
            body: Set(body.clone()),
            leaf: Set(leaf.to_vec()),
        });
        logged.push(LoggedEntry { index, body, organisation: entry.organisation, leaf });
    }
    for chunk in rows.chunks(WRITE_MAX) {
        entry::Entity::insert_many(chunk.to_vec()).exec_without_returning(&view.db()).await?;
    }
    node::insert(view, &nodes).await?;
    views.write(view).await?;
    let size = int(frontier.size(), "the audit log")?;
    let moved = head::Entity::update_many()
        .col_expr(head::Column::Size, Expr::value(size))
        .col_expr(head::Column::Frontier, Expr::value(frontier.hashes().concat()))
        // Nobody can have moved the head under our lock; if somebody did, the log must not fork.
        .filter(head::Column::Size.eq(int(before.size(), "the audit log")?))
        .exec(&view.db())
        .await?;
    if moved.rows_affected != 1 {
        return Err(Error::Conflict { noun: "audit head", id: before.size().to_string() });
    }
    Ok(logged)
}

impl View {
    /// The size of the log and the root of the tree over it.
    pub async fn audit_head(&self) -> Result<(u64, Hash)> {
        let found = head::Entity::find().one(&self.db()).await?;
        let frontier = found.map(head::Model::frontier).transpose()?.unwrap_or_default();
        Ok((frontier.size(), frontier.root()))
    }

    /// A mark to read changes from: rows whose table keeps it are stamped with the size the audit log had when their
    /// transaction began. Read this first and the rows after it, and later only what is stamped with it or beyond: nothing
    /// that was committed in between is missed, since transactions follow one another, and each but a mere observation makes
    /// the log longer. What was written at the mark itself may be read twice.
    pub async fn mark_read(&self) -> Result<u64> {
        let found =
            head::Entity::find().select_only().column(head::Column::Size).into_tuple::<i64>().one(&self.db()).await?;
        count(found.unwrap_or(0), "audit head")
    }

    /// The entry at a place.
    pub async fn audit_get(&self, index: u64) -> Result<Option<LoggedEntry>> {
        let found = entry::Entity::find_by_id(int(index, "an index")?).one(&self.db()).await?;
        found.map(entry::Model::logged).transpose()
    }

    /// Entries beyond `after_index` (from the first without one), in order: those of an organisation, or all. At most
    /// [`AUDIT_PAGE_MAX`] of them.
    pub async fn audit_list(
        &self,
        organisation: Option<OrganisationId>,
        after_index: Option<u64>,
        limit: u32,
    ) -> Result<Vec<LoggedEntry>> {
        let mut found = entry::Entity::find();
        if let Some(organisation) = organisation {
            found = found.filter(entry::Column::Organisation.eq(organisation.to_string()));
        }
        if let Some(after) = after_index {
            found = found.filter(entry::Column::Place.gt(i64::try_from(after).unwrap_or(i64::MAX)));
        }
        let limit = u64::from(limit.clamp(1, AUDIT_PAGE_MAX));
        let rows = found.order_by_asc(entry::Column::Place).limit(limit).all(&self.db()).await?;
        rows.into_iter().map(entry::Model::logged).collect()
    }

    /// Leaf hashes of a range of places, in order, for proofs. A range beyond the end of the log is cut short.
    pub async fn audit_leaves(&self, range: Range<u64>) -> Result<Vec<Hash>> {
        let wanted = range.end.saturating_sub(range.start);
        if wanted > AUDIT_LEAVES_MAX {
            return Err(Error::TooMany { what: "audit leaves", limit: AUDIT_LEAVES_MAX });
        }
        let rows = entry::Entity::find()
            .filter(entry::Column::Place.gte(int(range.start, "an index")?))
            .filter(entry::Column::Place.lt(int(range.end, "an index")?))
            .order_by_asc(entry::Column::Place)
            .select_only()
            .column(entry::Column::Leaf)
            .into_tuple::<Vec<u8>>()
            .all(&self.db())
            .await?;
        rows.iter().map(|leaf| hash_of(leaf)).collect()
    }
}
