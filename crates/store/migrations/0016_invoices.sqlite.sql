CREATE TRIGGER invoices_no_update BEFORE UPDATE ON invoices
BEGIN SELECT RAISE(ABORT, 'invoices only grows'); END;
CREATE TRIGGER invoices_no_delete BEFORE DELETE ON invoices
BEGIN SELECT RAISE(ABORT, 'invoices only grows'); END;
CREATE TRIGGER invoice_entries_no_update BEFORE UPDATE ON invoice_entries
BEGIN SELECT RAISE(ABORT, 'invoice_entries only grows'); END;
CREATE TRIGGER invoice_entries_no_delete BEFORE DELETE ON invoice_entries
BEGIN SELECT RAISE(ABORT, 'invoice_entries only grows'); END;
