-- Who signs in, what they are in an organisation, to whom that was offered, who vouches for them, and how long they stay.
CREATE TABLE persons (
    id {id} PRIMARY KEY,
    -- Digest of the provider's issuer and subject; none once the person is erased.
    subject {id} UNIQUE,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};

CREATE TABLE members (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    person {id} NOT NULL REFERENCES persons (id),
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE INDEX members_by_organisation ON members (organisation, id);
CREATE INDEX members_by_person ON members (person, id);

CREATE TABLE invitations (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    digest {id} NOT NULL UNIQUE,
    ended_at {int},
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE INDEX invitations_by_organisation ON invitations (organisation, id);

CREATE TABLE sessions (
    id {id} PRIMARY KEY,
    family {id} NOT NULL UNIQUE,
    person {id} NOT NULL,
    organisation {id} NOT NULL,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE INDEX sessions_by_person ON sessions (person, organisation);

CREATE TABLE domains (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE INDEX domains_by_organisation ON domains (organisation, id);

-- Whose sign-in made a key: found when a membership changes or the person is forgotten.
ALTER TABLE keys ADD COLUMN person {id};
CREATE INDEX keys_by_person ON keys (person);
