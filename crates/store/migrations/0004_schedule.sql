-- What each scheduling pass that changed something looked at: a chain of records, each of which builds on the one before
-- it with the same `base`; the first of a chain (`base` is null) holds all its inputs.
CREATE TABLE schedule_passes (
    sequence {sequence},
    base {int},
    at {int} NOT NULL,
    document TEXT NOT NULL
){strict};
CREATE INDEX schedule_passes_by_base ON schedule_passes (base, sequence);

-- What a pass said of a job, where it was something new.
CREATE TABLE schedule_decisions (
    job {id} NOT NULL REFERENCES jobs (id),
    pass {int} NOT NULL REFERENCES schedule_passes (sequence),
    document TEXT NOT NULL,
    PRIMARY KEY (job, pass)
){strict};
