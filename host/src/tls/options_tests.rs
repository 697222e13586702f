//! The options about TLS, row by row.

use crate::options::tests::parse;

use super::*;

#[test]
fn every_option_reaches_the_configuration() {
    use {InBandTls as Band, VmTls as Tls};
    for (args, vm_tls, in_band_tls, client_tls) in [
        ("", Tls::Off, Band::Off, false),
        ("--ssl --cert f", Tls::On, Band::Off, false),
        ("--ssl --tls on --cert f --key k", Tls::On, Band::Off, false),
        ("--tls auto --cert f", Tls::Auto, Band::Off, false),
        ("--tls off --in-band-tls offer --cert f", Tls::Off, Band::Offer, false),
        ("--tls auto --in-band-tls require --cert f", Tls::Auto, Band::Require, false),
        ("--client-tls --cert f --interface 0.0.0.0 --require-tls", Tls::Off, Band::Off, true),
    ] {
        let config = parse(args).unwrap().config(10);
        assert_eq!(
            (config.vm_tls, config.in_band_tls, config.client_tls),
            (vm_tls, in_band_tls, client_tls),
            "{args}"
        );
    }
}

#[test]
fn every_contradiction_is_one_line_that_says_what_to_do() {
    for (args, words) in [
        ("--ssl", &["--ssl", "--cert"][..]),
        ("--tls on", &["--tls on", "--cert"]),
        ("--tls auto", &["--tls auto", "--cert"]),
        ("--in-band-tls offer", &["--in-band-tls offer", "--cert"]),
        ("--client-tls", &["--client-tls", "--cert"]),
        ("--ssl --tls off --cert f", &["--ssl", "--tls off", "drop one"]),
        ("--ssl --tls auto --cert f", &["--ssl", "--tls auto", "drop one"]),
        ("--ssl --in-band-tls offer --cert f", &["--in-band-tls", "--tls auto"]),
        ("--tls on --in-band-tls require --cert f", &["--in-band-tls", "--tls auto"]),
        ("--tls on --cert f --client-ca c", &["--client-ca", "--client-tls"]),
        ("--client-tls --cert f --no-vm-ports", &["--client-tls", "--no-vm-ports"]),
        ("--key k", &["--key", "--cert"]),
        ("--tls on --key k", &["--key", "--cert"]),
        ("--cert f", &["--cert", "--tls on", "--in-band-tls", "--client-tls", "--admin-tls"]),
        ("--admin-tls on", &["--admin-tls on", "--cert"]),
        ("--admin-tls auto", &["--admin-tls auto", "--cert"]),
        ("--admin-ca c --cert f --client-tls", &["--admin-ca", "--admin-tls on"]),
        ("--admin-tls on --cert f --no-admin --admin-socket s", &["--admin-tls", "--no-admin"]),
        ("--admin-tls on --cert f --admin-rights cert:gw=operator", &["--admin-rights cert", "--admin-ca"]),
        ("--admin-rights cert:gw=operator", &["--admin-rights cert", "--admin-ca"]),
        (
            "--require-tls --admin-iface 0.0.0.0",
            &["--require-tls", "admin port on 0.0.0.0", "--admin-tls on"],
        ),
        ("--require-tls --admin-iface :: --admin-tls auto --cert f", &["--require-tls", "--admin-tls on"]),
        ("--tls off --cert f --key k", &["--cert", "--tls on"]),
        ("--require-tls --interface 0.0.0.0", &["--require-tls", "0.0.0.0", "--client-tls"]),
        ("--require-tls --interface 10.1.2.3 --tls on --cert f", &["--require-tls", "10.1.2.3"]),
        ("--tls maybe", &["off, on, auto"]),
        ("--in-band-tls maybe", &["off, offer, require"]),
        ("--ssl --ssl", &["--ssl"]),
    ] {
        let line = parse(args).expect_err(args);
        assert!(words.iter().all(|words| line.contains(words)), "{args}: {line}");
        assert!(!line.contains('\n'), "{args}: {line}");
    }
}

#[test]
fn client_ports_that_nobody_else_reaches_need_no_tls() {
    for args in
        ["", "--interface ::1", "--interface 127.8.8.8", "--interface ::ffff:127.0.0.1", "--no-vm-ports"]
    {
        parse(&format!("--require-tls {args}")).expect(args);
        assert_eq!(parse(args).unwrap().exposed(), None, "{args}");
    }
}

#[test]
fn files_are_loaded_for_those_who_use_them() {
    let options = parse("--tls auto --in-band-tls offer --cert c --key k --proxy-port 7").unwrap();
    let loader = options.tls.loader(&options).unwrap();
    assert_eq!((loader.cert, loader.key), ("c".into(), Some("k".into())));
    assert_eq!(loader.hosts, Some(ProxyUri { scheme: "telnets", port: 7 }));
    assert!(!loader.clients);
    let options = parse("--in-band-tls offer --cert c --client-tls --client-ca a").unwrap();
    let loader = options.tls.loader(&options).unwrap();
    assert_eq!(loader.hosts, Some(ProxyUri { scheme: "telnet", port: 13370 }));
    assert!(loader.clients && loader.client_ca == Some("a".into()));
    let options = parse("--client-tls --cert c").unwrap();
    assert_eq!(options.tls.loader(&options).unwrap().hosts, None);
    let options = parse("").unwrap();
    assert_eq!(options.tls.loader(&options), None);
}

#[test]
fn tls_on_the_admin_port_reaches_the_configuration_and_the_loader() {
    for (word, admin_tls) in [("off", AdminTls::Off), ("on", AdminTls::On), ("auto", AdminTls::Auto)] {
        let args = format!("--client-tls --cert f --admin-tls {word}");
        let options = parse(&args).unwrap();
        assert_eq!(options.config(10).admin_tls, admin_tls);
        let loader = options.tls.loader(&options).unwrap();
        assert_eq!(loader.admin, admin_tls != AdminTls::Off);
    }
    let args = "--admin-tls on --cert f --admin-ca a --admin-rights cert:gw=operator --admin-iface 0.0.0.0 \
                --require-tls";
    let options = parse(args).unwrap();
    let loader = options.tls.loader(&options).unwrap();
    assert_eq!((loader.admin, loader.admin_ca, loader.clients), (true, Some("a".into()), false));
    assert_eq!(options.tls.admin_risk(), None);
    for (args, word) in [("", "without TLS"), ("--admin-tls on --cert f", "--admin-ca")] {
        assert!(parse(args).unwrap().tls.admin_risk().unwrap().contains(word), "{args}");
    }
}

#[test]
fn help_has_a_part_about_tls() {
    let help = parse("--help").unwrap_err();
    assert!(help.contains("\nTLS:\n") && help.contains("--in-band-tls <POLICY>"), "{help}");
}
