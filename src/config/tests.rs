use super::*;

fn resolve(file: &str, variables: &[(&str, &str)], overrides: Overrides) -> Result<Config, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    fs::write(&path, file).unwrap();
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::resolve_with(overrides, variables, &path)
}

fn error(file: &str) -> String {
    resolve(file, &[], Overrides::default()).unwrap_err().to_string()
}

#[test]
fn without_anything_there_are_defaults() {
    let config =
        Config::resolve_with(Overrides::default(), std::iter::empty(), Path::new("/nowhere/x")).unwrap();
    assert_eq!(config.data_dir, Path::new("data"));
    assert_eq!(config.repos, Path::new("repos"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:8443");
    assert_eq!(config.transport, Transport::Tls(None));
    assert!(config.sample && !config.allow_anonymous_read && !config.follow_symlinks);
}

#[test]
fn flag_goes_over_variable_over_file() {
    let file = "data-dir = 'file'\nrepos = 'file'\nlisten = '127.0.0.1:1'\n[limits]\ntransfers = 5\nconnections = 6\n";
    let variables = [
        ("PATGATE_REPOS", "variable"),
        ("PATGATE_LISTEN", "127.0.0.1:2"),
        ("PATGATE_LIMITS_TRANSFERS", "7"),
        ("PATGATE_TOKEN", "not a setting"),
    ];
    let flags = Overrides {
        listen: Some("127.0.0.1:3".into()),
        ..Overrides::default()
    };
    let config = resolve(file, &variables, flags).unwrap();
    assert_eq!(config.data_dir, Path::new("file"));
    assert_eq!(config.repos, Path::new("variable"));
    assert_eq!(config.listen.port(), 3);
    assert_eq!((config.limits.transfers, config.limits.connections), (7, 6));
}

#[test]
fn the_last_word_on_tls_is_the_flag_s_whatever_its_name() {
    let certificate = Transport::Tls(Some(("c".into(), "k".into())));
    let flags = Overrides {
        plain_http: Some(true),
        ..Overrides::default()
    };
    let config = resolve("tls-cert = 'c'\ntls-key = 'k'\n", &[], flags).unwrap();
    assert_eq!(config.transport, Transport::PlainHttp);
    let flags = Overrides {
        tls_cert: Some("c".into()),
        tls_key: Some("k".into()),
        ..Overrides::default()
    };
    let variables = [("PATGATE_PLAIN_HTTP", "true")];
    let config = resolve("plain-http = true\n", &variables, flags).unwrap();
    assert_eq!(config.transport, certificate);
    let variables = [("PATGATE_PLAIN_HTTP", "false")];
    let config = resolve(
        "tls-cert = 'c'\ntls-key = 'k'\n",
        &variables,
        Overrides::default(),
    )
    .unwrap();
    assert_eq!(config.transport, certificate);
    let variables = [("PATGATE_PLAIN_HTTP", "true"), ("PATGATE_TLS_CERT", "c")];
    assert!(
        resolve("tls-key = 'k'\n", &variables, Overrides::default()).is_err(),
        "one source that says both is wrong"
    );
}

#[test]
fn every_setting_can_be_in_the_file() {
    let file = r#"
        data-dir = "d"
        repos = "r"
        listen = "[::1]:0"
        ops-listen = "127.0.0.1:9000"
        plain-http = true
        behind-proxy = ["10.0.0.0/8", "192.0.2.1"]
        no-sample = true
        allow-anonymous-read = true
        follow-symlinks = true
        log-format = "json"
        log-level = "warn,patgate=debug"
        [limits]
        connections = 1
        transfers = 2
        transfer-queue = 3
        header-bytes = "16KiB"
        fetch-request-bytes = "1MiB"
        fetch-wants = 4
        fetch-haves = 5
        push-commands-bytes = 6
        push-commands = 7
        push-pack-bytes = "5GiB"
        push-object-bytes = "1GiB"
        push-objects = 99999999999
        push-delta-depth = 50
        push-inflated-bytes = "1TiB"
        push-threads = 8
        disk-reserve = 0
        [timeouts]
        handshake = "500ms"
        head = 10
        idle = "1m"
        stall = "1h"
        queue = "2s"
        drain = "3s"
    "#;
    let config = resolve(file, &[], Overrides::default()).unwrap();
    assert_eq!(config.transport, Transport::PlainHttp);
    assert_eq!(
        config.behind_proxy,
        ["10.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse().unwrap()]
    );
    assert_eq!(config.log_format, LogFormat::Json);
    assert!(!config.sample && config.allow_anonymous_read && config.follow_symlinks);
    assert_eq!(config.limits.header_bytes, 16 << 10);
    assert_eq!(config.limits.push.pack_bytes_max, 5 << 30);
    assert_eq!(
        config.limits.push.objects_count_max,
        u32::MAX,
        "more than fits means as much as fits"
    );
    assert_eq!(config.limits.push.disk_reserve_bytes, 0);
    assert_eq!(config.timeouts.handshake, Duration::from_millis(500));
    assert_eq!(config.timeouts.head, Duration::from_secs(10));
}

#[test]
fn an_unknown_key_is_named_with_its_place() {
    let text = error("data-dir = 'x'\nlissen = '127.0.0.1:1'\n");
    assert!(
        text.contains("lissen") && text.contains("line 2") && text.contains(FILE_NAME),
        "{text}"
    );
    let text = error("[limits]\ntransfer = 1\n");
    assert!(
        text.contains("`transfer`") && text.contains("transfers"),
        "{text}"
    );
}

#[test]
fn values_that_cannot_be_read_are_explained() {
    assert!(error("listen = 'localhost'").contains("an address and a port"));
    assert!(error("[limits]\npush-pack-bytes = '5 GB'").contains("a size"));
    assert!(error("[limits]\ntransfers = 0").contains("above 0"));
    assert!(error("log-level = 'info,=,'").contains("log level"));
    let variables = [("PATGATE_PLAIN_HTTP", "perhaps")];
    let text = resolve("", &variables, Overrides::default())
        .unwrap_err()
        .to_string();
    assert_eq!(text, "the variable PATGATE_PLAIN_HTTP: expected true or false");
    let flags = Overrides {
        listen: Some("x".into()),
        ..Overrides::default()
    };
    let text = resolve("", &[], flags).unwrap_err().to_string();
    assert!(text.starts_with("--listen: 'x' is not an address"), "{text}");
}

#[test]
fn plain_http_is_for_this_machine_or_behind_a_proxy() {
    assert!(resolve("plain-http = true", &[], Overrides::default()).is_ok());
    assert!(error("plain-http = true\nlisten = '0.0.0.0:80'").contains("behind-proxy"));
    assert!(
        resolve(
            "plain-http = true\nlisten = '0.0.0.0:80'\nbehind-proxy = '10.0.0.1'",
            &[],
            Overrides::default()
        )
        .is_ok()
    );
    assert!(error("plain-http = true\ntls-cert = 'x'\ntls-key = 'y'").contains("exclude each other"));
    assert!(error("tls-cert = 'x'").contains("go together"));
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let flags = Overrides {
        config: Some("/nowhere/patgate.toml".into()),
        ..Overrides::default()
    };
    assert!(matches!(resolve("", &[], flags), Err(Error::Read { .. })));
    let variables = [("PATGATE_CONFIG", "/nowhere/patgate.toml")];
    assert!(matches!(
        resolve("", &variables, Overrides::default()),
        Err(Error::Read { .. })
    ));
}
