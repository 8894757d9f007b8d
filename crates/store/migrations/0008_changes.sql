-- Where the audit log stood when a row was written last, so that whoever keeps a picture of the rows reads only what changed
-- since. 0: before this was kept.
ALTER TABLE jobs ADD COLUMN changed {int} NOT NULL DEFAULT 0;
CREATE INDEX jobs_by_change ON jobs (changed);
ALTER TABLE sites ADD COLUMN changed {int} NOT NULL DEFAULT 0;
CREATE INDEX sites_by_change ON sites (changed);
ALTER TABLE endpoints ADD COLUMN changed {int} NOT NULL DEFAULT 0;
CREATE INDEX endpoints_by_change ON endpoints (changed);
ALTER TABLE organisations ADD COLUMN changed {int} NOT NULL DEFAULT 0;
CREATE INDEX organisations_by_change ON organisations (changed);
-- Few: read whole when the newest mark or the number of rows is another.
ALTER TABLE quotas ADD COLUMN changed {int} NOT NULL DEFAULT 0;

-- What is counted before a job is taken: how many of an organisation wait, how many of a project have not ended. Without
-- these, each submission would look at every job the project ever had.
CREATE INDEX jobs_by_owner ON jobs (organisation, state);
CREATE INDEX jobs_by_project_state ON jobs (project, state);
