-- Roots of the log's full tiles: level 1 holds those over 256 entries, level 2 those over 65,536, and so on. A proof is made
-- from a few of them, so nobody has to read all leaves.
CREATE TABLE audit_nodes (
    level {int} NOT NULL CHECK (level BETWEEN 1 AND 7),
    place {int} NOT NULL CHECK (place >= 0),
    hash {bytes} NOT NULL,
    PRIMARY KEY (level, place)
){strict};

-- Where each organisation's view ends: how many entries it has, and the newest one's leaf hash.
CREATE TABLE audit_views (
    organisation {id} PRIMARY KEY,
    entries {int} NOT NULL CHECK (entries > 0),
    newest {bytes} NOT NULL
){strict};
INSERT INTO audit_views (organisation, entries, newest)
    SELECT last.organisation, counted.entries, last.leaf
    FROM audit_entries AS last
    JOIN (
        SELECT organisation, COUNT(*) AS entries, MAX(place) AS place
        FROM audit_entries WHERE organisation IS NOT NULL GROUP BY organisation
    ) AS counted ON counted.place = last.place;
