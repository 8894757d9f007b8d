//! UN/CEFACT Cross Industry Invoice (D16B and later), the elements in the order of its schema.

use super::{EN_16931, code, days, description, percent, price, reason_code, vat_id, xml::Xml};
use crate::{
    invoice::{
        IssuedLine,
        issue::{Category, Invoice, Kind, unit_code},
        party::{Address, ElectronicAddress},
    },
    residency::Jurisdiction,
};

/// An invoice or credit note as Cross Industry Invoice.
pub fn cii(invoice: &Invoice) -> String {
    let spaces = [
        ("xmlns:rsm", "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100"),
        ("xmlns:ram", "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100"),
        ("xmlns:udt", "urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100"),
        ("xmlns:qdt", "urn:un:unece:uncefact:data:standard:QualifiedDataType:100"),
    ];
    let mut xml = Xml::new("rsm:CrossIndustryInvoice", &spaces);
    header(&mut xml, invoice);
    xml.within("rsm:SupplyChainTradeTransaction", |xml| {
        for each in &invoice.lines {
            line(xml, invoice, each);
        }
        agreement(xml, invoice);
        xml.within("ram:ApplicableHeaderTradeDelivery", |_| {});
        xml.within("ram:ApplicableHeaderTradeSettlement", |xml| settlement(xml, invoice));
    });
    xml.end()
}

fn header(xml: &mut Xml, invoice: &Invoice) {
    xml.within("rsm:ExchangedDocumentContext", |xml| {
        xml.within("ram:GuidelineSpecifiedDocumentContextParameter", |xml| xml.leaf("ram:ID", EN_16931));
    });
    xml.within("rsm:ExchangedDocument", |xml| {
        xml.leaf("ram:ID", &invoice.number);
        xml.leaf("ram:TypeCode", if invoice.kind == Kind::Invoice { "380" } else { "381" });
        day(xml, "ram:IssueDateTime", &invoice.issued_on);
        if let Some(credits) = &invoice.credits {
            xml.within("ram:IncludedNote", |xml| xml.leaf("ram:Content", &credits.reason));
        }
    });
}

/// A day, in the form 102 (`20261122`).
fn day(xml: &mut Xml, name: &'static str, date: &str) {
    xml.within(name, |xml| xml.leaf_with("udt:DateTimeString", &[("format", "102")], date.replace('-', "")));
}

fn line(xml: &mut Xml, invoice: &Invoice, each: &IssuedLine) {
    let line = &each.line;
    let unit = unit_code(line.meter, &line.unit);
    xml.within("ram:IncludedSupplyChainTradeLineItem", |xml| {
        xml.within("ram:AssociatedDocumentLineDocument", |xml| xml.leaf("ram:LineID", each.number.to_string()));
        xml.within("ram:SpecifiedTradeProduct", |xml| {
            xml.leaf("ram:Name", &line.label);
            xml.leaf("ram:Description", description(each));
        });
        xml.within("ram:SpecifiedLineTradeAgreement", |xml| {
            xml.within("ram:NetPriceProductTradePrice", |xml| {
                xml.leaf("ram:ChargeAmount", price(line.price_nano));
                xml.leaf_with("ram:BasisQuantity", &[("unitCode", unit)], line.price_per.to_string());
            });
        });
        xml.within("ram:SpecifiedLineTradeDelivery", |xml| {
            xml.leaf_with("ram:BilledQuantity", &[("unitCode", unit)], line.quantity.to_string());
        });
        xml.within("ram:SpecifiedLineTradeSettlement", |xml| {
            xml.within("ram:ApplicableTradeTax", |xml| {
                xml.leaf("ram:TypeCode", "VAT");
                xml.leaf("ram:CategoryCode", code(invoice.vat.category));
                xml.maybe("ram:RateApplicablePercent", percent(&invoice.vat));
            });
            xml.within("ram:SpecifiedTradeSettlementLineMonetarySummation", |xml| {
                xml.leaf("ram:LineTotalAmount", line.net.to_string());
            });
        });
    });
}

/// A party as CII says it.
struct Party<'a> {
    name: &'a str,
    registration: Option<&'a str>,
    address: &'a Address,
    country: Jurisdiction,
    electronic: Option<&'a ElectronicAddress>,
    vat_id: Option<String>,
}

fn agreement(xml: &mut Xml, invoice: &Invoice) {
    let (seller, buyer, category) = (&invoice.seller, &invoice.buyer, invoice.vat.category);
    xml.within("ram:ApplicableHeaderTradeAgreement", |xml| {
        xml.maybe("ram:BuyerReference", buyer.billing.reference.as_ref());
        let sells = Party {
            name: &seller.name,
            registration: Some(&seller.registration),
            address: &seller.address,
            country: seller.country,
            electronic: seller.electronic.as_ref(),
            vat_id: vat_id(&seller.vat_id, seller.country, category),
        };
        let buys = Party {
            name: &buyer.billing.legal_name,
            registration: None,
            address: &buyer.billing.address,
            country: buyer.country,
            electronic: buyer.billing.electronic.as_ref(),
            vat_id: buyer.vat_id.as_ref().and_then(|id| vat_id(id, buyer.country, category)),
        };
        xml.within("ram:SellerTradeParty", |xml| party(xml, &sells));
        xml.within("ram:BuyerTradeParty", |xml| party(xml, &buys));
        if let Some(order) = &buyer.billing.order {
            xml.within("ram:BuyerOrderReferencedDocument", |xml| xml.leaf("ram:IssuerAssignedID", order));
        }
    });
}

fn party(xml: &mut Xml, party: &Party<'_>) {
    xml.leaf("ram:Name", party.name);
    if let Some(registration) = party.registration {
        xml.within("ram:SpecifiedLegalOrganization", |xml| xml.leaf("ram:ID", registration));
    }
    xml.within("ram:PostalTradeAddress", |xml| {
        xml.leaf("ram:PostcodeCode", &party.address.post_code);
        xml.leaf("ram:LineOne", &party.address.street);
        xml.leaf("ram:CityName", &party.address.city);
        xml.leaf("ram:CountryID", party.country.as_str());
    });
    if let Some(electronic) = party.electronic {
        xml.within("ram:URIUniversalCommunication", |xml| {
            xml.leaf_with("ram:URIID", &[("schemeID", &electronic.scheme)], &electronic.id);
        });
    }
    if let Some(id) = &party.vat_id {
        xml.within("ram:SpecifiedTaxRegistration", |xml| xml.leaf_with("ram:ID", &[("schemeID", "VA")], id));
    }
}

fn settlement(xml: &mut Xml, invoice: &Invoice) {
    let vat = &invoice.vat;
    let is_invoice = invoice.kind == Kind::Invoice;
    if is_invoice {
        xml.leaf("ram:PaymentReference", &invoice.number);
    }
    xml.leaf("ram:InvoiceCurrencyCode", &invoice.currency);
    if is_invoice {
        xml.within("ram:SpecifiedTradeSettlementPaymentMeans", |xml| {
            // 58: SEPA credit transfer.
            xml.leaf("ram:TypeCode", "58");
            xml.within("ram:PayeePartyCreditorFinancialAccount", |xml| {
                xml.leaf("ram:IBANID", &invoice.seller.iban);
                xml.leaf("ram:AccountName", &invoice.seller.name);
            });
        });
    }
    xml.within("ram:ApplicableTradeTax", |xml| {
        xml.leaf("ram:CalculatedAmount", vat.amount.to_string());
        xml.leaf("ram:TypeCode", "VAT");
        if vat.category != Category::S {
            xml.maybe("ram:ExemptionReason", vat.reason.as_ref());
        }
        xml.leaf("ram:BasisAmount", invoice.net.to_string());
        xml.leaf("ram:CategoryCode", code(vat.category));
        xml.maybe("ram:ExemptionReasonCode", reason_code(vat.category));
        xml.maybe("ram:RateApplicablePercent", percent(vat));
    });
    let (first, last) = days(invoice);
    xml.within("ram:BillingSpecifiedPeriod", |xml| {
        day(xml, "ram:StartDateTime", &first);
        day(xml, "ram:EndDateTime", &last);
    });
    if let Some(due) = invoice.due_on.as_ref().filter(|_| is_invoice) {
        xml.within("ram:SpecifiedTradePaymentTerms", |xml| day(xml, "ram:DueDateDateTime", due));
    }
    xml.within("ram:SpecifiedTradeSettlementHeaderMonetarySummation", |xml| {
        xml.leaf("ram:LineTotalAmount", invoice.net.to_string());
        xml.leaf("ram:TaxBasisTotalAmount", invoice.net.to_string());
        xml.leaf_with("ram:TaxTotalAmount", &[("currencyID", &invoice.currency)], vat.amount.to_string());
        xml.leaf("ram:GrandTotalAmount", invoice.total.to_string());
        xml.leaf("ram:DuePayableAmount", invoice.total.to_string());
    });
    if let Some(credits) = &invoice.credits {
        xml.within("ram:InvoiceReferencedDocument", |xml| {
            xml.leaf("ram:IssuerAssignedID", &credits.number);
            xml.within("ram:FormattedIssueDateTime", |xml| {
                xml.leaf_with("qdt:DateTimeString", &[("format", "102")], credits.issued_on.replace('-', ""));
            });
        });
    }
}
