use proptest::prelude::*;

use super::*;

const ALLOWED: [&str; 4] = [
    "s3.example.com",
    "localhost",
    "xn--bcher-kva.example",
    "a.b-c.example",
];

fn verdict(text: &str) -> Result<Target, Denied> {
    let rule = Rule {
        schemes: &[("https", Some(443)), ("srt", None)],
        host: &|host| ALLOWED.contains(&host),
        port: &upload_port,
    };
    judge(text, &rule)
}

#[test]
fn what_is_allowed_passes_with_the_host_and_port_that_everyone_reads() {
    for (text, host, port) in [
        (
            "https://s3.example.com/b/k?X-Amz-Signature=ab%2F",
            "s3.example.com",
            443,
        ),
        ("https://S3.Example.COM/b", "s3.example.com", 443),
        ("https://localhost:39000/b/k", "localhost", 39000),
        ("https://s3.example.com:443", "s3.example.com", 443),
        (
            "https://xn--bcher-kva.example/",
            "xn--bcher-kva.example",
            443,
        ),
        ("srt://a.b-c.example:9000?streamid=x", "a.b-c.example", 9000),
    ] {
        let target = verdict(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!((target.host.as_str(), target.port), (host, port), "{text}");
    }
}

/// Every one of them reaches something else in some parser.
#[test]
fn the_corpus_of_addresses_is_denied() {
    use Denied::*;
    let corpus: [(&str, &[Denied]); 62] = [
        // Loopback, private, link-local and metadata addresses in every notation.
        ("https://127.0.0.1/", &[Numeric]),
        ("https://127.1/", &[Numeric]),
        ("https://127.0.1/", &[Numeric]),
        ("https://2130706433/", &[Numeric]),
        ("https://017700000001/", &[Numeric]),
        ("https://0x7f000001/", &[Numeric]),
        ("https://0x7f.0.0.1/", &[Numeric]),
        ("https://0177.0.0.1/", &[Numeric]),
        ("https://127.0.0.1./", &[Numeric]),
        ("https://10.0.0.1/", &[Numeric]),
        ("https://192.168.0.1/", &[Numeric]),
        ("https://172.16.0.1/", &[Numeric]),
        ("https://169.254.169.254/latest/meta-data", &[Numeric]),
        ("https://0xa9fea9fe/", &[Numeric]),
        ("https://0/", &[Numeric]),
        ("https://0.0.0.0/", &[Numeric]),
        ("https://8.8.8.8/", &[Numeric]),
        ("https://s3.example.com.1/", &[Form, Numeric]),
        ("https://[::1]/", &[Numeric]),
        ("https://[::]/", &[Numeric]),
        ("https://[::ffff:127.0.0.1]/", &[Numeric]),
        ("https://[::ffff:7f00:1]/", &[Numeric]),
        ("https://[64:ff9b::7f00:1]/", &[Numeric]),
        ("https://[fe80::1%25eth0]/", &[Form, Numeric]),
        ("https://[fd00::1]:8443/", &[Numeric]),
        ("srt://0x7f000001:9000", &[Numeric]),
        ("srt://2130706433:9000", &[Numeric]),
        ("srt://127.1:9000", &[Numeric]),
        ("srt://[::1]:9000", &[Numeric]),
        // Logins, and what only looks like one.
        ("https://s3.example.com@evil.example/", &[Login]),
        ("https://user:pw@s3.example.com/", &[Login]),
        ("https://@s3.example.com/", &[Login]),
        ("https://:@s3.example.com/", &[Login]),
        ("https://evil.example%40s3.example.com/", &[Form]),
        ("https://s3.example.com:443@127.0.0.1/", &[Login]),
        ("https://127.0.0.1\\@s3.example.com/", &[Form]),
        // Fragments, whitespace, control and percent.
        ("https://s3.example.com/#@evil.example", &[Fragment]),
        ("https://s3.example.com#", &[Fragment]),
        ("https://s3.example.com\t.evil.example/", &[Form]),
        ("https://s3.example.com\r\nHost: evil/", &[Form]),
        (" https://s3.example.com/", &[Form]),
        ("https://s3.example.com/a b", &[Form]),
        ("https://s3%2eexample.com/", &[Form]),
        ("https://s3.example.com%00.evil.example/", &[Form]),
        // Unicode that folds into something else.
        ("https://①②⑦.0.0.1/", &[Form]),
        ("https://ｓ3.example.com/", &[Form]),
        ("https://s3。example.com/", &[Form]),
        ("https://bücher.example/", &[Form]),
        ("https://s3.example.com\u{200d}/", &[Form]),
        // Hosts that are not in the list.
        ("https://evil.example/", &[Host]),
        ("https://s3.example.com.evil.example/", &[Host]),
        ("https://s3.example.com./", &[Form]),
        ("https://s3..example.com/", &[Form]),
        ("https://localhost.localdomain/", &[Host]),
        // Ports and schemes.
        ("https://s3.example.com:22/", &[Port]),
        ("https://s3.example.com:0/", &[Port]),
        ("https://s3.example.com:65536/", &[Form, Port]),
        ("https://s3.example.com:0443/", &[Port]),
        ("srt://a.b-c.example", &[Port]),
        ("http://s3.example.com/", &[Scheme]),
        ("file:///etc/passwd", &[Scheme]),
        ("https:s3.example.com", &[Form]),
    ];
    for (text, expected) in corpus {
        match verdict(text) {
            Err(denied) => assert!(expected.contains(&denied), "{text}: {denied:?}"),
            Ok(target) => panic!("{text} passed as {target:?}"),
        }
    }
    assert_eq!(
        verdict(&format!("https://s3.example.com/{}", "x".repeat(5000))),
        Err(Form)
    );
    assert_eq!(verdict(""), Err(Form));
}

#[test]
fn addresses_that_are_not_public_are_denied_also_beside_public_ones() {
    let denied = include_str!("../../tests/vectors/denied-addresses.txt");
    let public: IpAddr = "93.184.216.34".parse().unwrap();
    assert!(denied.lines().count() > 40);
    for text in denied.lines() {
        let ip: IpAddr = text.parse().unwrap();
        assert_eq!(vet(&[ip], &[]), Err(Denied::Private), "{text}");
        assert_eq!(vet(&[public, ip], &[]), Err(Denied::Private), "{text}");
    }
    for text in [
        "8.8.8.8",
        "172.32.0.1",
        "100.63.0.1",
        "198.20.0.1",
        "2606:4700::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ] {
        assert!(vet(&[text.parse().unwrap()], &[]).is_ok(), "{text}");
    }
    assert_eq!(vet(&[], &[]), Err(Denied::Unresolved));
    assert_eq!(vet(&[public; 33], &[]), Err(Denied::Unresolved));
}

#[test]
fn only_the_networks_of_the_file_are_excepted() {
    let allowed = ["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
    let ip = |s: &str| s.parse::<IpAddr>().unwrap();
    assert!(vet(&[ip("127.0.0.1"), ip("::1")], &allowed).is_ok());
    assert!(vet(&[ip("::ffff:127.0.0.1")], &allowed).is_ok());
    assert_eq!(
        vet(&[ip("127.0.0.1"), ip("10.0.0.1")], &allowed),
        Err(Denied::Private)
    );
    assert_eq!(vet(&[ip("fe80::1")], &allowed), Err(Denied::Private));
}

proptest! {
    /// No text, however made, leads anywhere but to a listed name on an allowed port; and it never panics.
    #[test]
    fn no_text_leads_astray(text in r"(https|srt|http)://[a-z0-9.:@%\[\]\\/#?\-é。]{0,40}") {
        if let Ok(target) = verdict(&text) {
            prop_assert!(ALLOWED.contains(&target.host.as_str()));
            prop_assert!(upload_port(target.port));
            prop_assert_eq!(target.url.host_str().map(str::to_ascii_lowercase), Some(target.host));
        }
    }

    /// An IPv4 address is judged alike however it is wrapped into IPv6.
    #[test]
    fn wrapping_changes_nothing(bits: u32) {
        let v4 = Ipv4Addr::from_bits(bits);
        prop_assert_eq!(is_public(v4.into()), is_public(v4.to_ipv6_mapped().into()));
        let nat64 = Ipv6Addr::from_bits(0x0064_ff9b_u128 << 96 | u128::from(bits));
        prop_assert_eq!(is_public(v4.into()), is_public(nat64.into()));
    }
}
