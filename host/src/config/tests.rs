//! Options from their sources, and what is said of faults.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A configuration file, removed when dropped.
struct TestFile(PathBuf);

impl TestFile {
    fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vspc-config-{}-{nth}.toml", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn parse(args: &str, variables: &[(&str, &str)], file: Option<&TestFile>) -> Result<Parsed, String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
    let file = file.map(|file| file.0.clone());
    let surroundings = Surroundings { variables: variables.collect(), file };
    let args = ["vspc"].into_iter().chain(args.split_whitespace());
    read("vspc", args, &surroundings).map_err(|fatal| {
        assert_eq!(fatal.exit_code(), 2, "{fatal}");
        fatal.to_string()
    })
}

fn options(args: &str, variables: &[(&str, &str)], file: &str) -> Options {
    match parse(args, variables, Some(&TestFile::new(file))) {
        Ok(Parsed::Serve(options)) => *options,
        other => panic!("{args} {variables:?} {file}: {other:?}"),
    }
}

/// What is said of a file, without its path.
fn fault(text: &str) -> String {
    let file = TestFile::new(text);
    parse("", &[], Some(&file)).expect_err(text).replace(&file.0.display().to_string(), "FILE")
}

fn print(args: &str, variables: &[(&str, &str)], file: Option<&TestFile>) -> String {
    match parse(args, variables, file) {
        Ok(Parsed::Print(text)) => text,
        other => panic!("{args}: {other:?}"),
    }
}

/// Options as they are without where they were read.
fn bare(mut options: Options) -> Options {
    options.config.config = None;
    options.config.values.clear();
    options
}

#[test]
fn every_option_of_the_command_line_is_a_key() {
    let command = command("vspc");
    let keys = keys::of(&command);
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        let is_key = keys.iter().any(|key| key.id == id);
        assert_ne!(is_key, keys::COMMAND_LINE_ONLY.contains(&id), "{id}");
    }
    let text = print("--print-default-config", &[], None);
    let (options, _) = text.split_once("-- Tables").unwrap();
    for key in &keys {
        let line = format!("\n#{} = ", key.name);
        assert_eq!(options.matches(&line).count(), 1, "{}:\n{text}", key.name);
    }
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
}

#[test]
fn what_the_printed_file_shows_as_defaults_are_the_defaults() {
    let command = command("vspc");
    let keys = keys::of(&command);
    let text = print("--print-default-config", &[], None);
    let shown = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("#{name} = "))).unwrap();
        line.trim_start_matches('#').to_owned() + "\n"
    };
    let with_default = keys.iter().filter(|key| key.kind != keys::Kind::Value || !key.default.is_empty());
    let file: String = with_default.map(|key| shown(&key.name)).collect();
    assert!(
        file.contains("proxy-port = 13370\n") && file.contains("proxy-iface = [\"0.0.0.0\"]\n"),
        "{file}"
    );
    assert_eq!(bare(options("", &[], &file)), bare(options("", &[], "")));
    // The file as it is printed is one.
    assert_eq!(bare(options("", &[], &text)), bare(options("", &[], "")));
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let file = "proxy-port = 1\nidentify-timeout = 1\nvm-expire-time = 1\n";
    let variables = [("VSPC_PROXY_PORT", "2"), ("VSPC_IDENTIFY_TIMEOUT", "2")];
    let options = options("--proxy-port 3", &variables, file);
    assert_eq!((options.proxy_port, options.identify_timeout, options.vm_expire_time), (3, 2, 1));
    assert_eq!(options.interface.to_string(), "127.0.0.1");
}

#[test]
fn each_kind_of_value_is_written_as_in_toml_and_means_what_it_does_on_the_command_line() {
    let file = "multi-console = true\nno-banner = false\nproxy-iface = ['10.0.0.1', '::1']\n\
                max-clients = 'none'\nlag-limit = '4M'\nservice-uri = \"a b\\\"c\"\nadmin-socket-mode = 600\n\
                admin-rights = 'loopback=none,v3=spectator'\nslow-client = 'wait'\n\
                journal-memory = 1_000_000_000\n";
    let given = options("", &[], file);
    assert!(given.multi_console && !given.no_banner);
    assert_eq!(given.service_uri.as_deref(), Some("a b\"c"));
    let args = "--multi-console --proxy-iface 10.0.0.1,::1 --max-clients none --lag-limit 4M \
                --admin-socket-mode 600 --admin-rights loopback=none --admin-rights v3=spectator \
                --slow-client wait --journal-memory 1000000000";
    let mut same = options(args, &[], "");
    same.service_uri.clone_from(&given.service_uri);
    assert_eq!(bare(given), bare(same));
}

#[test]
fn a_list_replaces_the_one_that_it_wins_over() {
    let file = "proxy-iface = ['10.0.0.1', '10.0.0.2']\n";
    let ip = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    assert_eq!(options("--proxy-iface ::1", &[], file).proxy_iface, [ip("::1")]);
    let variables = [("VSPC_PROXY_IFACE", "10.0.0.3,10.0.0.4")];
    assert_eq!(options("", &variables, file).proxy_iface, [ip("10.0.0.3"), ip("10.0.0.4")]);
}

#[test]
fn a_flag_of_the_file_can_be_denied() {
    let file = "multi-console = true\n";
    assert!(options("", &[], file).multi_console);
    assert!(!options("--multi-console=false", &[], file).multi_console);
    assert!(options("--multi-console=true", &[], "").multi_console);
    assert!(!options("", &[("VSPC_MULTI_CONSOLE", "no")], file).multi_console);
    assert!(options("", &[("VSPC_MULTI_CONSOLE", "")], file).multi_console, "an empty one is none");
    let why = parse("--multi-console=perhaps", &[], None).unwrap_err();
    assert!(why.contains("--multi-console"), "{why}");
    // What stands behind a subcommand is the subcommand's.
    #[cfg(feature = "tls")]
    assert!(parse("cert --hostname a --debug=false", &[], None).unwrap_err().contains("--debug"));
}

#[test]
fn variables_of_vspcpys_mean_what_they_mean_there() {
    let limit = |value| options("", &[("VM_CLIENT_LIMIT", value)], "max-clients = 7").max_clients;
    assert_eq!((limit("3"), limit("0"), limit("-1"), limit("")), (Some(3), None, None, Some(7)));
    let multi = |value| options("", &[("SUPPORT_MULTI_CONSOLE", value)], "").multi_console;
    assert_eq!((multi("true"), multi("TRUE"), multi("1"), multi("false")), (true, true, false, false));
    let both = [("VM_CLIENT_LIMIT", "3"), ("VSPC_MAX_CLIENTS", "4")];
    assert_eq!(options("", &both, "").max_clients, Some(4));
    let why = parse("", &[("VM_CLIENT_LIMIT", "many")], None).unwrap_err();
    assert!(why.contains("VM_CLIENT_LIMIT"), "{why}");
}

#[test]
fn a_fault_in_the_file_is_one_line_that_says_where_and_what_to_do() {
    for (text, said) in [
        ("proxy-prt = 1", "FILE:1: proxy-prt is no option; did you mean proxy-port?"),
        ("\nproxy_port = 1", "FILE:2: proxy_port is no option; did you mean proxy-port?"),
        ("\n\nxyzzy = 1", "FILE:3: xyzzy is no option; --print-default-config shows all"),
        ("persist-file = 'f'", "FILE:1: persist-file is called file here"),
        ("print-config = true", "FILE:1: print-config is for the command line"),
        ("config = '/f'", "FILE:1: config is for the command line"),
        ("# x\nproxy-port = 'x'", "FILE:2: invalid value 'x' for proxy-port: give a number from 0 to 65535"),
        ("proxy-port = 70000", "FILE:1: invalid value '70000' for proxy-port"),
        ("proxy-port = [1]", "FILE:1: proxy-port takes one value, not a list"),
        ("proxy-port = 0x10", "FILE:1: proxy-port: write the number in decimal"),
        ("lag-limit = 1.5", "FILE:1: lag-limit takes a number, or text in quotes, not a float"),
        ("multi-console = 'yes'", "FILE:1: multi-console is true or false, without quotes"),
        ("takeover = true", "FILE:1: takeover takes a value in quotes"),
        ("takeover = 'always'", "FILE:1: invalid value 'always' for takeover [possible values: probe"),
        ("[vms]\nproxy-port = 1", "FILE:1: vms: there are no sections"),
        ("[[vms]]\nproxy-port = 1", "FILE:1: vms: there are no sections"),
        ("watch = 1", "FILE:1: watch is a table of which there may be several: [[watch]]"),
        ("[watch]\npattern = 'x'", "FILE:1: watch is a table of which there may be several: [[watch]]"),
        ("debug = true\n[[watch]]\nname = 'a'", "FILE:2: [[watch]]: pattern is missing"),
        ("[[console]]\nlog = true", "FILE:1: [[console]]: name or uuid is missing"),
        ("[[console]]\nname = 'a'\nlog = 'yes'", "FILE:3: log is true or false, without quotes"),
        ("[[console]]\nname = 'a'\nlogs = true", "FILE:3: [[console]] has no logs; did you mean log?"),
        (
            "[[console]]\nname = 'a'\nlocked = 'x'",
            "FILE:3: [[console]] has no locked; it has name, uuid, port, raw",
        ),
        ("[[console]]\nname = 'a'\nmay = 'x'", "FILE:3: may cannot be read: \"x\" does not say who gets"),
        ("[[console]]\nname = 'a'\nmay = ['uid:x=writer']", "FILE:3: may cannot be read: \"uid:x\" is none"),
        (
            "[[console]]\nname = 'a'\nmay = ['uid:5=writer+delegate']",
            "FILE:3: may has \"uid:5=writer+delegate\": who may speak for others is for admin-rights",
        ),
        (
            "[[console]]\nname = 'a'\nport = 7\nmay = ['uid:5=writer']",
            "FILE:1: [[console]]: port = 7 does not go with may",
        ),
        (
            "[[console]]\nname = 'a'\nuuid = '1*'\nmulti-console = true",
            "FILE:1: [[console]]: multi-console goes with uuid alone",
        ),
        ("[[console]]\nname = 'a'\nraw = true\nmay = []", "FILE:1: [[console]]: raw does not go with may"),
        ("[[console]]\nname = []", "FILE:2: name means no console"),
        ("[[console]]\nname = 'a'\nport = 0", "FILE:3: port is a number from 1 to 65535, or \"none\""),
        ("[[console]]\nname = 'a'\nmax-clients = 0", "FILE:3: max-clients is a number from 1 to"),
        (
            "[[console]]\nname = 'a'\nslow-client = 'kick'",
            "FILE:3: slow-client is \"skip\", \"disconnect\" or",
        ),
        (
            "[[console]]\nname = 'a'\nport = 7\n[[console]]\nname = 'b'\nport = 7",
            "FILE:4: [[console]]: port = 7",
        ),
        (
            "no-vm-ports = true\n[[console]]\nname = 'a'\nport = 7",
            "[[console]] with port = 7 and --no-vm-ports",
        ),
        ("[[watch]]\n\npattern = '('", "FILE:3: pattern cannot be read: unclosed group"),
        ("[[watch]]\npattern = 1", "FILE:2: pattern takes text in quotes, not a integer"),
        ("[[watch]]\npatern = 'x'\npattern = 'x'", "FILE:2: [[watch]] has no patern; did you mean pattern?"),
        ("[[watch]]\npattern = 'x'\nat_most = '1/minute'", "FILE:3: [[watch]] has no at_most; did you mean"),
        ("[[watch]]\npattern = 'x'\nproxy-port = 1", "FILE:3: [[watch]] has no proxy-port; it has name, pa"),
        ("[[watch]]\npattern = 'x'\nat-most = '1/week'", "FILE:3: at-most takes a number up to 1000 for"),
        ("[[watch]]\npattern = 'x'\nconsole = []", "FILE:3: console means no console"),
        ("[[watch]]\npattern = 'x'\n[[watch]]\npattern = 'x'", "FILE:1: two [[watch]] have the name \"x\""),
        ("[[line]]\nname = 'a'", "FILE:1: [[line]]: uri is missing"),
        ("[[line]]\nname = 'a'\nuri = 'x'", "FILE:3: uri it has to begin with tcp://"),
        ("[[line]]\nname = 'a'\nuri = \"exec:sh 'x\"", "FILE:3: uri \"sh 'x\" has a quote without an end"),
        ("[[line]]\nname = 'a'\nuri = 'tcp://:1'\nuuid = 'x'", "FILE:4: uuid is a UUID"),
        (
            "[[line]]\nname = 'a'\nuri = 'tcp://:1'\n[[line]]\nname = 'a'\nuri = 'tcp://:2'",
            "FILE:4: [[line]]: name = \"a\" is that of another line",
        ),
        ("proxy-port = 1\nproxy-port = 2", "FILE:2: duplicate key"),
        ("proxy-port = 1\n\nproxy-iface = [", "FILE:3: "),
        ("proxy-port 1", "FILE:1: "),
    ] {
        let line = fault(text);
        assert!(line.starts_with(said), "{text}: {line}");
        assert!(!line.contains('\n'), "{text}: {line}");
    }
}

#[test]
fn options_that_contradict_each_other_are_named_with_where_they_are() {
    let line = fault("\nfile = '/f'");
    assert!(
        line.contains("--file is for --backend file") && line.contains("--file is from FILE:2"),
        "{line}"
    );
    let why = parse("--file /f", &[("VSPC_BACKEND", "memory")], None).unwrap_err();
    assert!(why.contains("--backend is from VSPC_BACKEND in the environment"), "{why}");
    assert!(!why.contains("--file is from"), "{why}");
}

#[test]
fn all_faults_are_told_to_who_asks_for_them() {
    let file = TestFile::new("proxy-prt = 1\nlag-limit = 'x'\n");
    let variables = [("VSPC_TAKEOVER", "x")];
    let why = parse("", &variables, Some(&file)).unwrap_err();
    assert!(why.contains("VSPC_TAKEOVER") && why.contains("2 more") && !why.contains('\n'), "{why}");
    let why = parse("--check-config", &variables, Some(&file)).unwrap_err();
    assert_eq!(why.lines().count(), 3, "{why}");
    assert!(matches!(parse("--check-config", &[], None), Ok(Parsed::Check(_))));
}

#[test]
fn a_file_that_is_named_has_to_be_there() {
    let file = TestFile::new("proxy-port = 7\n");
    let path = file.0.display().to_string();
    for (args, variables) in
        [(format!("--config {path}"), vec![]), (String::new(), vec![("VSPC_CONFIG", &*path)])]
    {
        match parse(&args, &variables, None) {
            Ok(Parsed::Serve(options)) => {
                assert_eq!((options.proxy_port, options.config.config), (7, Some(file.0.clone())));
            }
            other => panic!("{other:?}"),
        }
    }
    // Another one than the default.
    let default = TestFile::new("proxy-port = 8\nidentify-timeout = 8\n");
    match parse(&format!("--config {path}"), &[], Some(&default)) {
        Ok(Parsed::Serve(options)) => assert_eq!((options.proxy_port, options.identify_timeout), (7, 30)),
        other => panic!("{other:?}"),
    }
    let why = parse("--config /no/such", &[], None).unwrap_err();
    assert!(why.contains("/no/such") && why.contains("--config"), "{why}");
    let why = parse(&format!("--config {}", std::env::temp_dir().display()), &[], None).unwrap_err();
    assert!(why.contains("--config"), "{why}");
    drop(default);
    // The default one need not be there.
    let gone = TestFile::new("");
    fs::remove_file(&gone.0).unwrap();
    match parse("", &[], Some(&gone)) {
        Ok(Parsed::Serve(options)) => assert_eq!(options.config.config, None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rules_for_consoles_are_told_one_by_one_and_all_of_them_change() {
    let a = "[[console]]\nname = 'a*'\nmax-clients = 1\n";
    let b = "[[console]]\nuuid = 'b'\nport = 7\nlog = false\n";
    for (old, new, said) in [
        (a, &a.replace('1', "2")[..], &[r#"[[console]] name = ["a*"]: max-clients is 2 now; it was 1"#][..]),
        (
            a,
            "[[console]]\nname = 'a*'\nmay = 'v3=none'\n",
            &[
                r#"[[console]] name = ["a*"]: max-clients is as elsewhere now; it was 1"#,
                r#"[[console]] name = ["a*"]: may is ["v3=none"] now; it was as elsewhere"#,
            ],
        ),
        ("", b, &[r#"[[console]] uuid = ["b"] is { port = 7, log = false } now; it was no rule"#]),
        (a, "", &[r#"[[console]] name = ["a*"] is no rule now; it was { max-clients = 1 }"#]),
        (
            &format!("{a}{b}"),
            &format!("{b}{a}"),
            &[concat!(
                r#"[[console]]: the order is uuid = ["b"]; name = ["a*"] now; it was name = ["a*"]; "#,
                r#"uuid = ["b"]"#,
            )],
        ),
    ] {
        let (old, new) = (options("", &[], old), options("", &[], new));
        let compared = compare(&old, &new, true).unwrap();
        let applied: Vec<String> = compared.applied.iter().map(Change::applied).collect();
        assert_eq!(applied, said);
        assert!(compared.waiting.is_empty());
        assert_eq!(compared.options.tables, new.tables);
    }
}

#[test]
fn whose_ports_are_told_apart_takes_a_restart_and_the_rest_of_its_rule_does_not() {
    let rule = |multi| format!("[[console]]\nuuid = ['A*', 'b*']\nmulti-console = {multi}\nlog = {multi}\n");
    let (old, new) = (options("", &[], &rule(false)), options("", &[], &rule(true)));
    let of = |options: &Options| options.config(1000).multi_console_by_uuid;
    assert_eq!(of(&old), ["a*", "b*"].map(|uuid| (uuid.parse().unwrap(), false)));
    let compared = compare(&old, &new, true).unwrap();
    let applied: Vec<String> = compared.applied.iter().map(Change::applied).collect();
    assert_eq!(applied, [r#"[[console]] uuid = ["a*", "b*"]: log is true now; it was false"#]);
    let waiting: Vec<String> = compared.waiting.iter().map(Change::waits).collect();
    let said =
        "[[console]]: multi-console = [a* true, b* true] takes a restart; it stays [a* false, b* false]";
    assert_eq!(waiting, [said]);
    assert_eq!(of(&compared.options), of(&old));
    // It is said at each HUP until then.
    assert_eq!(compare(&compared.options, &new, true).unwrap().waiting, compared.waiting);
}

#[test]
fn a_password_is_not_printed() {
    let args = "--print-config --backend redis --redis-url redis://u:secret@h";
    let text = print(args, &[], None);
    assert!(text.contains("redis-url = \"redis://u:***@h\"") && !text.contains("secret"), "{text}");
}

#[test]
fn what_holds_is_printed_as_a_file_that_makes_it_hold_again() {
    let file = TestFile::new(
        "vm-expire-time = 5\nservice-uri = 'a\\b'\nproxy-iface = ['::1', '10.0.0.1']\n\
         [[watch]]\npattern = 'a\\b'\nconsole = ['web*', 'db1']\nat-most = '5/hour'\n\
         [[watch]]\npattern = 'c'\n\
         [[console]]\nname = ['a*', 'b']\nuuid = ['564D-*', 'c*']\nport = 7001\nraw = true\nlog = false\n\
         slow-client = 'wait'\nmax-clients = 'none'\n\
         [[console]]\nuuid = '*'\nport = 'none'\nmax-clients = 3\n\
         [[console]]\nname = 'c'\nmay = ['uid:5=writer', 'user:ann=operator', '10.0.0.0/8=none']\n\
         [[console]]\nname = 'd'\nmay = []\n\
         [[console]]\nuuid = ['e*', 'f*']\nmulti-console = true\n",
    );
    let (args, variables) = ("--print-config --no-banner --proxy-port 9", [("VSPC_LAG_LIMIT", "3M")]);
    let text = print(args, &variables, Some(&file));
    for line in [
        "vm-expire-time = 5  # ".to_owned() + &format!("{}:1", file.0.display()),
        "no-banner = true  # the command line".to_owned(),
        "lag-limit = \"3M\"  # VSPC_LAG_LIMIT in the environment".to_owned(),
        "#raw-ports = false".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
    }
    assert!(text.contains("\n[[watch]]\nname = \"a\\\\b\"\npattern = \"a\\\\b\"\n"), "{text}");
    let again = options("", &[], &text);
    let before = match parse("--no-banner --proxy-port 9", &variables, Some(&file)) {
        Ok(Parsed::Serve(options)) => *options,
        other => panic!("{other:?}"),
    };
    assert_eq!(bare(again), bare(before));
}

#[test]
fn every_option_is_in_the_manual_pages() {
    let pages = match parse("man", &[], None) {
        Ok(Parsed::Document(pages, None)) => pages,
        other => panic!("{other:?}"),
    };
    let text = |file: &str| pages.iter().find(|page| page.file() == file).unwrap().text().to_owned();
    let (program, file) = (text("vspc.1"), text("vspc.toml.5"));
    let command = command("vspc");
    for arg in command.get_arguments() {
        let name = arg.get_long().unwrap().replace('-', "\\-");
        assert!(program.contains(&format!("\\fB\\-\\-{name}\\fR")), "{name}");
    }
    for key in keys::of(&command) {
        let name = key.name.replace('-', "\\-");
        assert!(file.contains(&format!(".TP\n\\fB{name} = ")), "{name}");
        assert!(file.contains(&format!("\\fB{}\\fR", key.variable())), "{name}");
    }
    #[cfg(feature = "tls")]
    assert!(text("vspc-cert.1").contains("\\fB\\-\\-hostname\\fR"));
    assert_eq!(vspc_man::lint(&pages).unwrap(), "");
}
