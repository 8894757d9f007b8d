//! What invoices say of an organisation.

use gregal_api::invoice::{BillingView, BillingWrite};
use gregal_core::{
    access::Action,
    id::OrganisationId,
    invoice::{Address, Billing, ElectronicAddress},
    organisation::Organisation,
    residency::Jurisdiction,
    vat,
};
use gregal_policy::Resource;

use crate::{Control, Cx, Error, Result, context::Facts as _, names, wakes::Wake};

impl Control {
    /// Reads it.
    pub(crate) async fn billing_read(&self, cx: &Cx, id: OrganisationId) -> Result<BillingView> {
        Ok(view(&self.organisation_seen(cx, id, Action::IssuedInvoiceRead).await?.0))
    }

    /// Sets it. What was issued keeps what it says.
    pub(crate) async fn billing_write(&self, cx: &Cx, id: OrganisationId, wanted: BillingWrite) -> Result<BillingView> {
        let (seen, policies) = self.organisation_seen(cx, id, Action::BillingWrite).await?;
        let exemption = seen.billing.as_ref().and_then(|billing| billing.exemption.clone());
        if wanted.exemption != exemption {
            // Nobody frees itself from a tax.
            self.authorize(cx, Action::InvoiceIssue, &Resource::organisation(id)).await?;
        }
        let vat_id = wanted.vat_id.as_deref().map(|text| vat_id(text, seen.country)).transpose()?;
        let billing = checked(wanted)?;
        let tx = self.begin(cx).await?;
        let before = self.organisation_of(&tx, id).await?;
        if before.billing.as_ref().and_then(|billing| billing.exemption.clone()) != exemption {
            return Err(Error::refused(gregal_api::problem::Code::Conflict, "it was changed meanwhile: read it again"));
        }
        let after = Organisation { billing: Some(billing), vat_id, version: before.version + 1, ..before };
        tx.organisation_update(&after).await?;
        let entry = cx
            .done(Some(id), Action::BillingWrite.as_str(), id)
            .by(&policies)
            .fact("has_vat_id", after.vat_id.is_some())
            .fact("is_exempt", after.billing.as_ref().is_some_and(|billing| billing.exemption.is_some()));
        self.finish(cx, tx, &[entry], Wake::Nobody).await?;
        Ok(view(&after))
    }
}

fn view(organisation: &Organisation) -> BillingView {
    let billing = organisation.billing.as_ref().map(|billing| BillingWrite {
        legal_name: billing.legal_name.clone(),
        street: billing.address.street.clone(),
        post_code: billing.address.post_code.clone(),
        city: billing.address.city.clone(),
        vat_id: organisation.vat_id.clone(),
        reference: billing.reference.clone(),
        order: billing.order.clone(),
        electronic: billing.electronic.as_ref().map(|at| format!("{}:{}", at.scheme, at.id)),
        exemption: billing.exemption.clone(),
    });
    BillingView { billing, country: organisation.country.to_string() }
}

fn checked(wanted: BillingWrite) -> Result<Billing> {
    for (field, text) in [
        ("legal_name", &wanted.legal_name),
        ("street", &wanted.street),
        ("post_code", &wanted.post_code),
        ("city", &wanted.city),
    ] {
        names::title(field, text)?;
    }
    for (field, text) in [("reference", &wanted.reference), ("order", &wanted.order), ("exemption", &wanted.exemption)]
    {
        text.as_ref().map_or(Ok(()), |text| names::title(field, text))?;
    }
    Ok(Billing {
        legal_name: wanted.legal_name,
        address: Address { street: wanted.street, city: wanted.city, post_code: wanted.post_code },
        reference: wanted.reference,
        order: wanted.order,
        electronic: wanted.electronic.as_deref().map(electronic).transpose()?,
        exemption: wanted.exemption,
    })
}

fn electronic(text: &str) -> Result<ElectronicAddress> {
    names::title("electronic", text)?;
    text.parse().map_err(|error| Error::invalid(format!("`electronic`: {error}")))
}

/// A VAT id as it is kept: of the country the organisation is billed in, without blanks. Of a country of the Union its check
/// digits have to be right; whether it is in use only its tax office knows.
fn vat_id(text: &str, country: Jurisdiction) -> Result<String> {
    names::title("vat_id", text)?;
    if !country.in_eu() {
        return Ok(text.to_owned());
    }
    vat::id(text, country).map_err(|error| Error::invalid(format!("`vat_id`: {error}")))
}
