-- The first schema. Typed columns are what is looked up, constrained or summed; `document` is the whole domain value as
-- JSON. Words in braces are the few type names SQLite and PostgreSQL disagree on (src/migrate.rs). Times are milliseconds
-- since 1970 UTC, money is nano-euro, counts stay below 2^63.

CREATE TABLE organisations (
    id {id} PRIMARY KEY,
    name TEXT NOT NULL,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE UNIQUE INDEX organisations_name_once ON organisations (name);

CREATE TABLE projects (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    name TEXT NOT NULL,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE UNIQUE INDEX projects_name_once ON projects (organisation, name);
CREATE INDEX projects_by_organisation ON projects (organisation, id);

CREATE TABLE keys (
    id {id} PRIMARY KEY,
    organisation {id} REFERENCES organisations (id),
    project {id} REFERENCES projects (id),
    -- SHA-256 of the secret: 256 bits of entropy, so the digest gives nothing away.
    digest TEXT NOT NULL,
    revoked_at {int},
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE UNIQUE INDEX keys_digest_once ON keys (digest);
CREATE INDEX keys_by_organisation ON keys (organisation, id);
CREATE INDEX keys_working ON keys (id) WHERE revoked_at IS NULL;

CREATE TABLE sites (
    id {id} PRIMARY KEY,
    name TEXT NOT NULL,
    secret_digest TEXT NOT NULL,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE UNIQUE INDEX sites_name_once ON sites (name);
CREATE UNIQUE INDEX sites_secret_once ON sites (secret_digest);

CREATE TABLE datasets (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    project {id} NOT NULL REFERENCES projects (id),
    site {id} NOT NULL REFERENCES sites (id),
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
-- A removed dataset stays for lineage and gives its name free.
CREATE UNIQUE INDEX datasets_name_once ON datasets (project, name) WHERE state <> 'deleted';
CREATE INDEX datasets_by_project ON datasets (project, id);

CREATE TABLE jobs (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    project {id} NOT NULL REFERENCES projects (id),
    site {id} REFERENCES sites (id),
    state TEXT NOT NULL,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE INDEX jobs_by_project ON jobs (project, id);
CREATE INDEX jobs_by_state ON jobs (state, id);
CREATE INDEX jobs_by_site ON jobs (site, state, id);

CREATE TABLE job_progress (
    job {id} NOT NULL REFERENCES jobs (id),
    slot {int} NOT NULL,
    step {int} NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (job, slot)
){strict};
CREATE INDEX job_progress_by_step ON job_progress (job, step);

CREATE TABLE models (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    project {id} NOT NULL REFERENCES projects (id),
    site {id} NOT NULL REFERENCES sites (id),
    name TEXT NOT NULL,
    number {int} NOT NULL,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE UNIQUE INDEX models_number_once ON models (project, name, number);
CREATE INDEX models_by_project ON models (project, id);

CREATE TABLE endpoints (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    project {id} NOT NULL REFERENCES projects (id),
    site {id} NOT NULL REFERENCES sites (id),
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE UNIQUE INDEX endpoints_name_once ON endpoints (project, name) WHERE state NOT IN ('stopped', 'failed');
CREATE INDEX endpoints_by_project ON endpoints (project, id);
CREATE INDEX endpoints_live ON endpoints (site, id) WHERE state NOT IN ('stopped', 'failed');

CREATE TABLE holds (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    project {id} REFERENCES projects (id),
    subject TEXT NOT NULL,
    state TEXT NOT NULL,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE UNIQUE INDEX holds_subject_once ON holds (subject);
CREATE INDEX holds_open ON holds (id) WHERE state = 'open';

-- `sequence` is the order of arrival: with one writer at a time a later one is committed later, so that a reader who
-- goes on from the last sequence it saw misses nothing.
CREATE TABLE usage_events (
    sequence {sequence},
    id TEXT NOT NULL,
    organisation {id} NOT NULL REFERENCES organisations (id),
    project {id} NOT NULL REFERENCES projects (id),
    site {id} NOT NULL REFERENCES sites (id),
    meter TEXT NOT NULL,
    item TEXT NOT NULL,
    quantity {int} NOT NULL CHECK (quantity >= 0),
    ended_at {int} NOT NULL,
    rated {int} NOT NULL,
    arrived_at {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE UNIQUE INDEX usage_events_id_once ON usage_events (id);
CREATE INDEX usage_events_by_period ON usage_events (organisation, ended_at);
CREATE INDEX usage_events_by_arrival ON usage_events (organisation, sequence);

CREATE TABLE postings (
    sequence {sequence},
    id {id} NOT NULL,
    organisation {id} NOT NULL REFERENCES organisations (id),
    kind TEXT NOT NULL,
    reference TEXT NOT NULL,
    available {int} NOT NULL,
    held {int} NOT NULL,
    accrued {int} NOT NULL,
    funding {int} NOT NULL,
    at {int} NOT NULL,
    document TEXT NOT NULL,
    CHECK (available + held + accrued + funding = 0)
){strict};
CREATE UNIQUE INDEX postings_id_once ON postings (id);
CREATE INDEX postings_by_organisation ON postings (organisation, sequence);

CREATE TABLE balances (
    organisation {id} PRIMARY KEY REFERENCES organisations (id),
    available {int} NOT NULL,
    held {int} NOT NULL,
    accrued {int} NOT NULL,
    funding {int} NOT NULL,
    CHECK (available + held + accrued + funding = 0)
){strict};

CREATE TABLE price_books (
    version {int} PRIMARY KEY,
    valid_from {int} NOT NULL,
    document TEXT NOT NULL
){strict};

CREATE TABLE audit_entries (
    place {int} PRIMARY KEY CHECK (place >= 0),
    organisation {id},
    at {int} NOT NULL,
    body TEXT NOT NULL,
    leaf {bytes} NOT NULL
){strict};
CREATE INDEX audit_entries_by_organisation ON audit_entries (organisation, place);

-- The one row every writer locks: the size of the log and the roots of its full subtrees.
CREATE TABLE audit_head (
    id {int} PRIMARY KEY CHECK (id = 1),
    size {int} NOT NULL CHECK (size >= 0),
    frontier {bytes} NOT NULL
){strict};

CREATE TABLE idempotency (
    key_id {id} NOT NULL,
    idem_key TEXT NOT NULL,
    request_digest TEXT NOT NULL,
    status {int} NOT NULL,
    body TEXT NOT NULL,
    at {int} NOT NULL,
    PRIMARY KEY (key_id, idem_key)
){strict};
CREATE INDEX idempotency_by_age ON idempotency (at);

CREATE TABLE outbox (
    sequence {sequence},
    topic TEXT NOT NULL,
    payload TEXT NOT NULL,
    attempts {int} NOT NULL
){strict};
CREATE INDEX outbox_by_turn ON outbox (attempts, sequence);

-- `value` may hold secrets (the cloud's signing key): it is never listed, logged or answered.
CREATE TABLE meta (
    name TEXT PRIMARY KEY NOT NULL,
    value {bytes} NOT NULL
){strict};

CREATE TABLE leases (
    name TEXT PRIMARY KEY NOT NULL,
    holder TEXT NOT NULL,
    until {int} NOT NULL,
    fence {int} NOT NULL
){strict};
