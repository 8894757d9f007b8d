//! Members: people in an organisation, each with a role there and, if so wished, in one project only.

use serde::{Deserialize, Serialize};

use crate::{
    access::Role,
    id::{OrganisationId, PersonId, ProjectId},
    time::Time,
};

/// What a person is in an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The organisation.
    pub organisation: OrganisationId,
    /// The person.
    pub person: PersonId,
    /// What they may do.
    pub role: Role,
    /// The one project they reach; none lets them reach every project.
    pub project: Option<ProjectId>,
    /// When they joined.
    pub created_at: Time,
    /// Grows by one with every change.
    pub version: u64,
}

impl Member {
    /// Whether they run the whole organisation: an owner bound to one project does not.
    pub fn is_owner(&self) -> bool {
        self.role == Role::Owner && self.project.is_none()
    }
}

/// Why a membership may not become what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemberRefusal {
    /// Nobody would be left who runs the organisation.
    #[error("the last owner cannot leave or be lowered: make another owner first")]
    LastOwner,
}

/// Says whether a member may become `after` (none: leave) where `owners` people own the organisation now.
pub fn may_become(before: &Member, after: Option<&Member>, owners: u64) -> Result<(), MemberRefusal> {
    let stays = after.is_some_and(Member::is_owner);
    if before.is_owner() && !stays && owners <= 1 { Err(MemberRefusal::LastOwner) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(role: Role, project: Option<ProjectId>) -> Member {
        let (organisation, person) = (OrganisationId::from_u128(1), PersonId::from_u128(2));
        Member { organisation, person, role, project, created_at: Time::from_millis(0), version: 1 }
    }

    #[test]
    fn the_last_owner_stays_an_owner_of_the_whole() {
        let (owner, bound) = (member(Role::Owner, None), member(Role::Owner, Some(ProjectId::from_u128(3))));
        let admin = member(Role::Admin, None);
        for after in [None, Some(&admin), Some(&bound)] {
            assert_eq!(may_become(&owner, after, 1), Err(MemberRefusal::LastOwner), "{after:?}");
            assert_eq!(may_become(&owner, after, 2), Ok(()), "{after:?}");
            assert_eq!(may_become(&admin, after, 1), Ok(()), "{after:?}");
            assert_eq!(may_become(&bound, after, 1), Ok(()), "{after:?}");
        }
        assert_eq!(may_become(&owner, Some(&owner), 1), Ok(()));
    }
}
