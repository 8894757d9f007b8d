//! What can be rented: a shape of compute with a price.

use serde::{Deserialize, Serialize};

/// A rentable shape. Jobs ask for one; a site has room for so many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sku {
    /// Its name: `cpu.1`, `h100.8`.
    pub name: String,
    /// Thousandths of a CPU core.
    pub cpus_milli: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Whole accelerators.
    pub gpus: u32,
    /// Model of the accelerators; none where there are none.
    pub gpu_model: Option<String>,
}

/// The SKUs every cloud starts with.
pub fn default_skus() -> Vec<Sku> {
    const GIB: u64 = 1 << 30;
    let cpu = |cores: u32| Sku {
        name: format!("cpu.{cores}"),
        cpus_milli: cores * 1000,
        memory_bytes: u64::from(cores) * 4 * GIB,
        gpus: 0,
        gpu_model: None,
    };
    let gpu = Sku { name: "gpu.1".into(), cpus_milli: 4000, memory_bytes: 32 * GIB, gpus: 1, gpu_model: None };
    vec![cpu(1), cpu(2), cpu(4), gpu]
}
