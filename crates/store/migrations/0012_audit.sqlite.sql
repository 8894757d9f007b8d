CREATE TRIGGER audit_nodes_no_update BEFORE UPDATE ON audit_nodes
BEGIN SELECT RAISE(ABORT, 'audit_nodes only grows'); END;
CREATE TRIGGER audit_nodes_no_delete BEFORE DELETE ON audit_nodes
BEGIN SELECT RAISE(ABORT, 'audit_nodes only grows'); END;
CREATE TRIGGER audit_views_only_grow BEFORE UPDATE ON audit_views WHEN NEW.entries <= OLD.entries
BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
CREATE TRIGGER audit_views_no_delete BEFORE DELETE ON audit_views
BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
