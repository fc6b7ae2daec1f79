//! What the tests share: the real server and command line, real gits and other clients, repositories, raw HTTP, and stock
//! `git http-backend` to compare with.
//!
//! Nothing here reads the machine's own configuration: every process gets an environment made for it, an empty
//! home and a time limit. Processes are ended through their own handle.

pub mod backend;
pub mod cli;
pub mod client;
pub mod curl;
pub mod git;
pub mod helper;
pub mod history;
pub mod remote;
pub mod rest;
pub mod run;
pub mod server;
pub mod valve;
pub mod wire;

pub use cli::{Patgate, Token};
pub use client::Client;
pub use curl::{Curl, Reply};
pub use git::Git;
pub use helper::Helper;
pub use remote::Remote;
pub use rest::Rest;
pub use run::Run;
pub use server::{Server, Setup};
pub use valve::{Gauge, Valve};
