//! Tokens that are limited to paths and networks.

use super::*;

fn to_paths(paths: &[&str]) -> TokenLimits {
    TokenLimits {
        paths: paths
            .iter()
            .map(|path| AccessPath::parse(path).unwrap())
            .collect(),
        ..TokenLimits::NONE
    }
}

fn to_networks(networks: &[&str]) -> TokenLimits {
    TokenLimits {
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        ..TokenLimits::NONE
    }
}

fn paths(texts: &[&str]) -> Vec<RepoPath> {
    texts.iter().map(|text| RepoPath::parse(text).unwrap()).collect()
}

#[test]
fn a_token_that_is_limited_to_paths_opens_what_lies_in_them_and_nothing_else() {
    let f = fixture();
    f.grant(Some("bob"), "", Role::Administrator);
    let (_, plain) = f.limited_token("bob", "app_token", &to_paths(&["A", "B/p", "C/P/R"]));
    for path in ["A/x/y", "a/P/R", "b/P/anything", "C/P/R", "c/p/r"] {
        let path = RepoPath::parse(path).unwrap();
        f.fetch(&plain, Some(&path)).unwrap();
        f.push(&plain, Some(&path)).unwrap();
    }
    for path in ["B/q/y", "C/P/S", "C/P2/R", "AA/x/y", "D/P/R"] {
        let path = RepoPath::parse(path).unwrap();
        let text = refused(f.fetch(&plain, Some(&path)), 403);
        assert_eq!(text, refused(f.push(&plain, Some(&path)), 403));
    }
}

#[test]
fn what_is_outside_of_the_limit_is_refused_before_anything_is_looked_up() {
    let f = fixture();
    // No right at all on what it is limited to, or on anything else.
    let (id, plain) = f.limited_token("bob", "vso.code", &to_paths(&["C/P/R", "D"]));
    let principal = f.authenticate(&plain).unwrap();
    let outside = paths(&["C/P/S", "E/x/y"]);
    let text = refused(f.gate.narrow(&principal, &outside), 403);
    assert_eq!(
        text,
        format!(
            "The token 'laptop' is limited to C/P/R and D, and this is outside. Use another token, or change what \
             this one is limited to: patgate token update {id} --repo PATH"
        )
    );
    assert_eq!(
        f.gate.narrow(&principal, &[]).unwrap().len(),
        0,
        "a URL that means none"
    );
}

#[test]
fn a_url_that_can_mean_several_repositories_means_those_inside_the_limit() {
    let f = fixture();
    let candidates = paths(&["X/R/R", "DefaultCollection/X/R", "tfs/X/R"]);
    let narrowed = |limits: &TokenLimits| {
        let (_, plain) = f.limited_token("bob", "vso.code", limits);
        let principal = f.authenticate(&plain).unwrap();
        f.gate
            .narrow(&principal, &candidates)
            .map(std::borrow::Cow::into_owned)
    };
    assert_eq!(narrowed(&TokenLimits::NONE).unwrap(), candidates);
    assert_eq!(
        narrowed(&to_paths(&["defaultcollection/x"])).unwrap(),
        candidates[1..2]
    );
    assert_eq!(
        narrowed(&to_paths(&["TFS", "X"])).unwrap(),
        [candidates[0].clone(), candidates[2].clone()]
    );
    refused(narrowed(&to_paths(&["Y"])), 403);
}

#[test]
fn a_limit_gives_no_right_that_its_owner_lacks() {
    let f = fixture();
    let (_, plain) = f.limited_token("bob", "app_token", &to_paths(&["C/P/R"]));
    refused(f.fetch(&plain, Some(&repo())), 404);
    f.grant(Some("bob"), "C/P/R", Role::Reader);
    f.fetch(&plain, Some(&repo())).unwrap();
    refused(f.push(&plain, Some(&repo())), 403);
}

#[test]
fn a_token_that_is_limited_to_networks_is_refused_everywhere_else_whatever_it_asks_for() {
    let f = fixture();
    f.grant(Some("bob"), "", Role::Contributor);
    let limits = to_networks(&["192.0.2.0/24", "2001:db8::/32"]);
    let (id, plain) = f.limited_token("bob", "vso.work", &limits);
    let from = |address: &str| {
        f.gate
            .authenticate(Some(&bearer(plain.expose())), address.parse::<IpAddr>().unwrap())
    };
    for address in ["192.0.2.7", "::ffff:192.0.2.8", "2001:db8::1"] {
        from(address).unwrap();
    }
    for address in ["192.0.3.1", "2001:db9::1", "127.0.0.1"] {
        let text = refused(from(address), 403);
        assert_eq!(
            text,
            format!(
                "The token 'laptop' may be used from 192.0.2.0/24 or 2001:db8::/32 only, and this request came from \
                 {address}. Use it from there, or change where it may be used from: patgate token update {id} \
                 --network CIDR"
            )
        );
    }
}

#[test]
fn a_request_from_a_wrong_network_is_no_failure_of_its_address() {
    let f = fixture();
    let (_, plain) = f.limited_token("bob", "vso.code", &to_networks(&["10.0.0.0/8"]));
    for _ in 0..100 {
        refused(f.authenticate(&plain), 403);
    }
}

#[test]
fn limits_that_change_hold_for_a_request_that_is_under_way() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Contributor);
    let (id, plain) = f.token("bob", "vso.code_write");
    let principal = f.authenticate(&plain).unwrap();
    f.gate.authorize_push(&principal, Some(&repo())).unwrap();
    let limit = |limits: &TokenLimits| {
        let change = UpdateToken {
            limits: Some(limits),
            ..UpdateToken::default()
        };
        token::update(&f.elsewhere, &CLI, &id, &change).unwrap();
    };
    limit(&to_paths(&["C/P/S"]));
    refused(f.gate.authorize_push(&principal, Some(&repo())), 403);
    limit(&to_networks(&["10.0.0.0/8"]));
    refused(f.gate.authorize_push(&principal, Some(&repo())), 403);
    refused(f.gate.authorize_api(&principal, Operation::Discover), 403);
    limit(&TokenLimits::NONE);
    f.gate.authorize_push(&principal, Some(&repo())).unwrap();
}

#[test]
fn a_grant_carries_the_refs_that_may_be_pushed_to() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Contributor);
    let limits = TokenLimits {
        refs: vec![crate::names::RefPattern::parse("refs/heads/ci/*").unwrap()],
        ..TokenLimits::NONE
    };
    let (_, plain) = f.limited_token("bob", "vso.code_write", &limits);
    let grant = f.push(&plain, Some(&repo())).unwrap();
    assert!(grant.allows_ref(b"refs/heads/ci/1") && !grant.allows_ref(b"refs/heads/main"));
}
