-- What organisations and projects have of each SKU. `id` is made of the holder's id and the SKU, so that there is one of
-- each, and organisations' (`org_…`) stand before projects' (`prj_…`).
CREATE TABLE quotas (
    id {id} PRIMARY KEY,
    organisation {id} NOT NULL REFERENCES organisations (id),
    project {id} REFERENCES projects (id),
    sku TEXT NOT NULL,
    version {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE INDEX quotas_by_organisation ON quotas (organisation, id);
CREATE INDEX quotas_by_project ON quotas (project, id);
