//! Reservations: room at a site for a time.

use gregal_core::{
    id::{ProjectId, ReservationId, SiteId},
    reservation::{Reservation, ReservationState},
};
use sea_orm::{ColumnTrait, Condition};

use crate::{Listed, Page, Result, Tx, View, noun};

noun::row!(Reservation, "reservations", "reservation" {
    organisation: String = |it| it.organisation.to_string();
    project: String = |it| it.project.to_string();
    site: String = |it| it.site.to_string();
    name: String = |it| it.name.clone();
    state: String = |it| it.state.as_str().to_owned();
});

/// The states a reservation does not leave; the table's indexes spell out the same two.
const FINAL: [&str; 2] = [ReservationState::Ended.as_str(), ReservationState::Cancelled.as_str()];

fn live() -> Condition {
    Condition::all().add(row::Column::State.is_not_in(FINAL))
}

impl View {
    /// The reservation with this id.
    pub async fn reservation_get(&self, id: ReservationId) -> Result<Option<Reservation>> {
        self.noun_get(&id.to_string()).await
    }

    /// A project's reservations, oldest first.
    pub async fn reservations_list(&self, project: ProjectId, page: &Page) -> Result<Listed<Reservation>> {
        self.nouns_page(Condition::all().add(row::Column::Project.eq(project.to_string())), page).await
    }

    /// How many reservations of a project are not over.
    pub async fn reservations_live_count(&self, project: ProjectId) -> Result<u64> {
        self.nouns_count::<Reservation>(live().add(row::Column::Project.eq(project.to_string()))).await
    }

    /// Every reservation of a site that is not over.
    pub async fn reservations_live_at_site(&self, site: SiteId) -> Result<Vec<Reservation>> {
        self.nouns_all(live().add(row::Column::Site.eq(site.to_string()))).await
    }

    /// Every reservation that is not over.
    pub async fn reservations_live(&self) -> Result<Vec<Reservation>> {
        self.nouns_all(live()).await
    }
}

impl Tx {
    /// Adds a reservation. Its name must be free among the project's that are not over.
    pub async fn reservation_insert(&self, reservation: &Reservation) -> Result<()> {
        self.noun_insert(reservation).await
    }

    /// Writes a changed reservation; the stored one must be one version behind.
    pub async fn reservation_update(&self, reservation: &Reservation) -> Result<()> {
        self.noun_update(reservation).await
    }
}
