//! What a caller asks for, owned.

use serde::{Deserialize, Serialize};

use super::ClientError;
use crate::wire::{IssueSpec, PassportForm};

/// What a passport is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IssueRequest {
    /// The template's name.
    pub template: String,
    /// Whom it is about.
    pub sub: String,
    /// For whom; empty: the template's only audience.
    pub aud: Vec<String>,
    /// What it allows; empty: the template's default.
    pub scopes: Vec<String>,
    /// Lifetime in seconds.
    pub ttl_s: Option<u32>,
    /// Not valid before (seconds since 1970).
    pub nbf: Option<i64>,
    /// The action.
    pub action: Option<String>,
    /// A JSON object of the caller's own.
    pub ctx: Option<serde_json::Map<String, serde_json::Value>>,
    /// How often it may be accepted; none: as often as the template allows.
    pub limit: Option<u32>,
    /// A value to be accepted once.
    pub nonce: Option<String>,
    /// The RFC 7638 thumbprint of the holder's Ed25519 key.
    pub jkt: Option<String>,
    /// In which form.
    pub form: PassportForm,
    /// The user who alone may present it, where the template binds passports to their peer; none: the caller's own.
    pub uid: Option<u32>,
}

impl IssueRequest {
    pub(super) fn context(&self) -> Result<Option<String>, ClientError> {
        self.ctx.as_ref().map(serde_json::to_string).transpose().map_err(|_| ClientError::WrongAnswer)
    }

    pub(super) fn on_wire<'a>(&'a self, ctx: Option<&'a str>) -> IssueSpec<'a> {
        IssueSpec {
            template: &self.template,
            sub: &self.sub,
            aud: self.aud.iter().map(String::as_str).collect(),
            scopes: self.scopes.iter().map(String::as_str).collect(),
            ttl_s: self.ttl_s,
            nbf: self.nbf,
            action: self.action.as_deref(),
            ctx,
            limit: self.limit,
            nonce: self.nonce.as_deref(),
            jkt: self.jkt.as_deref(),
            form: self.form,
            uid: self.uid,
        }
    }
}
