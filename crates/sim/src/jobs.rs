//! One's own jobs as comma-separated values: the one reader of them, whichever scheduler they then go through.

use crate::table::{Columns, Row, TableError, rows};

/// The columns a file of jobs must have and may have. `gpus` or `cpus` must be there: a job asks for something.
pub(crate) const COLUMNS: Columns =
    Columns { required: &["submit_s", "run_s"], optional: &["gpus", "cpus", "model", "queue", "limit_s", "priority"] };
/// The most jobs a file may have.
pub(crate) const JOBS_MAX: usize = 5_000_000;
/// The latest submission and the longest run: a century.
pub(crate) const SECONDS_MAX: u64 = 100 * 366 * 86_400;
/// The most accelerators, or cores, one job may ask for.
pub(crate) const GPUS_MAX: u32 = 1_000_000;

/// One of one's own jobs, as its line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnJob {
    /// Its line in the file, from 1.
    pub line: usize,
    /// When it is submitted, in seconds.
    pub submit_s: u64,
    /// How long it works once started, in seconds. The scheduler does not see this.
    pub run_s: u64,
    /// Accelerators it needs.
    pub gpus: u32,
    /// CPU cores it needs.
    pub cpus: u32,
    /// The model its accelerators must be of; none: whatever there is.
    pub model: Option<String>,
    /// Who shares a quota and a history with it.
    pub queue: String,
    /// The limit its owner states, in seconds.
    pub limit_s: Option<u64>,
    /// Higher goes first.
    pub priority: u8,
}

/// Why jobs cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobsError {
    /// The table is not what it should be.
    #[error(transparent)]
    Table(#[from] TableError),
    /// There are more jobs than a replay takes.
    #[error("more than {JOBS_MAX} jobs")]
    TooMany,
    /// There is none.
    #[error("no job in it")]
    Empty,
}

/// Reads jobs; they keep the order of the file.
pub fn read_jobs(text: &str) -> Result<Vec<OwnJob>, JobsError> {
    let mut jobs = Vec::new();
    rows(text, &COLUMNS, |row| {
        if jobs.len() == JOBS_MAX {
            return Err(JobsError::TooMany);
        }
        jobs.push(job(row)?);
        Ok(())
    })?;
    if jobs.is_empty() { Err(JobsError::Empty) } else { Ok(jobs) }
}

fn job(row: &Row) -> Result<OwnJob, TableError> {
    let seconds =
        |field, absent| row.number(field, absent, 0..=SECONDS_MAX, "a whole number of seconds within a century");
    let count = |field| row.number(field, Some(0), 0..=u64::from(GPUS_MAX), "a whole number up to 1,000,000");
    let [gpus, cpus] = [count("gpus")?, count("cpus")?].map(|count| u32::try_from(count).unwrap_or(GPUS_MAX));
    if gpus == 0 && cpus == 0 {
        return Err(row.bad("gpus", "1 or more, nor is `cpus`: the job asks for nothing"));
    }
    let limit_s = row.said("limit_s").map(|_| seconds("limit_s", None)).transpose()?;
    let priority = row.number("priority", Some(0), 0..=255, "a whole number up to 255")?;
    Ok(OwnJob {
        line: row.line,
        submit_s: seconds("submit_s", None)?,
        run_s: seconds("run_s", None)?,
        gpus,
        cpus,
        model: row.said("model").map(str::to_owned),
        queue: row.said("queue").unwrap_or("").to_owned(),
        limit_s,
        priority: u8::try_from(priority).unwrap_or(u8::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_any_order_and_most_may_be_left_out() {
        let jobs = read_jobs("run_s, gpus,submit_s,model\n7,2,10,h100\n\n5,1,3,\n").unwrap();
        let seen = jobs.iter().map(|job| (job.line, job.submit_s, job.run_s, job.gpus, job.model.as_deref()));
        assert_eq!(seen.collect::<Vec<_>>(), [(2, 10, 7, 2, Some("h100")), (4, 3, 5, 1, None)]);
        let jobs = read_jobs("submit_s,run_s,cpus,queue,limit_s,priority\n0,1,4,a,9,200\n").unwrap();
        let said = (jobs[0].cpus, jobs[0].gpus, jobs[0].queue.as_str(), jobs[0].limit_s, jobs[0].priority);
        assert_eq!(said, (4, 0, "a", Some(9), 200));
    }

    #[test]
    fn bad_lines_are_named() {
        let bad = |text: &str| read_jobs(text).unwrap_err().to_string();
        for header in ["submit_s,gpus", "submit_s,run_s,gpus,gpus", "submit_s,run_s,gpus,color", ""] {
            assert!(bad(header).starts_with("line 1: expected the columns `submit_s,run_s`"), "{header}");
        }
        assert_eq!(bad("submit_s,run_s,gpus\n1,1,1\n1,1\n"), "line 3: expected 3 fields, found 2");
        let cases = [
            ("-1,1,1,1,", "line 3: `submit_s` is not a whole number of seconds"),
            ("1,,1,1,", "line 3: `run_s` is not"),
            ("1,1,99999999999,1,", "line 3: `gpus` is not a whole number up to"),
            ("1,1,1,-2,", "line 3: `cpus` is not"),
            ("1,1,1,1,soon", "line 3: `limit_s` is not"),
            ("1,1,0,0,", "line 3: `gpus` is not 1 or more, nor is `cpus`: the job asks for nothing"),
        ];
        for (line, why) in cases {
            let said = bad(&format!("submit_s,run_s,gpus,cpus,limit_s\n1,1,1,1,\n{line}\n"));
            assert!(said.starts_with(why), "{line}: {said}");
        }
        assert!(bad("submit_s,run_s,gpus,priority\n1,1,1,256\n").starts_with("line 2: `priority` is not"));
        assert_eq!(bad("submit_s,run_s,gpus\n"), "no job in it");
    }
}
