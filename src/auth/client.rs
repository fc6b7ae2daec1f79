//! Where a request comes from, as far as the gate cares.

use std::net::IpAddr;
use std::sync::Arc;

use crate::secret::redact_tokens;
use crate::store::Requester;

/// Longest `User-Agent` that is kept, in bytes; a longer one is cut.
const AGENT_BYTES_MAX: usize = 200;

/// The sender of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its address, in canonical form.
    pub address: IpAddr,
    /// What it calls itself; None if it does not.
    pub agent: Option<Arc<str>>,
}

impl Client {
    /// A client that sends `agent` as its `User-Agent`. What is not printable ASCII of it is replaced, and a token in it
    /// left out, because it is kept and shown.
    pub fn new(address: IpAddr, agent: Option<&[u8]>) -> Client {
        let printable = |byte: &u8| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '?',
        };
        let agent = agent.map(|agent| {
            let is_cut = agent.len() > AGENT_BYTES_MAX;
            let agent: String = agent.iter().take(AGENT_BYTES_MAX).map(printable).collect();
            redact_tokens(&agent, is_cut).into_owned()
        });
        Client {
            address: address.to_canonical(),
            agent: agent.filter(|agent| !agent.trim().is_empty()).map(Arc::from),
        }
    }
}

impl Client {
    /// Who the audit trail says it was: `account`, or nobody in particular.
    pub(super) fn requester(&self, account: Option<String>) -> Requester {
        Requester {
            account,
            token: None,
            address: Some(self.address),
            agent: self.agent.as_deref().map(str::to_owned),
        }
    }
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        Client::new(address, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_kept_printable_and_short() {
        let agent = |bytes: &[u8]| Client::new([127, 0, 0, 1].into(), Some(bytes)).agent;
        assert_eq!(agent(b"git/2.47.3").as_deref(), Some("git/2.47.3"));
        assert_eq!(agent(b"a\x1b[31m\xffb").as_deref(), Some("a?[31m?b"));
        assert_eq!(agent(b"  "), None);
        let token = format!("x pgt_{} y", "A".repeat(52));
        assert_eq!(agent(token.as_bytes()).as_deref(), Some("x pgt_AAAAAAAA… y"));
        assert_eq!(
            agent(&[b'x'; 5000]).map(|agent| agent.len()),
            Some(AGENT_BYTES_MAX)
        );
    }
}
