//! Speed of queueing: `queue_speed kueue-15000|SCENARIO.json` runs a scenario; `queue_speed latency NODES GPUS_PER_NODE QUEUED
//! ROUNDS POLICY` measures passes. The result is JSON on stdout.

use std::time::Instant;

use gregal_sim::queue::{Load, Scenario, latency};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let start = Instant::now();
    let mut steady_us = || u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let text = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["latency", nodes, gpus_per_node, queued, rounds, policy] => {
            let load = Load {
                nodes: nodes.parse()?,
                gpus_per_node: gpus_per_node.parse()?,
                queued: queued.parse()?,
                rounds: rounds.parse()?,
                seed: 1,
                policy: (*policy).to_owned(),
            };
            serde_json::to_string_pretty(&latency(load, &mut steady_us)?.ok_or("no such policy")?)?
        }
        [scenario] => {
            let scenario = match Scenario::named(scenario) {
                Some(scenario) => scenario,
                None => serde_json::from_str(&std::fs::read_to_string(scenario)?)?,
            };
            serde_json::to_string_pretty(&scenario.run(&mut steady_us)?)?
        }
        _ => return Err("usage: queue_speed SCENARIO | latency NODES GPUS_PER_NODE QUEUED ROUNDS POLICY".into()),
    };
    println!("{text}");
    Ok(())
}
