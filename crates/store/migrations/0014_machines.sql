-- Names that programs act under, what was exchanged for their keys, and when keys were used last.
CREATE TABLE service_accounts (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    project {id},
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE INDEX service_accounts_by_organisation ON service_accounts (organisation, id);

-- The account a key acts as: all of them end with it.
ALTER TABLE keys ADD COLUMN account {id};
CREATE INDEX keys_by_account ON keys (account, id);

-- Tokens that say they are for one use, by digest, until they are worth nothing by themselves.
CREATE TABLE exchanges (
    digest {id} PRIMARY KEY,
    until {int} NOT NULL
){strict};
CREATE INDEX exchanges_by_until ON exchanges (until);

-- When a key was used last, apart from its row: this is an observation, and changes no version.
CREATE TABLE key_uses (
    id {id} PRIMARY KEY,
    at {int} NOT NULL
){strict};
