-- Whom an organisation's directory told us of. `name` is told apart without case; `address` is what a provider vouches for.
CREATE TABLE scim_users (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    name TEXT NOT NULL,
    address TEXT,
    person {id},
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE UNIQUE INDEX scim_users_name_once ON scim_users (organisation, name);
CREATE INDEX scim_users_by_address ON scim_users (organisation, address);
CREATE INDEX scim_users_by_person ON scim_users (person);
