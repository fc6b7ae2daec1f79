//! The gate: from the credential of a request to who asks, and from there to what they may do.
//!
//! **Owns** the text of tokens, the meaning of scopes, password hashing, the throttling of failures, the cache of
//! verified tokens, and [`Grant`], without which no engine runs. **Does not know** HTTP, pkt-lines or where a
//! repository lies. **Invariants**: a right is what the token's scopes allow and its owner may do, by what the store
//! says at the moment of the question; the cache is keyed by the digest of a token, never by its text; a refusal says
//! nothing about a repository that the owner of the token may not see. **Spec**: RFC 7617, RFC 6750, RFC 6585 §4.

pub mod alternate;
mod attempts;
mod client;
pub mod clock;
pub mod credential;
mod gate;
mod grant;
pub mod leak;
pub mod password;
pub mod policy;
mod recorder;
mod refusal;
pub mod rule;
pub mod scope;
mod sign_in;
pub mod throttle;
pub mod token;
pub mod trail;
mod verifier;

pub use client::Client;
pub use clock::Clock;
pub use gate::{Gate, Options, Principal};
pub use grant::{Fetch, Grant, Manage, Push};
pub use recorder::Recorder;
pub use refusal::{Refusal, RefusalKind};
pub use sign_in::SignedIn;
