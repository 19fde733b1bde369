//! Replies of the wire into JSON. The names are those of `docs/WIRE.md`.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::{Map, Value, json};

use super::{exchanging, watching};
use crate::passport::{OwnedPassport, hex};
use crate::wire::{AdminOk, Code, Consumed, Greeting, Health, Identity, Issued, KeySet, Problem, ServiceOk, Verdict};

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
        ServiceOk::Challenge { nonce, expires_in_s } => {
            json!({"Challenge": {"nonce": nonce, "expires_in_s": expires_in_s}})
        }
        ServiceOk::Revoked { new } => json!({"Revoked": {"new": new}}),
        ServiceOk::Watched(told) => json!({"Watched": watching::told(&told)}),
        ServiceOk::Revocations(page) => json!({"Revocations": watching::page(&page)}),
        ServiceOk::Exchanged(it) => json!({"Exchanged": exchanging::exchanged(it)}),
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
        AdminOk::Revoked { new } => json!({"Revoked": {"new": new}}),
        AdminOk::EpochBumped { epoch } => json!({"EpochBumped": {"epoch": epoch}}),
        AdminOk::Checkpoint(note) => json!({"Checkpoint": {"note": note}}),
        AdminOk::Recorded { seq } => json!({"Recorded": {"seq": seq}}),
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
        Verdict::Consumed(Consumed { exp, left, repeated }) => {
            json!({"Consumed": {"exp": exp, "left": left, "repeated": repeated}})
        }
        Verdict::Unproven { why } => json!({"Unproven": {"why": why}}),
    }
}

/// The envelope, or the text of the JWS, and beside it what cases look at: the payload as text, and what it says.
pub(super) fn issued(issued: Issued) -> Value {
    let passport = OwnedPassport::from(issued);
    let msg = passport.payload();
    let (message, claims) = (text(&msg), serde_json::from_slice::<Map<_, _>>(&msg).ok());
    let mut shown = match &passport {
        OwnedPassport::Envelope(envelope) => serde_json::to_value(envelope).unwrap_or_default(),
        OwnedPassport::Jws(text) => json!({"jws": text}),
    };
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
