use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Pkcs11Uri, UriError> {
    text.parse()
}

/// RFC 7512 §3, in the order of the section; those with `pin-value` are refused here on purpose.
#[test]
fn the_examples_of_the_rfc() {
    assert_eq!(parse("pkcs11:").unwrap(), Pkcs11Uri::default());

    let uri = parse("pkcs11:object=my-pubkey;type=public").unwrap();
    assert_eq!((uri.object.as_deref(), uri.object_type), (Some("my-pubkey"), Some(ObjectType::Public)));

    let uri = parse("pkcs11:object=my-key;type=private?pin-source=file:/etc/token").unwrap();
    assert_eq!(uri.pin_source.as_deref(), Some("file:/etc/token"));
    assert_eq!(uri.pin_file(), Some(PathBuf::from("/etc/token")));

    let uri = parse(
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;\
         object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin",
    )
    .unwrap();
    assert_eq!(uri.token.as_deref(), Some("The Software PKCS#11 Softtoken"));
    assert_eq!(uri.manufacturer.as_deref(), Some("Snake Oil, Inc."));
    assert_eq!(uri.serial.as_deref(), Some(""));
    assert_eq!(uri.id.as_deref(), Some(&[0x69, 0x95, 0x3e, 0x5c, 0xf4, 0xbd, 0xec, 0x91][..]));

    let uri = parse("pkcs11:object=my-sign-key;type=private?module-name=mypkcs11").unwrap();
    assert_eq!(uri.module_name.as_deref(), Some("mypkcs11"));

    let uri = parse("pkcs11:object=my-sign-key;type=private?module-path=/mnt/libmypkcs11.so.1").unwrap();
    assert_eq!(uri.module_path.as_deref(), Some("/mnt/libmypkcs11.so.1"));

    let uri = parse("pkcs11:slot-description=Sun%20Metaslot").unwrap();
    assert_eq!(uri.slot_description.as_deref(), Some("Sun Metaslot"));

    let uri = parse("pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-description=Soft%20Token%20Library;library-version=1.23").unwrap();
    assert_eq!(uri.library_version, Some((1, 23)));

    let uri =
        parse("pkcs11:token=My%20token%25%20created%20by%20Joe;library-version=3;id=%01%02%03%Ba%dd%Ca%fe%04%05%06")
            .unwrap();
    assert_eq!(uri.token.as_deref(), Some("My token% created by Joe"));
    assert_eq!(uri.library_version, Some((3, 0)));
    assert_eq!(uri.id.unwrap(), [1, 2, 3, 0xba, 0xdd, 0xca, 0xfe, 4, 5, 6]);

    let uri = parse("pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=my-certificate;type=cert").unwrap();
    assert_eq!(uri.token.as_deref(), Some("A name with a substring %;"));

    let uri = parse("pkcs11:token=Name%20with%20a%20small%20A%20with%20acute:%20%C3%A1;object=my-certificate").unwrap();
    assert_eq!(uri.token.as_deref(), Some("Name with a small A with acute: á"));

    let uri = parse("pkcs11:token=my-token;object=my-certificate;type=cert;vendor-aaa=value-a?pin-source=file:/etc/token_pin&vendor-bbb=value-b").unwrap();
    assert_eq!(uri.unknown_path, ["vendor-aaa"]);
    assert_eq!(uri.unknown_query, ["vendor-bbb"]);
}

#[test]
fn a_pin_in_the_uri_is_refused_and_not_repeated() {
    let error = parse("pkcs11:token=t?pin-value=the-pin").unwrap_err();
    assert_eq!(error, UriError::PinValue);
    assert!(!error.to_string().contains("the-pin"));
}

#[test]
fn each_fault_has_its_name() {
    let long = format!("pkcs11:token={}", "a".repeat(MAX_URI_BYTES));
    let cases = [
        (long.as_str(), UriError::TooLong),
        ("token=a", UriError::Scheme),
        ("pkcs12:token=a", UriError::Scheme),
        ("pkcs11:token=a;", UriError::Attribute { at: 15 }),
        ("pkcs11:token", UriError::Attribute { at: 7 }),
        ("pkcs11:=a", UriError::Attribute { at: 7 }),
        ("pkcs11:token=a?b", UriError::Attribute { at: 15 }),
        ("pkcs11:token=a b", UriError::Encoding { name: "token".into() }),
        ("pkcs11:token=a/b", UriError::Encoding { name: "token".into() }),
        ("pkcs11:token=%4", UriError::Encoding { name: "token".into() }),
        ("pkcs11:token=%zz", UriError::Encoding { name: "token".into() }),
        ("pkcs11:token=%+1", UriError::Encoding { name: "token".into() }),
        ("pkcs11:token=%ff", UriError::NotUtf8 { name: "token".into() }),
        ("pkcs11:token=a;token=a", UriError::Duplicate { name: "token".into() }),
        ("pkcs11:x=1;x=2", UriError::Duplicate { name: "x".into() }),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text).unwrap_err(), expected, "{text}");
    }
    for text in [
        "pkcs11:slot-id=",
        "pkcs11:slot-id=+1",
        "pkcs11:type=key",
        "pkcs11:library-version=1.",
        "pkcs11:library-version=256",
    ] {
        assert!(matches!(parse(text), Err(UriError::Value { .. })), "{text}");
    }
}

#[test]
fn a_command_as_pin_source_is_not_a_file() {
    assert_eq!(parse("pkcs11:?pin-source=|/usr/lib/pinomatic").unwrap().pin_file(), None);
    assert_eq!(parse("pkcs11:?pin-source=file:///run/pin").unwrap().pin_file(), Some(PathBuf::from("/run/pin")));
    assert_eq!(parse("pkcs11:?pin-source=file:relative").unwrap().pin_file(), None);
}

proptest! {
    #[test]
    fn random_text_never_panics(text in any::<String>()) {
        drop(parse(&text));
        drop(parse(&format!("pkcs11:{text}")));
    }

    #[test]
    fn what_is_written_reads_back_the_same(
        token in any::<Option<String>>(), id in any::<Option<Vec<u8>>>(), slot_id in any::<Option<u64>>(),
        library_version in any::<Option<(u8, u8)>>(), module_path in any::<Option<String>>(),
    ) {
        let uri = Pkcs11Uri { token, id, slot_id, library_version, module_path, ..Default::default() };
        let written = uri.to_string();
        prop_assume!(written.len() <= MAX_URI_BYTES);
        prop_assert_eq!(parse(&written).unwrap(), uri);
    }
}

/// docs/HSM.md shows URIs and names settings: the first are read, the second exist.
#[test]
fn the_guide_to_hsms_speaks_of_what_is_there() {
    let text = include_str!("../../docs/HSM.md");
    let code: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let uris: Vec<_> = code.iter().filter(|code| code.starts_with("pkcs11:")).map(|uri| parse(uri).unwrap()).collect();
    assert!(uris.iter().all(|uri| uri.token.is_some() || uri.serial.is_some()) && uris.len() >= 5, "{uris:?}");
    let known = crate::config::reference();
    let named = code.iter().filter(|code| code.starts_with("hsm.") || code.starts_with("limits."));
    for key in named {
        let key = key.split(" = ").next().unwrap();
        assert!(known.iter().any(|row| row.key == key), "{key} is no setting");
    }
}
