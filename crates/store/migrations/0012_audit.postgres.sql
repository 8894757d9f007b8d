CREATE FUNCTION audit_views_only_grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.entries <= OLD.entries THEN
        RAISE EXCEPTION 'the audit log only grows';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER audit_nodes_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_nodes
    FOR EACH STATEMENT EXECUTE FUNCTION only_grows();
CREATE TRIGGER audit_views_stay BEFORE DELETE OR TRUNCATE ON audit_views
    FOR EACH STATEMENT EXECUTE FUNCTION only_grows();
CREATE TRIGGER audit_views_only_grow BEFORE UPDATE ON audit_views
    FOR EACH ROW EXECUTE FUNCTION audit_views_only_grow();
