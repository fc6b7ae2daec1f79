//! Names of collections, projects and repositories: parsed once, safe as path components from then on.
//!
//! A [`RepoPath`] is the only thing from which a place on disk is ever built, so every rule that keeps a
//! request inside the repository root is here, and nowhere else.

use std::fmt;

/// Longest name of a collection, project or repository, in bytes. Azure DevOps stops at 64 characters;
/// bytes keep three of them and `.git` far below the 255 that file systems take for one component.
pub const NAME_BYTES_MAX: usize = 128;

/// The collection that URLs without one mean.
pub const DEFAULT_COLLECTION: &str = "DefaultCollection";

/// Why a name was refused. The text fits after "the name '…' ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was given.
    #[error("is empty")]
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("is longer than 128 bytes")]
    TooLong,
    /// A control character, a path separator or a character that URLs, shells or file systems read as syntax.
    #[error(
        "holds a character that names cannot have: use letters, digits, spaces and any of . _ - ( ) & ' ! @ + ~"
    )]
    Character,
    /// A leading dot, dash, underscore, tilde or space.
    #[error("starts with a character that names cannot start with: begin with a letter or a digit")]
    Start,
    /// A trailing dot or space, `.git` or `.lock`.
    #[error("ends in a dot, a space, '.git' or '.lock', which names cannot")]
    End,
    /// A path that has not one, two or three components where that many are needed.
    #[error("is not of the form COLLECTION/PROJECT/REPO")]
    Shape,
}

/// Checks one component of a path.
///
/// # Errors
///
/// Names the first rule that `name` breaks.
pub fn check(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::TooLong);
    }
    if !name
        .chars()
        .all(|c| c.is_alphanumeric() || " ._-()&'!@+~".contains(c))
    {
        return Err(Error::Character);
    }
    if name.starts_with(['.', '-', '_', '~', ' ']) {
        return Err(Error::Start);
    }
    let lower = name.to_lowercase();
    if name.ends_with(['.', ' ']) || lower.ends_with(".git") || lower.ends_with(".lock") {
        return Err(Error::End);
    }
    Ok(())
}

/// A repository's full name: collection, project, repository. Equality and hashing respect case; use
/// [`RepoPath::key`] to compare as URLs do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath {
    collection: String,
    project: String,
    repository: String,
}

impl RepoPath {
    /// Makes a path of three names.
    ///
    /// # Errors
    ///
    /// When one of them breaks a rule of [`check`].
    pub fn new(collection: &str, project: &str, repository: &str) -> Result<Self, Error> {
        check(collection)?;
        check(project)?;
        check(repository)?;
        Ok(RepoPath {
            collection: collection.to_owned(),
            project: project.to_owned(),
            repository: repository.to_owned(),
        })
    }

    /// Parses `COLLECTION/PROJECT/REPO`; with two components the collection is [`DEFAULT_COLLECTION`], with one the
    /// project also has the repository's name. A `.git` at the end is dropped.
    ///
    /// # Errors
    ///
    /// When there are more components or one breaks a rule of [`check`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = strip_dot_git(text);
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [c, p, r] => RepoPath::new(c, p, r),
            [p, r] => RepoPath::new(DEFAULT_COLLECTION, p, r),
            [r] => RepoPath::new(DEFAULT_COLLECTION, r, r),
            _ => Err(Error::Shape),
        }
    }

    /// The collection.
    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// The project.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The repository's own name, without `.git`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The path in lower case: equal for two paths that a URL cannot tell apart.
    pub fn key(&self) -> String {
        self.to_string().to_lowercase()
    }

    /// The path of the repository below the server's address, as clients are told it: percent-encoded, and
    /// without the project where it has the repository's name.
    pub fn url_path(&self) -> String {
        if self.project == self.repository {
            format!(
                "/{}/_git/{}",
                url_component(&self.collection),
                url_component(&self.repository)
            )
        } else {
            format!(
                "/{}/{}/_git/{}",
                url_component(&self.collection),
                url_component(&self.project),
                url_component(&self.repository)
            )
        }
    }
}

/// Percent-encodes a name as a component of a URL's path: what names may hold besides letters and digits stays, if it
/// may stay.
pub fn url_component(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-~!()'@+&".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.collection, self.project, self.repository)
    }
}

/// Longest part of a text from outside that [`Quoted`] shows, in characters.
const QUOTED_CHARS_MAX: usize = 64;

/// A text from outside as a message quotes it: in quotes, escaped, and cut where it is long.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match self.0.char_indices().nth(QUOTED_CHARS_MAX) {
            Some((end, _)) => self.0.get(..end).unwrap_or_default(),
            None => self.0,
        };
        let dots = if shown.len() < self.0.len() { "…" } else { "" };
        write!(f, "'{}{dots}'", shown.escape_debug())
    }
}

/// Drops one `.git` of any case from the end of `name`.
pub fn strip_dot_git(name: &str) -> &str {
    match name.len().checked_sub(4).and_then(|at| name.split_at_checked(at)) {
        Some((stem, suffix)) if suffix.eq_ignore_ascii_case(".git") => stem,
        _ => name,
    }
}

/// Which refs a token may push to: a full ref name, or one with a `*` that stands for any characters, slashes too, as in
/// a refspec (gitglossary).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefPattern(String);

/// Why a text is no [`RefPattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a ref pattern is a full ref name, such as 'refs/heads/main', and may hold one '*', as in 'refs/heads/ci/*'"
)]
pub struct RefPatternError;

impl RefPattern {
    /// Longest pattern, in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Parses a pattern; it begins with `refs/`.
    ///
    /// # Errors
    ///
    /// When no ref can have such a name.
    pub fn parse(text: &str) -> Result<Self, RefPatternError> {
        // Only the pattern may hold what no ref name may, and only once.
        let example = text.replacen('*', "x", 1);
        let is_name = gix_validate::reference::name(example.as_str().into()).is_ok();
        if text.len() > Self::BYTES_MAX || !text.starts_with("refs/") || !is_name {
            return Err(RefPatternError);
        }
        Ok(RefPattern(text.to_owned()))
    }

    /// Whether the full ref name `name` is meant.
    pub fn matches(&self, name: &[u8]) -> bool {
        match self.0.split_once('*') {
            None => self.0.as_bytes() == name,
            Some((before, after)) => {
                name.len() >= before.len() + after.len()
                    && name.starts_with(before.as_bytes())
                    && name.ends_with(after.as_bytes())
            }
        }
    }
}

impl fmt::Display for RefPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a right is given on: the whole server, a collection, a project or one repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessPath {
    /// Everything.
    Server,
    /// All of a collection.
    Collection(String),
    /// All of a project: collection, project.
    Project(String, String),
    /// One repository.
    Repository(RepoPath),
}

impl AccessPath {
    /// Parses `COLLECTION`, `COLLECTION/PROJECT` or `COLLECTION/PROJECT/REPO`; nothing, or `/`, is the server.
    ///
    /// # Errors
    ///
    /// When there are more components or one breaks a rule of [`check`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text == "/" {
            return Ok(AccessPath::Server);
        }
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [c] => {
                check(c)?;
                Ok(AccessPath::Collection((*c).to_owned()))
            }
            [c, p] => {
                check(c)?;
                check(p)?;
                Ok(AccessPath::Project((*c).to_owned(), (*p).to_owned()))
            }
            [c, p, r] => Ok(AccessPath::Repository(RepoPath::new(c, p, strip_dot_git(r))?)),
            _ => Err(Error::Shape),
        }
    }

    /// The path in lower case, `""` for the server: what the store keys rights by.
    pub fn key(&self) -> String {
        match self {
            AccessPath::Server => String::new(),
            other => other.to_string().to_lowercase(),
        }
    }

    /// The keys of everything that `repository` lies in, from the server down to itself.
    pub fn keys_above(repository: &RepoPath) -> [String; 4] {
        let collection = repository.collection.to_lowercase();
        let project = format!("{collection}/{}", repository.project.to_lowercase());
        [String::new(), collection, project, repository.key()]
    }
}

impl fmt::Display for AccessPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessPath::Server => f.write_str("/"),
            AccessPath::Collection(c) => f.write_str(c),
            AccessPath::Project(c, p) => write!(f, "{c}/{p}"),
            AccessPath::Repository(path) => path.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_root_are_refused() {
        for name in [
            "", ".", "..", "a/b", "a\\b", "a\0b", "a\nb", ".git", "-x", "_git", "x.git", "x.lock", "a:b",
            "a ", "~a",
        ] {
            assert!(check(name).is_err(), "{name:?} must be refused");
        }
        assert_eq!(check(&"a".repeat(129)), Err(Error::TooLong));
    }

    #[test]
    fn names_of_people_are_accepted() {
        for name in [
            "Sample",
            "git.git2",
            "Git project",
            "C++",
            "naïve",
            "日本",
            "a_b-c",
            "R&D",
        ] {
            assert_eq!(check(name), Ok(()), "{name:?} must be accepted");
        }
    }

    #[test]
    fn shorter_paths_mean_the_default_collection_and_an_equal_project() {
        assert_eq!(
            RepoPath::parse("Sample").unwrap().to_string(),
            "DefaultCollection/Sample/Sample"
        );
        assert_eq!(
            RepoPath::parse("P/R.git").unwrap().to_string(),
            "DefaultCollection/P/R"
        );
        assert_eq!(RepoPath::parse("C/P/R").unwrap().key(), "c/p/r");
        assert_eq!(RepoPath::parse("a/b/c/d"), Err(Error::Shape));
    }

    #[test]
    fn url_paths_are_percent_encoded_and_leave_out_an_equal_project() {
        assert_eq!(
            RepoPath::parse("C/Git project/R").unwrap().url_path(),
            "/C/Git%20project/_git/R"
        );
        assert_eq!(
            RepoPath::parse("Sample").unwrap().url_path(),
            "/DefaultCollection/_git/Sample"
        );
        assert_eq!(RepoPath::parse("C/é/é").unwrap().url_path(), "/C/_git/%C3%A9");
    }

    #[test]
    fn rights_are_looked_up_from_the_server_down() {
        let path = RepoPath::parse("C/P/R").unwrap();
        assert_eq!(
            AccessPath::keys_above(&path),
            ["", "c", "c/p", "c/p/r"].map(str::to_owned)
        );
        assert_eq!(AccessPath::parse("C/P/R.git").unwrap().key(), "c/p/r");
    }

    #[test]
    fn what_is_quoted_is_escaped_and_cut() {
        assert_eq!(Quoted("R&D é").to_string(), "'R&D é'");
        assert_eq!(Quoted("a\u{1b}[2J\n").to_string(), "'a\\u{1b}[2J\\n'");
        assert_eq!(
            Quoted(&"é".repeat(64)).to_string(),
            format!("'{}'", "é".repeat(64))
        );
        assert_eq!(
            Quoted(&"é".repeat(65)).to_string(),
            format!("'{}…'", "é".repeat(64))
        );
    }

    #[test]
    fn a_ref_pattern_means_its_refs_and_no_others() {
        let matches =
            |pattern: &str, name: &str| RefPattern::parse(pattern).unwrap().matches(name.as_bytes());
        assert!(matches("refs/heads/main", "refs/heads/main"));
        assert!(!matches("refs/heads/main", "refs/heads/main2"));
        assert!(matches("refs/heads/ci/*", "refs/heads/ci/a/b"));
        assert!(!matches("refs/heads/ci/*", "refs/heads/ci"));
        assert!(matches("refs/heads/*-rc", "refs/heads/1-rc"));
        assert!(
            !matches("refs/heads/a*a", "refs/heads/a"),
            "the halves do not overlap"
        );
        for text in [
            "",
            "*",
            "main",
            "heads/main",
            "refs/heads/**",
            "refs/*/*",
            "refs/heads/a..b",
            "refs/heads/a b",
            "refs/",
        ] {
            assert!(RefPattern::parse(text).is_err(), "{text}");
        }
        assert!(RefPattern::parse(&format!("refs/heads/{}", "a".repeat(300))).is_err());
    }
}
