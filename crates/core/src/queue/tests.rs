//! Random worlds, driven like live ones, with every promise of the module's head checked after every pass.

mod properties;
mod stories;
mod world;
