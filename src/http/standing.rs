//! Whether a transfer that was let in may go on.

use std::fmt;
use std::sync::Arc;

use super::error::HttpError;
use crate::telemetry::printable;

/// Bytes of a refusal in the log.
pub(super) const CAUSE_BYTES_MAX: usize = 512;

/// A question to the gate that can be asked again for as long as a transfer runs: would it be let in now?
#[derive(Clone)]
pub struct Standing(Arc<dyn Fn() -> Result<(), HttpError> + Send + Sync>);

impl Standing {
    /// Makes the question; `ask` answers it by what holds at the moment.
    pub fn new(ask: impl Fn() -> Result<(), HttpError> + Send + Sync + 'static) -> Self {
        Standing(Arc::new(ask))
    }

    /// Asks it.
    ///
    /// # Errors
    ///
    /// The gate's refusal; a server error when it cannot tell.
    ///
    /// # Blocking
    ///
    /// Reads the database if something changed.
    pub fn ask(&self) -> Result<(), HttpError> {
        (self.0)()
    }

    /// Asks it where there is no response whose status could tell; what went wrong on the server is logged.
    ///
    /// # Errors
    ///
    /// The words for the client.
    pub fn ask_in_words(&self) -> Result<(), String> {
        self.ask().map_err(|error| {
            if error.status().is_server_error() {
                error.log("the gate cannot be asked about a running transfer");
                return "The server cannot check this token at the moment. Try again later.".to_owned();
            }
            let cause = printable(error.public(), CAUSE_BYTES_MAX);
            tracing::info!(%cause, "a transfer was refused at its end");
            error.public().to_owned()
        })
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Standing")
    }
}
