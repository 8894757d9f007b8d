//! How much one project may have at once: what its site and the cloud go through again and again must stay short for
//! everybody else there.

use gregal_api::problem::{Code, Problem};

use crate::Result;

/// The most endpoints of one project that have not ended: each takes memory of its site for as long as it lives.
pub(crate) const ENDPOINTS_LIVE_MAX: u64 = 32;
/// The most datasets of one project that were not removed: a site is told of each with every intent.
pub(crate) const DATASETS_KEPT_MAX: u64 = 2_000;
/// The most keys of one project that work: a site that serves it is told of each with every intent.
pub(crate) const KEYS_WORKING_MAX: u64 = 1_000;
/// The most jobs of one project that have not ended: the scheduler looks at each in every pass.
pub(crate) const JOBS_NOT_ENDED_MAX: u64 = 10_000;

/// The most reservations of one project that are not over: each is a step in every calendar of its site.
pub(crate) const RESERVATIONS_LIVE_MAX: u64 = 64;

/// The most of one organisation: all that are not over are looked at in every pass.
pub(crate) const RESERVATIONS_OF_ORGANISATION_MAX: usize = 256;

/// Refuses one more where `max` are there. `what` says what they are (`live endpoints`), `way_out` what makes room.
pub(crate) fn one_more(there: u64, max: u64, (code, what): (Code, &str), way_out: &str) -> Result<()> {
    if there < max {
        return Ok(());
    }
    let detail = format!("this project has {there} {what}, at most {max} are allowed: {way_out}");
    Err(Problem::new(code, detail).hint(way_out).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_fits_and_the_next_is_told_the_limit_and_the_way_out() {
        let refused = |there| one_more(there, 32, (Code::Conflict, "live endpoints"), "delete one");
        assert!(refused(31).is_ok());
        let problem = refused(32).unwrap_err().problem();
        assert_eq!(problem.code, Code::Conflict);
        assert_eq!(problem.detail, "this project has 32 live endpoints, at most 32 are allowed: delete one");
    }
}
