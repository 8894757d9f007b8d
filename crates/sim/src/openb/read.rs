//! The trace's two files: nodes and pods, as comma-separated values with a header. Columns are found by name; ones that are
//! not needed are passed over.

use std::collections::BTreeMap;

use gregal_core::place::{Demand, GPU_MILLI, GPUS_PER_NODE_MAX, GpuAsk, MODELS_MAX, Models, NodeSpec, Place};

/// The most nodes or pods a file may have.
const LINES_MAX: usize = 1_000_000;

/// A node of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceNode {
    /// Its name.
    pub name: String,
    /// What it has.
    pub spec: NodeSpec,
}

/// A pod of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// What it asks for.
    pub demand: Demand,
}

/// Nodes and pods, and the models both speak of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    /// The nodes, in the order of their file.
    pub nodes: Vec<TraceNode>,
    /// The pods, in the order of theirs.
    pub pods: Vec<Pod>,
    /// The models the nodes have.
    pub models: Models,
}

/// Why a trace cannot be read. `file` is `nodes` or `pods`, lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenbError {
    /// The header lacks a column.
    #[error("{file}: line 1: the header has no column `{column}`")]
    Column {
        /// Which file.
        file: &'static str,
        /// What is missing.
        column: &'static str,
    },
    /// A line has another number of fields than the header.
    #[error("{file}: line {line}: expected {expected} fields, found {found}")]
    Fields {
        /// Which file.
        file: &'static str,
        /// Which line.
        line: usize,
        /// Fields of the header.
        expected: usize,
        /// Fields of the line.
        found: usize,
    },
    /// A field says nothing that makes sense.
    #[error("{file}: line {line}: `{column}` is not {expected}")]
    Field {
        /// Which file.
        file: &'static str,
        /// Which line.
        line: usize,
        /// Which column.
        column: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A file has no line but its header, or more than can be taken.
    #[error("{file}: expected 1 to {LINES_MAX} lines after the header, found {found}")]
    Size {
        /// Which file.
        file: &'static str,
        /// Lines found.
        found: usize,
    },
    /// There are more models than can be told apart.
    #[error("nodes: more than {MODELS_MAX} models")]
    Models,
    /// No node has a GPU, or no pod asks for one.
    #[error("{file}: none has a GPU, and the load is counted in GPUs")]
    NoGpu {
        /// Which file.
        file: &'static str,
    },
}

/// Reads a trace from the text of its two files.
pub fn read_openb(nodes: &str, pods: &str) -> Result<Trace, OpenbError> {
    let nodes = Table::new("nodes", nodes)?;
    let pods = Table::new("pods", pods)?;
    let names: Vec<&str> =
        nodes.rows()?.iter().filter_map(|row| row.get("model")).filter(|name| !name.is_empty()).collect();
    let models = Models::new(names).ok_or(OpenbError::Models)?;
    let trace = Trace {
        nodes: nodes.rows()?.iter().map(|row| node(row, &models)).collect::<Result<_, _>>()?,
        pods: pods.rows()?.iter().map(|row| pod(row, &models)).collect::<Result<_, _>>()?,
        models,
    };
    if trace.nodes.iter().all(|node| node.spec.gpus == 0) {
        return Err(OpenbError::NoGpu { file: "nodes" });
    }
    if trace.pods.iter().all(|pod| pod.demand.gpus == GpuAsk::None) {
        return Err(OpenbError::NoGpu { file: "pods" });
    }
    Ok(trace)
}

fn node(row: &Row, models: &Models) -> Result<TraceNode, OpenbError> {
    let gpus: u8 = row.number("gpu", GPUS_PER_NODE_MAX as u64, "a count of GPUs a node can have")? as u8;
    let model = row.text("model")?;
    if gpus > 0 && model.is_empty() {
        return Err(row.bad("model", "the model of the node's GPUs"));
    }
    let spec = NodeSpec {
        cpu_milli: row.number("cpu_milli", AMOUNT_MAX, "thousandths of a core")?,
        memory_mib: row.number("memory_mib", AMOUNT_MAX, "MiB of memory")?,
        gpus,
        model: if gpus > 0 { models.id(model) } else { None },
        place: Place::default(),
    };
    Ok(TraceNode { name: row.text("sn")?.to_owned(), spec })
}

fn pod(row: &Row, models: &Models) -> Result<Pod, OpenbError> {
    let count = row.number("num_gpu", GPUS_PER_NODE_MAX as u64, "a count of GPUs a node can have")?;
    let milli = row.number("gpu_milli", u64::from(GPU_MILLI), "thousandths of one GPU, 0 to 1000")?;
    let gpus = match (count, milli) {
        (0, _) => GpuAsk::None,
        (count, 1000) => GpuAsk::Whole(count as u8),
        (1, 1..1000) => GpuAsk::Fraction(milli as u16),
        _ => return Err(row.bad("gpu_milli", "1000, or 1 to 999 where `num_gpu` is 1")),
    };
    let models = models.set(row.get("gpu_spec").unwrap_or("").split('|').filter(|name| !name.is_empty()));
    let demand = Demand {
        cpu_milli: row.number("cpu_milli", AMOUNT_MAX, "thousandths of a core")?,
        memory_mib: row.number("memory_mib", AMOUNT_MAX, "MiB of memory")?,
        gpus,
        models,
    };
    Ok(Pod { name: row.text("name")?.to_owned(), demand })
}

/// The largest amount of CPU or memory a line may speak of: far more than a machine has, far less than sums can hold.
const AMOUNT_MAX: u64 = 1 << 40;

/// A file, cut into its header and its lines.
struct Table<'a> {
    file: &'static str,
    columns: BTreeMap<&'a str, usize>,
    width: usize,
    lines: Vec<(usize, &'a str)>,
}

struct Row<'a> {
    file: &'static str,
    line: usize,
    columns: &'a BTreeMap<&'a str, usize>,
    fields: Vec<&'a str>,
}

impl<'a> Table<'a> {
    fn new(file: &'static str, text: &'a str) -> Result<Table<'a>, OpenbError> {
        let mut lines = (1..).zip(text.lines());
        let header: Vec<&str> = lines.next().map_or("", |(_, line)| line).split(',').map(str::trim).collect();
        let columns = header.iter().enumerate().map(|(place, name)| (*name, place)).collect();
        let lines: Vec<_> = lines.filter(|(_, line)| !line.trim().is_empty()).collect();
        if lines.is_empty() || lines.len() > LINES_MAX {
            return Err(OpenbError::Size { file, found: lines.len() });
        }
        Ok(Table { file, columns, width: header.len(), lines })
    }

    fn rows(&'a self) -> Result<Vec<Row<'a>>, OpenbError> {
        let row = |(line, text): &(usize, &'a str)| {
            let fields: Vec<&str> = text.split(',').map(str::trim).collect();
            let (file, line, expected, found) = (self.file, *line, self.width, fields.len());
            let row = Row { file, line, columns: &self.columns, fields };
            if found == expected { Ok(row) } else { Err(OpenbError::Fields { file, line, expected, found }) }
        };
        self.lines.iter().map(row).collect()
    }
}

impl<'a> Row<'a> {
    fn get(&self, column: &str) -> Option<&'a str> {
        self.columns.get(column).and_then(|place| self.fields.get(*place)).copied()
    }

    fn text(&self, column: &'static str) -> Result<&'a str, OpenbError> {
        self.get(column).ok_or(OpenbError::Column { file: self.file, column })
    }

    fn number(&self, column: &'static str, max: u64, expected: &'static str) -> Result<u64, OpenbError> {
        let number = self.text(column)?.parse().ok().filter(|number| *number <= max);
        number.ok_or_else(|| self.bad(column, expected))
    }

    fn bad(&self, column: &'static str, expected: &'static str) -> OpenbError {
        OpenbError::Field { file: self.file, line: self.line, column, expected }
    }
}
