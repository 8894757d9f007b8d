-- A removed dataset whose site has let go of its bytes is `gone`: its site is told of it no more. It stays for lineage and
-- leaves its name free, as before.
DROP INDEX datasets_name_once;
CREATE UNIQUE INDEX datasets_name_once ON datasets (project, name) WHERE state NOT IN ('deleted', 'gone');
CREATE INDEX datasets_by_site ON datasets (site, id) WHERE state <> 'gone';
