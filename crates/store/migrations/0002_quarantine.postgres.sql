CREATE TRIGGER usage_quarantine_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_quarantine
    FOR EACH STATEMENT EXECUTE FUNCTION only_grows();
