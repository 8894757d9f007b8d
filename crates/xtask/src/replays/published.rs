//! What others reach on the same traces, and what we set ourselves to reach. Figures as published; nothing here is measured by us.

/// A trace that anybody can get, but that is not part of this repository.
pub(super) struct Source {
    /// Where it lies in the folder of traces; `*` stands for each of [`PACKING`]. May be packed as `.gz`.
    pub(super) file: &'static str,
    /// Who publishes it, and where.
    pub(super) origin: &'static str,
}

pub(super) const OPENB_NODES: &str = "openb/openb_node_list_gpu_node.csv";
pub(super) const OPENB_PODS: &str = "openb/openb_pod_list_*.csv";
pub(super) const PHILLY: &str = "philly/philly_oct_nov_2017.csv";
pub(super) const LUBLIN: &str = "swf/lublin_256.swf";
pub(super) const SHOCKWAVE: &str = "shockwave/120_0.2_5_100_40_25.trace";
pub(super) const LINGJUN: &str = "lingjun-2023/topo.csv";

pub(super) const SOURCES: [Source; 6] = [
    Source {
        file: OPENB_NODES,
        origin: "Alibaba's openb, cluster-trace-gpu-v2023 of the repository alibaba/clusterdata",
    },
    Source {
        file: OPENB_PODS,
        origin: "Alibaba's openb, cluster-trace-gpu-v2023 of the repository alibaba/clusterdata",
    },
    Source { file: PHILLY, origin: "Microsoft's Philly trace, October and November 2017, as the Sia artifact has it" },
    Source { file: LUBLIN, origin: "a workload of the Lublin model, from the repository DIR-LAB/deep-batch-scheduler" },
    Source { file: SHOCKWAVE, origin: "Shockwave (NSDI'23), from the repository uw-mad-dash/shockwave" },
    Source {
        file: LINGJUN,
        origin: "Alibaba's Lingjun cluster, from the repository alibaba/alibaba-lingjun-dataset-2023",
    },
];

/// Percent of all GPUs that are allocated when 100 % and 130 % of them were asked for.
pub(super) type Both = [f64; 2];

/// One trace of openb.
pub(super) struct Packing {
    pub(super) trace: &'static str,
    pub(super) random: Both,
    pub(super) best_fit: Both,
    pub(super) fgd: Both,
    /// What no placement can pass, by a configuration linear programme over the GPUs alone; known for some traces.
    pub(super) bound: Option<Both>,
}

/// Means of 10 seeds by the authors of FGD (USENIX ATC'23), from hkust-adsl/kubernetes-scheduler-simulator.
pub(super) const PACKING: [Packing; 9] = [
    packing("default", [86.30, 87.47], [92.86, 93.08], [95.23, 95.39], Some([96.90, 99.89])),
    packing("cpu050", [89.02, 91.24], [93.56, 93.79], [95.00, 95.21], None),
    packing("cpu100", [87.44, 89.11], [93.26, 93.44], [95.21, 95.35], None),
    packing("gpushare40", [84.86, 86.00], [91.44, 91.69], [93.96, 94.15], Some([95.65, 99.23])),
    packing("gpushare60", [82.81, 83.65], [89.06, 89.36], [91.25, 91.40], Some([93.35, 97.05])),
    packing("gpuspec10", [86.26, 87.43], [93.10, 93.30], [94.66, 94.95], None),
    packing("gpuspec20", [85.90, 87.24], [88.46, 93.30], [94.66, 94.84], None),
    packing("multigpu20", [86.92, 88.69], [93.73, 93.93], [95.53, 95.65], Some([97.34, 100.0])),
    packing("multigpu30", [86.63, 89.27], [94.57, 94.72], [96.36, 96.46], Some([97.67, 100.0])),
];

const fn packing(trace: &'static str, random: Both, best_fit: Both, fgd: Both, bound: Option<Both>) -> Packing {
    Packing { trace, random, best_fit, fgd, bound }
}

/// How far, in points, a right replay may be from the published policies.
pub(super) const PACKING_WITHIN: f64 = 0.6;

/// A queueing run, with what is to be compared.
pub(super) struct Queueing {
    pub(super) trace: &'static str,
    pub(super) format: &'static str,
    /// Nodes and accelerators of each.
    pub(super) machines: [&'static str; 2],
    pub(super) policy: &'static str,
    pub(super) aim: Aim,
}

/// What a mean wait, in seconds, is held against.
pub(super) enum Aim {
    /// The published mean for the same policy: the replay is right within 5 %.
    Published(f64),
    /// Ours to reach: at most this.
    AtMost(f64),
    /// No target; the published mean of first-come with EASY backfill stands beside it.
    Beside(f64),
}

/// Mean waits for exact run times: FIFO and FIFO with EASY, which the independent simulator `AccaSim` agrees on.
pub(super) const QUEUEING: [Queueing; 8] = [
    queueing(PHILLY, "philly", ["64", "8"], "fifo", Aim::Published(302_435.0)),
    queueing(PHILLY, "philly", ["64", "8"], "fifo-easy", Aim::Published(19_891.0)),
    queueing(PHILLY, "philly", ["64", "8"], "fifo-promise", Aim::Beside(19_891.0)),
    queueing(PHILLY, "philly", ["64", "8"], "steady", Aim::AtMost(9000.0)),
    queueing(PHILLY, "philly", ["64", "8"], "default", Aim::AtMost(7000.0)),
    queueing(LUBLIN, "swf", ["256", "1"], "fifo", Aim::Published(2_388_444.0)),
    queueing(LUBLIN, "swf", ["256", "1"], "fifo-easy", Aim::Published(97_156.0)),
    queueing(LUBLIN, "swf", ["256", "1"], "default", Aim::Beside(97_156.0)),
];

const fn queueing(
    trace: &'static str,
    format: &'static str,
    machines: [&'static str; 2],
    policy: &'static str,
    aim: Aim,
) -> Queueing {
    Queueing { trace, format, machines, policy, aim }
}

/// Other mean waits on the same traces, by policies told the exact run times.
pub(super) const ORACLES: &str = "Published beside these, all told the exact run times: on philly, shortest job first 6,906 s, with EASY \
     5,441 s, and shortest remaining time first with free preemption 3,201 s; on lublin_256, shortest job first with EASY 59,627 s.";

/// What Shockwave's authors publish for 32 GPUs: policy, worst finish-time fairness, unfair jobs in percent, makespan and mean time
/// in the system in seconds.
pub(super) const FAIRNESS: [(&str, f64, f64, u64, u64); 4] = [
    ("Shockwave", 1.78, 5.0, 24_197, 9958),
    ("Themis (finish-time fairness)", 3.44, 22.5, 31_929, 11_302),
    ("max-min fairness", 2.95, 25.0, 33_208, 11_274),
    ("Gandiva-fair", 1.85, 51.7, 32_367, 12_574),
];

/// Ours to reach first: the worst finish-time fairness, and unfair jobs in percent.
pub(super) const FAIRNESS_AIM: [f64; 2] = [2.0, 15.0];

/// Kueue's published mean for its performance scenario, in seconds of real time.
pub(super) const KUEUE_S: f64 = 351.0;
/// Ours to reach in the pure scheduler: a full pass and an incremental one in microseconds (p99), and placements a second.
pub(super) const FULL_US_MAX: f64 = 100_000.0;
pub(super) const INCREMENTAL_US_MAX: f64 = 5000.0;
pub(super) const PLACEMENTS_PER_S_MIN: f64 = 5000.0;

/// Ours to reach: leaves a gang touches, over the fewest it could on an empty network.
pub(super) const LEAVES_RATIO_MAX: f64 = 1.05;
