//! The commands: definitions, output and exit codes.
//!
//! **Owns** what a person types and reads. Every command but `serve` works on the data directory itself, whether a
//! server runs on it or not. **Invariants**: what a program reads goes to stdout, what a person reads to stderr;
//! everything printed that somebody else has named is escaped; exit status 0 is done, 1 refused or failed, 2 wrong
//! usage.

mod access;
mod alternate;
pub mod args;
mod audit;
mod completions;
mod limits;
pub mod output;
mod password;
mod policy;
mod repo;
mod scanner_rule;
mod serve;
mod token;
mod token_rule;
mod user;

#[cfg(test)]
mod tests;

pub use args::run;
