//! The real git against the real server: one binary, one module an area.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends by panicking; the harness does so in functions that are not tests themselves"
)]

mod against_git;
mod alternate;
mod clients;
mod crash;
mod cut;
mod gate;
mod harness;
mod leak;
mod matrix;
mod operation;
mod parallel;
mod policy;
mod push_rules;
mod repositories;
mod requests;
mod rest_audit;
mod rest_clients;
mod rest_discovery;
mod rest_document;
mod rest_input;
mod rest_leaked;
mod rest_pats;
mod rest_rates;
mod rest_refs;
mod rest_repositories;
mod rest_standing;
mod rest_token_admin;
mod scenarios;
mod story;
mod token_life;
mod trail;
mod urls;

/// A file that nobody names here is never compiled, and its tests never run.
#[test]
fn every_file_of_the_tests_is_named() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    let named = include_str!("main.rs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(
            module == "main" || named.contains(&format!("mod {module};")),
            "{name} is not part of the tests"
        );
    }
}
