-- Policies that organisations wrote for themselves. A name stands once in an organisation, or in one of its projects.
CREATE TABLE policies (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    project {id} REFERENCES projects (id),
    name TEXT NOT NULL,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE INDEX policies_by_organisation ON policies (organisation, id);
