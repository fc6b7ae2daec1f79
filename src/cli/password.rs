//! Passwords from a prompt or from stdin; never from the command line, which other users can read.

use std::io::{BufRead, Read as _};

use zeroize::Zeroizing;

use super::output::CliError;
use crate::auth::password::PASSWORD_BYTES_MAX;
use crate::secret::Secret;

/// Asks for a new password twice without showing it, or takes the first line of stdin.
pub(super) fn read_new(from_stdin: bool) -> Result<Secret, CliError> {
    if from_stdin {
        return read_line(&mut std::io::stdin().lock());
    }
    let prompt = |text: &str| {
        rpassword::prompt_password(text)
            .map(Secret::new)
            .map_err(|error| {
                CliError::failure(format!("cannot ask for a password: {error}"))
                    .hint("without a terminal, give it on stdin with --password-stdin")
            })
    };
    let password = prompt("New password: ")?;
    if password.expose() != prompt("The same again: ")?.expose() {
        return Err(CliError::failure("the two passwords differ").hint("try again"));
    }
    Ok(password)
}

/// Reads one line, without its end. What is longer than a password can be is not read to its end.
fn read_line(input: &mut dyn BufRead) -> Result<Secret, CliError> {
    let bytes_max = u64::try_from(PASSWORD_BYTES_MAX)
        .unwrap_or(u64::MAX)
        .saturating_add(2);
    // With room for all of it, or growing would leave copies behind in freed memory.
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX + 2));
    input
        .take(bytes_max)
        .read_until(b'\n', &mut line)
        .map_err(|error| CliError::failure(format!("cannot read the password from stdin: {error}")))?;
    let text = line.strip_suffix(b"\n").unwrap_or(&line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let text = str::from_utf8(text).map_err(|_| CliError::failure("the password on stdin is not UTF-8"))?;
    if text.is_empty() {
        return Err(CliError::failure("there is no password on stdin").hint("give it as the first line"));
    }
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(input: &[u8]) -> Result<String, u8> {
        read_line(&mut &*input)
            .map(|secret| secret.expose().to_owned())
            .map_err(|error| error.status())
    }

    #[test]
    fn the_first_line_is_the_password() {
        assert_eq!(line(b"correct horse\nmore").as_deref(), Ok("correct horse"));
        assert_eq!(line(b" spaces stay \r\n").as_deref(), Ok(" spaces stay "));
        assert_eq!(line(b"no end").as_deref(), Ok("no end"));
    }

    #[test]
    fn nothing_and_what_is_no_text_are_refused() {
        assert_eq!(line(b""), Err(1));
        assert_eq!(line(b"\nsecond"), Err(1));
        assert_eq!(line(b"\xff\xfe"), Err(1));
    }

    #[test]
    fn reading_stops_where_no_password_can_go_on() {
        assert_eq!(line(&[b'x'; 5000]).unwrap().len(), PASSWORD_BYTES_MAX + 2);
    }
}
