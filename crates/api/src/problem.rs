//! Problem details (RFC 9457) with stable codes. Each code has a page in `contract/problems/`.

use serde::{Deserialize, Serialize};

macro_rules! problems {
    ($(#[doc = $doc:literal] $name:ident $code:literal $status:literal $title:literal $help:literal;)*) => {
        /// Everything that can go wrong, as the outside may know it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code { $(#[doc = $doc] #[serde(rename = $code)] $name,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable text programs compare.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The HTTP status it comes with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            /// What it means and what to do about it: the text of its page.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => concat!($doc, "\n\n", $help)),* }
            }

            /// A title that is the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }
        }
    };
}

problems! {
    /// The body, a parameter or a header is not what the contract says.
    InvalidRequest "invalid_request" 400 "the request is not valid" "Read `detail`: it names the field or position. Compare with `contract/openapi.json`.";
    /// No key came with the request, or one that does not work.
    Unauthenticated "unauthenticated" 401 "no valid key" "Send `Authorization: Bearer gk_...`. A key that was revoked or has expired does not work any more: make a new one.";
    /// The prepaid credit or the budget does not cover the worst case.
    BudgetExceeded "budget_exceeded" 402 "not enough credit" "What a job or a chat may cost at most is held before it runs. `detail` says how much is short. Ask for less time or fewer tokens, or add credit.";
    /// The key's role does not allow this on an object it may see.
    Forbidden "forbidden" 403 "not allowed" "Use a key with a role that allows the action (`gregal whoami` lists what yours allows), or ask an owner.";
    /// The residency policy forbids this place; the rule is named.
    ResidencyRefused "residency_refused" 403 "forbidden by the residency policy" "Choose a site inside the ceiling: `gregal place explain` says which are, and what would have to change for the others. No permit overrides this.";
    /// It does not exist, or is somebody else's.
    NotFound "not_found" 404 "not found" "Check the id and the key: what belongs to somebody else is answered exactly like what does not exist.";
    /// The path knows other methods.
    MethodNotAllowed "method_not_allowed" 405 "method not allowed" "See `contract/openapi.json` for the methods of each path.";
    /// The object changed meanwhile, or is in a state that does not allow this.
    Conflict "conflict" 409 "conflict" "Read the object again and decide anew.";
    /// The name is taken.
    Taken "taken" 409 "already taken" "Choose another name.";
    /// The same idempotency key came with another request.
    IdempotencyMismatch "idempotency_mismatch" 409 "the idempotency key belongs to another request" "Use a fresh idempotency key for a new act; use the same one only to repeat the same request.";
    /// The body is larger than the route takes.
    TooLarge "too_large" 413 "the body is too large" "Send less. `detail` says how much the route takes.";
    /// Nothing in this cloud can ever hold what is asked.
    NeverFits "never_fits" 422 "can never be placed" "Ask for a smaller SKU or another site: waiting would not help.";
    /// A policy is not one that an organisation may write; nothing was stored.
    PolicyRefused "policy_refused" 422 "the policy is refused" "`detail` holds a case in point: who could do what to what. Own policies can forbid anything, and permit within the organisation what `docs/concepts/policy.md` lists. `gregal policy check FILE` tries one without storing it.";
    /// Too many requests wait already.
    Overloaded "overloaded" 429 "too many requests" "Wait as long as `retry-after` says, then try again.";
    /// Our fault.
    Internal "internal" 500 "internal error" "Nothing was changed. Try again; if it stays, quote `request` to the operator.";
    /// Not spoken yet; see the compatibility page.
    NotImplemented "not_implemented" 501 "not implemented" "The compatibility page lists what is spoken.";
    /// Something this depends on is away; try again later.
    Unavailable "unavailable" 503 "unavailable" "Try again with a growing pause.";
    /// The disk has no room; nothing was stored.
    StorageFull "storage_full" 507 "no room to store" "The operator has to make room; what was stored before is safe.";
}

/// What a refused or failed request answers, as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// Where the code is explained: `/problems/CODE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The stable code.
    #[schema(value_type = String, example = "residency_refused")]
    pub code: Code,
    /// A title that is the same for every occurrence of the code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened here, for people.
    pub detail: String,
    /// What would help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The rule that refused, if a policy did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The request, to quote when asking for help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

impl Problem {
    /// A problem with a code and a detail.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/problems/{}", code.as_str()),
            code,
            title: code.title().into(),
            status: code.status(),
            detail: detail.into(),
            hint: None,
            rule: None,
            request: None,
        }
    }

    /// The same problem with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same problem with the rule that refused.
    #[must_use]
    pub fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }
}
