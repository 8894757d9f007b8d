//! Traces of jobs: readers for four formats, with errors by line.
//!
//! - `csv`: one's own jobs. The first line names the columns, in any order: `submit_s`, `run_s`, `gpus` must be there;
//!   `queue` (a name: who shares a quota and a history), `limit_s` (empty: none) and `priority` (0 to 255) may be.
//! - `philly`: `timestamp,duration,num_gpus,gpu_time,cluster`, as the Sia artifact publishes Microsoft's Philly trace.
//! - `swf`: the standard workload format of the Parallel Workloads Archive, 18 fields a line, comments after `;`.
//! - `shockwave`: 12 fields by tabs, as Shockwave (NSDI'23) publishes them. The run time is that of the batch size a job
//!   begins with, and stands as its stated limit too: there owners state steps, and how long a step takes is known.
//!
//! Lines may be in any order of time; jobs of one second keep the order of the file. Times become milliseconds since the first
//! submission.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The columns a CSV may have; the first three must be there.
pub const CSV_COLUMNS: [&str; 6] = ["submit_s", "run_s", "gpus", "queue", "limit_s", "priority"];
const PHILLY_COLUMNS: [&str; 5] = ["timestamp", "duration", "num_gpus", "gpu_time", "cluster"];
const SWF_FIELDS: usize = 18;
/// The most jobs a trace may have.
const JOBS_MAX: usize = 5_000_000;
/// The longest span a trace may speak of: a century.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;
/// The most accelerators one job may ask for.
const GPUS_MAX: u32 = 1_000_000;

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
}

/// A trace, sorted by submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The jobs.
    pub jobs: Vec<TraceJob>,
    /// The names of the queues, in the order they first appear in the file.
    pub queues: Vec<String>,
    /// Lines of a standard workload that never ran or asked for nothing, and are left out.
    pub skipped: usize,
}

/// Why a trace cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The first line does not name the columns it must.
    #[error("line 1: expected the columns `{expected}`")]
    Header {
        /// What it should name.
        expected: String,
    },
    /// A line has another number of fields.
    #[error("line {line}: expected {expected} fields, found {found}")]
    Fields {
        /// Which line, from 1.
        line: usize,
        /// How many fields it should have.
        expected: usize,
        /// How many it has.
        found: usize,
    },
    /// A field is not what it should be.
    #[error("line {line}: `{field}` is not {expected}")]
    Field {
        /// Which line, from 1.
        line: usize,
        /// Which field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// There are more jobs than a replay takes.
    #[error("more than {JOBS_MAX} jobs")]
    TooMany,
    /// There is none.
    #[error("no job in it")]
    Empty,
}

impl Trace {
    /// Reads a trace.
    pub fn read(text: &str, format: Format) -> Result<Self, TraceError> {
        let mut reader = Reader { jobs: Vec::new(), queues: BTreeMap::new(), names: Vec::new(), skipped: 0 };
        match format {
            Format::Philly => reader.philly(text)?,
            Format::Swf => reader.swf(text)?,
            Format::Csv => reader.csv(text)?,
            Format::Shockwave => reader.shockwave(text)?,
        }
        let Reader { mut jobs, names, skipped, .. } = reader;
        let first = jobs.iter().map(|job| job.submit_ms).min().ok_or(TraceError::Empty)?;
        for job in &mut jobs {
            job.submit_ms -= first;
        }
        jobs.sort_by_key(|job| job.submit_ms); // Stable: jobs of one second keep the order of the file.
        Ok(Self { jobs, queues: names, skipped })
    }
}

struct Reader {
    jobs: Vec<TraceJob>,
    queues: BTreeMap<String, u32>,
    names: Vec<String>,
    skipped: usize,
}

impl Reader {
    fn philly(&mut self, text: &str) -> Result<(), TraceError> {
        let mut lines = text.lines().enumerate();
        let header = lines.next().map(|(_, line)| line.trim());
        if header != Some(PHILLY_COLUMNS.join(",").as_str()) {
            return Err(TraceError::Header { expected: PHILLY_COLUMNS.join(",") });
        }
        for (line, text) in lines.map(|(index, text)| (index + 1, text)).filter(|(_, text)| !text.trim().is_empty()) {
            let fields: Vec<&str> = text.split(',').map(str::trim).collect();
            let [timestamp, duration, gpus, _, cluster] = fields.as_slice() else {
                return Err(TraceError::Fields { line, expected: PHILLY_COLUMNS.len(), found: fields.len() });
            };
            let expected = "a time like `2017-10-09 07:01:55`";
            let submit_s = stamp(timestamp).ok_or(TraceError::Field { line, field: "timestamp", expected })?;
            // Seconds are written with a fraction that is always zero.
            let run_s = seconds(duration.strip_suffix(".0").unwrap_or(duration), line, "duration")?;
            let queue = self.queue(cluster);
            let gpus = count(gpus, line, "num_gpus")?;
            self.add(job_of(submit_s, run_s, gpus, queue, None))?;
        }
        Ok(())
    }

    fn swf(&mut self, text: &str) -> Result<(), TraceError> {
        for (line, text) in text.lines().enumerate().map(|(index, text)| (index + 1, text.trim())) {
            if text.is_empty() || text.starts_with(';') {
                continue;
            }
            let fields: Vec<&str> = text.split_whitespace().collect();
            if fields.len() != SWF_FIELDS {
                return Err(TraceError::Fields { line, expected: SWF_FIELDS, found: fields.len() });
            }
            // Fields by their number in the standard, from 1; -1 says unknown.
            let field = |number: usize, field: &'static str| -> Result<Option<u64>, TraceError> {
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
            let gpus = gpus.ok_or(TraceError::Field { line, field: "processors", expected })?;
            self.add(job_of(submit_s, run_s, gpus, queue, limit_s))?;
        }
        Ok(())
    }

    fn shockwave(&mut self, text: &str) -> Result<(), TraceError> {
        for (line, text) in text.lines().enumerate().map(|(index, text)| (index + 1, text)) {
            if text.trim().is_empty() {
                continue;
            }
            let fields: Vec<&str> = text.split('\t').map(str::trim).collect();
            let [kind, _, _, _, _, _, scale, _, _, _, duration, arrival] = fields.as_slice() else {
                return Err(TraceError::Fields { line, expected: 12, found: fields.len() });
            };
            let (submit_s, run_s) = (seconds(arrival, line, "arrival")?, seconds(duration, line, "duration")?);
            let queue = self.queue(kind);
            self.add(job_of(submit_s, run_s, count(scale, line, "scale factor")?, queue, Some(run_s)))?;
        }
        Ok(())
    }

    fn csv(&mut self, text: &str) -> Result<(), TraceError> {
        let mut lines = text.lines().enumerate();
        let header: Vec<&str> = lines.next().map_or("", |(_, line)| line).split(',').map(str::trim).collect();
        let place = |column: &str| header.iter().position(|name| *name == column);
        let known = header.iter().enumerate().all(|(at, name)| CSV_COLUMNS.contains(name) && place(name) == Some(at));
        let (Some(submit), Some(run), Some(gpus), true) = (place("submit_s"), place("run_s"), place("gpus"), known)
        else {
            return Err(TraceError::Header { expected: CSV_COLUMNS.join(",") });
        };
        let (queue, limit, priority) = (place("queue"), place("limit_s"), place("priority"));
        for (line, text) in lines.map(|(index, text)| (index + 1, text)).filter(|(_, text)| !text.trim().is_empty()) {
            let fields: Vec<&str> = text.split(',').map(str::trim).collect();
            if fields.len() != header.len() {
                return Err(TraceError::Fields { line, expected: header.len(), found: fields.len() });
            }
            let said = |place: Option<usize>| place.map(|at| fields[at]).filter(|text| !text.is_empty());
            let limit_s = said(limit).map(|text| seconds(text, line, "limit_s")).transpose()?;
            let expected = "a whole number up to 255";
            let priority = said(priority).unwrap_or("0").parse();
            let (submit_s, run_s) = (seconds(fields[submit], line, "submit_s")?, seconds(fields[run], line, "run_s")?);
            let gpus = count(fields[gpus], line, "gpus")?;
            let queue = self.queue(said(queue).unwrap_or(""));
            let mut job = job_of(submit_s, run_s, gpus, queue, limit_s);
            job.priority = priority.map_err(|_| TraceError::Field { line, field: "priority", expected })?;
            self.add(job)?;
        }
        Ok(())
    }

    fn queue(&mut self, name: &str) -> u32 {
        if let Some(queue) = self.queues.get(name) {
            return *queue;
        }
        let queue = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.to_owned());
        self.queues.insert(name.to_owned(), queue);
        queue
    }

    fn add(&mut self, job: TraceJob) -> Result<(), TraceError> {
        if self.jobs.len() == JOBS_MAX {
            return Err(TraceError::TooMany);
        }
        self.jobs.push(job);
        Ok(())
    }
}

/// A job from seconds; what is read stays within a century, far from the end of the range.
fn job_of(submitted: u64, run: u64, gpus: u32, queue: u32, limit: Option<u64>) -> TraceJob {
    let millis = |seconds: u64| seconds * 1000;
    let limit_ms = limit.map(millis);
    TraceJob { submit_ms: millis(submitted), run_ms: millis(run), gpus, queue, limit_ms, priority: 0 }
}

fn seconds(text: &str, line: usize, field: &'static str) -> Result<u64, TraceError> {
    let found = text.parse().ok().filter(|seconds| *seconds <= SECONDS_MAX);
    found.ok_or(TraceError::Field { line, field, expected: "a whole number of seconds within a century" })
}

fn count(text: &str, line: usize, field: &'static str) -> Result<u32, TraceError> {
    let found = text.parse().ok().filter(|count| (1..=GPUS_MAX).contains(count));
    found.ok_or(TraceError::Field { line, field, expected: "a whole number from 1 to 1,000,000" })
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
    fn a_csv_names_its_columns_and_bad_lines_are_named() {
        let text = "gpus,submit_s,run_s,limit_s,queue\n2,15,5,,b\n\n1,10,7,20,a\n";
        let trace = Trace::read(text, Format::Csv).unwrap();
        let first = job_of(0, 7, 1, 1, Some(20));
        let second = job_of(5, 5, 2, 0, None);
        assert_eq!((trace.jobs, trace.queues), (vec![first, second], vec!["b".to_owned(), "a".to_owned()]));
        let bad = |text: &str| Trace::read(text, Format::Csv).unwrap_err().to_string();
        assert!(bad("submit_s,gpus\n").starts_with("line 1: expected the columns"));
        assert!(bad("submit_s,run_s,gpus,gpus\n1,1,1,1\n").starts_with("line 1: expected the columns"));
        assert_eq!(bad("submit_s,run_s,gpus\n1,1,1\n1,1\n"), "line 3: expected 3 fields, found 2");
        assert!(bad("submit_s,run_s,gpus\n1,1,0\n").starts_with("line 2: `gpus` is not"));
        assert!(bad("submit_s,run_s,gpus\n-1,1,1\n").starts_with("line 2: `submit_s` is not"));
        assert!(bad("submit_s,run_s,gpus,priority\n1,1,1,256\n").starts_with("line 2: `priority` is not"));
        assert_eq!(bad("submit_s,run_s,gpus\n"), "no job in it");
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
        assert_eq!(trace.jobs, [job_of(0, 1418, 2, 0, Some(1418))]);
        let bad = Trace::read("LM\tpython3\n", Format::Shockwave).unwrap_err();
        assert_eq!(bad, TraceError::Fields { line: 1, expected: 12, found: 2 });
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
        assert_eq!(bad, TraceError::Fields { line: 1, expected: 18, found: 3 });
    }
}
