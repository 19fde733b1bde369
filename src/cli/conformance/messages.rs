//! Requests of the wire out of JSON. The names are those of `docs/WIRE.md`.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Deserialize;
use serde_json::Value;

use super::exchanging;
use super::values::envelope;
use super::watching::{Place, TopicName};
use crate::passport::{OwnedPassport, hex};
use crate::wire::{AdminOp, IssueSpec, Passport, PassportForm, Plain, Possession, Revocation, ServiceOp, Want};

/// An operation of the service socket. Braces, so that every operation is written as `{"Name": {…}}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum ServiceAsk {
    Ping {},
    Version {},
    WhoAmI {},
    Health {},
    Issue(Spec),
    IssueBatch(Vec<Spec>),
    Verify {
        #[serde(default)]
        want: Wanted,
        passport: Given,
    },
    VerifyBatch {
        #[serde(default)]
        want: Wanted,
        items: Vec<Given>,
    },
    Introspect {
        #[serde(default)]
        want: Wanted,
        passport: Given,
    },
    Keys {
        #[serde(default)]
        if_etag: Option<String>,
    },
    Seal {
        namespace: String,
        name: String,
        plain: String,
    },
    Unseal {
        namespace: String,
        name: String,
        blob_b64: Blob,
    },
    Revoke {
        passport: Given,
    },
    VerifyWith {
        #[serde(default)]
        want: Wanted,
        passport: Given,
        /// 32 hexadecimal digits.
        #[serde(default)]
        retry: Option<String>,
        #[serde(default)]
        proof: Option<Proven>,
    },
    Challenge {},
    Watch {
        #[serde(default)]
        topics: Vec<TopicName>,
        #[serde(default)]
        after: Option<Place>,
        #[serde(default)]
        wait_ms: u32,
    },
    Revocations {
        #[serde(default)]
        after_b64: Option<Blob>,
    },
    Exchange {
        passport: Given,
        spec: exchanging::Spec,
        /// 32 hexadecimal digits.
        #[serde(default)]
        retry: Option<String>,
        #[serde(default)]
        proof: Option<Proven>,
    },
}

/// `Possession`, owned.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum Proven {
    Pop {
        proof: String,
    },
    Dpop {
        proof: String,
        htm: String,
        htu: String,
        #[serde(default)]
        nonce: Option<String>,
    },
}

impl Proven {
    fn on_wire(&self) -> Possession<'_> {
        match self {
            Self::Pop { proof } => Possession::Pop { proof },
            Self::Dpop { proof, htm, htu, nonce } => Possession::Dpop { proof, htm, htu, nonce: nonce.as_deref() },
        }
    }
}

/// An operation of the admin socket.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum AdminAsk {
    WhoAmI {},
    Status {},
    Health {},
    Attest {},
    Stage { kid: String },
    Activate { kid: String },
    PauseIssue { reason: String },
    ResumeIssue {},
    Reload {},
    ReloadReport {},
    Drain {},
    Undrain {},
    Revoke { tenant: String, what: Vec<Revoked>, reason: String },
    BumpEpoch { tenant: String, reason: String },
    Compromise { kid: String, reason: String },
    TicketTtl { seconds: u32, for_s: u32, reason: String },
    Checkpoint {},
    Rollback { tenant: String, purpose: String, reason: String },
    Confirm { kid: String },
    Destroyed { kid: String },
    ActivateNow { kid: String, reason: String },
    TestAppend { reason: String },
}

/// `Revocation`, owned.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum Revoked {
    Id {
        jti: String,
        #[serde(default)]
        exp: Option<i64>,
    },
    Subject {
        sub: String,
        #[serde(default)]
        before: Option<i64>,
    },
}

impl Revoked {
    fn on_wire(&self) -> Revocation<'_> {
        match self {
            Self::Id { jti, exp } => Revocation::Id { jti, exp: *exp },
            Self::Subject { sub, before } => Revocation::Subject { sub, before: *before },
        }
    }
}

/// `IssueSpec`, owned.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    template: String,
    sub: String,
    #[serde(default)]
    aud: Vec<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    ttl_s: Option<u32>,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    ctx: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    jkt: Option<String>,
    #[serde(default)]
    form: PassportForm,
    #[serde(default)]
    uid: Option<u32>,
}

/// `Want`, owned.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    aud: Option<String>,
    scopes: Vec<String>,
    peer_uid: Option<u32>,
}

/// A passport: its envelope, the text of a JWS, or a bound reply that holds one of them.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Given(OwnedPassport);

impl TryFrom<Value> for Given {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        if let Some(text) = value.as_str().or_else(|| value.get("jws")?.as_str()) {
            return Ok(Self(OwnedPassport::Jws(text.to_owned())));
        }
        envelope(&value).map(|envelope| Self(envelope.into()))
    }
}

/// Bytes, in base64url without padding.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Blob(Vec<u8>);

impl TryFrom<String> for Blob {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Base64UrlUnpadded::decode_vec(&text).map(Self).map_err(|error| format!("{text:?} is no base64url: {error}"))
    }
}

fn texts(items: &[String]) -> Vec<&str> {
    items.iter().map(String::as_str).collect()
}

impl Spec {
    fn on_wire(&self) -> IssueSpec<'_> {
        IssueSpec {
            template: &self.template,
            sub: &self.sub,
            aud: texts(&self.aud),
            scopes: texts(&self.scopes),
            ttl_s: self.ttl_s,
            nbf: self.nbf,
            action: self.action.as_deref(),
            ctx: self.ctx.as_deref(),
            limit: self.limit,
            nonce: self.nonce.as_deref(),
            jkt: self.jkt.as_deref(),
            form: self.form,
            uid: self.uid,
        }
    }
}

impl Wanted {
    fn on_wire(&self) -> Want<'_> {
        Want { aud: self.aud.as_deref(), scopes: texts(&self.scopes), peer_uid: self.peer_uid }
    }
}

impl Given {
    fn on_wire(&self) -> Passport<'_> {
        Passport::from(&self.0)
    }
}

/// A retry key.
fn key(text: &str) -> Result<[u8; 16], String> {
    hex::decode_exactly(text).ok_or_else(|| format!("{text:?} is no retry key: 32 hexadecimal digits"))
}

impl ServiceAsk {
    /// As it is sent.
    pub(super) fn on_wire(&self) -> Result<ServiceOp<'_>, String> {
        Ok(match self {
            Self::Ping {} => ServiceOp::Ping,
            Self::Version {} => ServiceOp::Version,
            Self::WhoAmI {} => ServiceOp::WhoAmI,
            Self::Health {} => ServiceOp::Health,
            Self::Issue(spec) => ServiceOp::Issue(spec.on_wire()),
            Self::IssueBatch(specs) => ServiceOp::IssueBatch(specs.iter().map(Spec::on_wire).collect()),
            Self::Verify { want, passport } => ServiceOp::Verify { want: want.on_wire(), passport: passport.on_wire() },
            Self::VerifyBatch { want, items } => {
                ServiceOp::VerifyBatch { want: want.on_wire(), items: items.iter().map(Given::on_wire).collect() }
            }
            Self::Introspect { want, passport } => {
                ServiceOp::Introspect { want: want.on_wire(), passport: passport.on_wire() }
            }
            Self::Keys { if_etag: None } => ServiceOp::Keys { if_etag: None },
            Self::Keys { if_etag: Some(text) } => match hex::decode_exactly(text) {
                Some(etag) => ServiceOp::Keys { if_etag: Some(etag) },
                None => return Err(format!("{text:?} is no ETag: 64 hexadecimal digits")),
            },
            Self::Seal { namespace, name, plain } => {
                ServiceOp::Seal { namespace, name, plain: Plain(plain.as_bytes()) }
            }
            Self::Unseal { namespace, name, blob_b64: Blob(blob) } => ServiceOp::Unseal { namespace, name, blob },
            Self::Revoke { passport } => ServiceOp::Revoke { passport: passport.on_wire() },
            Self::VerifyWith { want, passport, retry, proof } => ServiceOp::VerifyWith {
                want: want.on_wire(),
                passport: passport.on_wire(),
                retry: retry.as_deref().map(key).transpose()?,
                proof: proof.as_ref().map(Proven::on_wire),
            },
            Self::Exchange { passport, spec, retry, proof } => ServiceOp::Exchange {
                passport: passport.on_wire(),
                spec: spec.on_wire(),
                retry: retry.as_deref().map(key).transpose()?,
                proof: proof.as_ref().map(Proven::on_wire),
            },
            Self::Challenge {} => ServiceOp::Challenge,
            Self::Watch { topics, after, wait_ms } => ServiceOp::Watch {
                topics: topics.iter().map(|TopicName(topic)| *topic).collect(),
                after: after.as_ref().map(|Place(cursor)| *cursor),
                wait_ms: *wait_ms,
            },
            Self::Revocations { after_b64 } => {
                ServiceOp::Revocations { after: after_b64.as_ref().map(|Blob(after)| after.as_slice()) }
            }
        })
    }
}

impl AdminAsk {
    /// As it is sent.
    pub(super) fn on_wire(&self) -> AdminOp<'_> {
        match self {
            Self::WhoAmI {} => AdminOp::WhoAmI,
            Self::Status {} => AdminOp::Status,
            Self::Health {} => AdminOp::Health,
            Self::Attest {} => AdminOp::Attest,
            Self::Stage { kid } => AdminOp::Stage { kid },
            Self::Activate { kid } => AdminOp::Activate { kid },
            Self::PauseIssue { reason } => AdminOp::PauseIssue { reason },
            Self::ResumeIssue {} => AdminOp::ResumeIssue,
            Self::Reload {} => AdminOp::Reload,
            Self::ReloadReport {} => AdminOp::ReloadReport,
            Self::Drain {} => AdminOp::Drain,
            Self::Undrain {} => AdminOp::Undrain,
            Self::Revoke { tenant, what, reason } => {
                AdminOp::Revoke { tenant, what: what.iter().map(Revoked::on_wire).collect(), reason }
            }
            Self::BumpEpoch { tenant, reason } => AdminOp::BumpEpoch { tenant, reason },
            Self::Compromise { kid, reason } => AdminOp::Compromise { kid, reason },
            Self::TicketTtl { seconds, for_s, reason } => {
                AdminOp::TicketTtl { seconds: *seconds, for_s: *for_s, reason }
            }
            Self::Checkpoint {} => AdminOp::Checkpoint,
            Self::Rollback { tenant, purpose, reason } => AdminOp::Rollback { tenant, purpose, reason },
            Self::Confirm { kid } => AdminOp::Confirm { kid },
            Self::Destroyed { kid } => AdminOp::Destroyed { kid },
            Self::ActivateNow { kid, reason } => AdminOp::ActivateNow { kid, reason },
            Self::TestAppend { reason } => AdminOp::TestAppend { reason },
        }
    }
}

/// An operation that is written as JSON. An error is a mistake in the data.
pub(super) fn parsed<T: for<'de> Deserialize<'de>>(op: &Value) -> Result<T, String> {
    T::deserialize(op).map_err(|error| format!("{op} is no operation of this socket: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_of_a_request_is_none() {
        let op = json!({"Issue": {"template": "t", "sub": "s"}});
        let ask: ServiceAsk = parsed(&op).unwrap();
        let spec = IssueSpec { template: "t", sub: "s", ..IssueSpec::default() };
        assert_eq!(ask.on_wire().unwrap(), ServiceOp::Issue(spec));
        let passport = json!({"alg": "a", "kid": "k", "msg_b64": "", "sig_b64": "", "claims": {}});
        let ask: ServiceAsk = parsed(&json!({"Verify": {"passport": passport}})).unwrap();
        let passport = Passport::Envelope { alg: "a", kid: "k", msg: &[], sig: &[] };
        assert_eq!(ask.on_wire().unwrap(), ServiceOp::Verify { want: Want::default(), passport });
    }

    #[test]
    fn a_slip_in_the_data_is_no_operation() {
        for bad in [
            json!({"Pong": {}}),
            json!({"Ping": {"x": 1}}),
            json!({"Issue": {"template": "t", "sub": "s", "ttl": 1}}),
            json!({"Verify": {"want": {"audience": "x"}, "passport": {"alg": "a"}}}),
            json!("Ping"),
        ] {
            assert!(parsed::<ServiceAsk>(&bad).is_err(), "{bad}");
        }
        let keys: ServiceAsk = parsed(&json!({"Keys": {"if_etag": "00"}})).unwrap();
        assert!(keys.on_wire().is_err());
    }
}
