//! The inference gateway: tenants' requests to served models, authorised, held for, carried through and settled here.

pub(crate) mod admit;
pub(crate) mod openai;
pub(crate) mod presented;
pub(crate) mod route;
pub(crate) mod scan;
pub(crate) mod stream;
pub(crate) mod upstream;
pub(crate) mod usage;
