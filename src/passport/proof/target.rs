//! The target of an HTTP request, as far as `htu` names it, and when two of them are one (RFC 9449 §4.3).

use super::MAX_HTU;

/// A target URI of `http` or `https`, without query and fragment. Two are equal if
/// - their schemes are the same, and their hosts, in upper or lower case (RFC 3986 §6.2.2.1);
/// - their ports are the same number; none, or an empty one, is the scheme's own (§6.2.3);
/// - their paths are the same bytes; an empty one is `/` (§6.2.3).
///
/// All else is compared as it stands, since none of it is needed where both sides copy the URI that was asked for, and each
/// rule more is one by which two resources could be taken for one: `%7E` is not `~`, nor is `%2f` `%2F`, dot segments stay,
/// a host's final dot counts, a name of other scripts is what its ASCII form says, an address has one spelling.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    https: bool,
    host: &'a str,
    port: u16,
    path: &'a str,
}

impl PartialEq for Target<'_> {
    fn eq(&self, other: &Self) -> bool {
        let this = (self.https, self.port, self.path);
        this == (other.https, other.port, other.path) && self.host.eq_ignore_ascii_case(other.host)
    }
}

impl Eq for Target<'_> {}

impl<'a> Target<'a> {
    /// Reads an absolute URI (RFC 9110 §4.2) of 1 to [`MAX_HTU`] bytes; what follows its path is not looked at. `None` for
    /// any other text, and for one with user information, which RFC 9110 §4.2.4 tells to treat as an error.
    pub fn parse(uri: &'a str) -> Option<Self> {
        if uri.len() > MAX_HTU || !uri.bytes().all(is_uri_byte) {
            return None;
        }
        let (scheme, rest) = uri.split_once("://")?;
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let (rest, _) = rest.split_at_checked(rest.find(['?', '#']).unwrap_or(rest.len()))?;
        let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
        let (host, port) = split(authority)?;
        let port = if port.is_empty() { if https { 443 } else { 80 } } else { number(port)? };
        Some(Self { https, host, port, path: if path.is_empty() { "/" } else { path } })
    }
}

/// Whether a byte can stand in a URI (RFC 3986 §2).
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

/// Host and port of an authority without user information (RFC 3986 §3.2).
fn split(authority: &str) -> Option<(&str, &str)> {
    let end = match authority.strip_prefix('[') {
        Some(_) => authority.find(']')? + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at_checked(end)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match inner {
        Some(address) => address.contains(':') && address.bytes().all(|b| b.is_ascii_hexdigit() || b":.".contains(&b)),
        None => !host.is_empty() && !host.contains(['[', ']', '@']),
    };
    let port = if port.is_empty() { port } else { port.strip_prefix(':')? };
    good.then_some((host, port))
}

/// A port in its one spelling.
fn number(port: &str) -> Option<u16> {
    let good = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| port.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let read = |uri| Target::parse(uri).unwrap_or_else(|| panic!("{uri} is a target"));
        assert_eq!(read(one) == read(other), read(other) == read(one), "{one} {other}");
        read(one) == read(other)
    }

    #[test]
    fn targets_that_are_one() {
        let long = format!("https://a.example/{}", "p".repeat(MAX_HTU - 18));
        for (one, other) in [
            ("https://a.example/x", "https://a.example/x"),
            ("https://a.example/x", "HTTPS://A.Example/x"),
            ("https://a.example/x", "https://a.example:443/x"),
            ("https://a.example/x", "https://a.example:/x"),
            ("http://a.example:80", "http://a.example/"),
            ("https://a.example", "https://a.example/?q"),
            ("https://a.example?q", "https://a.example#f"),
            ("https://a.example/x?y=/z", "https://a.example/x"),
            ("https://a.example/x#y?z", "https://a.example/x?z#y"),
            ("https://[2001:DB8::1]:8443/x", "https://[2001:db8::1]:8443/x"),
            ("http://127.0.0.1:443/", "http://127.0.0.1:443"),
            (&long, &long),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn targets_that_differ() {
        for (one, other) in [
            ("https://a.example/x", "http://a.example/x"),
            ("https://a.example:80/x", "http://a.example:80/x"),
            ("https://a.example/x", "http://a.example:443/x"),
            ("https://a.example/x", "https://a.example:444/x"),
            ("https://a.example/x", "https://b.example/x"),
            ("https://a.example/x", "https://a.example./x"),
            ("https://a.example/x", "https://a.example.b/x"),
            ("https://a.example/x", "https://a.example/X"),
            ("https://a.example/x", "https://a.example/x/"),
            ("https://a.example/x", "https://a.example//x"),
            ("https://a.example/x", "https://a.example/y/../x"),
            ("https://a.example/x", "https://a.example/./x"),
            ("https://a.example/~x", "https://a.example/%7Ex"),
            ("https://a.example/%7ex", "https://a.example/%7Ex"),
            ("https://a.example/x", "https://a.example/x%3F"),
            ("https://a.example/x", "https://a.example/x;y"),
            ("https://[::1]/", "https://[0::1]/"),
            ("https://xn--bcher-kva.example/", "https://bucher.example/"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn texts_that_are_no_targets() {
        let long = format!("https://a.example/{}", "p".repeat(MAX_HTU - 17));
        for uri in [
            "",
            "/x",
            "a.example/x",
            "//a.example/x",
            "https:a.example",
            "https:/a.example",
            "ftp://a.example/",
            "httpss://a.example/",
            "://a.example/",
            "https://",
            "https:///x",
            "https://:443/x",
            "https://?x",
            "https://user@a.example/x",
            "https://user:pw@a.example/x",
            "https://a.example@/x",
            "https://a.example:@b.example/x",
            "https://a.example:+443/x",
            "https://a.example:0443/x",
            "https://a.example:0/x",
            "https://a.example:65536/x",
            "https://a.example:443:443/x",
            "https://a.example:x/",
            "https://[::1/x",
            "https://::1/x",
            "https://[]/x",
            "https://[::1]x/",
            "https://[::1]443/",
            "https://[fe80::1%25eth0]/",
            "https://[v1.a]/",
            "https://a[b]/x",
            "https://a.example\\@b/x",
            "https://a.example/ x",
            "https://a.example/x\n",
            "https://a.example/\"x\"",
            "https://b\u{fc}cher.example/",
            " https://a.example/",
            &long,
        ] {
            assert!(Target::parse(uri).is_none(), "{uri:?}");
        }
    }
}
