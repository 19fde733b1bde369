//! What the daemon and its policy give this user: what cases may need, and the names that they start with.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::replies::{admin_ok, greeting, service_ok};
use super::values::Names;
use crate::cli::args::Conformance;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::client::{Client, ClientError, TicketRequest};
use crate::config::Config;
use crate::passport::OwnedPassport;
use crate::wire::{AdminOp, Code, Greeting, IssueSpec, PassportForm, Problem, ServiceOk, ServiceOp};

/// Templates that are tried; each costs a passport.
const MAX_TEMPLATES: usize = 16;

/// See the module.
pub(super) struct Survey {
    /// The names that every case starts with.
    pub(super) names: Names,
    /// Why a need is not met; what is not in here is.
    lacking: BTreeMap<&'static str, String>,
}

impl Survey {
    /// Asks the daemon.
    pub(super) async fn take(context: &mut Context<'_>, options: &Conformance) -> Result<Self, CliError> {
        let client = context.client().await?;
        let mut survey = Self { names: Names::new(), lacking: BTreeMap::new() };
        let skew = match options.clock_skew {
            Some(seconds) => u64::from(seconds),
            None if context.global.config.is_some() => context.configuration()?.config.passport.clock_skew_s,
            None => Config::default().passport.clock_skew_s,
        };
        survey.bind("skew_s", skew);
        survey.bind("sub", options.sub.as_str());
        let welcome = greeting(Greeting::Welcome(client.welcome().await?));
        survey.bind("welcome", welcome.get("welcome").cloned().unwrap_or_default());
        let identity = service_ok(client.ask([0; 16], ServiceOp::WhoAmI).await?);
        survey.bind("me", identity.get("WhoAmI").cloned().unwrap_or_default());
        match admin(context).await {
            Ok(identity) => survey.bind("admin", identity.get("WhoAmI").cloned().unwrap_or_default()),
            Err(error) => survey.lack("admin", format!("the admin socket: {error}")),
        }
        survey.try_templates(&client, options).await?;
        Ok(survey)
    }

    fn bind(&mut self, name: &str, value: impl Into<Value>) {
        self.names.insert(name.to_owned(), value.into());
    }

    fn lack(&mut self, what: &'static str, why: impl Into<String>) {
        self.lacking.insert(what, why.into());
    }

    /// Why a need is not met, if it is not. An error is a mistake in the data.
    pub(super) fn lacks(&self, need: &str) -> Result<Option<String>, String> {
        if ["passport", "other_aud", "keyless", "limited", "bound", "jws", "tickets", "admin"].contains(&need) {
            return Ok(self.lacking.get(need).cloned());
        }
        let (name, operation) = match need.split_once('.') {
            Some(("service", operation)) => ("me", operation),
            Some(("admin", operation)) => ("admin", operation),
            _ => return Err(format!("there is no need {need:?}")),
        };
        if let (Some(why), "admin") = (self.lacking.get(name), name) {
            return Ok(Some(why.clone()));
        }
        let granted = self.names.get(name).and_then(|identity| identity.get("operations")?.as_array());
        let there = granted.is_some_and(|operations| operations.iter().any(|one| one == operation));
        Ok((!there).then(|| format!("the policy does not allow this user `{operation}` there")))
    }

    fn list(&self, member: &str) -> Vec<String> {
        let items = self.names.get("me").and_then(|me| me.get(member)?.as_array());
        items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Finds a template to issue by and an audience to verify as, and one without a key.
    async fn try_templates(&mut self, client: &Client, options: &Conformance) -> Result<(), CliError> {
        let audiences = self.list("audiences");
        let mut templates = options.template.iter().cloned().collect::<Vec<_>>();
        templates.extend(self.list("templates").into_iter().filter(|name| Some(name) != options.template.as_ref()));
        let mut why = "the policy grants this user no template".to_owned();
        for template in templates.iter().take(MAX_TEMPLATES) {
            match issue(client, template, &options.sub, &audiences).await? {
                Ok(sample) if let Some(kind) = special(&sample) => {
                    let ours = audiences.iter().any(|aud| of(&sample, "aud").contains(aud));
                    if ours {
                        self.bind(kind, template.as_str());
                    }
                }
                Ok(sample) if !self.names.contains_key("template") => {
                    match audiences.iter().find(|aud| of(&sample, "aud").contains(aud)) {
                        Some(aud) => self.settle(template, aud, &audiences, sample),
                        None => {
                            why = format!("a passport by {template:?} is for no audience that this user verifies as");
                        }
                    }
                }
                Err(problem) if problem.code == Code::NotReady => self.bind("keyless", template.as_str()),
                Err(problem) if !self.names.contains_key("template") => {
                    why = format!("template {template:?}: {}: {}", problem.code, problem.message);
                }
                _ => {}
            }
        }
        if !self.names.contains_key("template") {
            self.lack("passport", why.clone());
            self.lack("other_aud", why);
        }
        self.try_jws(client, &options.sub).await?;
        self.try_tickets(client, &options.sub).await?;
        if !self.names.contains_key("limited") {
            self.lack("limited", "no template of this user has a limit");
        }
        if !self.names.contains_key("bound") {
            self.lack("bound", "no template of this user binds passports to their peer");
        }
        if !self.names.contains_key("keyless") {
            self.lack("keyless", "every template of this user has a key");
        }
        Ok(())
    }

    /// Whether the template that issues has compact JWS.
    async fn try_jws(&mut self, client: &Client, sub: &str) -> Result<(), CliError> {
        let name = |name: &str| self.names.get(name).and_then(Value::as_str);
        let (Some(template), Some(aud)) = (name("template"), name("aud")) else {
            self.lack("jws", "no template of this user issues");
            return Ok(());
        };
        let spec = IssueSpec { template, sub, aud: vec![aud], form: PassportForm::Jws, ..IssueSpec::default() };
        match client.ask([0; 16], ServiceOp::Issue(spec)).await {
            Ok(_) => {}
            Err(ClientError::Problem(problem)) => {
                let why = format!("template {template:?} issues no compact JWS: {}", problem.message);
                self.lack("jws", why);
            }
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }

    /// Whether this user may have tickets for passports of the template that issues.
    async fn try_tickets(&mut self, client: &Client, sub: &str) -> Result<(), CliError> {
        let name = |name: &str| self.names.get(name).and_then(Value::as_str);
        let (Some(template), Some(aud)) = (name("template"), name("aud")) else {
            self.lack("tickets", "no template of this user issues");
            return Ok(());
        };
        let spec = IssueSpec { template, sub, aud: vec![aud], ..IssueSpec::default() };
        let ServiceOk::Issued(issued) = client.ask([0; 16], ServiceOp::Issue(spec)).await? else {
            return Err(ClientError::WrongAnswer.into());
        };
        let request = TicketRequest { aud: aud.to_owned(), ..TicketRequest::default() };
        match client.exchange(&OwnedPassport::from(issued), &request, None, None).await {
            Ok(_) => {}
            Err(ClientError::Problem(problem)) => {
                self.lack("tickets", format!("no tickets for this user: {}", problem.message));
            }
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }

    fn settle(&mut self, template: &str, aud: &str, audiences: &[String], sample: Value) {
        match audiences.iter().find(|other| !of(&sample, "aud").contains(other)) {
            Some(other) => self.bind("other_aud", other.as_str()),
            None => self.lack("other_aud", "this user may verify as no audience that the passports are not for"),
        }
        self.bind("template", template);
        self.bind("aud", aud);
        self.bind("sample", sample);
    }
}

/// What the template of a sample is called if its passports are not for everybody's use at any time.
fn special(sample: &Value) -> Option<&'static str> {
    let says = |claim: &str| sample.pointer(claim).is_some();
    says("/claims/cnf/uid").then_some("bound").or_else(|| says("/claims/cap/limit").then_some("limited"))
}

/// A list of texts among the claims.
fn of(sample: &Value, claim: &str) -> Vec<String> {
    let items = sample.pointer("/claims").and_then(|claims| claims.get(claim)?.as_array());
    items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

async fn admin(context: &mut Context<'_>) -> Result<Value, CliError> {
    Ok(admin_ok(context.admin().await?.ask(AdminOp::WhoAmI).await?))
}

/// A passport by a template, for its own audience or else for the first that we verify as.
async fn issue(
    client: &Client,
    template: &str,
    sub: &str,
    audiences: &[String],
) -> Result<Result<Value, Problem>, CliError> {
    let mut last = Problem::new(Code::BadAud);
    for aud in [Vec::new(), audiences.iter().take(1).map(String::as_str).collect()] {
        let spec = IssueSpec { template, sub, aud, ..IssueSpec::default() };
        match client.ask([0; 16], ServiceOp::Issue(spec)).await {
            Ok(ok @ ServiceOk::Issued(_)) => {
                return Ok(Ok(service_ok(ok).get("Issued").cloned().unwrap_or_else(|| json!({}))));
            }
            Ok(_) => return Err(ClientError::WrongAnswer.into()),
            Err(ClientError::Problem(problem)) if problem.code == Code::BadAud => last = problem,
            Err(ClientError::Problem(problem)) => return Ok(Err(problem)),
            Err(other) => return Err(other.into()),
        }
    }
    Ok(Err(last))
}
