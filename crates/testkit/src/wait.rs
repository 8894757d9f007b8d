//! Waiting for a state, not for a while.

use std::time::{Duration, Instant};

/// The longest anything is waited for. Far beyond what a busy machine needs: reaching it is a failure.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until something is so; fails after a while, saying what was waited for.
pub async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited too long for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
