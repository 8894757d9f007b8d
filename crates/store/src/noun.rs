//! What all nouns share: one row a thing, typed columns beside its JSON document, a version that grows by one.

use gregal_core::time::Time;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, IntoActiveModel, Order, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, LIST_MAX, Listed, Page, Result, Tx, View};

/// A domain type that is kept as a row of its own.
pub(crate) trait Noun: Serialize + DeserializeOwned + Send + Sync {
    /// Its word, for errors.
    const NOUN: &'static str;
    /// Its word for several, for errors.
    const NOUNS: &'static str;
    /// Its table.
    type Entity: EntityTrait<Column = Self::Column>;
    /// The columns of its table.
    type Column: ColumnTrait;
    /// A row to be written.
    type Active: ActiveModelTrait<Entity = Self::Entity> + Send;
    /// The column of its id.
    const ID: Self::Column;
    /// The column of its version.
    const VERSION: Self::Column;
    /// The column of its document.
    const DOCUMENT: Self::Column;

    /// Its id as text.
    fn key(&self) -> String;
    /// Its version.
    fn version(&self) -> u64;
    /// Its row. `mark`: where the log stood when this transaction began, for those tables that keep it.
    fn row(&self, version: i64, document: String, mark: i64) -> Self::Active;
}

/// Declares the table of a noun, which lives in a module `row`: `id`, the columns named, `version`, `document`. Each
/// column says how it is taken from the domain value, and the id too where it is not the field `id`. With `[changed]` after
/// its word the table also keeps when each row was written last, as [`crate::Tx::mark`].
macro_rules! row {
    ($noun:ident, $table:literal, $one:literal $([$changed:ident])? { $($columns:tt)* }) => {
        $crate::noun::row!($noun, $table, $one $([$changed])?, |it| it.id.to_string(), { $($columns)* });
    };
    ($noun:ident, $table:literal, $one:literal $([$changed:ident])?, $key:expr, { $($column:ident: $kind:ty = $value:expr;)* }) => {
        mod row {
            use sea_orm::entity::prelude::*;

            /// The table's columns.
            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
            #[sea_orm(table_name = $table)]
            pub(crate) struct Model {
                #[sea_orm(primary_key, auto_increment = false)]
                pub id: String,
                $(pub $column: $kind,)*
                pub version: i64,
                $(pub $changed: i64,)?
                #[sea_orm(column_type = "Text")]
                pub document: String,
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub(crate) enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }

        impl $crate::noun::Noun for $noun {
            const NOUN: &'static str = $one;
            const NOUNS: &'static str = $table;
            type Entity = row::Entity;
            type Column = row::Column;
            type Active = row::ActiveModel;
            const ID: row::Column = row::Column::Id;
            const VERSION: row::Column = row::Column::Version;
            const DOCUMENT: row::Column = row::Column::Document;

            fn key(&self) -> String {
                let key: fn(&Self) -> String = $key;
                key(self)
            }

            fn version(&self) -> u64 {
                self.version
            }

            fn row(&self, version: i64, document: String, mark: i64) -> row::ActiveModel {
                $(let $column: fn(&Self) -> $kind = $value;)*
                // Not every table keeps it.
                let _ = mark;
                row::ActiveModel {
                    id: sea_orm::Set(self.key()),
                    $($column: sea_orm::Set($column(self)),)*
                    version: sea_orm::Set(version),
                    $($changed: sea_orm::Set(mark),)?
                    document: sea_orm::Set(document),
                }
            }
        }
    };
}
pub(crate) use row;

/// A count as both databases keep it.
pub(crate) fn int(number: u64, what: &'static str) -> Result<i64> {
    i64::try_from(number).map_err(|_| Error::TooLarge { what })
}

/// A count as we know it; a negative one was not written by us.
pub(crate) fn count(number: i64, noun: &'static str) -> Result<u64> {
    u64::try_from(number).map_err(|_| Error::Unreadable { noun, why: format!("{number} is no count") })
}

/// A time as both databases keep it.
pub(crate) fn millis(time: Option<Time>) -> Option<i64> {
    time.map(Time::as_millis)
}

/// A value as text. One that could not be read back (a loss that is no number, say) is refused while it still can be.
pub(crate) fn encode<T: Serialize + DeserializeOwned>(value: &T, noun: &'static str, id: &str) -> Result<String> {
    let unstorable = |why: serde_json::Error| Error::Unstorable { noun, id: id.to_owned(), why: why.to_string() };
    let document = serde_json::to_string(value).map_err(unstorable)?;
    serde_json::from_str::<T>(&document).map_err(unstorable)?;
    Ok(document)
}

/// A value from its text.
pub(crate) fn decode<T: DeserializeOwned>(document: &str, noun: &'static str) -> Result<T> {
    serde_json::from_str(document).map_err(|error| Error::Unreadable { noun, why: error.to_string() })
}

fn active<N: Noun>(noun: &N, mark: u64) -> Result<N::Active> {
    let document = encode(noun, N::NOUN, &noun.key())?;
    Ok(noun.row(int(noun.version(), "a version")?, document, int(mark, "the audit log")?))
}

impl View {
    pub(crate) async fn noun_get<N: Noun>(&self, id: &str) -> Result<Option<N>> {
        self.noun_where(Condition::all().add(N::ID.eq(id))).await
    }

    pub(crate) async fn noun_where<N: Noun>(&self, condition: Condition) -> Result<Option<N>> {
        let found = N::Entity::find()
            .filter(condition)
            .select_only()
            .column(N::DOCUMENT)
            .into_tuple::<String>()
            .one(&self.db())
            .await?;
        found.map(|document| decode(&document, N::NOUN)).transpose()
    }

    async fn nouns_read<N: Noun>(&self, condition: Condition, order: Order, rows: u64) -> Result<Vec<N>> {
        let found = N::Entity::find()
            .filter(condition)
            .order_by(N::ID, order)
            .limit(rows)
            .select_only()
            .column(N::DOCUMENT)
            .into_tuple::<String>()
            .all(&self.db())
            .await?;
        found.iter().map(|document| decode(document, N::NOUN)).collect()
    }

    pub(crate) async fn nouns_page<N: Noun>(&self, condition: Condition, page: &Page) -> Result<Listed<N>> {
        let condition = condition.add_option(page.after.as_deref().map(|after| N::ID.gt(after)));
        Ok(Listed::cut(self.nouns_read(condition, Order::Asc, page.rows()).await?, page, N::key))
    }

    /// How many rows there are of them.
    pub(crate) async fn nouns_count<N: Noun>(&self, condition: Condition) -> Result<u64> {
        let found = N::Entity::find()
            .filter(condition)
            .select_only()
            .column_as(N::ID.count(), "rows")
            .into_tuple::<i64>()
            .one(&self.db())
            .await?;
        count(found.unwrap_or(0), N::NOUN)
    }

    /// The newest few: ids sort by birth.
    pub(crate) async fn nouns_newest<N: Noun>(&self, condition: Condition, limit: u64) -> Result<Vec<N>> {
        self.nouns_read(condition, Order::Desc, limit).await
    }

    /// What was written at a mark or after it, in no order; as [`View::nouns_all`], a list that is too long is an error.
    pub(crate) async fn nouns_changed<N: Noun>(&self, changed: N::Column, since: u64) -> Result<Vec<N>> {
        self.nouns_all(Condition::all().add(changed.gte(int(since, "the audit log")?))).await
    }

    /// A whole list, which fails rather than end early.
    pub(crate) async fn nouns_all<N: Noun>(&self, condition: Condition) -> Result<Vec<N>> {
        let found = self.nouns_read::<N>(condition, Order::Asc, LIST_MAX + 1).await?;
        if found.len() as u64 > LIST_MAX {
            return Err(Error::TooMany { what: N::NOUNS, limit: LIST_MAX });
        }
        Ok(found)
    }
}

impl Tx {
    pub(crate) async fn noun_insert<N: Noun>(&self, noun: &N) -> Result<()>
    where
        <N::Entity as EntityTrait>::Model: IntoActiveModel<N::Active>,
    {
        self.guard(async {
            N::Entity::insert(active(noun, self.mark())?).exec_without_returning(&self.db()).await?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn noun_update<N: Noun>(&self, noun: &N) -> Result<()> {
        self.guard(async {
            let version = int(noun.version(), "a version")?;
            let written = N::Entity::update_many()
                .set(active(noun, self.mark())?)
                .filter(N::ID.eq(noun.key()))
                .filter(N::VERSION.eq(version - 1))
                .exec(&self.db())
                .await?;
            if written.rows_affected == 1 {
                return Ok(());
            }
            let id = noun.key();
            Err(match self.noun_get::<N>(&id).await? {
                Some(_) => Error::Conflict { noun: N::NOUN, id },
                None => Error::Missing { what: format!("{} `{id}`", N::NOUN) },
            })
        })
        .await
    }
}
