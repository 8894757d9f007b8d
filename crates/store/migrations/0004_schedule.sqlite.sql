CREATE TRIGGER schedule_passes_no_update BEFORE UPDATE ON schedule_passes
BEGIN SELECT RAISE(ABORT, 'schedule_passes only grows'); END;
CREATE TRIGGER schedule_passes_no_delete BEFORE DELETE ON schedule_passes
BEGIN SELECT RAISE(ABORT, 'schedule_passes only grows'); END;
CREATE TRIGGER schedule_decisions_no_update BEFORE UPDATE ON schedule_decisions
BEGIN SELECT RAISE(ABORT, 'schedule_decisions only grows'); END;
CREATE TRIGGER schedule_decisions_no_delete BEFORE DELETE ON schedule_decisions
BEGIN SELECT RAISE(ABORT, 'schedule_decisions only grows'); END;
