use super::*;
use crate::auth::token::PlainToken;

fn token(id: &str) -> LiveToken {
    LiveToken {
        hash: TokenHash::new([1; 32]),
        id: id.parse().unwrap(),
        account: "bob".to_owned(),
        name: "ci".to_owned(),
    }
}

fn leaks(places: &[(&str, &str)]) -> Leaks {
    let mut leaks = Leaks::default();
    for (id, place) in places {
        leaks.add(
            &token(id),
            (*place).to_owned(),
            !place.starts_with("the name of refs/"),
        );
    }
    leaks
}

fn permission(is_given: bool, who: AllowSecret) -> Permission {
    Permission { is_given, who }
}

const ADMINISTRATOR: Permission = Permission {
    is_given: true,
    who: AllowSecret::Administrators,
};

#[test]
fn a_refusal_tells_the_place_and_how_to_go_on() {
    let leaks = leaks(&[("AbCd1234", "src/config.py:12 of commit 1234abc")]);
    assert_eq!(
        leaks.refusal(&ADMINISTRATOR, false, true),
        "This push contains a live personal access token (AbCd1234, 'ci') in src/config.py:12 of commit 1234abc.\n\
         Remove it from the commits, and revoke the token: patgate token revoke AbCd1234. If it must be pushed: \
         git push -o patgate.allow-secret\n"
    );
    assert_eq!(leaks.status(), "live token AbCd1234 in the push");
}

#[test]
fn a_way_round_is_only_told_to_those_who_have_it() {
    let leaks = leaks(&[("AbCd1234", "a:1 of commit b")]);
    let end = |permission, is_asked, takes_options| {
        let text = leaks.refusal(&permission, is_asked, takes_options);
        let (_, end) = text.split_once("patgate token revoke AbCd1234.").unwrap();
        end.to_owned()
    };
    use AllowSecret::{Administrators, Contributors, Nobody};
    assert_eq!(
        end(permission(true, Contributors), false, true),
        " If it must be pushed: git push -o patgate.allow-secret\n"
    );
    assert_eq!(
        end(ADMINISTRATOR, false, false),
        "\n",
        "the repository takes no options"
    );
    assert_eq!(
        end(permission(false, Administrators), false, true),
        " An administrator of this repository could push it.\n"
    );
    assert_eq!(
        end(permission(false, Administrators), true, true),
        " Only an administrator of this repository may push with patgate.allow-secret.\n"
    );
    assert_eq!(end(permission(false, Nobody), false, true), "\n");
    assert_eq!(
        end(permission(false, Nobody), true, true),
        " Nobody may push with patgate.allow-secret here.\n"
    );
}

#[test]
fn the_name_of_a_ref_is_not_removed_from_commits() {
    let text = leaks(&[("AbCd1234", "the name of refs/heads/x")]).refusal(&ADMINISTRATOR, false, true);
    assert!(
        text.contains("Choose another name, and revoke the token: "),
        "{text}"
    );
    let both = leaks(&[
        ("AbCd1234", "the name of refs/heads/x"),
        ("AbCd1234", "a:1 of commit b"),
    ]);
    let text = both.refusal(&ADMINISTRATOR, false, true);
    assert!(text.contains("Remove it from the commits"), "{text}");
}

#[test]
fn many_places_are_told_in_few_lines() {
    let names: Vec<String> = (0..25).map(|at| format!("file{at}:1 of commit a")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| ("AbCd1234", name.as_str())).collect();
    let text = leaks(&many).refusal(&ADMINISTRATOR, false, true);
    assert_eq!(text.lines().count(), PLACES_COUNT_MAX + 2, "{text}");
    assert!(
        text.contains("It contains live tokens in 15 more places.\n"),
        "{text}"
    );

    let both = leaks(&[&many[..11], &[("EfGh5678", "other:1 of commit a")]].concat());
    assert_eq!(both.list.len(), 2);
    let text = both.refusal(&ADMINISTRATOR, false, true);
    assert!(text.contains("in 2 more places."), "{text}");
    assert!(
        text.contains("revoke the tokens: patgate token revoke AbCd1234, patgate token revoke EfGh5678."),
        "{text}"
    );
    assert_eq!(both.status(), "live tokens in the push");
}

#[test]
fn more_tokens_than_anybody_needs_are_never_let_in() {
    let mut leaks = Leaks::default();
    for number in 0..=TOKENS_COUNT_MAX {
        leaks.add(
            &token(&format!("{number:08}")),
            "a:1 of commit b".to_owned(),
            true,
        );
    }
    assert!(leaks.are_more);
    assert_eq!(leaks.list.len(), TOKENS_COUNT_MAX);
    let text = leaks.refusal(&ADMINISTRATOR, true, true);
    assert!(
        text.ends_with("Nobody may push more than 100 live tokens.\n"),
        "{text}"
    );
    assert!(text.lines().count() < 20, "{text}");
}

#[test]
fn what_could_not_be_checked_is_told() {
    let unchecked = Leaks {
        are_unchecked: true,
        ..Leaks::default()
    };
    let text = unchecked.refusal(&ADMINISTRATOR, false, true);
    assert!(
        text.starts_with("This push contains more than 10000 texts in the form of personal access tokens"),
        "{text}"
    );
    assert!(
        text.contains("Push fewer commits at a time. If it must be pushed"),
        "{text}"
    );
    assert_eq!(unchecked.status(), "too many tokens to check");
}

#[test]
fn a_warning_says_that_the_push_is_let_in() {
    let text = leaks(&[("AbCd1234", "a:1 of commit b")]).warning();
    assert_eq!(
        text,
        "warning: This push contains a live personal access token (AbCd1234, 'ci') in a:1 of commit b.\n\
         warning: It is let in because of patgate.allow-secret. If that was a mistake, revoke the token: \
         patgate token revoke AbCd1234\n"
    );
}

#[test]
fn names_are_shown_without_tokens_and_without_what_terminals_act_on() {
    let plain = PlainToken::generate().unwrap();
    let shown_text = |text: &str| shown(text.as_bytes());
    assert_eq!(shown_text(&format!("a/{}.txt", plain.expose())), "a/pgt_***.txt");
    assert_eq!(shown_text("é ü/b c"), "é ü/b c");
    assert_eq!(shown_text("a\x1b[31m\n\u{202e}b"), "a\\u{1b}[31m\\u{a}\\u{202e}b");
    assert_eq!(shown(b"a\xffb"), "a\u{fffd}b");
    let long = shown_text(&"x".repeat(5000));
    assert_eq!(long.chars().count(), SHOWN_CHARS_MAX + 1);
}
