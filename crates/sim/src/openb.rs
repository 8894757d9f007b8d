//! Packing on Alibaba's trace of a shared GPU cluster (openb, 2023), in the setting of FGD (Weng et al., USENIX ATC 2023):
//! the trace's pods, then uniformly drawn copies of them, arrive in random order and stay; what fits nowhere fails.

mod ground;
mod plots;
mod read;
mod replay;
#[cfg(test)]
mod tests;
mod unusable;

pub use plots::plots;
pub use read::{OpenbError, Pod, Trace, TraceNode, read_openb};
pub use replay::{Hundredths, PackOptions, PackOutcome, PackPolicy, Step, load_milli, pack};
