//! Landlock: the kernel refuses paths, TCP and signals by rules that cannot be taken off again.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope, path_beneath_rules,
};

/// What stays allowed.
pub(super) struct Rules {
    /// Readable, with programs that may be executed.
    pub readable: Vec<PathBuf>,
    /// Writable as well.
    pub writable: Vec<PathBuf>,
    /// Files below may be written to; none may be made, cut short or taken away.
    pub existing: Vec<PathBuf>,
    /// Whether TCP is left alone.
    pub network: bool,
}

/// Puts the rules on this thread and all that it starts. The first version of Landlock is demanded; what later ones
/// add (truncation, TCP, signals) is taken where the kernel knows it.
pub(super) fn apply(rules: &Rules) -> Result<(), String> {
    let say = |e: landlock::RulesetError| e.to_string();
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .map_err(say)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .map_err(say)?;
    if !rules.network {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi)).map_err(say)?;
    }
    let status = ruleset
        .scope(Scope::from_all(abi))
        .map_err(say)?
        .create()
        .map_err(say)?
        .set_compatibility(CompatLevel::BestEffort)
        .add_rules(path_beneath_rules(&rules.readable, AccessFs::from_read(abi)))
        .map_err(say)?
        .add_rules(path_beneath_rules(&rules.writable, AccessFs::from_all(abi)))
        .map_err(say)?
        .add_rules(path_beneath_rules(&rules.existing, AccessFs::WriteFile))
        .map_err(say)?
        .restrict_self()
        .map_err(say)?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel does not enforce it".to_owned()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}
