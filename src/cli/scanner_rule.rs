//! `patgate token scanner-rule`: what a scanner of files has to know about tokens.
//!
//! Owns the text of a rule for gitleaks. The format is that of `[[rules]]` in its configuration:
//! <https://github.com/gitleaks/gitleaks#configuration>.

use super::output::{CliError, Console};
use crate::auth::token::{PREFIX, TOKEN_BYTES};

/// Bits of entropy a character from which on a match counts. A token has about 5; a placeholder such as `pgt_xxxx…` or
/// one that repeats a word has less than 4.
const ENTROPY: f64 = 4.0;

/// The rule, with what a person should know about it as comments.
pub(super) fn rule() -> String {
    let body_bytes = TOKEN_BYTES - PREFIX.len();
    format!(
        r#"# Personal access tokens of patgate, for gitleaks. Append this to .gitleaks.toml; in a file of its own it replaces
# gitleaks's own rules unless it begins with:
#
#     [extend]
#     useDefault = true
#
# A token is '{PREFIX}', 8 characters of public id, 38 of secret and 6 of checksum. To tell a token from what only looks
# like one: take the CRC-32 (IEEE 802.3, as in zlib) of the 46 characters between prefix and checksum, and write it in
# base 62 with the digits 0-9A-Za-z, most significant first, filled up with 0 to 6 digits. These are the checksum.
# If a token has leaked: patgate token revoke ID, where the ID is the 8 characters after '{PREFIX}'.
[[rules]]
id = "patgate-personal-access-token"
description = "Found a personal access token of patgate, which opens Git repositories to whoever holds it."
regex = '''\b{PREFIX}[0-9A-Za-z]{{{body_bytes}}}\b'''
entropy = {ENTROPY:.1}
keywords = ["{PREFIX}"]
tags = ["patgate", "token"]
"#
    )
}

/// Prints the rule.
pub(super) fn run(console: &mut Console) -> Result<(), CliError> {
    console.print(&rule())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use regex::Regex;

    use super::*;
    use crate::auth::token::PlainToken;

    fn parsed() -> toml::Table {
        let config: toml::Table = rule().parse().expect("the rule is TOML");
        assert_eq!(config.keys().collect::<Vec<_>>(), ["rules"]);
        let rules = config["rules"].as_array().unwrap();
        assert_eq!(rules.len(), 1);
        rules[0].as_table().unwrap().clone()
    }

    /// Bits of entropy a character, as gitleaks works them out.
    fn entropy(text: &str) -> f64 {
        let mut counts: HashMap<char, f64> = HashMap::new();
        for c in text.chars() {
            *counts.entry(c).or_default() += 1.0;
        }
        let len = text.len() as f64;
        counts
            .values()
            .map(|count| -(count / len) * (count / len).log2())
            .sum()
    }

    #[test]
    fn a_rule_has_the_keys_that_gitleaks_knows() {
        let rule = parsed();
        let mut keys: Vec<&str> = rule.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            ["description", "entropy", "id", "keywords", "regex", "tags"]
        );
        assert_eq!(
            rule["regex"].as_str(),
            Some(r"\bpgt_[0-9A-Za-z]{52}\b"),
            "the form of a token is a promise"
        );
        assert_eq!(rule["keywords"].as_array().unwrap()[0].as_str(), Some("pgt_"));
    }

    #[test]
    fn every_token_matches_and_what_is_none_does_not() {
        let rule = parsed();
        let regex = Regex::new(rule["regex"].as_str().unwrap()).unwrap();
        let least = rule["entropy"].as_float().unwrap();
        for _ in 0..1000 {
            let plain = PlainToken::generate().unwrap();
            let text = plain.expose();
            for line in [
                text.to_owned(),
                format!("https://pat:{text}@host/"),
                format!("\"{text}\","),
            ] {
                let found = regex.find(&line).expect("a token is found").as_str();
                assert_eq!(found, text);
                assert!(entropy(found) > least, "{}", entropy(found));
            }
            assert!(!regex.is_match(&text[..55]));
            assert!(!regex.is_match(&format!("{text}0")));
            assert!(!regex.is_match(&format!("x{text}")));
        }
        let placeholder = format!("pgt_{}", "x".repeat(52));
        assert!(regex.is_match(&placeholder) && entropy(&placeholder) < least);
    }

    #[test]
    fn the_checksum_is_worked_out_as_the_rule_says() {
        const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        for _ in 0..100 {
            let plain = PlainToken::generate().unwrap();
            let (body, checksum) = plain.expose()[PREFIX.len()..].split_at(46);
            let mut rest = crc32fast::hash(body.as_bytes());
            let mut digits = Vec::new();
            for _ in 0..6 {
                digits.insert(0, DIGITS[rest as usize % 62]);
                rest /= 62;
            }
            assert_eq!(checksum.as_bytes(), digits);
        }
    }
}
