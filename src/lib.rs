//! patgate: a Git smart-HTTP server whose every request passes one gate, the personal access token.
//!
//! The map, from the bottom up; a module uses only those above it in this list:
//!
//! | module | what it is |
//! |---|---|
//! | [`names`], [`secret`], [`interrupt`], [`limits`] | words that everything shares |

pub mod interrupt;
pub mod limits;
pub mod names;
pub mod secret;
