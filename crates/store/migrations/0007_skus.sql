-- What can be rented, by name. `id` is the SKU's name; a shape never changes under it.
CREATE TABLE skus (
    id {id} PRIMARY KEY,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
