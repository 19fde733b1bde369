//! What is asked of a key, attribute by attribute.

use super::*;

#[test]
fn so_many_objects_are_read_and_no_more() {
    let read = |count: usize| at_most(MAX_OBJECTS, (0..count).map(Ok));
    assert_eq!(read(MAX_OBJECTS).unwrap().len(), MAX_OBJECTS);
    assert!(matches!(read(MAX_OBJECTS + 1), Err(HsmError::TooManyObjects(MAX_OBJECTS))));
}

const PASSPORT: &str = "ed25519/t1/auth/v1";
const SEAL: &str = "hmac-sha256/t1/seal/v1";

/// What a token says of a key that is as it should be.
fn said(role: KeyRole) -> Vec<Attribute> {
    let (label, key_type, mechanism) = match role {
        KeyRole::Seal => (SEAL, KeyType::GENERIC_SECRET, MechanismType::SHA256_HMAC),
        KeyRole::Passport | KeyRole::Audit => (PASSPORT, KeyType::EC_EDWARDS, MechanismType::EDDSA),
    };
    vec![
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(vec![1, 2]),
        Attribute::KeyType(key_type),
        Attribute::AllowedMechanisms(vec![mechanism]),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::AlwaysAuthenticate(false),
        Attribute::Local(true),
        Attribute::AlwaysSensitive(true),
        Attribute::NeverExtractable(true),
        Attribute::SignRecover(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
        Attribute::Verify(false),
    ]
}

fn object(attributes: impl IntoIterator<Item = Attribute>) -> Object {
    let mut object = Object::default();
    attributes.into_iter().for_each(|attribute| object.take(attribute));
    object
}

/// The same, but for one attribute; none: the token does not say it.
fn but(role: KeyRole, attribute: AttributeType, other: Option<Attribute>) -> Object {
    let all = said(role);
    assert!(all.iter().any(|one| one.attribute_type() == attribute) && ASKED.contains(&attribute), "{attribute}");
    object(all.into_iter().filter(|one| one.attribute_type() != attribute).chain(other))
}

const ROLES: [KeyRole; 3] = [KeyRole::Passport, KeyRole::Audit, KeyRole::Seal];

#[test]
fn every_attribute_that_is_weaker_than_asked_is_a_problem_of_its_own() {
    for role in ROLES {
        assert_eq!(object(said(role)).problems(role), Vec::<String>::new());
        let weak = [
            (Attribute::Id(Vec::new()), "it has no CKA_ID"),
            (Attribute::KeyType(KeyType::RSA), "its CKA_KEY_TYPE is not CKK_"),
            (Attribute::AllowedMechanisms(vec![MechanismType::RSA_PKCS]), "CKA_ALLOWED_MECHANISMS allows others"),
            (Attribute::Private(false), "CKA_PRIVATE is not set"),
            (Attribute::Sensitive(false), "CKA_SENSITIVE is not set"),
            (Attribute::Extractable(true), "CKA_EXTRACTABLE is set"),
            (Attribute::Sign(false), "CKA_SIGN is not set"),
            (Attribute::AlwaysAuthenticate(true), "CKA_ALWAYS_AUTHENTICATE is set"),
            (Attribute::Local(false), "CKA_LOCAL is not set"),
            (Attribute::AlwaysSensitive(false), "CKA_ALWAYS_SENSITIVE is not set"),
            (Attribute::NeverExtractable(false), "CKA_NEVER_EXTRACTABLE is not set"),
            (Attribute::SignRecover(true), "it may do more than sign: CKA_SIGN_RECOVER"),
            (Attribute::Encrypt(true), "it may do more than sign: CKA_ENCRYPT"),
            (Attribute::Decrypt(true), "it may do more than sign: CKA_DECRYPT"),
            (Attribute::Wrap(true), "it may do more than sign: CKA_WRAP"),
            (Attribute::Unwrap(true), "it may do more than sign: CKA_UNWRAP"),
            (Attribute::Derive(true), "it may do more than sign: CKA_DERIVE"),
            (Attribute::Verify(true), "it may do more than sign: CKA_VERIFY"),
        ];
        // The label decides whose it is, and is no problem.
        assert_eq!(weak.len(), said(role).len() - 1, "one row for each");
        for (attribute, problem) in weak {
            let found = but(role, attribute.attribute_type(), Some(attribute.clone())).problems(role);
            assert!(matches!(&found[..], [one] if one.starts_with(problem)), "{role:?}, {attribute:?}: {found:?}");
        }
    }
}

/// A token that keeps silent has not said yes; only what it alone can set, and what older ones do not know, it may leave out.
#[test]
fn what_a_token_does_not_say_it_has_not_granted() {
    for role in ROLES {
        for (attribute, problem) in [
            (AttributeType::Id, "it has no CKA_ID"),
            (AttributeType::KeyType, "its CKA_KEY_TYPE is not CKK_"),
            (AttributeType::Private, "CKA_PRIVATE is not set"),
            (AttributeType::Sensitive, "CKA_SENSITIVE is not set"),
            (AttributeType::Extractable, "CKA_EXTRACTABLE is set"),
            (AttributeType::Sign, "CKA_SIGN is not set"),
        ] {
            let found = but(role, attribute, None).problems(role);
            assert!(matches!(&found[..], [one] if one.starts_with(problem)), "{role:?}, {attribute}: {found:?}");
        }
        for (attribute, name) in [
            (AttributeType::Local, "CKA_LOCAL"),
            (AttributeType::AlwaysSensitive, "CKA_ALWAYS_SENSITIVE"),
            (AttributeType::NeverExtractable, "CKA_NEVER_EXTRACTABLE"),
        ] {
            let silent = but(role, attribute, None);
            let unsaid: Vec<_> = silent.origin().iter().filter(|(_, set, _)| set.is_none()).map(|one| one.0).collect();
            assert_eq!(
                (silent.problems(role), unsaid),
                (Vec::new(), vec![name]),
                "and it is told that nothing is said"
            );
        }
        for attribute in [AttributeType::AllowedMechanisms, AttributeType::AlwaysAuthenticate, AttributeType::Derive] {
            assert_eq!(but(role, attribute, None).problems(role), Vec::<String>::new(), "{attribute}");
        }
        assert!(object(said(role)).bound_to(role) && !but(role, AttributeType::AllowedMechanisms, None).bound_to(role));
    }
}

#[test]
fn a_key_of_one_role_is_none_of_another() {
    for (is, taken_for) in [(KeyRole::Seal, KeyRole::Passport), (KeyRole::Passport, KeyRole::Seal)] {
        let found = object(said(is)).problems(taken_for);
        let has = |text: &str| found.iter().any(|one| one.starts_with(text));
        assert!(has("its CKA_KEY_TYPE is not") && has("CKA_ALLOWED_MECHANISMS allows others"), "{found:?}");
    }
}
