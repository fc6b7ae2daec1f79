//! What commands print: results, tables, JSON and errors.

use std::fmt::{self, Write as _};
use std::io::{self, BufRead, IsTerminal as _, Read as _, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::auth::token::{ExpiryError, OverlapError};
use crate::auth::{alternate, password, policy, rule, scope, token};
use crate::{config, names, store};

/// Why a command did not do its work: what is wrong, and what to do next.
#[derive(Debug)]
pub struct CliError {
    status: u8,
    message: String,
    hint: Option<String>,
}

impl CliError {
    /// The command was refused or failed: exit status 1.
    pub fn failure(message: impl fmt::Display) -> Self {
        CliError {
            status: 1,
            message: message.to_string(),
            hint: None,
        }
    }

    /// The command line was wrong: exit status 2.
    pub fn usage(message: impl fmt::Display) -> Self {
        CliError {
            status: 2,
            message: message.to_string(),
            hint: None,
        }
    }

    /// A failure with an error and everything that caused it.
    pub fn from_error(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors print their cause themselves.
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        CliError::failure(message)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Whoever read the output has stopped, as `head` does. That is their right, and no error.
    fn closed_pipe() -> Self {
        CliError {
            status: 0,
            message: String::new(),
            hint: None,
        }
    }

    /// The exit status of the process.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// Prints `error: …` and `hint: …`; nothing where there is nothing to say.
    pub fn print(&self, console: &mut Console) {
        if self.message.is_empty() {
            return;
        }
        console.note(&format!("error: {}", self.message));
        if let Some(hint) = &self.hint {
            console.note(&format!("hint: {hint}"));
        }
    }
}

impl From<store::Error> for CliError {
    fn from(error: store::Error) -> Self {
        use store::Error;

        let hint = match &error {
            Error::AccessNotFound { .. } => Some("'patgate access list' shows which rights there are"),
            Error::AccountExists { .. } => Some("choose another name, or see 'patgate user list'"),
            Error::AccountNotFound { .. } => {
                Some("'patgate user list' shows which accounts there are, 'patgate user add NAME' makes one")
            }
            Error::AlternateCredentialNotFound { .. } => {
                Some("'patgate alternate show' shows which accounts have one")
            }
            Error::AlternateNameTaken { .. } => Some("choose another name with --login"),
            Error::Corrupt(_) => Some("restore the data directory from a backup"),
            Error::Database(_) => {
                Some("check that the disk has room and that you may write to the data directory")
            }
            Error::EveryoneIsReader => Some("name the account that should have more"),
            Error::Label { .. } => Some("use letters, digits, spaces and punctuation, at most 128 bytes"),
            Error::NewerSchema { .. } => Some("use the newer patgate that wrote it"),
            Error::NotOurs { .. } | Error::Open { .. } => Some("check --data-dir"),
            Error::PolicyNotFound { .. } => Some("'patgate policy list' shows which policies are set where"),
            Error::RevocationRuleNotFound { .. } => {
                Some("'patgate token rule list' shows which rules there are")
            }
            Error::TokenNotFound { .. } => Some("'patgate token list' shows which tokens there are"),
            Error::TokenRevoked { .. } => {
                Some("a revoked token stays revoked: make a new one with 'patgate token create'")
            }
            Error::RotatedTooOften { .. }
            | Error::SecretReplaced { .. }
            | Error::TokenChanged { .. }
            | Error::TokenExists { .. } => None,
        };
        let text = CliError::from_error(&error);
        match hint {
            Some(hint) => text.hint(hint),
            None => text,
        }
    }
}

impl From<token::Error> for CliError {
    fn from(error: token::Error) -> Self {
        match error {
            token::Error::Store(error) => error.into(),
            token::Error::Expiry(error) => error.into(),
            token::Error::Limit(error) => error.into(),
            token::Error::Overlap(error) => error.into(),
            token::Error::Scope(error) => error.into(),
            token::Error::AccountDisabled { ref name } => {
                let hint = format!("enable it with: patgate user enable '{name}'");
                CliError::failure(error).hint(hint)
            }
            token::Error::Expired { ref id, .. } => {
                let hint = format!(
                    "make a new one, or give this one a new secret and end: patgate token rotate {id} --expires 90d"
                );
                CliError::failure(error).hint(hint)
            }
            token::Error::Policy(refusal) => refusal.into(),
            token::Error::NotNarrower(_) | token::Error::Random(_) => CliError::failure(error),
        }
    }
}

impl From<ExpiryError> for CliError {
    fn from(error: ExpiryError) -> Self {
        CliError::usage(error)
    }
}

impl From<OverlapError> for CliError {
    fn from(error: OverlapError) -> Self {
        CliError::usage(error)
    }
}

impl From<scope::ScopeError> for CliError {
    fn from(error: scope::ScopeError) -> Self {
        CliError::usage(error)
            .hint("'patgate token scopes' lists them all; separate several with spaces, in quotes")
    }
}

impl From<alternate::Error> for CliError {
    fn from(error: alternate::Error) -> Self {
        match error {
            alternate::Error::Store(error) => error.into(),
            alternate::Error::Password(error) => error.into(),
            alternate::Error::Name => CliError::usage(error),
            alternate::Error::PasswordIsToken | alternate::Error::PasswordReused => {
                CliError::failure(error).hint("choose another password, for this alone")
            }
        }
    }
}

impl From<policy::Error> for CliError {
    fn from(error: policy::Error) -> Self {
        match error {
            policy::Error::Store(error) => error.into(),
            policy::Error::Collection { .. } | policy::Error::ServerOnly(_) => CliError::usage(error),
        }
    }
}

impl From<policy::Refusal> for CliError {
    fn from(refusal: policy::Refusal) -> Self {
        match *refusal.breach {
            // Another date will do.
            policy::Breach::Lifetime { .. } => CliError::usage(refusal),
            policy::Breach::Creation { .. } | policy::Breach::FullScope { .. } => {
                CliError::failure(refusal).hint("'patgate policy list' shows what holds")
            }
        }
    }
}

impl From<policy::ValueError> for CliError {
    fn from(error: policy::ValueError) -> Self {
        let hint = format!("'patgate policy show {}' says what it is for", error.name);
        CliError::usage(error).hint(hint)
    }
}

impl From<rule::Error> for CliError {
    fn from(error: rule::Error) -> Self {
        match error {
            rule::Error::Store(error) => error.into(),
            rule::Error::Scope(error) => error.into(),
            rule::Error::Moment(_) | rule::Error::Future => CliError::usage(error),
        }
    }
}

impl From<password::Error> for CliError {
    fn from(error: password::Error) -> Self {
        CliError::failure(error)
    }
}

impl From<names::Error> for CliError {
    fn from(error: names::Error) -> Self {
        CliError::usage(format!("the name {error}"))
    }
}

impl From<config::Error> for CliError {
    fn from(error: config::Error) -> Self {
        match error {
            config::Error::Flag { .. } => CliError::usage(error),
            _ => CliError::from_error(&error),
        }
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            CliError::closed_pipe()
        } else {
            CliError::from_error(&error)
        }
    }
}

/// Where a command prints: results to stdout, what only a person reads to stderr.
pub struct Console {
    stdout: Box<dyn Write>,
    stderr: Box<dyn Write>,
    width: Option<usize>,
}

impl Console {
    /// The streams of the process.
    pub fn standard() -> Console {
        let stdout = io::stdout();
        let size = stdout
            .is_terminal()
            .then(|| rustix::termios::tcgetwinsize(&stdout).ok());
        Console {
            width: size
                .flatten()
                .map(|size| usize::from(size.ws_col))
                .filter(|&width| width > 0),
            stdout: Box::new(stdout),
            stderr: Box::new(io::stderr()),
        }
    }

    /// Streams of one's own.
    pub fn new(stdout: Box<dyn Write>, stderr: Box<dyn Write>) -> Console {
        Console {
            stdout,
            stderr,
            width: None,
        }
    }

    /// Characters in a line of the terminal that results are printed on, if they are.
    pub fn width(&self) -> Option<usize> {
        self.width
    }

    /// Prints `text` and a line feed as a result.
    ///
    /// # Errors
    ///
    /// When stdout cannot be written; a closed pipe ends the command without a message.
    pub fn print(&mut self, text: &str) -> Result<(), CliError> {
        self.write(text).map_err(CliError::from)
    }

    /// Prints a result that must not get lost.
    ///
    /// # Errors
    ///
    /// When stdout cannot be written, for whatever reason.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        self.stdout.write_all(text.as_bytes())?;
        self.stdout.write_all(b"\n")?;
        self.stdout.flush()
    }

    /// Prints JSON as a result.
    ///
    /// # Errors
    ///
    /// As [`Console::print`].
    pub fn print_json(&mut self, value: &Value) -> Result<(), CliError> {
        self.write_json(value).map_err(CliError::from)
    }

    /// Prints JSON as a result that must not get lost.
    ///
    /// # Errors
    ///
    /// As [`Console::write`].
    pub fn write_json(&mut self, value: &Value) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        self.write(&escape_json(&text))
    }

    /// Prints JSON as a result on a line of its own.
    ///
    /// # Errors
    ///
    /// As [`Console::print`].
    pub fn print_json_line(&mut self, value: &Value) -> Result<(), CliError> {
        self.print(&escape_json(&value.to_string()))
    }

    /// Prints a table as a result, or `nothing` for a person where it has no rows.
    ///
    /// # Errors
    ///
    /// As [`Console::print`].
    pub fn print_table(&mut self, table: &Table, nothing: &str) -> Result<(), CliError> {
        if table.rows.is_empty() {
            self.note(nothing);
            return Ok(());
        }
        self.print(&table.to_string())
    }

    /// Prints text for a person, escaped but for its line feeds: an error about a configuration file shows the place
    /// in it on lines of its own. If nobody listens there is nobody to tell.
    pub fn note(&mut self, text: &str) {
        for line in text.lines() {
            let _ = writeln!(self.stderr, "{}", escape(line));
        }
    }
}

/// Warns, and goes on only if one of `names` is typed.
///
/// # Errors
///
/// When something else is, or nothing.
pub fn confirm(
    warning: &str,
    names: &[&str],
    answer: &mut dyn BufRead,
    console: &mut Console,
) -> Result<(), CliError> {
    console.note(&format!("{warning} Type its name to go on:"));
    let mut line = String::new();
    answer.take(1024).read_line(&mut line)?;
    if names.contains(&line.trim()) {
        return Ok(());
    }
    let name = names.first().copied().unwrap_or_default();
    Err(CliError::failure("that is not its name: nothing was done")
        .hint(format!("type '{name}', or add --yes")))
}

/// Characters of the last column of a table that are shown even where the terminal has no room for them.
const LAST_COLUMN_MIN: usize = 24;

/// Rows in columns of equal width. Cells are escaped.
#[derive(Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes a table without rows.
    pub fn new(header: &[&str]) -> Table {
        Table {
            header: header.iter().map(|title| (*title).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Cuts the last column so that lines have at most `width` characters, but for `LAST_COLUMN_MIN` of that column.
    #[must_use]
    pub fn cut(mut self, width: Option<usize>) -> Table {
        let before: usize = (0..self.header.len().saturating_sub(1))
            .map(|column| {
                let lines = std::iter::once(&self.header).chain(&self.rows);
                let cells = lines.filter_map(|line| line.get(column));
                2 + cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .sum();
        let left = width.map_or(usize::MAX, |width| width.saturating_sub(before));
        for cell in self.rows.iter_mut().filter_map(|row| row.last_mut()) {
            *cell = cut(cell, left.max(LAST_COLUMN_MIN));
        }
        self
    }

    /// Adds a row with a cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(cells.into_iter().map(|cell| escape(&cell)).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let mut widths = vec![0; self.header.len()];
        for line in lines() {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for (at, line) in lines().enumerate() {
            let mut text = String::new();
            for (width, cell) in widths.iter().zip(line) {
                write!(text, "{cell:<width$}  ")?;
            }
            let end = if at == 0 { "" } else { "\n" };
            write!(f, "{end}{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// Writes control characters and invisible ones of `text` as `\u{…}`, so that a name cannot move the cursor, colour
/// the terminal or look like another one.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || store::is_invisible(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// The same for finished JSON, in which only strings can hold such characters.
fn escape_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if (character.is_control() && character != '\n') || store::is_invisible(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// The first `width` characters of `text`, of which the last is an ellipsis if there are more.
pub fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A moment as tables show it.
pub fn minute(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC)
        .strftime("%Y-%m-%d %H:%M UTC")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_escaped() {
        let mut table = Table::new(&["NAME", "ROLE"]);
        table.row(["bob".to_owned(), "reader".to_owned()]);
        table.row(["a\u{1b}[31mb\n".to_owned(), String::new()]);
        assert_eq!(
            table.to_string(),
            "NAME            ROLE\nbob             reader\na\\u{1b}[31mb\\n"
        );
    }

    #[test]
    fn a_table_is_cut_to_a_terminal_in_its_last_column() {
        let mut table = Table::new(&["NAME", "DETAILS"]);
        table.row(["bob".to_owned(), "x".repeat(100)]);
        table.row(["äöüß".to_owned(), "short".to_owned()]);
        let text = table.cut(Some(50)).to_string();
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths, [13, 50, 11], "{text}");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        let mut table = Table::new(&["NAME", "DETAILS"]);
        table.row(["n".repeat(60), "x".repeat(100)]);
        let text = table.cut(Some(50)).to_string();
        assert_eq!(text.lines().last().unwrap().chars().count(), 62 + LAST_COLUMN_MIN);
    }

    #[test]
    fn json_stays_json_when_it_is_escaped() {
        let value = serde_json::json!({ "name": "a\u{202e}b\u{7f}\u{e0041}" });
        let text = escape_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.is_ascii(), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn causes_are_printed_once() {
        let error = CliError::from_error(&store::Error::EveryoneIsReader);
        assert_eq!(error.message, "everyone can be a reader and nothing more");
    }
}
