-- Looks that operators asked for into what a tenant owns. Only what is not closed is looked at with a request.
CREATE TABLE accesses (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    requested {id} NOT NULL,
    closed {int} NOT NULL,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE INDEX accesses_by_organisation ON accesses (organisation, id);
CREATE INDEX accesses_open ON accesses (requested, id) WHERE closed = 0;
