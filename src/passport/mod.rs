//! Passports: what they claim, their canonical bytes, how they are read, judged, carried and how keys are named.
//!
//! Everything in here is pure: no I/O, no clock, no keys. A payload is RFC 8785 canonical JSON with integers only; the
//! bytes that were signed are the bytes that are read, nothing is ever serialised again to be verified.
//!
//! | part | what it holds |
//! |---|---|
//! | [`bounds`] | every limit on a payload, and what an identifier is |
//! | [`kid`] | key identifiers, `ed25519/<tenant>/<purpose>/v<N>` |
//! | [`claims`] | the claims as an owned value, and the writer of their canonical bytes |
//! | [`mod@scan`] | the one-pass reader: bytes to borrowed claims, or why not |
//! | [`judge`] | claims and expectations to a verdict |
//! | [`envelope`] | payload and signature together, binary and as JSON |
//! | [`jws`] | the same as compact JWS |
//! | [`jwk`] | JWKS documents and key thumbprints |
//! | [`parent`] | what a ticket says of the passport that it was made from |
//! | [`proof`] | proofs that a passport's holder has its key |
//! | [`hex`] | bytes as lower-case hex, for all later rooms |

mod base64url;
pub mod bounds;
mod canon;
pub mod claims;
pub mod envelope;
pub mod hex;
pub mod judge;
pub mod jwk;
pub mod jws;
pub mod kid;
mod owned;
pub mod parent;
pub mod proof;
pub mod scan;

pub use claims::{Cap, Claims, ClaimsError, check_subject};
pub use envelope::{Envelope, EnvelopeError, Opened, OwnedEnvelope};
pub use judge::{Expect, Presenter, Refusal};
pub use jwk::{Jwk, JwksError, MAX_KEYS, etag, jwks, parse_jwks, thumbprint};
pub use jws::{Form, Jws, Room};
pub use kid::{Kid, KidError, KidRef};
pub use owned::OwnedPassport;
pub use parent::{MAX_TICKET_SKEW_S, MAX_TICKET_TTL_S, Parent, ParentView, TICKET_TTL_S};
pub use proof::{Proof, ProofExpect, ProofRefusal};
pub use scan::{Fault, Member, Refused, Text, View, is_canonical, scan};
