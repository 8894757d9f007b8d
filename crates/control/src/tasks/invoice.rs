//! Issues the invoices of the month that ended last, once the operator's delay has passed: use that sites had not handed in
//! by then would else be late. An organisation that cannot be invoiced is left for an operator and holds up nobody.

use gregal_core::month::Month;
use gregal_store::{PAGE_MAX, Page};

use crate::{Control, Error, Result};

impl Control {
    /// One pass over the organisations.
    pub(crate) async fn invoices_pass(&self) -> Result<()> {
        let Some(after_s) = self.options().invoicing.as_ref().and_then(|invoicing| invoicing.after_s) else {
            return Ok(());
        };
        let due = self.now().plus_seconds(-i64::from(after_s));
        let month = Month::of(due).before();
        let mut page = Page::first(PAGE_MAX);
        loop {
            let listed = self.store().organisations_list(&page).await?;
            for organisation in listed.items {
                if organisation.billing.is_none()
                    || self.store().invoice_reach(organisation.id).await?.until >= month.until
                {
                    continue;
                }
                let cx = self.system("invoice");
                match self.invoice_issued(&cx, organisation.id, month, &[]).await {
                    Ok(_) => {}
                    // It would be refused again and again: an operator who issues it is told why.
                    Err(Error::Problem(problem)) => {
                        tracing::info!(organisation = %organisation.id, %month, "no invoice: {}", problem.detail);
                    }
                    Err(error @ Error::Store(_)) => return Err(error),
                    Err(error) => error.log(None, "an invoice was not issued, and others are"),
                }
            }
            let Some(next) = listed.next else { return Ok(()) };
            page = Page::after(next, PAGE_MAX);
        }
    }
}
