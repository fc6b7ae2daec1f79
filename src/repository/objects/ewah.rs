//! Sets of small numbers: dense in memory, run-length compressed (EWAH) on disk.
//!
//! Owns decoding the compressed form that git writes (gitformat-bitmap(5), appendix A) straight into dense words. Pure.
//! Every count in the compressed form is a claim: nothing is allocated by it, and what goes beyond the set it is decoded
//! into is refused.

/// A set of the numbers below a fixed bound, as bits in words, least significant first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
    len: usize,
}

/// The compressed form ends early, or holds more than the set has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a compressed bitmap is malformed")]
pub struct Malformed;

impl Bits {
    /// An empty set of numbers below `len`.
    pub fn new(len: usize) -> Bits {
        Bits {
            words: vec![0; len.div_ceil(64)],
            len,
        }
    }

    /// Whether `at` is in the set; no for numbers beyond its bound.
    pub fn contains(&self, at: usize) -> bool {
        self.words
            .get(at / 64)
            .is_some_and(|word| word >> (at % 64) & 1 != 0)
    }

    /// Adds `at`, which must be below the bound; true if it was not in the set.
    pub fn insert(&mut self, at: usize) -> bool {
        let Some(word) = self.words.get_mut(at / 64) else {
            return false;
        };
        let bit = 1 << (at % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Bits) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// Makes the set empty.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// The numbers in the set, smallest first.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                // Clears the lowest bit; a word without any ends the sequence.
                rest = rest.checked_sub(1).map(|less| rest & less)?;
                Some(at * 64 + bit)
            })
        })
    }

    /// Turns every number over that the compressed set at the beginning of `bytes` has (exclusive or), and returns how
    /// many bytes that took.
    ///
    /// # Errors
    ///
    /// When `bytes` end early or name a number beyond the bound of this set, which then holds anything.
    pub fn toggle_compressed(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let (words, len) = compressed_words(bytes).ok_or(Malformed)?;
        let mut words = words.chunks_exact(8).map(be_u64);
        let mut at = 0usize;
        while let Some(marker) = words.next() {
            let run = usize::try_from(marker >> 1 & 0xffff_ffff).map_err(|_| Malformed)?;
            let literals = usize::try_from(marker >> 33).map_err(|_| Malformed)?;
            let end = at.checked_add(run).ok_or(Malformed)?;
            if marker & 1 != 0 {
                for word in self.words.get_mut(at..end).ok_or(Malformed)? {
                    *word = !*word;
                }
            }
            at = end;
            for _ in 0..literals {
                let literal = words.next().ok_or(Malformed)?;
                match self.words.get_mut(at) {
                    Some(word) => *word ^= literal,
                    None if literal == 0 => {}
                    None => return Err(Malformed),
                }
                at = at.checked_add(1).ok_or(Malformed)?;
            }
        }
        // Counted with the others, a number that there is not would stand for one that is missing.
        let used = self.len % 64;
        if used != 0 && self.words.last().is_some_and(|last| last >> used != 0) {
            return Err(Malformed);
        }
        Ok(len)
    }
}

/// Returns how many bytes the compressed set at the beginning of `bytes` takes, without looking into it.
///
/// # Errors
///
/// When `bytes` end early.
pub fn compressed_len(bytes: &[u8]) -> Result<usize, Malformed> {
    compressed_words(bytes).map(|(_, len)| len).ok_or(Malformed)
}

/// Cuts the compressed set at the beginning of `bytes` out of them: its words, and the length of all of it. It is a
/// count of bits, a count of words, the words, and the place of the last marker among them.
fn compressed_words(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let count = bytes.get(4..8)?;
    let count = usize::try_from(u32::from_be_bytes(count.try_into().ok()?)).ok()?;
    let end = count.checked_mul(8)?.checked_add(8)?;
    let words = bytes.get(8..end)?;
    let len = end.checked_add(4)?;
    (len <= bytes.len()).then_some((words, len))
}

fn be_u64(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Compresses in the plainest way: runs of equal words, literals one by one.
    fn compress(bits: &Bits) -> Vec<u8> {
        let mut words: Vec<u64> = Vec::new();
        let mut at = 0;
        while at < bits.words.len() {
            let word = bits.words[at];
            if word == 0 || word == u64::MAX {
                let run = bits.words[at..].iter().take_while(|&&next| next == word).count();
                words.push((run as u64) << 1 | u64::from(word != 0));
                at += run;
            } else {
                words.extend([1 << 33, word]);
                at += 1;
            }
        }
        let mut bytes = (bits.words.len() as u32 * 64).to_be_bytes().to_vec();
        bytes.extend((words.len() as u32).to_be_bytes());
        for word in words {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(0u32.to_be_bytes());
        bytes
    }

    fn bits(len: usize, of: impl IntoIterator<Item = usize>) -> Bits {
        let mut bits = Bits::new(len);
        for at in of {
            bits.insert(at);
        }
        bits
    }

    #[test]
    fn a_set_cut_at_any_byte_is_refused() {
        let whole = compress(&bits(1000, [1, 64, 65, 300]));
        for len in 0..whole.len() {
            assert_eq!(compressed_len(&whole[..len]), Err(Malformed), "{len}");
            assert_eq!(
                Bits::new(1000).toggle_compressed(&whole[..len]),
                Err(Malformed),
                "{len}"
            );
        }
        assert_eq!(compressed_len(&whole), Ok(whole.len()));
    }

    #[test]
    fn numbers_beyond_the_bound_are_refused_and_zeros_are_not() {
        let far = compress(&bits(1000, [900]));
        assert_eq!(Bits::new(100).toggle_compressed(&far), Err(Malformed));
        let ones = compress(&bits(256, 0..256));
        assert_eq!(Bits::new(128).toggle_compressed(&ones), Err(Malformed));
        // In the last word, but beyond its used bits.
        let stray = compress(&bits(128, [3, 101]));
        assert_eq!(Bits::new(101).toggle_compressed(&stray), Err(Malformed));
        assert!(Bits::new(102).toggle_compressed(&stray).is_ok());
        let mut zeros = compress(&bits(64, [3]));
        zeros[16..24].fill(0);
        assert!(Bits::new(0).toggle_compressed(&zeros).is_ok());
    }

    #[test]
    fn a_run_of_any_claimed_length_costs_nothing() {
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 1];
        bytes.extend((0xffff_ffffu64 << 1).to_be_bytes());
        bytes.extend([0; 4]);
        assert!(Bits::new(10).toggle_compressed(&bytes).is_ok());
        bytes[15] |= 1;
        assert_eq!(Bits::new(10).toggle_compressed(&bytes), Err(Malformed));
    }

    proptest! {
        #[test]
        fn what_was_compressed_is_found_again(of in proptest::collection::btree_set(0usize..5000, 0..300)) {
            let set = bits(5000, of.iter().copied());
            let mut decoded = Bits::new(5000);
            let bytes = compress(&set);
            prop_assert_eq!(decoded.toggle_compressed(&bytes), Ok(bytes.len()));
            prop_assert_eq!(decoded.iter().collect::<Vec<_>>(), of.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(decoded.count(), of.len());
            prop_assert!(of.iter().all(|&at| decoded.contains(at)));
            decoded.toggle_compressed(&bytes).unwrap();
            prop_assert_eq!(decoded.count(), 0);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Bits::new(777).toggle_compressed(&bytes);
            let _ = compressed_len(&bytes);
        }
    }
}
