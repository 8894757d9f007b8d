CREATE TRIGGER schedule_passes_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON schedule_passes
    FOR EACH STATEMENT EXECUTE FUNCTION only_grows();
CREATE TRIGGER schedule_decisions_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON schedule_decisions
    FOR EACH STATEMENT EXECUTE FUNCTION only_grows();
