//! Structure that a machine can check: the arrows of ARCHITECTURE.md, the heads of rooms, the size of files.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::root;

/// A file past this many lines may shrink but not grow; there are none yet, so there must be none.
const LINES_MAX: usize = 800;

/// Which rooms each room may use. Arrows point down; a new arrow is a design talk (ARCHITECTURE.md) before it is a line here.
const ARROWS: &[(&str, &[&str])] = &[
    ("gregal-core", &[]),
    ("gregal-policy", &["gregal-core"]),
    ("gregal-api", &["gregal-core"]),
    ("gregal-store", &["gregal-core"]),
    ("gregal-engine", &["gregal-core"]),
    ("gregal-lm", &["gregal-core"]),
    ("gregal-sim", &["gregal-core"]),
    ("gregal-cli", &["gregal-core", "gregal-api"]),
    ("gregal-control", &["gregal-core", "gregal-policy", "gregal-api", "gregal-store"]),
    ("gregal-site", &["gregal-core", "gregal-policy", "gregal-api", "gregal-engine"]),
    (
        "gregal",
        &[
            "gregal-core",
            "gregal-api",
            "gregal-store",
            "gregal-engine",
            "gregal-lm",
            "gregal-control",
            "gregal-site",
            "gregal-sim",
            "gregal-cli",
        ],
    ),
    (
        "gregal-testkit",
        &["gregal-core", "gregal-api", "gregal-store", "gregal-engine", "gregal-control", "gregal-site"],
    ),
    ("xtask", &[]),
];

/// Runs every check and says all that is wrong, not only the first.
pub(crate) fn run() -> Result<()> {
    let mut wrong = arrows(&edges()?);
    wrong.extend(heads(&root().join("crates"))?);
    wrong.extend(sizes(&root().join("crates"))?);
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What each room uses in what it ships; tests may reach further.
fn edges() -> Result<BTreeMap<String, Vec<String>>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata failed")?;
    let rooms: Vec<String> = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    Ok(metadata
        .packages
        .iter()
        .map(|package| {
            let used = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind == DependencyKind::Normal && rooms.contains(&dependency.name))
                .map(|dependency| dependency.name.clone())
                .collect();
            (package.name.to_string(), used)
        })
        .collect())
}

fn arrows(edges: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (room, used) in edges {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| name == room) else {
            wrong.push(format!("`{room}` is a room the arrows do not know: add it to ARCHITECTURE.md and to tidy"));
            continue;
        };
        for target in used.iter().filter(|target| !allowed.contains(&target.as_str())) {
            wrong.push(format!("`{room}` must not use `{target}`: arrows point down (ARCHITECTURE.md)"));
        }
    }
    wrong
}

/// Every room says at its head what lives there and what never will.
fn heads(crates: &Path) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(crates)? {
        let head = entry?.path().join("src/lib.rs");
        if !head.is_file() {
            continue;
        }
        let text = fs::read_to_string(&head)?;
        let essay: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        if essay.len() < 60 || !essay.to_lowercase().contains("never") {
            wrong.push(format!("{}: the head says neither what lives here nor what never will", head.display()));
        }
    }
    Ok(wrong)
}

fn sizes(folder: &Path) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            wrong.extend(sizes(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let lines = fs::read_to_string(&path)?.lines().count();
            if lines > LINES_MAX {
                wrong.push(format!("{} has {lines} lines; {LINES_MAX} is the most a file may have", path.display()));
            }
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_that_points_up_and_an_unknown_room_are_found() {
        let edges = BTreeMap::from([
            ("gregal-site".to_owned(), vec!["gregal-store".to_owned(), "gregal-core".to_owned()]),
            ("gregal-attic".to_owned(), Vec::new()),
        ]);
        let wrong = arrows(&edges);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong.iter().any(|line| line.contains("`gregal-site` must not use `gregal-store`")));
    }
}
