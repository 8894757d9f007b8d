//! Closes holds whose job or endpoint has ended. Such an end closes its hold in the same transaction, so there is nothing to do
//! here but after a change of the program or of rows by hand; money must not stay aside because of either.

use gregal_core::{
    hold::HoldState,
    id::{EndpointId, JobId, ReservationId},
};

use crate::{Control, Result, context::Facts as _, wakes::Wake};

/// Most holds closed in one pass.
const HOLDS_MAX: usize = 100;

impl Control {
    /// One pass over the open holds.
    pub(crate) async fn settle_pass(&self) -> Result<()> {
        let mut over = Vec::new();
        for hold in self.store().holds_open().await? {
            let is_over = if let Ok(id) = hold.subject.parse::<JobId>() {
                self.store().job_get(id).await?.is_none_or(|job| job.state.is_final())
            } else if let Ok(id) = hold.subject.parse::<EndpointId>() {
                self.store().endpoint_get(id).await?.is_none_or(|endpoint| endpoint.state.is_final())
            } else if let Ok(id) = hold.subject.parse::<ReservationId>() {
                self.store().reservation_get(id).await?.is_none_or(|reservation| reservation.state.is_final())
            } else {
                // An allowance is settled with its site's use, or runs out.
                false
            };
            if is_over {
                over.push(hold.id);
            }
        }
        if over.is_empty() {
            return Ok(());
        }
        let cx = self.system("settle");
        let tx = self.store().begin_upkeep().await?;
        let mut entries = Vec::new();
        for id in over.into_iter().take(HOLDS_MAX) {
            let found = tx.hold_get(id).await?.filter(|hold| hold.state == HoldState::Open);
            let Some(hold) = found else { continue };
            let closed = self.hold_close(&tx, &hold, false).await?;
            let entry = cx.done(Some(hold.organisation), "hold:settle", id);
            entries.push(entry.fact("subject", hold.subject).fact("charged_nano", closed.charged.get()));
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.finish(&cx, tx, &entries, Wake::Nobody).await
    }
}
