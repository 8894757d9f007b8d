-- What was counted, posted, priced or logged is added to and never edited, not even by a mistake in this program.

CREATE FUNCTION only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% only grows', TG_TABLE_NAME;
END
$$;
CREATE FUNCTION audit_head_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.size < OLD.size THEN
        RAISE EXCEPTION 'the audit log only grows';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER usage_events_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_events
    FOR EACH STATEMENT EXECUTE FUNCTION only_grows();
CREATE TRIGGER postings_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON postings
    FOR EACH STATEMENT EXECUTE FUNCTION only_grows();
CREATE TRIGGER price_books_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON price_books
    FOR EACH STATEMENT EXECUTE FUNCTION only_grows();
CREATE TRIGGER audit_entries_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION only_grows();
CREATE TRIGGER balances_stay BEFORE DELETE OR TRUNCATE ON balances
    FOR EACH STATEMENT EXECUTE FUNCTION only_grows();
CREATE TRIGGER audit_head_stay BEFORE DELETE OR TRUNCATE ON audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION only_grows();
CREATE TRIGGER audit_head_only_grows BEFORE UPDATE ON audit_head
    FOR EACH ROW EXECUTE FUNCTION audit_head_only_grows();

-- The log begins empty.
INSERT INTO audit_head (id, size, frontier) VALUES (1, 0, ''::bytea);
