//! One's own nodes as comma-separated values, and the kinds of nodes that a queue is replayed on.

use crate::table::{Columns, TableError, rows};

/// The columns a file of nodes must have and may have.
pub(crate) const COLUMNS: Columns = Columns { required: &["gpus"], optional: &["name", "model", "count"] };
/// The most nodes of one kind, and the most accelerators of one node.
const NODES_MAX: u64 = 1_000_000;
const GPUS_PER_NODE_MAX: u64 = 1024;
/// The most kinds of nodes.
const KINDS_MAX: usize = 1000;

/// Nodes that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeKind {
    /// The model of their accelerators; none if they have no name.
    pub model: Option<String>,
    /// How many there are.
    pub nodes: u32,
    /// How many accelerators each has.
    pub gpus_per_node: u32,
}

impl NodeKind {
    /// Accelerators of all its nodes.
    pub fn gpus(&self) -> u64 {
        u64::from(self.nodes) * u64::from(self.gpus_per_node)
    }
}

/// Why nodes cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodesError {
    /// The table is not what it should be.
    #[error(transparent)]
    Table(#[from] TableError),
    /// One model on nodes of two sizes.
    #[error(
        "line {line}: nodes with `{model}` have {before} accelerators above: give nodes of another size another model"
    )]
    Sizes {
        /// Which line, from 1.
        line: usize,
        /// The model.
        model: String,
        /// The size that nodes with it had before.
        before: u32,
    },
    /// There are none, or too many.
    #[error("expected 1 to {NODES_MAX} nodes of each of 1 to {KINDS_MAX} models")]
    Size,
}

/// Reads nodes: `gpus` says how many accelerators a node has, `model` of which model, `count` how many such nodes the line
/// stands for (1 if it says nothing); `name` is for people. A model has nodes of one size.
pub fn read_nodes(text: &str) -> Result<Vec<NodeKind>, NodesError> {
    let mut kinds: Vec<NodeKind> = Vec::new();
    rows(text, &COLUMNS, |row| {
        let gpus = row.number("gpus", None, 1..=GPUS_PER_NODE_MAX, "a whole number from 1 to 1,024")?;
        let count = row.number("count", Some(1), 1..=NODES_MAX, "a whole number from 1 to 1,000,000")?;
        let gpus_per_node = u32::try_from(gpus).map_err(|_| NodesError::Size)?;
        let count = u32::try_from(count).map_err(|_| NodesError::Size)?;
        let model = row.said("model").map(str::to_owned);
        match kinds.iter_mut().find(|kind| kind.model == model) {
            None => kinds.push(NodeKind { model, nodes: count, gpus_per_node }),
            Some(kind) if kind.gpus_per_node == gpus_per_node => kind.nodes = kind.nodes.saturating_add(count),
            Some(kind) => {
                let (model, before) = (model.unwrap_or_default(), kind.gpus_per_node);
                return Err(NodesError::Sizes { line: row.line, model, before });
            }
        }
        Ok(())
    })?;
    let fits = |kind: &NodeKind| u64::from(kind.nodes) <= NODES_MAX;
    if (1..=KINDS_MAX).contains(&kinds.len()) && kinds.iter().all(fits) { Ok(kinds) } else { Err(NodesError::Size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_alike_are_one_kind() {
        let kinds = read_nodes("name,gpus,model,count\na,8,h100,\nb,8,h100,3\nc,4,l40s,2\n").unwrap();
        let kind = |model: &str, nodes, gpus_per_node| NodeKind { model: Some(model.into()), nodes, gpus_per_node };
        assert_eq!(kinds, [kind("h100", 4, 8), kind("l40s", 2, 4)]);
        assert_eq!(read_nodes("gpus\n8\n8\n").unwrap(), [NodeKind { model: None, nodes: 2, gpus_per_node: 8 }]);
    }

    #[test]
    fn bad_lines_are_named() {
        let bad = |text: &str| read_nodes(text).unwrap_err().to_string();
        assert!(bad("name,model\n").starts_with("line 1: expected the columns `gpus`"));
        assert!(bad("gpus\n8\n0\n").starts_with("line 3: `gpus` is not"));
        assert!(bad("gpus,count\n8,0\n").starts_with("line 2: `count` is not"));
        assert!(bad("gpus,model\n8,a\n4,a\n").starts_with("line 3: nodes with `a` have 8 accelerators above"));
        assert!(bad("gpus\n").starts_with("expected 1 to"));
    }
}
