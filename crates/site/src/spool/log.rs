//! The files of the spool: numbered segments that only grow, and one small file that says what was handed over.
//! Everything here blocks; [`super::Spool`] calls it from its own thread.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use gregal_core::{id::AllowanceId, money::Nano};
use serde::{Deserialize, Serialize};

use super::{
    Error, Limits,
    frame::{self, Record},
};
use crate::durable;

const HANDED_OVER: &str = "handed-over.json";
const SEGMENT: &str = "seg";
/// Torn tails that are kept aside.
const TORN_MAX: u32 = 100;

/// What was handed over to control: how many records, and what they took from each allowance.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct HandedOver {
    /// Number of the first record that was not handed over.
    next: u64,
    /// Cost of all records handed over, by the allowance they were served against.
    totals: BTreeMap<AllowanceId, Nano>,
    /// Whether this count is whole: control's own count was taken in since the spool began. One that lies there without
    /// this mark was written before there was one, and is not lost.
    #[serde(default = "yes")]
    whole: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Debug)]
struct Segment {
    /// Number of its first record.
    first: u64,
    /// How many records it holds.
    count: u64,
    /// Bytes of whole, synced frames.
    bytes: u64,
}

/// Records that wait, read for handing over.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records, oldest first.
    pub records: Vec<Record>,
    /// Number of the record after the last one here.
    pub(super) next: u64,
    /// Where that one begins in its segment.
    offset: u64,
}

/// The spool's files, opened.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    limits: Limits,
    handed_over: HandedOver,
    segments: VecDeque<Segment>,
    /// Where record `handed_over.next` begins in the first segment.
    offset: u64,
    tail: Option<File>,
    /// Ids of records that wait: saying one of them again is the same act.
    waiting: HashSet<[u8; 32]>,
    used: BTreeMap<AllowanceId, Nano>,
    /// Held as long as the writer lives, which may be a moment longer than the site it belongs to.
    _lock: File,
}

impl Log {
    pub(super) fn open(folder: &Path, limits: Limits) -> Result<Self, Error> {
        durable::private_folder(folder).map_err(Error::io("could not make the usage spool's folder"))?;
        let lock = File::create(folder.join("lock")).map_err(Error::io("could not make the usage spool's lock"))?;
        lock.try_lock().map_err(|_| Error::InUse)?;
        let handed_over =
            match durable::read(&folder.join(HANDED_OVER)).map_err(Error::io("could not read the usage spool"))? {
                Some(text) => serde_json::from_slice(&text).map_err(|_| Error::Damaged { file: HANDED_OVER.into() })?,
                None => HandedOver::default(),
            };
        let mut log = Self {
            folder: folder.to_owned(),
            limits,
            used: handed_over.totals.clone(),
            handed_over,
            segments: VecDeque::new(),
            offset: 0,
            tail: None,
            waiting: HashSet::new(),
            _lock: lock,
        };
        log.load().map_err(|failure| match failure {
            Failure::Io(error) => Error::io("could not read the usage spool")(error),
            Failure::Damaged(file) => Error::Damaged { file },
        })?;
        Ok(log)
    }

    fn load(&mut self) -> Result<(), Failure> {
        let mut firsts: Vec<u64> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == SEGMENT) {
                let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
                firsts.push(number.ok_or_else(|| Failure::Damaged(path.display().to_string()))?);
            }
        }
        firsts.sort_unstable();
        let last = firsts.last().copied();
        for first in firsts {
            self.load_segment(first, Some(first) == last)?;
        }
        Ok(())
    }

    fn load_segment(&mut self, first: u64, is_last: bool) -> Result<(), Failure> {
        let path = self.path(first);
        let damaged = || Failure::Damaged(path.display().to_string());
        let expected =
            self.segments.back().map_or(first.min(self.handed_over.next), |before| before.first + before.count);
        if first != expected {
            return Err(damaged());
        }
        let bytes = fs::read(&path)?;
        let mut segment = Segment { first, count: 0, bytes: 0 };
        while let Some((record, length)) = frame::pull(&bytes[segment.bytes as usize..]) {
            if first + segment.count < self.handed_over.next {
                self.offset = segment.bytes + length as u64;
            } else {
                self.remember(&record)?;
            }
            segment.count += 1;
            segment.bytes += length as u64;
        }
        let torn = &bytes[segment.bytes as usize..];
        if !torn.is_empty() {
            // A record behind the bad bytes may have been acknowledged, so these are no torn tail.
            if !is_last || frame::any(torn) {
                return Err(damaged());
            }
            // Nobody was told that these bytes are durable. They are kept aside, for whoever wants to look.
            tracing::warn!(bytes = torn.len(), "the usage spool ended in a torn record; it was cut off");
            self.set_aside(torn)?;
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(segment.bytes)?;
            file.sync_all()?;
        }
        let done = first + segment.count <= self.handed_over.next;
        if done && (segment.count > 0 || is_last) {
            // Handed over as a whole, and the crash came before it was dropped.
            fs::remove_file(&path)?;
            self.offset = 0;
            return Ok(());
        }
        self.segments.push_back(segment);
        Ok(())
    }

    /// Keeps a torn tail in a file of its own, beside those of earlier crashes.
    fn set_aside(&self, torn: &[u8]) -> io::Result<()> {
        for number in 0..TORN_MAX {
            match File::create_new(self.folder.join(format!("torn-{number}"))) {
                Ok(mut file) => return file.write_all(torn).and_then(|()| file.sync_all()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        tracing::warn!("so many torn tails lie beside the usage spool that this one was not kept");
        Ok(())
    }

    fn remember(&mut self, record: &Record) -> Result<(), io::Error> {
        self.waiting.insert(id_of(record)?);
        if let Some(allowance) = record.event.allowance {
            let used = self.used.entry(allowance).or_default();
            *used = used.add(record.cost).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Number of the next record to be written.
    pub(super) fn next(&self) -> u64 {
        self.segments.back().map_or(self.handed_over.next, |last| last.first + last.count)
    }

    /// Number of the first record that was not handed over.
    pub(super) const fn handed_over(&self) -> u64 {
        self.handed_over.next
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Whether control's count was seen since the spool began.
    pub(super) const fn is_whole(&self) -> bool {
        self.handed_over.whole
    }

    /// Takes in what control has charged of allowances. It charges what was handed over, so whatever it has more than this
    /// spool ever saw was handed over by one that is lost. Answers by how much each count was raised.
    pub(super) fn adopt(
        &mut self,
        charged: &BTreeMap<AllowanceId, Nano>,
    ) -> Result<BTreeMap<AllowanceId, Nano>, Error> {
        let known = |allowance: &AllowanceId| self.used.get(allowance).copied().unwrap_or(Nano::ZERO);
        let more = |(allowance, charged): (&AllowanceId, &Nano)| {
            let more = charged.sub(known(allowance)).unwrap_or(Nano::ZERO);
            (more > Nano::ZERO).then_some((*allowance, more))
        };
        let raised: BTreeMap<AllowanceId, Nano> = charged.iter().filter_map(more).collect();
        if raised.is_empty() && self.handed_over.whole {
            return Ok(raised);
        }
        let mut note = HandedOver { whole: true, ..self.handed_over.clone() };
        let mut used = self.used.clone();
        for (allowance, more) in &raised {
            for count in [note.totals.entry(*allowance).or_default(), used.entry(*allowance).or_default()] {
                *count =
                    count.add(*more).map_err(|error| Error::io("could not count usage")(io::Error::other(error)))?;
            }
        }
        self.save(&note).map_err(Error::io("could not note what control has charged"))?;
        (self.handed_over, self.used) = (note, used);
        Ok(raised)
    }

    pub(super) const fn used(&self) -> &BTreeMap<AllowanceId, Nano> {
        &self.used
    }

    /// Writes records and makes them durable, all or none. Those that wait already are not written again.
    pub(super) fn append<'a>(&mut self, records: impl Iterator<Item = &'a Record>) -> Result<(), Error> {
        let mut frames = Vec::new();
        let mut fresh: Vec<&Record> = Vec::new();
        let mut ids = HashSet::new();
        for record in records {
            let id = id_of(record).map_err(Error::io("could not spool usage"))?;
            if self.waiting.contains(&id) || !ids.insert(id) {
                continue;
            }
            frame::push(&mut frames, record).ok_or(Error::RecordTooLarge)?;
            fresh.push(record);
        }
        if fresh.is_empty() {
            return Ok(());
        }
        if self.bytes() + frames.len() as u64 > self.limits.bytes_max + self.limits.reserve_bytes {
            return Err(Error::Full { bytes: self.bytes() });
        }
        self.write(&frames).map_err(Error::io("could not spool usage"))?;
        if let Some(segment) = self.segments.back_mut() {
            segment.count += fresh.len() as u64;
            segment.bytes += frames.len() as u64;
        }
        for record in fresh {
            self.remember(record).map_err(Error::io("could not count usage"))?;
        }
        Ok(())
    }

    fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        if self.segments.back().is_none_or(|last| last.bytes >= self.limits.segment_bytes) {
            let first = self.next();
            self.tail = Some(OpenOptions::new().create(true).truncate(true).write(true).open(self.path(first))?);
            durable::folder_sync(&self.folder)?;
            self.segments.push_back(Segment { first, count: 0, bytes: 0 });
        }
        let Some(segment) = self.segments.back() else { return Err(io::Error::other("there is a last segment")) };
        let (first, end) = (segment.first, segment.bytes);
        let mut file = if let Some(file) = self.tail.take() {
            file
        } else {
            let file = OpenOptions::new().write(true).open(self.path(first))?;
            // What a failed write may have left behind must never look like a record.
            file.set_len(end)?;
            file
        };
        file.seek(SeekFrom::Start(end))?;
        if let Err(error) = file.write_all(frames).and_then(|()| file.sync_data()) {
            // Not kept open: the next write begins by cutting what this one left.
            drop(file);
            return Err(error);
        }
        self.tail = Some(file);
        Ok(())
    }

    /// The oldest records that wait, at most `max`, all from one segment.
    pub(super) fn batch(&self, max: usize) -> Result<Batch, Error> {
        let Some(segment) = self.segments.front() else {
            return Ok(Batch { next: self.handed_over.next, ..Batch::default() });
        };
        let path = self.path(segment.first);
        let length = (segment.bytes - self.offset) as usize;
        let mut bytes = vec![0; length];
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(Error::io("could not read the usage spool"))?;
        let mut batch = Batch { records: Vec::new(), next: self.handed_over.next, offset: self.offset };
        let mut at = 0;
        while batch.records.len() < max && at < bytes.len() {
            let (record, used) =
                frame::pull(&bytes[at..]).ok_or_else(|| Error::Damaged { file: path.display().to_string() })?;
            at += used;
            batch.records.push(record);
            batch.next += 1;
        }
        batch.offset += at as u64;
        Ok(batch)
    }

    /// Notes a batch as handed over: first durably, then its segment may go.
    pub(super) fn hand_over(&mut self, batch: &Batch) -> Result<(), Error> {
        let expected = self.handed_over.next + batch.records.len() as u64;
        assert!(batch.next == expected, "batches are handed over in order, one at a time");
        let mut note = HandedOver { next: batch.next, ..self.handed_over.clone() };
        for record in &batch.records {
            if let Some(allowance) = record.event.allowance {
                let total = note.totals.entry(allowance).or_default();
                *total = total
                    .add(record.cost)
                    .map_err(|error| Error::io("could not count usage")(io::Error::other(error)))?;
            }
        }
        let doing = "could not note what was handed over";
        self.save(&note).map_err(Error::io(doing))?;
        self.handed_over = note;
        self.offset = batch.offset;
        for record in &batch.records {
            self.waiting.remove(&id_of(record).map_err(Error::io(doing))?);
        }
        let done = self.segments.front().is_some_and(|first| first.first + first.count <= batch.next);
        if done && let Some(segment) = self.segments.pop_front() {
            if self.segments.is_empty() {
                self.tail = None;
            }
            self.offset = 0;
            fs::remove_file(self.path(segment.first)).map_err(Error::io(doing))?;
        }
        Ok(())
    }

    /// Forgets totals of allowances that are over and of which nothing waits.
    pub(super) fn forget_allowances(&mut self, keep: &HashSet<AllowanceId>) -> Result<(), Error> {
        let mut note = self.handed_over.clone();
        // While something waits, an allowance it names may come back with it at the next start.
        if self.next() != note.next || note.totals.keys().all(|allowance| keep.contains(allowance)) {
            return Ok(());
        }
        note.totals.retain(|allowance, _| keep.contains(allowance));
        self.save(&note).map_err(Error::io("could not note what was handed over"))?;
        self.used = note.totals.clone();
        self.handed_over = note;
        Ok(())
    }

    fn save(&self, note: &HandedOver) -> io::Result<()> {
        durable::write(&self.folder.join(HANDED_OVER), &serde_json::to_vec(note)?)
    }

    fn path(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:020}.{SEGMENT}"))
    }
}

enum Failure {
    Io(io::Error),
    Damaged(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn id_of(record: &Record) -> io::Result<[u8; 32]> {
    let raw = hex::decode(&record.event.id).ok().and_then(|raw| raw.try_into().ok());
    raw.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a usage event's id is 64 hex digits"))
}
