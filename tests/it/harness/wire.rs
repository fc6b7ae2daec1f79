//! Just enough of Git's wire format to write requests that git itself would not, and to read the answers.

/// One pkt-line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pkt {
    /// With its payload.
    Data(Vec<u8>),
    /// `0000`
    Flush,
    /// `0001`
    Delim,
    /// `0002`
    ResponseEnd,
}

/// A request in the making.
#[derive(Default, Clone)]
pub struct Request(Vec<u8>);

impl Request {
    /// An empty request.
    pub fn new() -> Request {
        Request::default()
    }

    /// Adds a line; a line break is not added.
    pub fn line(mut self, text: impl AsRef<[u8]>) -> Request {
        let text = text.as_ref();
        self.0
            .extend_from_slice(format!("{:04x}", text.len() + 4).as_bytes());
        self.0.extend_from_slice(text);
        self
    }

    /// Adds `0000`.
    pub fn flush(self) -> Request {
        self.raw(b"0000")
    }

    /// Adds `0001`.
    pub fn delim(self) -> Request {
        self.raw(b"0001")
    }

    /// Adds bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Request {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Cuts `bytes` into pkt-lines; what is left when no further one can be read comes second.
pub fn parse(mut bytes: &[u8]) -> (Vec<Pkt>, Vec<u8>) {
    let mut lines = Vec::new();
    while let Some(prefix) = bytes.get(..4).and_then(|hex| std::str::from_utf8(hex).ok()) {
        let Ok(length) = usize::from_str_radix(prefix, 16) else {
            break;
        };
        let end = match length {
            0 => (Pkt::Flush, 4),
            1 => (Pkt::Delim, 4),
            2 => (Pkt::ResponseEnd, 4),
            _ => match bytes.get(4..length) {
                Some(data) => (Pkt::Data(data.to_vec()), length),
                None => break,
            },
        };
        lines.push(end.0);
        bytes = &bytes[end.1..];
    }
    (lines, bytes.to_vec())
}

/// The text of all data lines, one a line.
pub fn text(bytes: &[u8]) -> String {
    let lines = parse(bytes).0.into_iter().filter_map(|line| match line {
        Pkt::Data(data) => Some(String::from_utf8_lossy(&data).trim_end_matches('\n').to_owned()),
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The bytes of one side-band of an answer.
pub fn band(bytes: &[u8], band: u8) -> Vec<u8> {
    let lines = parse(bytes).0.into_iter().filter_map(|line| match line {
        Pkt::Data(data) if data.first() == Some(&band) => Some(data[1..].to_vec()),
        _ => None,
    });
    lines.flatten().collect()
}
