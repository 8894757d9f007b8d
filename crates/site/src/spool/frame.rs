//! How records lie in a segment file: length, checksum, JSON. A frame that is not whole ends the file.

use gregal_core::{meter::UsageEvent, money::Nano};
use serde::{Deserialize, Serialize};

/// The most bytes one record takes.
const RECORD_BYTES_MAX: usize = 16 << 10;
const HEAD_BYTES: usize = 8;

/// One usage event, and what it took from its allowance when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was used.
    pub event: UsageEvent,
    /// What it costs by the book of its time, in nano-euro. Kept with it so that counting again after a restart gives
    /// the same sum, whichever price books are known by then.
    pub cost: Nano,
}

/// Writes one frame. None if the record is larger than a frame may be.
pub(super) fn push(buffer: &mut Vec<u8>, record: &Record) -> Option<()> {
    let payload = serde_json::to_vec(record).ok().filter(|payload| payload.len() <= RECORD_BYTES_MAX)?;
    buffer.extend_from_slice(&u32::try_from(payload.len()).ok()?.to_le_bytes());
    buffer.extend_from_slice(&crc32(&payload).to_le_bytes());
    buffer.extend_from_slice(&payload);
    Some(())
}

/// Reads the frame at the head of `bytes`: the record and the frame's length. None if no whole frame is there.
pub(super) fn pull(bytes: &[u8]) -> Option<(Record, usize)> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    if length > RECORD_BYTES_MAX {
        return None;
    }
    let payload = rest.get(..length)?;
    if crc32(payload) != u32::from_le_bytes(head[4..].try_into().ok()?) {
        return None;
    }
    Some((serde_json::from_slice(payload).ok()?, HEAD_BYTES + length))
}

/// Whether a whole frame lies anywhere in `bytes`.
pub(super) fn any(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| pull(&bytes[at..]).is_some())
}

const TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = at as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xEDB8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

/// CRC-32 (IEEE 802.3): finds torn and rotten frames. It is no signature: whoever can write the spool can forge it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| TABLE[((crc ^ u32::from(*byte)) & 0xFF) as usize] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    use super::crc32;

    #[test]
    fn the_checksum_is_the_one_everybody_knows() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }
}
