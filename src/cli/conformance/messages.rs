//! Messages of the wire as JSON: requests out of it, replies into it. The names are those of `docs/WIRE.md`.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::values::envelope;
use crate::passport::{OwnedEnvelope, hex};
use crate::wire::{
    AdminOk, AdminOp, Code, Greeting, Health, Identity, IssueSpec, Issued, KeySet, Passport, Plain, Problem, ServiceOk,
    ServiceOp, Verdict, Want,
};

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
}

/// `Want`, owned.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    aud: Option<String>,
    scopes: Vec<String>,
}

/// A passport: its envelope, or a bound reply that holds one.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Given(OwnedEnvelope);

impl TryFrom<Value> for Given {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        envelope(&value).map(Self)
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
        }
    }
}

impl Wanted {
    fn on_wire(&self) -> Want<'_> {
        Want { aud: self.aud.as_deref(), scopes: texts(&self.scopes) }
    }
}

impl Given {
    fn on_wire(&self) -> Passport<'_> {
        let Self(OwnedEnvelope { alg, kid, msg, sig }) = self;
        Passport::Envelope { alg, kid, msg, sig }
    }
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
        }
    }
}

/// An operation that is written as JSON. An error is a mistake in the data.
pub(super) fn parsed<T: for<'de> Deserialize<'de>>(op: &Value) -> Result<T, String> {
    T::deserialize(op).map_err(|error| format!("{op} is no operation of this socket: {error}"))
}

/// A greeting.
pub(super) fn greeting(greeting: Greeting) -> Value {
    match greeting {
        Greeting::Welcome(welcome) => {
            let limits = welcome.limits;
            let limits = json!({
                "max_frame": limits.max_frame, "max_msg_bytes": limits.max_msg_bytes, "max_batch": limits.max_batch,
                "max_in_flight": limits.max_in_flight,
            });
            json!({"welcome": {
                "wire": welcome.wire, "server": welcome.server, "issuer": welcome.issuer, "limits": limits,
            }})
        }
        Greeting::Refused(refused) => json!({"refused": problem(&refused)}),
    }
}

/// A reply without its id: `ok` or `problem`.
pub(super) fn outcome<T>(result: Result<T, Problem>, shown: impl FnOnce(T) -> Value) -> Value {
    match result {
        Ok(ok) => json!({"ok": shown(ok)}),
        Err(refusal) => json!({"problem": problem(&refusal)}),
    }
}

fn problem(problem: &Problem) -> Value {
    let Problem { code, message, retryable, retry_after_ms } = problem;
    json!({"code": code.name(), "message": message, "retryable": retryable, "retry_after_ms": retry_after_ms})
}

/// An answer of the service socket.
pub(super) fn service_ok(ok: ServiceOk) -> Value {
    match ok {
        ServiceOk::Pong => json!({"Pong": {}}),
        ServiceOk::Version(it) => {
            json!({"Version": {"server": it.server, "wire": it.wire, "issuer": it.issuer}})
        }
        ServiceOk::WhoAmI(it) => json!({"WhoAmI": identity(&it)}),
        ServiceOk::Health(it) => json!({"Health": health(it)}),
        ServiceOk::Issued(it) => json!({"Issued": issued(it)}),
        ServiceOk::IssuedBatch(items) => {
            let items: Vec<_> = items.into_iter().map(|item| outcome(item, issued)).collect();
            json!({"IssuedBatch": items})
        }
        ServiceOk::Verdict(it) => json!({"Verdict": verdict(&it)}),
        ServiceOk::Verdicts(items) => json!({"Verdicts": items.iter().map(verdict).collect::<Vec<_>>()}),
        ServiceOk::Introspection(it) => {
            let claims = it.claims.map(|claims| text(&claims));
            json!({"Introspection": {"active": it.active, "reason": it.reason.map(Code::name), "claims": claims}})
        }
        ServiceOk::Keys(KeySet { etag, max_age_s, jwks }) => {
            json!({"Keys": {"etag": hex::encode(&etag), "max_age_s": max_age_s, "jwks": text(&jwks)}})
        }
        ServiceOk::KeysNotModified { max_age_s } => json!({"KeysNotModified": {"max_age_s": max_age_s}}),
        ServiceOk::Sealed { blob } => json!({"Sealed": {"blob_b64": Base64UrlUnpadded::encode_string(&blob)}}),
        ServiceOk::Unsealed { plain } => json!({"Unsealed": {"plain": text(&plain.0)}}),
    }
}

/// An answer of the admin socket.
pub(super) fn admin_ok(ok: AdminOk) -> Value {
    match ok {
        AdminOk::WhoAmI(it) => json!({"WhoAmI": identity(&it)}),
        AdminOk::Status(document) => json!({"Status": document}),
        AdminOk::Health(it) => json!({"Health": health(it)}),
        AdminOk::Attest(document) => json!({"Attest": document}),
        AdminOk::Staged { kid, public } => json!({"Staged": {"kid": kid, "public": hex::encode(&public)}}),
        AdminOk::Activated { kid, retired } => json!({"Activated": {"kid": kid, "retired": retired}}),
        AdminOk::Reloaded { old_policy, new_policy, changed, needs_restart } => json!({"Reloaded": {
            "old_policy": hex::encode(&old_policy), "new_policy": hex::encode(&new_policy), "changed": changed,
            "needs_restart": needs_restart,
        }}),
        AdminOk::ReloadReport {
            old_config,
            new_config,
            changed,
            needs_restart,
            old_policy,
            new_policy,
            policy_changed,
            policy_more,
        } => json!({"ReloadReport": {
            "old_config": hex::encode(&old_config), "new_config": hex::encode(&new_config), "changed": changed,
            "needs_restart": needs_restart, "old_policy": hex::encode(&old_policy),
            "new_policy": hex::encode(&new_policy), "policy_changed": policy_changed, "policy_more": policy_more,
        }}),
        AdminOk::Done => json!({"Done": {}}),
    }
}

fn identity(it: &Identity) -> Value {
    json!({
        "uid": it.uid, "gid": it.gid, "pid": it.pid, "groups": it.groups, "listener": it.listener, "rules": it.rules,
        "operations": it.operations, "templates": it.templates, "audiences": it.audiences,
    })
}

fn health(it: Health) -> Value {
    let conditions: Vec<_> =
        it.conditions.into_iter().map(|one| json!({"name": one.name, "ok": one.ok, "detail": one.detail})).collect();
    json!({"issue_ready": it.issue_ready, "verify_ready": it.verify_ready, "conditions": conditions})
}

fn verdict(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Accepted(accepted) => json!({"Accepted": {"exp": accepted.exp}}),
        Verdict::Refused(code) => json!({"Refused": code.name()}),
    }
}

/// The envelope, and beside it what cases look at: `msg` as text, and what it says.
fn issued(issued: Issued) -> Value {
    let Issued::Envelope { kid, msg, sig } = issued;
    let (message, claims) = (text(&msg), serde_json::from_slice::<Map<_, _>>(&msg).ok());
    let passport = OwnedEnvelope { alg: "Ed25519".to_owned(), kid, msg, sig: sig.to_vec() };
    let mut shown = serde_json::to_value(passport).unwrap_or_default();
    if let Some(members) = shown.as_object_mut() {
        members.insert("msg".to_owned(), message);
        members.insert("claims".to_owned(), claims.map_or(Value::Null, Value::Object));
    }
    shown
}

/// Bytes that are text; null if they are not.
fn text(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn replies_say_what_they_hold() {
        let passport = Issued::Envelope { kid: "k".into(), msg: b"{\"a\":1}".to_vec(), sig: [0; 64] };
        let shown = service_ok(ServiceOk::IssuedBatch(vec![Ok(passport), Err(Problem::new(Code::Busy).after_ms(5))]));
        assert_eq!(shown.pointer("/IssuedBatch/0/ok/claims/a"), Some(&json!(1)));
        assert_eq!(shown.pointer("/IssuedBatch/0/ok/msg_b64"), Some(&json!("eyJhIjoxfQ")));
        assert_eq!(shown.pointer("/IssuedBatch/1/problem/retry_after_ms"), Some(&json!(5)));
        let staged = admin_ok(AdminOk::Staged { kid: "k".into(), public: [255; 32] });
        assert_eq!(staged, json!({"Staged": {"kid": "k", "public": "ff".repeat(32)}}));
    }
}
