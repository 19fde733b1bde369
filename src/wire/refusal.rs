//! The signer's refusals by name.

use super::link::LinkRefusal;

impl LinkRefusal {
    /// Every reason, by tag.
    pub const ALL: [Self; 19] = [
        Self::Malformed,
        Self::NotCanonical,
        Self::UnknownKid,
        Self::ForeignIssuer,
        Self::TenantDenied,
        Self::PurposeDenied,
        Self::LifetimeDenied,
        Self::ClockDenied,
        Self::RateLimited,
        Self::Busy,
        Self::Timeout,
        Self::HsmUnavailable,
        Self::BadSignature,
        Self::Internal,
        Self::TooLong,
        Self::NamespaceDenied,
        Self::Unopenable,
        Self::Stale,
        Self::Uncounted,
    ];

    /// The reason in words, as metrics and JSON spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotCanonical => "not_canonical",
            Self::UnknownKid => "unknown_kid",
            Self::ForeignIssuer => "foreign_issuer",
            Self::TenantDenied => "tenant_denied",
            Self::PurposeDenied => "purpose_denied",
            Self::LifetimeDenied => "lifetime_denied",
            Self::ClockDenied => "clock_denied",
            Self::RateLimited => "rate_limited",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::HsmUnavailable => "hsm_unavailable",
            Self::BadSignature => "bad_signature",
            Self::Internal => "internal",
            Self::TooLong => "too_long",
            Self::NamespaceDenied => "namespace_denied",
            Self::Unopenable => "unopenable",
            Self::Stale => "stale",
            Self::Uncounted => "uncounted",
        }
    }
}
