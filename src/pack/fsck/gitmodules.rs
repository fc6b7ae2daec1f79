//! Checks of `.gitmodules`, which clients read right after a clone.
//!
//! Reads the file the way git reads configuration (git-config(1), "Syntax"), up to the first line that git would not
//! get past, and looks at every submodule name, URL, path and update command on the way.

use bstr::{BStr, ByteSlice};

use super::{Finding, Message, Options};

/// Bytes of a `.gitmodules` that are read. Ten thousand submodules fit in 2 MiB.
pub const BYTES_MAX: u64 = 16 << 20;

/// Checks a blob that a tree calls `.gitmodules`.
///
/// # Errors
///
/// The first finding that `options` refuse.
pub fn check(data: &[u8], options: &Options) -> Result<(), Finding> {
    let mut parser = Parser {
        rest: data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data),
    };
    let mut section: Option<Section> = None;
    loop {
        let Some(byte) = parser.next() else { return Ok(()) };
        match byte {
            b'#' | b';' => parser.skip_line(),
            b'[' => match parser.section() {
                Some(read) => section = Some(read),
                None => return options.report(Message::GitmodulesParse),
            },
            byte if byte.is_ascii_alphabetic() => match parser.variable(byte) {
                Some((key, value)) => check_variable(section.as_ref(), &key, value.as_deref(), options)?,
                None => return options.report(Message::GitmodulesParse),
            },
            byte if is_space(byte) => {}
            _ => return options.report(Message::GitmodulesParse),
        }
    }
}

fn check_variable(
    section: Option<&Section>,
    key: &[u8],
    value: Option<&[u8]>,
    options: &Options,
) -> Result<(), Finding> {
    let Some(Section {
        name,
        subsection: Some(submodule),
    }) = section
    else {
        return Ok(());
    };
    if name != b"submodule" {
        return Ok(());
    }
    if !is_submodule_name(submodule) {
        options.report(Message::GitmodulesName)?;
    }
    let Some(value) = value else { return Ok(()) };
    match key {
        b"url" if !is_url(value) => options.report(Message::GitmodulesUrl),
        b"path" if value.starts_with(b"-") => options.report(Message::GitmodulesPath),
        b"update" if value.starts_with(b"!") => options.report(Message::GitmodulesUpdate),
        _ => Ok(()),
    }
}

/// A name becomes a directory below `.git/modules`.
fn is_submodule_name(name: &[u8]) -> bool {
    // Up to the first NUL, as git's strings end there; both readings have to be safe.
    let cut = name.split(|byte| *byte == 0).next().unwrap_or_default();
    [name, cut]
        .iter()
        .all(|name| gix_validate::submodule::name(name.as_bstr()).is_ok())
}

/// Tells whether a URL can be passed to git-clone: not as an option, and not so that a line break reaches a credential
/// helper (CVE-2020-5260, CVE-2020-11008).
fn is_url(url: &[u8]) -> bool {
    if url.starts_with(b"-") {
        return false;
    }
    let is_relative = is_dot_slash(url, b".") || is_dot_slash(url, b"..");
    if is_relative || url.starts_with(b"git://") {
        return !(percent_decoded(url).contains(&b'\n') || (is_relative && leaves_its_root(url)));
    }
    let through_curl: [&[u8]; 4] = [b"http::", b"https::", b"ftp::", b"ftps::"];
    let curl_url = through_curl
        .iter()
        .find_map(|prefix| url.strip_prefix(*prefix))
        .or_else(|| {
            let schemes: [&[u8]; 4] = [b"http://", b"https://", b"ftp://", b"ftps://"];
            schemes
                .iter()
                .any(|scheme| url.starts_with(scheme))
                .then_some(url)
        });
    match curl_url {
        Some(url) => !percent_decoded(url).contains(&b'\n') && has_host(url),
        None => true,
    }
}

fn is_dot_slash(url: &[u8], dots: &[u8]) -> bool {
    url.strip_prefix(dots)
        .and_then(<[u8]>::first)
        .is_some_and(|byte| matches!(byte, b'/' | b'\\'))
}

/// Whether `../` at its beginning are followed by what would then read as a host.
fn leaves_its_root(mut url: &[u8]) -> bool {
    let mut has_left = false;
    loop {
        if is_dot_slash(url, b"..") {
            has_left = true;
            url = url.get(3..).unwrap_or_default();
        } else if is_dot_slash(url, b".") {
            url = url.get(2..).unwrap_or_default();
        } else {
            return has_left && matches!(url.first(), Some(b':' | b'/'));
        }
    }
}

/// Whether there is a scheme with a host after it.
fn has_host(url: &[u8]) -> bool {
    let Some((scheme, rest)) = url.split_once_str("://") else {
        return false;
    };
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    let authority = rest
        .split(|byte| b"/?#".contains(byte))
        .next()
        .unwrap_or_default();
    let host = authority.rsplit(|byte| *byte == b'@').next().unwrap_or_default();
    is_scheme && !host.is_empty() && !host.starts_with(b":")
}

fn percent_decoded(url: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(url.len());
    let mut rest = url;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|digits| digits.to_str().ok());
        let value = digits
            .filter(|digits| byte == b'%' && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(value) => {
                decoded.push(value);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(byte);
                rest = tail;
            }
        }
    }
    decoded
}

struct Section {
    name: Vec<u8>,
    subsection: Option<Vec<u8>>,
}

/// Walks the bytes of a configuration file; `\r\n` counts as `\n`.
struct Parser<'a> {
    rest: &'a [u8],
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

impl Parser<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&byte, mut tail) = self.rest.split_first()?;
        let mut byte = byte;
        if byte == b'\r' && tail.first() == Some(&b'\n') {
            byte = b'\n';
            tail = tail.get(1..).unwrap_or_default();
        }
        self.rest = tail;
        Some(byte)
    }

    /// The next byte; the end of the file counts as the end of a line.
    fn next_or_newline(&mut self) -> u8 {
        self.next().unwrap_or(b'\n')
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|byte| byte != b'\n') {}
    }

    /// Reads on behind a `[`.
    fn section(&mut self) -> Option<Section> {
        let mut name = Vec::new();
        loop {
            match self.next()? {
                // `[submodule.name]` is an old way to write a subsection.
                b']' if name.is_empty() => return None,
                b']' => return Some(dotted(&name)),
                byte if is_space(byte) => break,
                byte if is_key(byte) || byte == b'.' => name.push(byte.to_ascii_lowercase()),
                _ => return None,
            }
            if self.rest.is_empty() {
                return None;
            }
        }
        let mut byte = b' ';
        while is_space(byte) {
            if byte == b'\n' {
                return None;
            }
            byte = self.next_or_newline();
        }
        if byte != b'"' {
            return None;
        }
        let mut subsection = Vec::new();
        loop {
            match self.next_or_newline() {
                b'\n' => return None,
                b'"' => break,
                b'\\' => match self.next_or_newline() {
                    b'\n' => return None,
                    byte => subsection.push(byte),
                },
                byte => subsection.push(byte),
            }
        }
        (self.next()? == b']').then_some(())?;
        // `[submodule.a "b"]` names the subsection `a.b`.
        let mut section = dotted(&name);
        section.subsection = Some(match section.subsection {
            Some(mut first) => {
                first.push(b'.');
                first.extend_from_slice(&subsection);
                first
            }
            None => subsection,
        });
        Some(section)
    }

    /// Reads a name that begins with `first`, and the value up to the end of its line.
    fn variable(&mut self, first: u8) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let mut key = vec![first.to_ascii_lowercase()];
        let mut byte = self.next_or_newline();
        while is_key(byte) {
            key.push(byte.to_ascii_lowercase());
            byte = self.next_or_newline();
        }
        while byte == b' ' || byte == b'\t' {
            byte = self.next_or_newline();
        }
        match byte {
            b'\n' => Some((key, None)),
            b'=' => Some((key, Some(self.value()?))),
            _ => None,
        }
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        let (mut is_quoted, mut is_comment) = (false, false);
        // Where trailing white space begins.
        let mut trimmed_len = None;
        loop {
            let byte = self.next_or_newline();
            if byte == b'\n' {
                value.truncate(trimmed_len.unwrap_or(value.len()));
                return (!is_quoted).then_some(value);
            }
            if is_comment {
                continue;
            }
            if is_space(byte) && !is_quoted {
                trimmed_len.get_or_insert(value.len());
                if !value.is_empty() {
                    value.push(byte);
                }
                continue;
            }
            if !is_quoted && (byte == b';' || byte == b'#') {
                is_comment = true;
                continue;
            }
            trimmed_len = None;
            match byte {
                b'\\' => match self.next_or_newline() {
                    b'\n' => {}
                    b't' => value.push(b'\t'),
                    b'b' => value.push(8),
                    b'n' => value.push(b'\n'),
                    escaped @ (b'\\' | b'"') => value.push(escaped),
                    _ => return None,
                },
                b'"' => is_quoted = !is_quoted,
                byte => value.push(byte),
            }
        }
    }
}

fn dotted(name: &[u8]) -> Section {
    let name: &BStr = name.as_bstr();
    match name.split_once_str(".") {
        Some((name, subsection)) => Section {
            name: name.to_vec(),
            subsection: Some(subsection.to_vec()),
        },
        None => Section {
            name: name.to_vec(),
            subsection: None,
        },
    }
}
