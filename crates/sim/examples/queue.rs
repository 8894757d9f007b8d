//! Replays a trace of jobs: `queue TRACE philly|swf|csv|shockwave NODES GPUS_PER_NODE POLICY`. The report is JSON on stdout.

use std::time::Instant;

use gregal_sim::queue::{Format, Options, Trace, replay};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [trace, format, nodes, gpus_per_node, policy] = arguments.as_slice() else {
        return Err("usage: queue TRACE philly|swf|csv|shockwave NODES GPUS_PER_NODE POLICY".into());
    };
    let format = Format::named(format).ok_or("the format is philly, swf, csv or shockwave")?;
    let options = Options::named(policy, nodes.parse()?, gpus_per_node.parse()?).ok_or("no such policy")?;
    let trace = Trace::read(&std::fs::read_to_string(trace)?, format)?;
    let start = Instant::now();
    let report = replay(&trace, &options, &mut || u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX))?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
