-- Issued invoices and credit notes, whole. `document` is what was issued, byte by byte, and `digest` its SHA-256. A series has
-- no gaps: a place is taken in the transaction that issues, and the next one is one more than the last.
CREATE TABLE invoices (
    sequence {sequence},
    number {id} NOT NULL,
    series {id} NOT NULL,
    place {int} NOT NULL CHECK (place > 0),
    organisation {id} NOT NULL REFERENCES organisations (id),
    kind TEXT NOT NULL,
    -- The invoice it is about: its own number, or the one a credit note takes back.
    about {id} NOT NULL,
    period_from {int} NOT NULL,
    period_until {int} NOT NULL,
    through {int} NOT NULL,
    digest TEXT NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE UNIQUE INDEX invoices_number_once ON invoices (number);
CREATE UNIQUE INDEX invoices_place_once ON invoices (series, place);
CREATE UNIQUE INDEX invoices_month_once ON invoices (organisation, period_from) WHERE kind = 'invoice';
CREATE INDEX invoices_by_organisation ON invoices (organisation, sequence);
CREATE INDEX invoices_about ON invoices (about, sequence);

-- The seller's book, in cents.
CREATE TABLE invoice_entries (
    sequence {sequence},
    invoice {id} NOT NULL REFERENCES invoices (number),
    organisation {id} NOT NULL REFERENCES organisations (id),
    reference TEXT NOT NULL,
    receivable {int} NOT NULL,
    revenue {int} NOT NULL,
    vat {int} NOT NULL,
    bank {int} NOT NULL,
    at {int} NOT NULL,
    document TEXT NOT NULL,
    CHECK (receivable + revenue + vat + bank = 0)
){strict};
CREATE INDEX invoice_entries_by_invoice ON invoice_entries (invoice, sequence);
-- One payment is entered once, by what the bank calls it; so is a document.
CREATE UNIQUE INDEX invoice_entries_once ON invoice_entries (invoice, reference);
