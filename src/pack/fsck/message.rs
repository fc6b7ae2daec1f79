//! The names of what can be wrong with an object.

use std::fmt;

macro_rules! messages {
    ($($name:ident $id:literal $text:literal,)*) => {
        /// What can be wrong with an object.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Message {
            $(#[doc = concat!("`", $id, "`: ", $text, ".")] $name,)*
        }

        impl Message {
            /// All of them.
            pub const ALL: &[Message] = &[$(Message::$name,)*];

            /// Returns the name that git has for it.
            pub fn id(self) -> &'static str {
                match self { $(Message::$name => $id,)* }
            }

            /// Returns what it means.
            pub fn text(self) -> &'static str {
                match self { $(Message::$name => $text,)* }
            }
        }
    };
}

messages! {
    BadDate "badDate" "date is malformed",
    BadDateOverflow "badDateOverflow" "date does not fit a 64-bit number",
    BadEmail "badEmail" "e-mail address is malformed",
    BadFilemode "badFilemode" "tree entry has a mode that nothing has",
    BadName "badName" "name is malformed",
    BadObjectSha1 "badObjectSha1" "tag has no proper object id",
    BadParentSha1 "badParentSha1" "commit has no proper parent id",
    BadTagName "badTagName" "tag name is not one of a ref",
    BadTimezone "badTimezone" "time zone is malformed",
    BadTree "badTree" "tree cannot be read",
    BadTreeSha1 "badTreeSha1" "commit has no proper tree id",
    BadType "badType" "tag has an unknown object type",
    DuplicateEntries "duplicateEntries" "tree has two entries of one name",
    EmptyName "emptyName" "tree has an entry without a name",
    ExtraHeaderEntry "extraHeaderEntry" "tag has headers after the tagger",
    FullPathname "fullPathname" "tree has an entry with a slash in its name",
    GitmodulesBlob "gitmodulesBlob" ".gitmodules is not a blob",
    GitmodulesLarge "gitmodulesLarge" ".gitmodules is too large to be read",
    GitmodulesName "gitmodulesName" "submodule name leaves its directory",
    GitmodulesParse "gitmodulesParse" ".gitmodules cannot be read to its end",
    GitmodulesPath "gitmodulesPath" "submodule path looks like an option",
    GitmodulesSymlink "gitmodulesSymlink" ".gitmodules is a symbolic link",
    GitmodulesUpdate "gitmodulesUpdate" "submodule update runs a command",
    GitmodulesUrl "gitmodulesUrl" "submodule URL is disallowed",
    HasDot "hasDot" "tree has an entry '.'",
    HasDotdot "hasDotdot" "tree has an entry '..'",
    HasDotgit "hasDotgit" "tree has an entry that some file system takes for '.git'",
    LargePathname "largePathname" "tree has an entry with a name over 4,096 bytes",
    MissingAuthor "missingAuthor" "commit has no author",
    MissingCommitter "missingCommitter" "commit has no committer",
    MissingEmail "missingEmail" "e-mail address is missing",
    MissingNameBeforeEmail "missingNameBeforeEmail" "name is missing before the e-mail address",
    MissingObject "missingObject" "tag has no object",
    MissingSpaceBeforeDate "missingSpaceBeforeDate" "space is missing before the date",
    MissingSpaceBeforeEmail "missingSpaceBeforeEmail" "space is missing before the e-mail address",
    MissingTagEntry "missingTagEntry" "tag has no name",
    MissingTaggerEntry "missingTaggerEntry" "tag has no tagger",
    MissingTree "missingTree" "commit has no tree",
    MissingTypeEntry "missingTypeEntry" "tag has no type",
    MultipleAuthors "multipleAuthors" "commit has several authors",
    NulInCommit "nulInCommit" "commit message holds a NUL byte",
    NulInHeader "nulInHeader" "header holds a NUL byte",
    NullSha1 "nullSha1" "tree has an entry with the null id",
    TreeNotSorted "treeNotSorted" "tree entries are not in order",
    UnterminatedHeader "unterminatedHeader" "header is not terminated",
    ZeroPaddedDate "zeroPaddedDate" "date begins with a zero",
    ZeroPaddedFilemode "zeroPaddedFilemode" "tree entry has a mode that begins with a zero",
}

// The set of tolerated messages is one u64.
const _: () = assert!(Message::ALL.len() <= 64);

/// What the default options let pass, and why.
pub const TOLERATED: &[(Message, &str)] = &[
    (
        Message::BadTagName,
        "git informs of it and goes on; refs, not tag objects, are what tools look up",
    ),
    (
        Message::BadTimezone,
        "importers of the first years wrote zones such as +051800; readers ignore them",
    ),
    (
        Message::ExtraHeaderEntry,
        "git ignores it; headers after the tagger are how tags are extended",
    ),
    (
        Message::GitmodulesParse,
        "conflict markers were committed more than once; what comes before is checked",
    ),
    (
        Message::MissingSpaceBeforeDate,
        "importers of the first years left it out; the date reads as unknown",
    ),
    (Message::MissingTaggerEntry, "tags before 2005-07 have none"),
    (
        Message::ZeroPaddedFilemode,
        "old libraries of hosting sites wrote it; whole histories carry such trees",
    ),
];

/// One thing that is wrong with an object. Its text begins with git's name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub message: Message,
}

impl Finding {
    pub(super) fn new(message: Message) -> Self {
        Finding { message }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message.id(), self.message.text())
    }
}

impl std::error::Error for Finding {}
