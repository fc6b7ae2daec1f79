//! patgate: a Git smart-HTTP server whose every request passes one gate, the personal access token.
//!
//! The map, from the bottom up; a module uses only those above it in this list:
//!
//! | module | what it is |
//! |---|---|
//! | [`names`], [`secret`], [`interrupt`], [`limits`] | words that everything shares |
//! | [`protocol`] | bytes to git wire messages and back: pure, incremental, bounded |
//! | [`store`] | accounts, tokens, access and the audit trail, in SQLite |
//! | [`repository`] | bare repositories on disk: refs, objects, quarantine, ref transactions |
//! | [`registrar`] | repositories made, renamed and deleted together with what the store keeps of them |
//! | [`pack`] | which objects go along, writing and taking in packs, checks |
//! | [`auth`] | the gate: credential to principal to grant |
//! | [`upload_pack`], [`receive_pack`] | one fetch, one push: synchronous engines |
//! | [`telemetry`], [`config`] | logs and metrics; settings |
//! | [`http`], [`server`] | routes, bodies and errors; sockets, TLS and shutdown |
//! | [`cli`] | the commands |

pub mod auth;
pub mod cli;
pub mod config;
#[cfg(test)]
mod fuzz_inputs;
pub mod http;
pub mod interrupt;
pub mod limits;
pub mod names;
pub mod pack;
pub mod protocol;
pub mod receive_pack;
pub mod registrar;
pub mod repository;
pub mod secret;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod upload_pack;
