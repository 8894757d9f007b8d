//! Replays openb traces: `openb NODES PODS POLICY SEEDS [JSON]` prints the mean over so many seeds from 42 on, or each
//! seed's report as JSON.
use std::{error::Error, time::Instant};

use gregal_sim::openb::{PackOptions, pack, read_openb};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [nodes, pods, policy, seeds, json @ ..] = arguments.as_slice() else {
        return Err("expected NODES PODS POLICY SEEDS".into());
    };
    let trace = read_openb(&std::fs::read_to_string(nodes)?, &std::fs::read_to_string(pods)?)?;
    let start = Instant::now();
    let count: u64 = seeds.parse()?;
    let (mut sums, mut failed, mut p99) = ([0, 0], 0, 0.0_f64);
    for seed in 42..42 + count {
        let options = PackOptions { policy: policy.parse()?, seed, load_milli: 1300 };
        let outcome = pack(&trace, options, &mut || start.elapsed().as_nanos() as u64)?;
        for (sum, mark) in sums.iter_mut().zip([100, 130]) {
            *sum += outcome.allocated_percent.get(&mark).map_or(0, |share| share.0);
        }
        failed += outcome.failed;
        p99 = p99.max(outcome.decision_us.p99);
        if !json.is_empty() {
            println!("{}", serde_json::to_string(&outcome)?);
        }
    }
    let mean = |sum: u64| sum as f64 / 100.0 / count as f64;
    let name = pods.rsplit('/').next().unwrap_or(pods);
    println!(
        "{name:32} {policy:9} {:.2}/{:.2} failed {} p99 {p99:.1} us",
        mean(sums[0]),
        mean(sums[1]),
        failed as u64 / count
    );
    Ok(())
}
