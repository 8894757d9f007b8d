//! Every action by every role, as one table that people read and review: `tests/matrix.txt`.

use std::{collections::BTreeSet, fmt::Write};

use gregal_core::{
    access::{Action, Role},
    id::{KeyId, OrganisationId, ProjectId, SiteId},
};
use gregal_policy::{DenyReason, Policies, Principal, Resource, ResourceKind, Verdict};

const COMMITTED: &str = include_str!("matrix.txt");
const OURS: OrganisationId = OrganisationId::from_u128(1);
const THEIRS: OrganisationId = OrganisationId::from_u128(2);
const HERE: ProjectId = ProjectId::from_u128(11);
const BESIDE: ProjectId = ProjectId::from_u128(12);
const ABROAD: ProjectId = ProjectId::from_u128(21);

/// Where the asker stands to what he asks about. The letter is what an allowed cell shows.
struct Scene {
    letter: char,
    bound_to: Option<ProjectId>,
    organisation: OrganisationId,
    project: ProjectId,
}

const SCENES: [Scene; 5] = [
    Scene { letter: 'h', bound_to: None, organisation: OURS, project: HERE },
    Scene { letter: 'o', bound_to: None, organisation: OURS, project: BESIDE },
    Scene { letter: 'b', bound_to: Some(HERE), organisation: OURS, project: HERE },
    Scene { letter: 's', bound_to: Some(HERE), organisation: OURS, project: BESIDE },
    Scene { letter: 'f', bound_to: None, organisation: THEIRS, project: ABROAD },
];

const HEAD: &str = "\
# Who may do what. Generated from the policies and compared by `tests/matrix.rs`; read every change to it.
# A cell has a letter for each place where the role may, and a dot where it may not:
#   h  a thing in a project of the own organisation        o  a thing in another project of it
#   b  with a key bound to the project: a thing in it      s  with that key: a thing in a sibling project
#   f  a thing of another organisation
# `Organisation` rows ask about the organisation itself; `Cloud` and `Site` belong to nobody, so all places are one.
# `Key:owner` is a key with the role owner, `Key` one of any role. An operator's key belongs to no organisation.
# Where an asker is a site, `tests/access.rs` says what it may.
";

fn kinds() -> Vec<ResourceKind> {
    let mut kinds = vec![ResourceKind::Cloud, ResourceKind::Site, ResourceKind::Organisation, ResourceKind::Project];
    kinds.extend(Role::ALL.iter().map(|role| ResourceKind::Key(*role)));
    kinds.extend(Role::ALL.iter().map(|role| ResourceKind::Member(*role)));
    kinds.extend([
        ResourceKind::Dataset,
        ResourceKind::Job,
        ResourceKind::Model,
        ResourceKind::Endpoint,
        ResourceKind::Reservation,
    ]);
    kinds
}

fn resource(kind: ResourceKind, scene: &Scene) -> Resource {
    match kind {
        ResourceKind::Cloud => Resource::cloud(),
        ResourceKind::Site => Resource::site(SiteId::from_u128(41)),
        ResourceKind::Organisation => Resource::organisation(scene.organisation),
        ResourceKind::Project => Resource::project(scene.organisation, scene.project),
        other => Resource::within(other, scene.organisation, scene.project, "thing"),
    }
}

fn principal(role: Role, scene: &Scene) -> Principal {
    let key = KeyId::from_u128(31).into();
    if role.is_operator() {
        return Principal::Key { key, role, organisation: None, project: None };
    }
    Principal::Key { key, role, organisation: Some(OURS), project: scene.bound_to }
}

/// The cell, or none if the action does not apply to the kind.
fn cell(policies: &Policies, action: Action, kind: ResourceKind, role: Role) -> Option<String> {
    SCENES
        .iter()
        .map(|scene| match policies.authorize(&principal(role, scene), action, &resource(kind, scene)) {
            Verdict::Allow { .. } => Some(scene.letter),
            Verdict::Deny { reason: DenyReason::Error(_), .. } => None,
            Verdict::Deny { .. } => Some('.'),
        })
        .collect()
}

/// The width of a role's column.
fn width(role: Role) -> usize {
    role.as_str().len().max(9)
}

/// The rows of an action: a noun and a cell a role. Keys of every role share one row where their role makes no difference.
fn rows(policies: &Policies, action: Action) -> Vec<(String, Vec<String>)> {
    let cells = |kind| Role::ALL.iter().map(|role| cell(policies, action, kind, *role)).collect::<Option<Vec<_>>>();
    let of = |kinds: &[ResourceKind]| -> Vec<(String, Vec<String>)> {
        kinds.iter().filter_map(|kind| Some((noun(*kind), cells(*kind)?))).collect()
    };
    let (keys, others): (Vec<_>, Vec<_>) = kinds().into_iter().partition(|kind| matches!(kind, ResourceKind::Key(_)));
    let mut keys = of(&keys);
    if keys.windows(2).all(|pair| pair[0].1 == pair[1].1) {
        keys.truncate(1);
        for row in &mut keys {
            "Key".clone_into(&mut row.0);
        }
    }
    of(&others).into_iter().chain(keys).collect()
}

fn noun(kind: ResourceKind) -> String {
    match kind {
        ResourceKind::Key(role) => format!("Key:{}", role.as_str()),
        ResourceKind::Member(role) => format!("Member:{}", role.as_str()),
        other => other.as_str().to_owned(),
    }
}

fn table(policies: &Policies) -> String {
    let mut text = format!("{HEAD}\n{:<20} {:<14}", "action", "resource");
    for role in Role::ALL {
        write!(text, " {:<1$}", role.as_str(), width(*role)).expect("a string takes text");
    }
    text.push('\n');
    for action in Action::ALL {
        for (noun, cells) in rows(policies, *action) {
            write!(text, "{:<20} {noun:<14}", action.as_str()).expect("a string takes text");
            for (role, cell) in Role::ALL.iter().zip(cells) {
                write!(text, " {cell:<0$}", width(*role)).expect("a string takes text");
            }
            text.push('\n');
        }
    }
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn the_committed_table_is_what_the_policies_say() {
    let actual = table(&Policies::new().unwrap());
    let changed: Vec<String> = COMMITTED
        .lines()
        .filter(|line| !actual.contains(*line))
        .map(|line| format!("- {line}"))
        .chain(actual.lines().filter(|line| !COMMITTED.contains(*line)).map(|line| format!("+ {line}")))
        .collect();
    if actual != COMMITTED {
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/matrix.txt");
        std::fs::write(path, &actual).unwrap();
        panic!("the policies say otherwise (the whole table is in {path}):\n{}", changed.join("\n"));
    }
}

#[test]
fn every_action_has_a_row_and_every_role_a_column() {
    let rows: BTreeSet<&str> = COMMITTED.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for action in Action::ALL {
        assert!(
            rows.contains(action.as_str()),
            "`{}` has no row: say in the schema what it applies to",
            action.as_str()
        );
    }
    let columns = COMMITTED.lines().find(|line| line.starts_with("action ")).unwrap();
    for role in Role::ALL {
        assert!(columns.split_whitespace().any(|column| column == role.as_str()), "`{}` has no column", role.as_str());
    }
}

#[test]
fn the_table_opens_no_sibling_and_no_foreign_thing_to_a_tenant() {
    for line in COMMITTED.lines().filter(|line| line.contains(':') && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let belongs_to_nobody = ["Cloud", "Site"].contains(&words[1]);
        for (role, cell) in Role::ALL.iter().zip(&words[2..]) {
            let reaches_out = cell.contains(['s', 'f']);
            assert!(!reaches_out || belongs_to_nobody || role.is_operator(), "{}: {line}", role.as_str());
        }
    }
}
