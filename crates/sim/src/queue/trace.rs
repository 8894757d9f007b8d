//! Traces of jobs: readers for four formats, with errors by line.
//!
//! - `csv`: one's own jobs, as `crate::jobs` reads them.
//! - `philly`: `timestamp,duration,num_gpus,gpu_time,cluster`, as the Sia artifact publishes Microsoft's Philly trace.
//! - `swf`: the standard workload format of the Parallel Workloads Archive, 18 fields a line, comments after `;`.
//! - `shockwave`: 12 fields by tabs, as Shockwave (NSDI'23) publishes them. The run time is that of the batch size a job
//!   begins with, and stands as its stated limit too: there owners state steps, and how long a step takes is known.
//!
//! Lines may be in any order of time; jobs of one second keep the order of the file. Times become milliseconds since the first
//! submission.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    jobs::{GPUS_MAX, JOBS_MAX, JobsError, OwnJob, SECONDS_MAX, read_jobs},
    table::{Columns, TableError, rows},
};

const PHILLY: Columns =
    Columns { required: &["timestamp", "duration", "num_gpus", "gpu_time", "cluster"], optional: &[] };
const SWF_FIELDS: usize = 18;
const SHOCKWAVE_FIELDS: usize = 12;

/// Which format a trace is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Microsoft's Philly trace.
    Philly,
    /// The standard workload format.
    Swf,
    /// One's own jobs.
    Csv,
    /// A trace of Shockwave's.
    Shockwave,
}

impl Format {
    /// A format by its name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "philly" => Some(Self::Philly),
            "swf" => Some(Self::Swf),
            "csv" => Some(Self::Csv),
            "shockwave" => Some(Self::Shockwave),
            _ => None,
        }
    }
}

/// One job of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceJob {
    /// When it is submitted, in milliseconds since the first submission.
    pub submit_ms: u64,
    /// How long it works once started, in milliseconds. The scheduler does not see this.
    pub run_ms: u64,
    /// How many accelerators it needs.
    pub gpus: u32,
    /// Which queue it belongs to, by its place in `Trace::queues`.
    pub queue: u32,
    /// The limit its owner states, in milliseconds.
    pub limit_ms: Option<u64>,
    /// Higher goes first.
    pub priority: u8,
    /// The model its accelerators must be of, by its place in `Trace::models`; none: whatever there is.
    pub model: Option<u16>,
    /// Its line in the file, from 1; 0 if it was generated.
    pub line: usize,
}

/// A trace, sorted by submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The jobs.
    pub jobs: Vec<TraceJob>,
    /// The names of the queues, in the order they first appear in the file.
    pub queues: Vec<String>,
    /// The names of the models that jobs ask for, in the order they first appear.
    pub models: Vec<String>,
    /// Lines of a standard workload that never ran or asked for nothing, and are left out.
    pub skipped: usize,
}

impl Trace {
    /// Reads a trace.
    pub fn read(text: &str, format: Format) -> Result<Self, JobsError> {
        let mut reader = Reader::default();
        match format {
            Format::Philly => reader.philly(text)?,
            Format::Swf => reader.swf(text)?,
            Format::Csv => read_jobs(text)?.iter().try_for_each(|job| reader.own(job))?,
            Format::Shockwave => reader.shockwave(text)?,
        }
        let Reader { mut jobs, queues, models, skipped } = reader;
        let first = jobs.iter().map(|job| job.submit_ms).min().ok_or(JobsError::Empty)?;
        for job in &mut jobs {
            job.submit_ms -= first;
        }
        jobs.sort_by_key(|job| job.submit_ms); // Stable: jobs of one second keep the order of the file.
        Ok(Self { jobs, queues: queues.names, models: models.names, skipped })
    }
}

/// Names by the order in which they first appear.
#[derive(Default)]
struct Names {
    places: BTreeMap<String, usize>,
    names: Vec<String>,
}

impl Names {
    fn place(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.places.insert(name.to_owned(), self.names.len());
        self.names.push(name.to_owned());
        self.names.len() - 1
    }
}

#[derive(Default)]
struct Reader {
    jobs: Vec<TraceJob>,
    queues: Names,
    models: Names,
    skipped: usize,
}

impl Reader {
    fn philly(&mut self, text: &str) -> Result<(), JobsError> {
        rows(text, &PHILLY, |row| {
            let said = |column| row.said(column).unwrap_or("");
            let expected = "a time like `2017-10-09 07:01:55`";
            let submit_s = stamp(said("timestamp")).ok_or_else(|| row.bad("timestamp", expected))?;
            // Seconds are written with a fraction that is always zero.
            let duration = said("duration");
            let run_s = seconds(duration.strip_suffix(".0").unwrap_or(duration), row.line, "duration")?;
            let gpus = count(said("num_gpus"), row.line, "num_gpus")?;
            let queue = self.queue(said("cluster"));
            self.add(TraceJob { line: row.line, ..job_of(submit_s, run_s, gpus, queue, None) })
        })
    }

    fn swf(&mut self, text: &str) -> Result<(), JobsError> {
        for (line, text) in (1..).zip(text.lines()).map(|(line, text)| (line, text.trim())) {
            if text.is_empty() || text.starts_with(';') {
                continue;
            }
            let fields: Vec<&str> = text.split_whitespace().collect();
            if fields.len() != SWF_FIELDS {
                return Err(TableError::Fields { line, expected: SWF_FIELDS, found: fields.len() }.into());
            }
            // Fields by their number in the standard, from 1; -1 says unknown.
            let field = |number: usize, field: &'static str| -> Result<Option<u64>, TableError> {
                let text = fields[number - 1];
                if text == "-1" { Ok(None) } else { seconds(text, line, field).map(Some) }
            };
            let used = field(5, "allocated processors")?;
            let gpus = field(8, "requested processors")?.or(used);
            let (submit_s, run_s) = (field(2, "submit time")?, field(4, "run time")?);
            let limit_s = field(9, "requested time")?;
            let queue = self.queue(fields[11]);
            let (Some(submit_s), Some(run_s), Some(gpus)) = (submit_s, run_s, gpus.filter(|gpus| *gpus > 0)) else {
                self.skipped += 1;
                continue;
            };
            let expected = "a whole number up to 1,000,000";
            let gpus = u32::try_from(gpus).ok().filter(|gpus| *gpus <= GPUS_MAX);
            let gpus = gpus.ok_or(TableError::Field { line, field: "processors", expected })?;
            self.add(TraceJob { line, ..job_of(submit_s, run_s, gpus, queue, limit_s) })?;
        }
        Ok(())
    }

    fn shockwave(&mut self, text: &str) -> Result<(), JobsError> {
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            let fields: Vec<&str> = text.split('\t').map(str::trim).collect();
            let [kind, _, _, _, _, _, scale, _, _, _, duration, arrival] = fields.as_slice() else {
                return Err(TableError::Fields { line, expected: SHOCKWAVE_FIELDS, found: fields.len() }.into());
            };
            let (submit_s, run_s) = (seconds(arrival, line, "arrival")?, seconds(duration, line, "duration")?);
            let (gpus, queue) = (count(scale, line, "scale factor")?, self.queue(kind));
            self.add(TraceJob { line, ..job_of(submit_s, run_s, gpus, queue, Some(run_s)) })?;
        }
        Ok(())
    }

    /// One of one's own jobs, which here must ask for accelerators.
    fn own(&mut self, job: &OwnJob) -> Result<(), JobsError> {
        let line = job.line;
        if job.gpus == 0 {
            return Err(
                TableError::Field { line, field: "gpus", expected: "a whole number from 1 to 1,000,000" }.into()
            );
        }
        let model = job.model.as_deref().map(|model| u16::try_from(self.models.place(model)));
        let expected = "one of at most 65,536 models";
        let model = model.transpose().map_err(|_| TableError::Field { line, field: "model", expected })?;
        let queue = self.queue(&job.queue);
        let plain = job_of(job.submit_s, job.run_s, job.gpus, queue, job.limit_s);
        self.add(TraceJob { priority: job.priority, model, line, ..plain })
    }

    fn queue(&mut self, name: &str) -> u32 {
        u32::try_from(self.queues.place(name)).unwrap_or(u32::MAX)
    }

    fn add(&mut self, job: TraceJob) -> Result<(), JobsError> {
        if self.jobs.len() == JOBS_MAX {
            return Err(JobsError::TooMany);
        }
        self.jobs.push(job);
        Ok(())
    }
}

/// A job from seconds; what is read stays within a century, far from the end of the range.
fn job_of(submitted: u64, run: u64, gpus: u32, queue: u32, limit: Option<u64>) -> TraceJob {
    let millis = |seconds: u64| seconds * 1000;
    let (submit_ms, run_ms, limit_ms) = (millis(submitted), millis(run), limit.map(millis));
    TraceJob { submit_ms, run_ms, gpus, queue, limit_ms, priority: 0, model: None, line: 0 }
}

fn seconds(text: &str, line: usize, field: &'static str) -> Result<u64, TableError> {
    let found = text.parse().ok().filter(|seconds| *seconds <= SECONDS_MAX);
    found.ok_or(TableError::Field { line, field, expected: "a whole number of seconds within a century" })
}

fn count(text: &str, line: usize, field: &'static str) -> Result<u32, TableError> {
    let found = text.parse().ok().filter(|count| (1..=GPUS_MAX).contains(count));
    found.ok_or(TableError::Field { line, field, expected: "a whole number from 1 to 1,000,000" })
}

/// Seconds since 1970 of a time like `2017-10-09 07:01:55`.
fn stamp(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(' ')?;
    let numbers = |text: &str, by: char| -> Option<[u64; 3]> {
        let parts: Option<Vec<u64>> = text.split(by).map(|part| part.parse().ok()).collect();
        parts?.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(time, ':')?);
    let sound = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !sound || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days of the civil calendar with years that begin in March, so that the leap day comes last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days.checked_sub(719_468)?) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_jobs_begin_with_the_first_and_name_their_queue_and_model() {
        let text = "gpus,submit_s,run_s,limit_s,queue,model\n2,15,5,,b,h100\n\n1,10,7,20,a,\n";
        let trace = Trace::read(text, Format::Csv).unwrap();
        let first = TraceJob { line: 4, ..job_of(0, 7, 1, 1, Some(20)) };
        let second = TraceJob { line: 2, model: Some(0), ..job_of(5, 5, 2, 0, None) };
        assert_eq!((trace.jobs, trace.queues), (vec![first, second], vec!["b".to_owned(), "a".to_owned()]));
        assert_eq!(trace.models, ["h100"]);
        let bad = Trace::read("submit_s,run_s,gpus,cpus\n1,1,0,8\n", Format::Csv).unwrap_err().to_string();
        assert!(bad.starts_with("line 2: `gpus` is not a whole number from 1"), "{bad}");
    }

    #[test]
    fn philly_times_are_read_and_sorted() {
        let text = "timestamp,duration,num_gpus,gpu_time,cluster\n\
                    2017-11-01 00:00:01,66.0,1,66.0,a\n2017-10-31 23:59:59,5,8,40.0,b\n";
        let trace = Trace::read(text, Format::Philly).unwrap();
        let seen: Vec<(u64, u64, u32)> = trace.jobs.iter().map(|job| (job.submit_ms, job.run_ms, job.gpus)).collect();
        assert_eq!(seen, [(0, 5000, 8), (2000, 66_000, 1)]);
        assert_eq!(stamp("2000-02-29 00:00:00"), Some(951_782_400));
        let bad = Trace::read(&text.replace("10-31", "13-31"), Format::Philly).unwrap_err().to_string();
        assert!(bad.starts_with("line 3: `timestamp` is not"), "{bad}");
        let bad = Trace::read(&text.replace("66.0,1,66", "66.5,1,66"), Format::Philly).unwrap_err().to_string();
        assert!(bad.starts_with("line 2: `duration` is not"), "{bad}");
    }

    #[test]
    fn a_shockwave_line_states_its_run_time_as_its_limit() {
        let line = "LM\tpython3\tdir\t--steps\t1\t134583\t2\tgns\t1\t-1.000000\t1418\t55\n";
        let trace = Trace::read(line, Format::Shockwave).unwrap();
        assert_eq!(trace.jobs, [TraceJob { line: 1, ..job_of(0, 1418, 2, 0, Some(1418)) }]);
        let bad = Trace::read("LM\tpython3\n", Format::Shockwave).unwrap_err();
        assert_eq!(bad, TableError::Fields { line: 1, expected: 12, found: 2 }.into());
    }

    #[test]
    fn a_standard_workload_leaves_out_what_never_ran() {
        let job = |run: &str, allocated: &str, asked: &str| {
            format!("1 100 -1 {run} {allocated} -1 -1 {asked} 50 -1 1 7 -1 -1 0 -1 -1 -1\n")
        };
        let text = format!("; a comment\n{}{}{}", job("10", "4", "-1"), job("-1", "4", "-1"), job("10", "4", "6"));
        let trace = Trace::read(&text, Format::Swf).unwrap();
        assert_eq!(trace.jobs.iter().map(|job| job.gpus).collect::<Vec<_>>(), [4, 6]);
        assert_eq!((trace.skipped, trace.jobs[0].limit_ms), (1, Some(50_000)));
        let bad = Trace::read("1 2 3\n", Format::Swf).unwrap_err();
        assert_eq!(bad, TableError::Fields { line: 1, expected: 18, found: 3 }.into());
    }
}
