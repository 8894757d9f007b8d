-- Passkeys of people without a provider. `credential` is the digest of what the authenticator calls it.
CREATE TABLE passkeys (
    id {id} PRIMARY KEY,
    person {id} NOT NULL REFERENCES persons (id),
    credential {id} NOT NULL UNIQUE,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE INDEX passkeys_by_person ON passkeys (person, id);
