//! Holds: money set aside.

use gregal_core::{
    hold::{Hold, HoldState},
    id::{HoldId, OrganisationId},
};
use sea_orm::{ColumnTrait, Condition};

use crate::{Listed, Page, Result, Tx, View, noun};

noun::row!(Hold, "holds", "hold" {
    organisation: String = |it| it.organisation.to_string();
    project: Option<String> = |it| it.project.map(|id| id.to_string());
    subject: String = |it| it.subject.clone();
    state: String = |it| state_word(it.state).to_owned();
});

/// The word the table knows a state by; its index of open holds speaks of `open`.
const fn state_word(state: HoldState) -> &'static str {
    match state {
        HoldState::Open => "open",
        HoldState::Settled => "settled",
        HoldState::Released => "released",
        HoldState::Expired => "expired",
    }
}

impl View {
    /// The hold with this id.
    pub async fn hold_get(&self, id: HoldId) -> Result<Option<Hold>> {
        self.noun_get(&id.to_string()).await
    }

    /// The hold that stands for this job or allowance: there is one at most, ever.
    pub async fn hold_by_subject(&self, subject: &str) -> Result<Option<Hold>> {
        self.noun_where(Condition::all().add(row::Column::Subject.eq(subject))).await
    }

    /// Every open hold, oldest first.
    pub async fn holds_open(&self) -> Result<Vec<Hold>> {
        self.nouns_all(Condition::all().add(row::Column::State.eq(state_word(HoldState::Open)))).await
    }

    /// An organisation's holds, oldest first.
    pub async fn holds_list(&self, organisation: OrganisationId, page: &Page) -> Result<Listed<Hold>> {
        self.nouns_page(Condition::all().add(row::Column::Organisation.eq(organisation.to_string())), page).await
    }
}

impl Tx {
    /// Adds a hold. Its subject must not have one yet.
    pub async fn hold_insert(&self, hold: &Hold) -> Result<()> {
        self.noun_insert(hold).await
    }

    /// Writes a changed hold; the stored one must be one version behind.
    pub async fn hold_update(&self, hold: &Hold) -> Result<()> {
        self.noun_update(hold).await
    }
}
