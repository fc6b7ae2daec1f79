//! Applying deltas, as gitformat-pack(5), "Deltified representation", has them.

/// What is wrong with a delta. All of it is said by bytes that a client may have sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends inside its header or inside an instruction.
    #[error("delta ends too early")]
    Truncated,
    /// A size does not fit 64 bits.
    #[error("delta names an impossible size")]
    Size,
    /// It was made for a base of another size.
    #[error("delta does not fit its base")]
    BaseSize,
    /// A copy instruction reaches outside the base.
    #[error("delta copies from outside its base")]
    Copy,
    /// Instruction 0, which is reserved.
    #[error("delta holds a reserved instruction")]
    Reserved,
    /// Its instructions make more or fewer bytes than its header says.
    #[error("delta makes another size than it says")]
    ResultSize,
}

/// The sizes that a delta's header names, and where its instructions begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes that the base must have.
    pub base_size: u64,
    /// Bytes of the result.
    pub result_size: u64,
    /// Offset of the first instruction.
    pub instructions: usize,
}

/// Reads the header of `delta`. The first 20 bytes are enough.
///
/// # Errors
///
/// When it is cut off or names a size over 64 bits.
pub fn header(delta: &[u8]) -> Result<Header, Error> {
    let (base_size, at) = size(delta, 0)?;
    let (result_size, instructions) = size(delta, at)?;
    Ok(Header {
        base_size,
        result_size,
        instructions,
    })
}

fn size(delta: &[u8], mut at: usize) -> Result<(u64, usize), Error> {
    let mut value = 0u64;
    let mut shift = 0u32;
    loop {
        let byte = *delta.get(at).ok_or(Error::Truncated)?;
        at += 1;
        let part = u64::from(byte & 0x7f);
        if shift > 63 || (shift > 57 && part >> (64 - shift) != 0) {
            return Err(Error::Size);
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok((value, at));
        }
        shift += 7;
    }
}

/// Appends to `out` what `delta` makes of `base`.
///
/// # Bounds
///
/// `out` grows by the result size of the header and no further; the caller holds that size against its limit first.
///
/// # Errors
///
/// When `delta` is malformed or does not fit `base`; `out` then holds a part of the result.
pub fn apply(base: &[u8], delta: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let header = header(delta)?;
    if header.base_size != base.len() as u64 {
        return Err(Error::BaseSize);
    }
    let result_size = usize::try_from(header.result_size).map_err(|_| Error::Size)?;
    let end = out.len().checked_add(result_size).ok_or(Error::Size)?;
    out.reserve(result_size);
    let mut rest = delta.get(header.instructions..).ok_or(Error::Truncated)?;
    while let Some((&op, tail)) = rest.split_first() {
        rest = tail;
        if op & 0x80 != 0 {
            let mut field = |bits: u8, count: u32| -> Result<usize, Error> {
                let mut value = 0usize;
                for i in 0..count {
                    if bits & (1 << i) != 0 {
                        let (&byte, tail) = rest.split_first().ok_or(Error::Truncated)?;
                        rest = tail;
                        value |= usize::from(byte) << (8 * i);
                    }
                }
                Ok(value)
            };
            let offset = field(op & 0x0f, 4)?;
            let length = field((op >> 4) & 0x07, 3)?;
            let length = if length == 0 { 0x10000 } else { length };
            let part = offset
                .checked_add(length)
                .and_then(|to| base.get(offset..to))
                .ok_or(Error::Copy)?;
            if out.len() + part.len() > end {
                return Err(Error::ResultSize);
            }
            out.extend_from_slice(part);
        } else if op != 0 {
            let (part, tail) = rest.split_at_checked(usize::from(op)).ok_or(Error::Truncated)?;
            rest = tail;
            if out.len() + part.len() > end {
                return Err(Error::ResultSize);
            }
            out.extend_from_slice(part);
        } else {
            return Err(Error::Reserved);
        }
    }
    if out.len() == end {
        Ok(())
    } else {
        Err(Error::ResultSize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(base: &[u8], delta: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        apply(base, delta, &mut out).map(|()| out)
    }

    #[test]
    fn copies_and_inserts_make_the_result() {
        let delta = [5, 6, 0x91, 1, 3, 3, b'x', b'y', b'z'];
        assert_eq!(applied(b"abcde", &delta).unwrap(), b"bcdxyz");
    }

    #[test]
    fn a_delta_cut_anywhere_is_refused() {
        let delta = [5, 6, 0x91, 1, 3, 3, b'x', b'y', b'z'];
        for cut in 0..delta.len() {
            assert!(applied(b"abcde", &delta[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        assert_eq!(applied(b"abcd", &[5, 1, 1, b'x']), Err(Error::BaseSize));
        assert_eq!(applied(b"abcde", &[5, 3, 0x91, 3, 3]), Err(Error::Copy));
        assert_eq!(applied(b"abcde", &[5, 1, 0]), Err(Error::Reserved));
        assert_eq!(applied(b"abcde", &[5, 1, 2, b'x', b'y']), Err(Error::ResultSize));
        assert_eq!(applied(b"abcde", &[0xff; 11]), Err(Error::Size));
    }
}
