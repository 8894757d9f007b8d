//! From scores to text: choosing the next token, spelling it, and knowing when to stop. Nothing here knows of requests.

pub mod pick;
pub mod spell;

pub use pick::{Sampler, Sampling};
pub use spell::{Stops, Writer};
