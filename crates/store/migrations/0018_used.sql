-- What organisations used lately of each family of SKUs, for fair sharing: one row each, which runs that end add to.
CREATE TABLE used (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    version {int} NOT NULL,
    changed {int} NOT NULL DEFAULT 0,
    document TEXT NOT NULL
){strict};
CREATE INDEX used_by_change ON used (changed);
