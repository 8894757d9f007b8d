//! What core promises, seen through its public doors: tables for what is finite, properties for what is not.
#![expect(clippy::unwrap_used, reason = "a test that cannot build its own facts should stop there")]

mod audit;
mod endpoint;
mod given;
mod invoice;
mod issue;
mod job;
mod ledger;
mod merkle;
mod meter;
mod place;
mod place_gang;
mod price;
mod replica;
mod reservation;
mod residency;
mod schedule;
mod schedule_absurd;
mod schedule_gang;
mod schedule_ground;
mod schedule_reserved;
mod schedule_world;
mod tiles;
