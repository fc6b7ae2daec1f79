//! What the REST interface asks.

use super::*;
use crate::auth::policy;
use crate::names::RefPattern;

#[test]
fn each_operation_is_refused_without_its_scope_and_by_its_name() {
    let f = fixture();
    let (id, plain) = f.token("bob", "vso.packaging");
    let principal = f.authenticate(&plain).unwrap();
    let ask = |operation| f.gate.authorize_api(&principal, operation);
    ask(Operation::Discover).unwrap();
    ask(Operation::UseOwnToken).unwrap();
    ask(Operation::ReadProfile).unwrap();
    let text = refused(ask(Operation::ReadProjects), 403);
    assert_eq!(
        text,
        format!(
            "The token 'laptop' lacks the scope vso.project (Project and team (read)). \
             Add it with: patgate token update {id} --scope \"vso.packaging vso.project\""
        )
    );
    for operation in [
        Operation::ReadRepositories,
        Operation::UpdateRefs,
        Operation::Manage,
        Operation::AdministerTokens,
        Operation::ReadAuditLog,
    ] {
        let refusal = ask(operation).unwrap_err();
        assert_eq!(refusal.missing_scope(), operation.scope(), "{refusal}");
    }
    assert!(refused(ask(Operation::ManageTokens), 403).contains("the name and the password of an account"));
}

#[test]
fn no_token_makes_tokens_not_even_one_with_full_access() {
    let f = fixture();
    f.account("root", true);
    let (_, plain) = f.token("root", "app_token");
    let principal = f.authenticate(&plain).unwrap();
    refused(f.gate.authorize_api(&principal, Operation::ManageTokens), 403);
}

#[test]
fn what_concerns_the_whole_server_is_for_administrators_with_unlimited_tokens() {
    let f = fixture();
    f.account("root", true);
    let limits = TokenLimits {
        paths: vec![AccessPath::parse("C").unwrap()],
        ..TokenLimits::NONE
    };
    let (_, users) = f.token("bob", "app_token");
    let (_, limited) = f.limited_token("root", "app_token", &limits);
    let (_, full) = f.token("root", "vso.tokenadministration vso.auditlog");
    for operation in [Operation::AdministerTokens, Operation::ReadAuditLog] {
        let ask = |plain| f.gate.authorize_api(&f.authenticate(plain).unwrap(), operation);
        assert!(refused(ask(&users), 403).contains("'bob' is no administrator"));
        assert!(refused(ask(&limited), 403).contains("limited to C,"));
        ask(&full).unwrap();
    }
    assert!(f.authenticate(&full).unwrap().is_admin());
    assert!(!f.authenticate(&users).unwrap().is_admin());
}

#[test]
fn a_repository_can_be_managed_by_an_administrator_of_it_or_of_what_it_would_lie_in() {
    let f = fixture();
    let (_, manage) = f.token("bob", "vso.code_manage");
    let (_, write) = f.token("bob", "vso.code_write");
    let ask = |plain: &PlainToken, path: &str| {
        let path = RepoPath::parse(path).unwrap();
        f.gate.authorize_manage(&f.authenticate(plain).unwrap(), &path)
    };
    refused(ask(&manage, "C/P/New"), 404);
    f.grant(Some("bob"), "C", Role::Contributor);
    assert!(refused(ask(&manage, "C/P/New"), 403).contains("patgate access grant 'bob' administrator"));
    f.grant(Some("bob"), "C/P", Role::Administrator);
    assert_eq!(
        ask(&manage, "C/P/New").unwrap().repository().to_string(),
        "C/P/New"
    );
    refused(ask(&manage, "C/Q/New"), 403);
    assert_eq!(
        ask(&write, "C/P/New").unwrap_err().missing_scope(),
        Some("vso.code_manage")
    );
    let limits = TokenLimits {
        paths: vec![AccessPath::parse("C/P/Old").unwrap()],
        ..TokenLimits::NONE
    };
    let (_, limited) = f.limited_token("bob", "vso.code_manage", &limits);
    ask(&limited, "C/P/Old").unwrap();
    assert!(refused(ask(&limited, "C/P/New"), 403).contains("limited to C/P/Old"));
}

#[test]
fn rest_opens_a_repository_with_a_scope_that_git_is_not_opened_by() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Contributor);
    let (_, plain) = f.token("bob", "user_impersonation");
    let principal = f.authenticate(&plain).unwrap();
    let repository = repo();
    f.gate.authorize_read(&principal, Some(&repository)).unwrap();
    f.gate
        .authorize_update_refs(&principal, Some(&repository))
        .unwrap();
    refused(f.gate.authorize_read(&principal, None), 404);
    refused(f.gate.authorize_fetch(&principal, Some(&repository)), 403);
    refused(f.gate.authorize_push(&principal, Some(&repository)), 403);
}

#[test]
fn a_list_shows_what_its_reader_may_see_within_the_limits_of_the_token() {
    let f = fixture();
    f.account("root", true);
    f.grant(Some("bob"), "C/P", Role::Contributor);
    f.grant(None, "Pub", Role::Reader);
    let limits = TokenLimits {
        paths: vec![AccessPath::parse("C/P/R").unwrap()],
        ..TokenLimits::NONE
    };
    let roles = |plain: &PlainToken| {
        let principal = f.authenticate(plain).unwrap();
        ["C/P/R", "C/P/S", "C/Q/R", "Pub/x/y"].map(|path| {
            f.gate
                .visible_role(&principal, &RepoPath::parse(path).unwrap())
                .unwrap()
        })
    };
    let (_, plain) = f.token("bob", "vso.project");
    assert_eq!(
        roles(&plain),
        [
            Some(Role::Contributor),
            Some(Role::Contributor),
            None,
            Some(Role::Reader)
        ]
    );
    let (_, limited) = f.limited_token("bob", "vso.code", &limits);
    assert_eq!(roles(&limited), [Some(Role::Contributor), None, None, None]);
    let (_, admin) = f.token("root", "vso.code");
    assert_eq!(roles(&admin), [Some(Role::Administrator); 4]);
    f.elsewhere
        .revoke_access(&CLI, Some("bob"), &AccessPath::parse("C/P").unwrap())
        .unwrap();
    assert_eq!(roles(&plain), [None, None, None, Some(Role::Reader)]);
}

#[test]
fn a_long_list_does_not_push_out_the_roles_that_are_in_use() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Reader);
    let (_, plain) = f.token("bob", "vso.code");
    f.fetch(&plain, Some(&repo())).unwrap();
    let principal = f.authenticate(&plain).unwrap();
    for number in 0..3 * ROLES_COUNT_MAX {
        let path = RepoPath::parse(&format!("C/P/R{number}")).unwrap();
        assert_eq!(
            f.gate.visible_role(&principal, &path).unwrap(),
            Some(Role::Reader)
        );
    }
    let rights = &principal.verified.as_ref().unwrap().rights;
    assert_eq!(rights.known_role(&repo()), Some(Some(Role::Reader)));
    assert_eq!(lock(&rights.roles).len(), 1);
}

#[test]
fn anonymous_readers_see_what_is_public_where_that_is_allowed_and_no_operation_is_theirs() {
    let open = fixture_with(Options {
        allow_anonymous_read: true,
        ..Options::default()
    });
    open.grant(None, "C/P/R", Role::Reader);
    let anonymous = open.gate.authenticate(None, CLIENT).unwrap();
    for operation in Operation::ALL {
        refused(open.gate.authorize_api(&anonymous, operation), 401);
    }
    refused(open.gate.authorize_manage(&anonymous, &repo()), 401);
    assert_eq!(
        open.gate.visible_role(&anonymous, &repo()).unwrap(),
        Some(Role::Reader)
    );
    assert_eq!(
        open.gate
            .visible_role(&anonymous, &RepoPath::parse("C/P/S").unwrap())
            .unwrap(),
        None
    );
    assert!(!anonymous.is_admin() && anonymous.token().is_none() && anonymous.limits().is_none());
    let shut = fixture();
    shut.grant(None, "C/P/R", Role::Reader);
    assert_eq!(shut.gate.visible_role(&anonymous, &repo()).unwrap(), None);
}

#[test]
fn a_token_for_some_refs_manages_no_repository() {
    let f = fixture();
    f.grant(Some("bob"), "C", Role::Administrator);
    let refs = ["refs/heads/wip/*", "refs/tags/*"];
    let limits = TokenLimits {
        refs: refs.map(|pattern| RefPattern::parse(pattern).unwrap()).to_vec(),
        ..TokenLimits::NONE
    };
    let (id, plain) = f.limited_token("bob", "vso.code_manage", &limits);
    let principal = f.authenticate(&plain).unwrap();
    f.gate.authorize_push(&principal, Some(&repo())).unwrap();
    let refusal = f.gate.authorize_manage(&principal, &repo()).unwrap_err();
    assert_eq!((refusal.kind().status(), refusal.reason()), (403, Some("refs")));
    assert_eq!(refusal.token(), Some(&id));
    let text = refusal.to_string();
    assert!(
        text.contains("may move refs/heads/wip/* and refs/tags/* only"),
        "{text}"
    );
    let other = RepoPath::parse("Secret/P/R").unwrap();
    refused(f.gate.authorize_manage(&principal, &other), 404);
}

#[test]
fn a_list_leaves_out_collections_whose_policy_bars_the_token() {
    let f = fixture();
    f.account("root", true);
    f.grant(Some("bob"), "", Role::Reader);
    let setting = policy::Setting::parse(policy::Name::FullScope, "deny").unwrap();
    policy::set(&f.elsewhere, &CLI, Some("c"), &setting).unwrap();
    let (repo, other) = (repo(), RepoPath::parse("Other/P/R").unwrap());
    for (account, role) in [("bob", Role::Reader), ("root", Role::Administrator)] {
        let (_, barred) = f.token(account, "app_token");
        let (_, fit) = f.token(account, "vso.code");
        let role_for = |plain, path| {
            let principal = f.authenticate(plain).unwrap();
            f.gate.visible_role(&principal, path).unwrap()
        };
        assert_eq!(role_for(&barred, &repo), None, "{account}");
        assert_eq!(role_for(&barred, &other), Some(role));
        assert_eq!(role_for(&fit, &repo), Some(role));
    }
}
