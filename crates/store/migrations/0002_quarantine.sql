-- Usage records that cannot be counted, whole: the site lets go of a record once it is here, so this is the only copy.
-- `digest` is SHA-256 over the document: a batch sent again adds nothing.
CREATE TABLE usage_quarantine (
    sequence {sequence},
    digest TEXT NOT NULL,
    site {id} NOT NULL REFERENCES sites (id),
    reason TEXT NOT NULL,
    arrived_at {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE UNIQUE INDEX usage_quarantine_once ON usage_quarantine (site, digest);
