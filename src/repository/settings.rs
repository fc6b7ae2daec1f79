//! What a repository's own `config` says, as far as it matters to a server.
//!
//! Only that one file is read: no system or user configuration, no environment, no includes, because who can write
//! those must not be able to change what the server does. gitrepository-layout(5) and git's
//! `Documentation/technical/repository-version` say which repositories may be opened at all: what is not understood
//! is refused by name, never ignored.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bstr::{BString, ByteSlice};
use gix_config::file::Metadata;

use super::{Error, IoContext};

/// Bytes of a `config` that are read; git's own test suite stays below a hundredth of it.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// Which refs get a reflog when they have none, `core.logAllRefUpdates`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRefUpdates {
    /// None: what git does in bare repositories.
    Off,
    /// Branches, remote-tracking branches, notes and HEAD.
    Branches,
    /// Every ref.
    All,
}

/// What the repository's own `config` says, as far as patgate reads it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `receive.denyNonFastForwards`.
    pub deny_non_fast_forwards: bool,
    /// `receive.denyDeletes`.
    pub deny_deletes: bool,
    /// `receive.denyDeleteCurrent`: the branch of HEAD may not be deleted. True unless set to `false`, `ignore` or
    /// `warn`.
    pub deny_delete_current: bool,
    /// `receive.advertisePushOptions`: whether `git push -o` is taken. True unless set to false; git's own default is
    /// false because only hooks read them there.
    pub advertise_push_options: bool,
    /// `core.logAllRefUpdates`.
    pub log_all_ref_updates: LogRefUpdates,
    /// `pack.compression`, or else `core.compression`: -1 to 9.
    pub compression: i32,
    /// `uploadpack.allowTipSHA1InWant`.
    pub allow_tip_sha1_in_want: bool,
    /// `uploadpack.allowReachableSHA1InWant`.
    pub allow_reachable_sha1_in_want: bool,
    /// `uploadpack.allowAnySHA1InWant`.
    pub allow_any_sha1_in_want: bool,
    /// `transfer.hideRefs` and `uploadpack.hideRefs`, in the order of the file, without trailing slashes.
    pub upload_hide_refs: Vec<BString>,
    /// `transfer.hideRefs` and `receive.hideRefs`, likewise.
    pub receive_hide_refs: Vec<BString>,
    /// `receive.fsckObjects`, or else `transfer.fsckObjects`; true unless set to false.
    pub fsck_objects: bool,
    /// `receive.maxInputSize` in bytes; 0 is no limit.
    pub max_input_size: u64,
    /// `core.bare`; where it is not set, whether the directory is named other than `.git`.
    pub is_bare: bool,
}

/// Reads `config` in `git_dir`, and with it the hash that objects are named by.
///
/// # Errors
///
/// When the file cannot be read or parsed, or asks for a format that is not served.
pub(crate) fn read(git_dir: &Path) -> Result<(Settings, gix_hash::Kind), Error> {
    let path = git_dir.join("config");
    let mut text = Vec::new();
    let file = File::open(&path).at("open", &path)?;
    file.take(CONFIG_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .at("read", &path)?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(Error::Config {
            what: "it is larger than 4 MiB".into(),
        });
    }
    parse(&text, git_dir.file_name().is_none_or(|name| name != ".git"))
}

fn parse(text: &[u8], bare_by_name: bool) -> Result<(Settings, gix_hash::Kind), Error> {
    let options = gix_config::file::init::Options {
        lossy: true,
        ..Default::default()
    };
    let config =
        gix_config::File::from_bytes_no_includes(text, Metadata::from(gix_config::Source::Local), options)
            .map_err(|error| Error::Config {
                what: error.to_string(),
            })?;
    let object_hash = check_format(&config)?;
    let reader = Reader(&config);
    let is_bare = reader.boolean("core.bare")?.unwrap_or(bare_by_name);
    let settings = Settings {
        deny_non_fast_forwards: reader.boolean("receive.denyNonFastForwards")?.unwrap_or(false),
        deny_deletes: reader.boolean("receive.denyDeletes")?.unwrap_or(false),
        deny_delete_current: reader.deny_delete_current()?,
        advertise_push_options: reader.boolean("receive.advertisePushOptions")?.unwrap_or(true),
        log_all_ref_updates: reader.log_all_ref_updates(is_bare)?,
        compression: reader.compression()?,
        allow_tip_sha1_in_want: reader.boolean("uploadpack.allowTipSHA1InWant")?.unwrap_or(false),
        allow_reachable_sha1_in_want: reader
            .boolean("uploadpack.allowReachableSHA1InWant")?
            .unwrap_or(false),
        allow_any_sha1_in_want: reader.boolean("uploadpack.allowAnySHA1InWant")?.unwrap_or(false),
        upload_hide_refs: reader.hide_refs("uploadpack"),
        receive_hide_refs: reader.hide_refs("receive"),
        fsck_objects: match reader.boolean("receive.fsckObjects")? {
            Some(set) => set,
            None => reader.boolean("transfer.fsckObjects")?.unwrap_or(true),
        },
        max_input_size: match reader.integer("receive.maxInputSize")? {
            Some(size) => u64::try_from(size).unwrap_or(0),
            None => 0,
        },
        is_bare,
    };
    Ok((settings, object_hash))
}

/// Holds `core.repositoryFormatVersion` and every `extensions.*` against what is served.
fn check_format(config: &gix_config::File) -> Result<gix_hash::Kind, Error> {
    let reader = Reader(config);
    let version = reader.integer("core.repositoryFormatVersion")?.unwrap_or(0);
    if !(0..=1).contains(&version) {
        return Err(Error::FormatVersion { version });
    }
    let mut object_hash = gix_hash::Kind::Sha1;
    for section in config
        .sections()
        .filter(|section| section.header().name().eq_ignore_ascii_case(b"extensions"))
    {
        for name in section.value_names() {
            let refused = |hint: &'static str| {
                let subsection = section.header().subsection_name();
                let name =
                    subsection.map_or_else(|| name.clone(), |subsection| format!("{subsection}.{name}"));
                Err(Error::Extension { name, hint })
            };
            if section.header().subsection_name().is_some() {
                return refused(UNKNOWN_EXTENSION);
            }
            let value = section.value(&name).unwrap_or_default().to_lowercase();
            let needs_version_1 = match name.to_ascii_lowercase().as_str() {
                "noop" | "preciousobjects" | "worktreeconfig" => false,
                "relativeworktrees" => true,
                "objectformat" => {
                    object_hash = match value.as_slice() {
                        b"sha1" => gix_hash::Kind::Sha1,
                        b"sha256" => gix_hash::Kind::Sha256,
                        _ => return refused("only sha1 and sha256 are known"),
                    };
                    true
                }
                "refstorage" if value == b"files" => true,
                "refstorage" => {
                    return refused("convert the repository with 'git refs migrate --ref-format=files'");
                }
                "partialclone" => {
                    return refused("objects are missing in a partial clone: clone again without --filter");
                }
                "compatobjectformat" => return refused("clone the repository anew into one object format"),
                _ => return refused(UNKNOWN_EXTENSION),
            };
            if needs_version_1 && version == 0 {
                return refused("it needs core.repositoryFormatVersion 1: set that");
            }
        }
    }
    Ok(object_hash)
}

const UNKNOWN_EXTENSION: &str =
    "it is unknown here: serve the repository with a newer patgate, or clone it anew";

/// Typed look-ups whose errors name the key.
struct Reader<'a>(&'a gix_config::File);

impl Reader<'_> {
    fn boolean(&self, key: &'static str) -> Result<Option<bool>, Error> {
        self.0.boolean(key).map_err(|_| Error::Config {
            what: format!("'{key}' is neither true nor false"),
        })
    }

    fn integer(&self, key: &'static str) -> Result<Option<i64>, Error> {
        self.0.integer(key).map_err(|_| Error::Config {
            what: format!("'{key}' is not a number"),
        })
    }

    fn deny_delete_current(&self) -> Result<bool, Error> {
        let key = "receive.denyDeleteCurrent";
        match self.0.string(key).map(|value| value.to_lowercase()).as_deref() {
            Some(b"ignore" | b"warn") => Ok(false),
            Some(b"refuse" | b"updateinstead") => Ok(true),
            _ => Ok(self.boolean(key)?.unwrap_or(true)),
        }
    }

    fn log_all_ref_updates(&self, is_bare: bool) -> Result<LogRefUpdates, Error> {
        let key = "core.logAllRefUpdates";
        if self
            .0
            .string(key)
            .is_some_and(|value| value.eq_ignore_ascii_case(b"always"))
        {
            return Ok(LogRefUpdates::All);
        }
        let on = self.boolean(key)?.unwrap_or(!is_bare);
        Ok(if on {
            LogRefUpdates::Branches
        } else {
            LogRefUpdates::Off
        })
    }

    fn compression(&self) -> Result<i32, Error> {
        for key in ["pack.compression", "core.compression"] {
            if let Some(level) = self.integer(key)? {
                return match i32::try_from(level) {
                    Ok(level @ -1..=9) => Ok(level),
                    _ => Err(Error::Config {
                        what: format!("'{key}' is not between -1 and 9"),
                    }),
                };
            }
        }
        Ok(-1)
    }

    /// `hideRefs` of `transfer` and of `section`, in the order of the file: a later one overrides an earlier one.
    fn hide_refs(&self, section: &str) -> Vec<BString> {
        let is_asked = |name: &[u8]| {
            name.eq_ignore_ascii_case(b"transfer") || name.eq_ignore_ascii_case(section.as_bytes())
        };
        self.0
            .sections()
            .filter(|section| {
                is_asked(section.header().name()) && section.header().subsection_name().is_none()
            })
            .flat_map(|section| section.values("hideRefs"))
            .map(|value| value.trim_end_with(|c| c == '/').into())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(Settings, gix_hash::Kind), Error> {
        parse(text.as_bytes(), true)
    }

    #[test]
    fn an_empty_config_gives_gits_defaults() {
        let (settings, hash) = parsed("").unwrap();
        assert_eq!(hash, gix_hash::Kind::Sha1);
        assert!(settings.fsck_objects && settings.is_bare && settings.deny_delete_current);
        assert!(settings.advertise_push_options);
        assert!(!settings.deny_deletes && !settings.deny_non_fast_forwards);
        assert_eq!(settings.log_all_ref_updates, LogRefUpdates::Off);
        assert_eq!((settings.compression, settings.max_input_size), (-1, 0));
    }

    #[test]
    fn accepted_extensions_open_and_all_others_are_refused_by_name() {
        let accepted = "[core]\nrepositoryformatversion = 1\n[extensions]\nnoop\npreciousObjects = true\n\
                        worktreeConfig\nrelativeWorktrees = true\nrefStorage = files\nobjectFormat = sha256\n";
        assert_eq!(parsed(accepted).unwrap().1, gix_hash::Kind::Sha256);
        for (text, name) in [
            ("refStorage = reftable", "refstorage"),
            ("partialClone = origin", "partialclone"),
            ("compatObjectFormat = sha1", "compatobjectformat"),
            ("objectFormat = md5", "objectformat"),
            ("fancy = true", "fancy"),
        ] {
            let config = format!("[core]\nrepositoryformatversion = 1\n[extensions]\n{text}\n");
            let error = parsed(&config).unwrap_err().to_string();
            assert!(
                error.to_lowercase().contains(&format!("'extensions.{name}'")),
                "{error}"
            );
        }
        assert!(parsed("[core]\nrepositoryformatversion = 1\n[extensions \"x\"]\ny = 1\n").is_err());
        assert!(
            parsed("[extensions]\nobjectFormat = sha256\n").is_err(),
            "version 0 cannot have it"
        );
        assert!(parsed("[core]\nrepositoryformatversion = 2\n").is_err());
    }

    #[test]
    fn values_are_read_as_git_reads_them_and_includes_are_not_followed() {
        let text = "[include]\npath = /etc/hostname\n[core]\nbare = false\nlogAllRefUpdates = always\n\
                    compression = 3\n[receive]\nmaxInputSize = 2k\nfsckObjects = no\ndenyDeleteCurrent = warn\n\
                    advertisePushOptions = off\nhideRefs = refs/b/\n[transfer]\nhideRefs = refs/a\n[receive]\nhideRefs = !refs/a/x\n";
        let (settings, _) = parsed(text).unwrap();
        assert!(!settings.is_bare && !settings.fsck_objects && !settings.deny_delete_current);
        assert!(!settings.advertise_push_options);
        assert_eq!((settings.compression, settings.max_input_size), (3, 2048));
        assert_eq!(settings.log_all_ref_updates, LogRefUpdates::All);
        assert_eq!(settings.receive_hide_refs, ["refs/b", "refs/a", "!refs/a/x"]);
        assert_eq!(settings.upload_hide_refs, ["refs/a"]);
    }

    #[test]
    fn values_of_the_wrong_kind_name_their_key() {
        for (text, key) in [
            ("[receive]\ndenyDeletes = maybe\n", "receive.denyDeletes"),
            ("[receive]\nmaxInputSize = lots\n", "receive.maxInputSize"),
            ("[pack]\ncompression = 10\n", "pack.compression"),
        ] {
            assert!(parsed(text).unwrap_err().to_string().contains(key), "{text}");
        }
    }
}
