-- Room at a site for a time. Only what is not over is looked at again and again.
CREATE TABLE reservations (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    project {id} NOT NULL REFERENCES projects (id),
    site {id} NOT NULL REFERENCES sites (id),
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE UNIQUE INDEX reservations_name_once ON reservations (project, name) WHERE state NOT IN ('ended', 'cancelled');
CREATE INDEX reservations_by_project ON reservations (project, id);
CREATE INDEX reservations_live ON reservations (site, id) WHERE state NOT IN ('ended', 'cancelled');
