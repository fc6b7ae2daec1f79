//! Who did something and when, as commit headers and reflogs write it: `Name <email> seconds ±hhmm`.

use std::time::{SystemTime, UNIX_EPOCH};

/// Makes a whole signature of `text`: the time is added where it has none, in UTC, and characters that would end the
/// line are taken out.
pub(crate) fn complete(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    let (person, time) = match text.rsplit_once('>') {
        Some((person, time)) => (format!("{person}>"), time.trim()),
        None => (format!("{text} <>"), ""),
    };
    if is_time(time) {
        return format!("{person} {time}");
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    format!("{} {now} +0000", person.trim_start())
}

/// The signature of the server itself, now.
pub(crate) fn server() -> String {
    complete("patgate <patgate@localhost>")
}

fn is_time(text: &str) -> bool {
    let Some((seconds, zone)) = text.split_once(' ') else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(seconds) && zone.len() == 5 && zone.starts_with(['+', '-']) && zone.get(1..).is_some_and(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_kept_or_added_and_a_line_end_taken_out() {
        assert_eq!(
            complete("A U Thor <a@b> 1700000000 +0130"),
            "A U Thor <a@b> 1700000000 +0130"
        );
        let completed = complete("A\nU <a@b>\n");
        assert!(
            completed.starts_with("AU <a@b> ") && completed.ends_with(" +0000"),
            "{completed}"
        );
        assert!(complete("nobody").starts_with("nobody <> "));
    }
}
