CREATE TRIGGER usage_quarantine_no_update BEFORE UPDATE ON usage_quarantine
BEGIN SELECT RAISE(ABORT, 'usage_quarantine only grows'); END;
CREATE TRIGGER usage_quarantine_no_delete BEFORE DELETE ON usage_quarantine
BEGIN SELECT RAISE(ABORT, 'usage_quarantine only grows'); END;
