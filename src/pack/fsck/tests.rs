//! Each finding by an object that has it, against the real git where it says the same.

use std::path::Path;

use super::*;
use crate::repository::testing;

const PERSON: &str = "A U Thor <author@example.com> 1700000000 +0100";

fn id() -> String {
    "1".repeat(40)
}

fn commit(tree: &str, rest: &str) -> Vec<u8> {
    format!("tree {tree}\n{rest}").into_bytes()
}

fn person(author: &str) -> Vec<u8> {
    commit(&id(), &format!("author {author}\ncommitter {PERSON}\n\nm\n"))
}

fn tag(rest: &str) -> Vec<u8> {
    format!("object {}\n{rest}", id()).into_bytes()
}

fn tree(entries: &[&str]) -> Vec<u8> {
    let mut tree = Vec::new();
    for entry in entries {
        tree.extend_from_slice(entry.as_bytes());
        tree.push(0);
        tree.extend_from_slice(&[1; 20]);
    }
    tree
}

fn found(kind: Kind, data: &[u8]) -> Option<Message> {
    check(kind, data, HashKind::Sha1, &Options::strictest())
        .err()
        .map(|finding| finding.message)
}

/// What `git fsck` calls what is wrong with an object.
fn found_by_git(kind: Kind, data: &[u8]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let git = |args: &[&str], stdin: &[u8]| {
        let ran = testing::run(Path::new("git"), dir.path(), args, stdin);
        String::from_utf8_lossy(&ran.stdout).into_owned() + &ran.stderr
    };
    git(&["init", "-q", "--bare", "."], b"");
    let kind = std::str::from_utf8(kind.as_bytes()).unwrap().to_owned();
    git(
        &["hash-object", "-t", &kind, "--literally", "-w", "--stdin"],
        data,
    );
    let printed = git(&["fsck", "--strict", "--no-dangling"], b"");
    messages(&printed)
}

/// The findings that `git fsck` has printed; `unparsed` for what it could not even take for an object of its kind.
fn messages(printed: &str) -> Vec<String> {
    let of_line = |line: &str| {
        if line.contains("could not be parsed") || line.contains("object corrupt or missing") {
            return Some("unparsed".to_owned());
        }
        let finding = line
            .strip_prefix("error in ")
            .or_else(|| line.strip_prefix("warning in "))?;
        finding
            .split(": ")
            .nth(1)
            .filter(|id| !id.contains(' '))
            .map(str::to_owned)
    };
    printed.lines().filter_map(of_line).collect()
}

fn cases() -> Vec<(Kind, Vec<u8>, Option<Message>)> {
    use Message::*;
    let commit_by = |author: &str, message| (Kind::Commit, person(author), message);
    let of_tree = |entries: &[&str], message| (Kind::Tree, tree(entries), message);
    let long = format!("100644 {}", "n".repeat(4097));
    vec![
        commit_by(PERSON, None),
        commit_by("A <a> 0 +0000", None),
        (Kind::Commit, commit(&id(), ""), Some(MissingAuthor)),
        (Kind::Commit, b"author x".to_vec(), Some(UnterminatedHeader)),
        (Kind::Commit, b"author x\n".to_vec(), Some(MissingTree)),
        (Kind::Commit, commit("123", ""), Some(BadTreeSha1)),
        (Kind::Commit, commit(&id(), "parent 123\n"), Some(BadParentSha1)),
        (
            Kind::Commit,
            commit(&id(), &format!("author {PERSON}\n\nm\n")),
            Some(MissingCommitter),
        ),
        (
            Kind::Commit,
            commit(
                &id(),
                &format!("author {PERSON}\nauthor {PERSON}\ncommitter {PERSON}\n"),
            ),
            Some(MultipleAuthors),
        ),
        (
            Kind::Commit,
            commit(&id(), "author A\0 <a> 0 +0000\n\n"),
            Some(NulInHeader),
        ),
        (
            Kind::Commit,
            commit(&id(), &format!("author {PERSON}\ncommitter {PERSON}\n\nm\0\n")),
            Some(NulInCommit),
        ),
        commit_by("<a> 0 +0000", Some(MissingNameBeforeEmail)),
        commit_by("A 0 +0000", Some(MissingEmail)),
        commit_by("A> <a> 0 +0000", Some(BadName)),
        commit_by("A<a> 0 +0000", Some(MissingSpaceBeforeEmail)),
        commit_by("A <a<b> 0 +0000", Some(BadEmail)),
        commit_by("A <a 0 +0000", Some(BadEmail)),
        commit_by("A <a>0 +0000", Some(MissingSpaceBeforeDate)),
        commit_by("A <a> x +0000", Some(BadDate)),
        commit_by("A <a> 12", Some(BadDate)),
        commit_by("A <a> 012 +0000", Some(ZeroPaddedDate)),
        commit_by("A <a> 99999999999999999999999 +0000", Some(BadDateOverflow)),
        commit_by("A <a> 1 +00000", Some(BadTimezone)),
        commit_by("A <a> 1 0000", Some(BadTimezone)),
        (
            Kind::Tag,
            tag(&format!("type commit\ntag v1\ntagger {PERSON}\n\nm\n")),
            None,
        ),
        (Kind::Tag, b"type commit\n\n".to_vec(), Some(MissingObject)),
        (
            Kind::Tag,
            b"object 12\ntype commit\n\n".to_vec(),
            Some(BadObjectSha1),
        ),
        (Kind::Tag, tag("tag v1\n\n"), Some(MissingTypeEntry)),
        (Kind::Tag, tag("type thing\n\n"), Some(BadType)),
        (Kind::Tag, tag("type commit\ntagger x\n\n"), Some(MissingTagEntry)),
        (
            Kind::Tag,
            tag(&format!("type commit\ntag v..1\ntagger {PERSON}\n\nm\n")),
            Some(BadTagName),
        ),
        (
            Kind::Tag,
            tag("type commit\ntag v1\n\nm\n"),
            Some(MissingTaggerEntry),
        ),
        of_tree(&[], None),
        of_tree(&["100644 a", "100755 b", "120000 c", "40000 d", "160000 e"], None),
        of_tree(&["100644 a.c", "40000 a", "100644 a0"], None),
        of_tree(&["40000 a", "100644 a.c"], Some(TreeNotSorted)),
        of_tree(&["100644 b", "100644 a"], Some(TreeNotSorted)),
        of_tree(&["100644 a", "100644 a"], Some(DuplicateEntries)),
        of_tree(&["100644 a", "40000 a"], Some(DuplicateEntries)),
        of_tree(&["100644 a", "100644 a.c", "40000 a"], Some(DuplicateEntries)),
        of_tree(
            &[
                "100644 a",
                "100644 a-b",
                "100644 a-b.c",
                "40000 a-b",
                "100644 a.c",
                "40000 b",
            ],
            Some(DuplicateEntries),
        ),
        of_tree(
            &["100644 a", "100644 a-b", "100644 a.c", "40000 a"],
            Some(DuplicateEntries),
        ),
        of_tree(&["100644 a/b"], Some(FullPathname)),
        of_tree(&["40000 ."], Some(HasDot)),
        of_tree(&["40000 .."], Some(HasDotdot)),
        of_tree(&["40000 .git"], Some(HasDotgit)),
        of_tree(&["40000 .Git"], Some(HasDotgit)),
        of_tree(&["40000 .git . "], Some(HasDotgit)),
        of_tree(&["40000 GIT~1"], Some(HasDotgit)),
        of_tree(&["40000 .git::$INDEX_ALLOCATION"], Some(HasDotgit)),
        of_tree(&["40000 .gi\u{200c}t"], Some(HasDotgit)),
        of_tree(&["40000 \u{feff}.git"], Some(HasDotgit)),
        of_tree(&["100644 a\\.git\\b"], Some(HasDotgit)),
        of_tree(&["100644 .git\\config"], Some(HasDotgit)),
        of_tree(&["100644 .gitignore", "40000 github", "100644 git~2"], None),
        of_tree(&["120000 .gitmodules"], Some(GitmodulesSymlink)),
        of_tree(&["120000 .GITMODULES"], Some(GitmodulesSymlink)),
        of_tree(&["120000 gitmod~1"], Some(GitmodulesSymlink)),
        of_tree(&["120000 gi7eba~1"], Some(GitmodulesSymlink)),
        of_tree(&["120000 x\\.gitmodules"], Some(GitmodulesSymlink)),
        of_tree(&["0100644 a"], Some(ZeroPaddedFilemode)),
        of_tree(&["100001 a", "40755 b"], Some(BadFilemode)),
        of_tree(&["30000 a"], Some(BadFilemode)),
        of_tree(&[&long], Some(LargePathname)),
        (
            Kind::Tree,
            [&b"100644 a\0"[..], &[0; 20]].concat(),
            Some(NullSha1),
        ),
        (Kind::Tree, [&b"100644 a\0"[..], b"123"].concat(), Some(BadTree)),
        (Kind::Tree, [&b"10x644 a\0"[..], &[1; 20]].concat(), Some(BadTree)),
        (Kind::Tree, [&b" a\0"[..], &[1; 20]].concat(), Some(BadTree)),
        (Kind::Tree, [&b"100644\0"[..], &[1; 20]].concat(), Some(BadTree)),
    ]
}

#[test]
fn each_finding_is_made_under_gits_name() {
    for (kind, data, message) in cases() {
        let shown = String::from_utf8_lossy(&data).into_owned();
        assert_eq!(found(kind, &data), message, "{shown:?}");
        let by_git = found_by_git(kind, &data);
        match message {
            // This git is older than the finding.
            Some(Message::LargePathname) => {}
            None => assert_eq!(by_git, [""; 0], "{shown:?}"),
            Some(message) => {
                assert!(
                    by_git.iter().any(|id| id == message.id() || id == "unparsed"),
                    "{shown:?}: {message:?} and {by_git:?}"
                );
            }
        }
    }
}

#[test]
fn an_entry_without_a_name_is_refused() {
    assert_eq!(found(Kind::Tree, &tree(&["100644 "])), Some(Message::EmptyName));
}

#[test]
fn permission_bits_of_old_are_let_pass() {
    assert_eq!(found(Kind::Tree, &tree(&["100664 a", "100600 b"])), None);
}

#[test]
fn headers_after_the_tagger_are_found_but_a_signature_is_none() {
    let head = format!("type commit\ntag v1\ntagger {PERSON}\n");
    assert_eq!(
        found(Kind::Tag, &tag(&format!("{head}extra x\n\nm\n"))),
        Some(Message::ExtraHeaderEntry)
    );
    assert_eq!(
        found(Kind::Tag, &tag(&format!("{head}gpgsig a\n b\n c\n\nm\n"))),
        None
    );
}

#[test]
fn what_old_histories_are_full_of_passes_by_default() {
    let old = [
        (Kind::Tree, tree(&["0100644 a"])),
        (Kind::Commit, person("A <a> 1 +051800")),
        (Kind::Commit, person("A <a>1 +0000")),
        (Kind::Tag, tag("type commit\ntag v1\n\nm\n")),
    ];
    for (kind, data) in old {
        assert!(found(kind, &data).is_some());
        assert_eq!(check(kind, &data, HashKind::Sha1, &Options::default()), Ok(()));
    }
    let refusing = Options::default().refuse(Message::ZeroPaddedFilemode);
    let finding = check(Kind::Tree, &tree(&["0100644 a"]), HashKind::Sha1, &refusing).unwrap_err();
    assert!(
        finding.to_string().starts_with("zeroPaddedFilemode: "),
        "{finding}"
    );
}

#[test]
fn every_message_has_a_name_of_its_own() {
    let ids: std::collections::HashSet<_> = Message::ALL.iter().map(|message| message.id()).collect();
    assert_eq!(ids.len(), Message::ALL.len());
    let tolerated: std::collections::HashSet<_> = TOLERATED.iter().map(|(message, _)| message).collect();
    assert_eq!(tolerated.len(), TOLERATED.len());
}

/// Reading against a base says what reading without it says.
#[test]
fn a_tree_read_against_a_base_has_the_same_findings() {
    let base = tree(&[
        "100644 a",
        "100644 a.c",
        "40000 b",
        "100644 c",
        "100644 d.c",
        "40000 e",
    ]);
    assert_eq!(found(Kind::Tree, &base), None);
    let changed: &[&[&str]] = &[
        &["100644 a", "100644 a.c", "40000 a", "40000 b"],
        &[
            "100644 a",
            "100644 a.c",
            "40000 b",
            "100644 c",
            "100644 d",
            "100644 d.c",
            "40000 d",
        ],
        &[
            "100644 a",
            "100644 a.c",
            "40000 b",
            "100644 d.c",
            "40000 d",
            "40000 e",
        ],
        &[
            "100644 a.c",
            "40000 b",
            "100644 c",
            "100644 d.c",
            "40000 e",
            "100644 a",
        ],
        &["40000 b", "100644 a"],
        &["40000 b", "100644 a", "100644 a.c"],
        &["100644 a", "100644 a"],
        &["40000 e", "40000 e"],
        &["100644 c", "100644 d.c", "40000 e", "40000 f"],
        &["40000 .git", "100644 a"],
        &["100644 a", "100755 a.c", "40000 b"],
        &[],
    ];
    for entries in changed {
        let data = tree(entries);
        let strictest = Options::strictest();
        let against = read_links(&data, Some(&base), &strictest).map(|_| ());
        let alone = read_links(&data, None, &strictest).map(|_| ());
        assert_eq!(against.err(), alone.err(), "{entries:?}");
    }
}

fn read_links(data: &[u8], base: Option<&[u8]>, options: &Options) -> Result<usize, Finding> {
    let mut count = 0;
    tree::read(data, base, HashKind::Sha1, Some(options), &mut |_| count += 1)?;
    Ok(count)
}

#[test]
fn only_what_a_base_does_not_have_is_told_again() {
    let name = |at: u32| format!("100644 file{at:03}");
    let names: Vec<_> = (0..100).map(name).collect();
    let base = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut changed = names.clone();
    changed[50] = "100755 file050".to_owned();
    changed.remove(20);
    changed.insert(0, "100644 a".to_owned());
    let changed = tree(&changed.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(read_links(&changed, Some(&base), &Options::default()), Ok(2));
    assert_eq!(read_links(&changed, None, &Options::default()), Ok(100));
}

#[test]
fn gitmodules_that_hurt_are_refused() {
    use Message::*;
    let with = |line: &str| format!("[submodule \"x\"]\n\tpath = x\n\t{line}\n");
    let cases = [
        (with("url = https://example.com/x.git"), None),
        (with("url = ../x"), None),
        (with("url = git@example.com:x"), None),
        (with("url = /srv/x"), None),
        (with("url = -u./payload"), Some(GitmodulesUrl)),
        (with("url = \"-u\"payload"), Some(GitmodulesUrl)),
        (
            with("url = https://example.com/%0aignored/x.git"),
            Some(GitmodulesUrl),
        ),
        (
            with("url = https://one.example.com?%0ahost=two.example.com/x.git"),
            Some(GitmodulesUrl),
        ),
        (with("url = ./%0ahost=two.example.com"), Some(GitmodulesUrl)),
        (
            with("url = git://example.com:1234/x%0a%0ahost=two"),
            Some(GitmodulesUrl),
        ),
        (with("url = ../../../../:example.com/x.git"), Some(GitmodulesUrl)),
        (with("url = ./..//example.com/x.git"), Some(GitmodulesUrl)),
        (with("url = http:example.com/x.git"), None),
        (with("url = https:///example.com/x.git"), Some(GitmodulesUrl)),
        (with("url = http::"), Some(GitmodulesUrl)),
        (with("path = -x"), Some(GitmodulesPath)),
        (with("update = !rm -rf ."), Some(GitmodulesUpdate)),
        (with("update = rebase"), None),
        (
            "[submodule \"../x\"]\n\turl = a\n".to_owned(),
            Some(GitmodulesName),
        ),
        (
            "[submodule \"a/../x\"]\n\turl = a\n".to_owned(),
            Some(GitmodulesName),
        ),
        ("[submodule \"\"]\n\turl = a\n".to_owned(), Some(GitmodulesName)),
        ("[submodule \"..\"]\n".to_owned(), None),
        ("[submodule]\n\turl = -x\n".to_owned(), None),
        ("[other \"x\"]\n\turl = -x\n".to_owned(), None),
        ("[submodule.x]\n\turl = -x\n".to_owned(), Some(GitmodulesUrl)),
        ("[SUBMODULE \"x\"] URL = -x\n".to_owned(), Some(GitmodulesUrl)),
        (
            "# c\n; c\n[submodule \"x\"] # c\n\turl = \\\n-x\n".to_owned(),
            Some(GitmodulesUrl),
        ),
        (
            "[submodule \"x\"]\r\n\turl = -x\r\n".to_owned(),
            Some(GitmodulesUrl),
        ),
        ("[submodule \"x\"]\n\turl\n".to_owned(), None),
        (
            "<<<<<<< HEAD\n[submodule \"x\"]\n\turl = -x\n".to_owned(),
            Some(GitmodulesParse),
        ),
        (
            "[submodule \"x\"]\n\turl = -x\n=======\n".to_owned(),
            Some(GitmodulesUrl),
        ),
        ("[submodule \"x\n".to_owned(), Some(GitmodulesParse)),
        ("[submodule \"x\"\n".to_owned(), Some(GitmodulesParse)),
        (
            "[submodule \"x\"]\n\turl = \"x\n".to_owned(),
            Some(GitmodulesParse),
        ),
        (
            "[submodule \"x\"]\n\turl = \\x\n".to_owned(),
            Some(GitmodulesParse),
        ),
    ];
    for (content, message) in cases {
        let found = gitmodules::check(content.as_bytes(), &Options::strictest()).err();
        assert_eq!(found.map(|finding| finding.message), message, "{content:?}");
        assert_eq!(
            gitmodules_found_by_git(content.as_bytes()).as_deref(),
            message.map(Message::id),
            "{content:?}"
        );
    }
}

#[test]
fn gitmodules_with_a_byte_order_mark_are_read() {
    // git fsck gives up at the mark; git submodule, which reads the file, does not.
    let found = gitmodules::check(
        "\u{feff}[submodule \"x\"]\n\turl = -x\n".as_bytes(),
        &Options::default(),
    );
    assert_eq!(found.unwrap_err().message, Message::GitmodulesUrl);
}

/// What git says of a repository with this `.gitmodules`.
fn gitmodules_found_by_git(content: &[u8]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let git = |args: &[&str], stdin: &[u8]| {
        let ran = testing::run(Path::new("git"), dir.path(), args, stdin);
        (String::from_utf8_lossy(&ran.stdout).into_owned() + &ran.stderr)
            .trim()
            .to_owned()
    };
    git(&["init", "-q", "--bare", "."], b"");
    let blob = git(&["hash-object", "-w", "--stdin"], content);
    git(
        &["mktree"],
        format!("100644 blob {blob}\t.gitmodules\n").as_bytes(),
    );
    messages(&git(&["fsck", "--strict", "--no-dangling"], b""))
        .into_iter()
        .next()
}
