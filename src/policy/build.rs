//! From tables to rules and templates: names resolved, references followed, bounds kept, places named.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use toml::{Spanned, de::DeTable};

use super::{
    cgroup::MAX_CGROUP,
    decide::Share,
    error::PolicyError,
    file::{File, PeerTable, Strings},
    load::PolicyFile,
    names::{Names, Overflow},
    operation::Operation,
    peer::{Condition, EVERY_TENANT, Rule},
    source::{MAX_NAME, Source},
    suggest,
    template::Template,
    templates::template,
};
use crate::passport::bounds;
use crate::wire::sealed::NamespacePattern;

/// The most rules of a policy, and the most templates.
pub(super) const MAX_TABLES: usize = 1024;

/// The rules and templates of a policy.
pub(super) type Tables = (Vec<Arc<Rule>>, Vec<Arc<Template>>);

/// Builds the rules and templates of a policy.
pub(super) fn build(
    dir: &Path,
    files: &[PolicyFile],
    names: &dyn Names,
    overflow: Overflow,
) -> Result<Tables, PolicyError> {
    let parsed = files.iter().map(|file| parse(dir, file)).collect::<Result<Vec<_>, _>>()?;
    // A rule may name a template of a later file, so all templates come first.
    let (mut templates, mut seen) = (Vec::new(), BTreeMap::new());
    for (source, file) in &parsed {
        for table in &file.template {
            templates.push(Arc::new(template(source, table, &mut seen)?));
        }
    }
    let (mut rules, mut seen) = (Vec::new(), BTreeMap::new());
    for (source, file) in &parsed {
        for table in &file.peer {
            let context = Context { source, names, overflow, templates: &templates };
            rules.push(Arc::new(context.rule(table, &mut seen)?));
        }
    }
    for (count, what) in [(rules.len(), "the number of [[peer]]"), (templates.len(), "the number of [[template]]")] {
        if count > MAX_TABLES {
            return Err(PolicyError::TooMuch { path: dir.into(), what, max: MAX_TABLES });
        }
    }
    Ok((rules, templates))
}

/// Reads the tables of a file.
fn parse<'a>(dir: &'a Path, file: &'a PolicyFile) -> Result<(Source<'a>, File), PolicyError> {
    let name = Arc::from(file.name.as_str());
    let text = std::str::from_utf8(&file.bytes).map_err(|error| {
        let good = file.bytes.get(..error.valid_up_to()).and_then(|good| std::str::from_utf8(good).ok());
        let source = Source { dir, name: Arc::clone(&name), text: good.unwrap_or_default() };
        source.wrong(&(error.valid_up_to()..error.valid_up_to()), "the file is not UTF-8")
    })?;
    let source = Source { dir, name, text };
    match toml::from_str(text) {
        Ok(tables) => Ok((source, tables)),
        Err(error) => {
            let span = error.span().unwrap_or_default();
            // What the document says may be wrong, or what it is; the words of the parser leave that open.
            let message = match DeTable::parse(text) {
                Ok(_) => error.message().to_owned(),
                Err(_) => format!("not valid TOML: {}; mend it there: text stands in quotes", error.message()),
            };
            Err(source.wrong(&span, message))
        }
    }
}

/// The namespaces of secrets. The daemon's own are nobody's.
fn namespaces(source: &Source<'_>, list: &Strings) -> Result<Vec<NamespacePattern>, PolicyError> {
    source.bounded(list)?;
    let message = "a namespace reads <tenant>/<part> or <tenant>/<part>/<part>, or ends in /* for all below; those of \
                   passportd are its own";
    let pattern = |text: &Spanned<String>| {
        NamespacePattern::parse(text.get_ref()).ok_or_else(|| source.wrong(&text.span(), message))
    };
    list.iter().map(pattern).collect()
}

/// What is needed to check a `[[peer]]`.
struct Context<'a> {
    source: &'a Source<'a>,
    names: &'a dyn Names,
    overflow: Overflow,
    templates: &'a [Arc<Template>],
}

impl Context<'_> {
    /// Checks a `[[peer]]`.
    fn rule(&self, table: &PeerTable, seen: &mut BTreeMap<String, Arc<str>>) -> Result<Rule, PolicyError> {
        let source = self.source;
        let name = source.unique(&table.name, seen)?;
        let conditions = self.conditions(table)?;
        if conditions.is_empty() {
            let message = "a rule needs a condition: user, uid, group, gid, groups, listener or cgroup; without one \
                           it would mean everybody";
            return Err(source.wrong(&table.name.span(), message));
        }
        Ok(Rule {
            name: name.into(),
            file: Arc::clone(&source.name),
            line: source.place(table.name.span().start).0,
            conditions,
            allow: self.operations(&table.allow)?,
            templates: self.granted(&table.templates)?,
            verify_as: source.strings(&table.verify_as, bounds::MAX_AUD_LEN)?,
            namespaces: namespaces(source, &table.seal_namespaces)?,
            watch_tenants: self.tenants(&table.watch_tenants)?,
            exchange_templates: self.granted(&table.exchange_templates)?,
            share: Share {
                rps: self.positive(table.rps.as_ref())?,
                issue_rps: self.positive(table.issue_rps.as_ref())?,
                exchange_rpm: self.positive(table.exchange_rpm.as_ref())?,
                max_connections: self.positive(table.max_connections.as_ref())?,
                max_bytes: self.positive(table.max_bytes.as_ref())?,
            },
        })
    }

    /// The tenants to watch: those of templates, here or granted to others, or every one. A slip of the pen would be a tenant of
    /// whose revocations nobody hears.
    fn tenants(&self, list: &Strings) -> Result<Vec<String>, PolicyError> {
        self.source.bounded(list)?;
        let known = || self.templates.iter().map(|template| template.tenant.as_str());
        let tenant = |name: &Spanned<String>| {
            if name.get_ref() == EVERY_TENANT || known().any(|tenant| tenant == name.get_ref()) {
                return Ok(name.get_ref().clone());
            }
            let hint = suggest::hint(name.get_ref(), known());
            let message = format!(
                "no [[template]] is of a tenant {:?}{hint}; name one that has templates, or \"{EVERY_TENANT}\" for all",
                name.get_ref()
            );
            Err(self.source.wrong(&name.span(), message))
        };
        list.iter().map(tenant).collect()
    }

    /// The conditions, in the order in which the documentation lists them.
    fn conditions(&self, table: &PeerTable) -> Result<Vec<Condition>, PolicyError> {
        let mut conditions = Vec::new();
        if let Some(user) = &table.user {
            conditions.push(Condition::User(user.get_ref().as_str().into(), self.user(user)?));
        }
        if let Some(uid) = &table.uid {
            self.somebody(&uid.span(), *uid.get_ref(), self.overflow.uid)?;
            conditions.push(Condition::Uid(*uid.get_ref()));
        }
        if let Some(group) = &table.group {
            conditions.push(Condition::Group(group.get_ref().clone(), self.group(group)?));
        }
        if let Some(gid) = &table.gid {
            self.somebody(&gid.span(), *gid.get_ref(), self.overflow.gid)?;
            conditions.push(Condition::Gid(*gid.get_ref()));
        }
        if let Some(groups) = &table.groups {
            self.source.bounded(groups.get_ref())?;
            if groups.get_ref().is_empty() {
                return Err(self
                    .source
                    .wrong(&groups.span(), "`groups` is empty, so nobody could match; name a group"));
            }
            let resolved = groups.get_ref().iter().map(|group| Ok((group.get_ref().clone(), self.group(group)?)));
            conditions.push(Condition::Groups(resolved.collect::<Result<_, PolicyError>>()?));
        }
        if let Some(listener) = &table.listener {
            conditions.push(Condition::Listener(self.source.identifier(listener, MAX_NAME)?));
        }
        if let Some(cgroup) = &table.cgroup {
            conditions.push(Condition::Cgroup(self.cgroup(cgroup, table.user.is_some() || table.uid.is_some())?));
        }
        Ok(conditions)
    }

    /// The uid of a user.
    fn user(&self, name: &Spanned<String>) -> Result<u32, PolicyError> {
        self.source.identifier(name, MAX_NAME)?;
        let wrong = |message| self.source.wrong(&name.span(), message);
        let answer = self.names.uid(name.get_ref());
        let uid = answer.map_err(|error| wrong(format!("the user database does not answer: {error}")))?;
        let uid =
            uid.ok_or_else(|| wrong(format!("there is no user {:?}; create it, or remove the rule", name.get_ref())))?;
        self.somebody(&name.span(), uid, self.overflow.uid).map(|()| uid)
    }

    /// The gid of a group.
    fn group(&self, name: &Spanned<String>) -> Result<u32, PolicyError> {
        self.source.identifier(name, MAX_NAME)?;
        let wrong = |message| self.source.wrong(&name.span(), message);
        let answer = self.names.gid(name.get_ref());
        let gid = answer.map_err(|error| wrong(format!("the group database does not answer: {error}")))?;
        let gid =
            gid.ok_or_else(|| wrong(format!("there is no group {:?}; create it, or remove the rule", name.get_ref())))?;
        self.somebody(&name.span(), gid, self.overflow.gid).map(|()| gid)
    }

    /// The control group of a service of the system. Others are no boundary: what is delegated to a user, that user fills as it
    /// likes; and within a service, whoever may start a process in it is only told apart by its uid.
    fn cgroup(&self, path: &Spanned<String>, has_user: bool) -> Result<String, PolicyError> {
        let wrong = |message: &str| Err(self.source.wrong(&path.span(), message));
        let unit = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte));
        let below = path.get_ref().strip_prefix("/system.slice/").filter(|_| path.get_ref().len() <= MAX_CGROUP);
        let is_service = below.is_some_and(|below| {
            let (slices, service) = below.rsplit_once('/').unwrap_or(("", below));
            let kind =
                |name: &str, ending: &str| unit(name) && name.strip_suffix(ending).is_some_and(|own| !own.is_empty());
            kind(service, ".service") && (slices.is_empty() || slices.split('/').all(|slice| kind(slice, ".slice")))
        });
        match (is_service, has_user) {
            (true, true) => Ok(path.get_ref().clone()),
            (true, false) => {
                wrong("`cgroup` needs `user` or `uid` beside it: whoever runs in the unit as another is somebody else")
            }
            (false, _) => wrong(
                "`cgroup` is the whole path of a service of the system, as /system.slice/web.service \
                 (`systemctl show -P ControlGroup web.service`)",
            ),
        }
    }

    /// Refuses ids that stand for nobody: such a rule would never match, which its writer should know. The largest
    /// number is how system calls say "no id" (chown(2)).
    fn somebody(&self, span: &Range<usize>, id: u32, overflow: u32) -> Result<(), PolicyError> {
        if id != overflow && id != u32::MAX {
            return Ok(());
        }
        let message =
            format!("the id {id} stands for unknown users or groups (nobody) and matches nothing; use another");
        Err(self.source.wrong(span, message))
    }

    /// The operations.
    fn operations(&self, list: &Strings) -> Result<Vec<Operation>, PolicyError> {
        self.source.bounded(list)?;
        let operation = |name: &Spanned<String>| {
            Operation::by_name(name.get_ref()).ok_or_else(|| {
                let known = Operation::ALL.map(Operation::name);
                let hint = suggest::hint(name.get_ref(), known.into_iter());
                let message = format!(
                    "there is no operation {:?} in this release{hint}; there are {}",
                    name.get_ref(),
                    known.join(", ")
                );
                self.source.wrong(&name.span(), message)
            })
        };
        list.iter().map(operation).collect()
    }

    /// The templates, which must exist.
    fn granted(&self, list: &Strings) -> Result<Vec<Arc<Template>>, PolicyError> {
        self.source.bounded(list)?;
        let template = |name: &Spanned<String>| {
            self.templates.iter().find(|template| template.name == *name.get_ref()).cloned().ok_or_else(|| {
                let hint = suggest::hint(name.get_ref(), self.templates.iter().map(|known| known.name.as_str()));
                let message =
                    format!("there is no [[template]] named {:?}{hint}; add one, or remove it here", name.get_ref());
                self.source.wrong(&name.span(), message)
            })
        };
        list.iter().map(template).collect()
    }

    /// A number that is not 0: a share of nothing would be a denial in disguise.
    fn positive<T: Copy + Default + PartialEq>(&self, number: Option<&Spanned<T>>) -> Result<Option<T>, PolicyError> {
        match number {
            Some(zero) if *zero.get_ref() == T::default() => {
                Err(self.source.wrong(&zero.span(), "this must be at least 1; to deny, grant nothing"))
            }
            number => Ok(number.map(|number| *number.get_ref())),
        }
    }
}
