//! Sizes in the notation `64M`, `4K`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// Size of a small page, bytes.
pub const PAGE: u64 = 4 << 10;
/// Size of a huge page, and of a region, bytes.
pub const HUGE: u64 = 2 << 20;
/// Size of the largest page, and alignment of slots, bytes.
pub const GIB: u64 = 1 << 30;

/// A number of bytes, written with an optional suffix `K`, `M` or `G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (digits, shift) = match text.as_bytes().last() {
            Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
            Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
            Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        let number: u64 =
            digits.parse().with_context(|| format!("`{text}` is not a size such as 64M"))?;
        match number.checked_mul(1 << shift) {
            Some(bytes) => Ok(Self(bytes)),
            None => bail!("`{text}` does not fit 64 bits"),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n > 0 && n % GIB == 0 => write!(f, "{}G", n >> 30),
            n if n > 0 && n % (1 << 20) == 0 => write!(f, "{}M", n >> 20),
            n if n > 0 && n % (1 << 10) == 0 => write!(f, "{}K", n >> 10),
            n => write!(f, "{n}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!("64M".parse::<Bytes>().unwrap(), Bytes(64 << 20));
        assert_eq!("4k".parse::<Bytes>().unwrap(), Bytes(4096));
        assert_eq!("7".parse::<Bytes>().unwrap(), Bytes(7));
        for wrong in ["", "M", "-1", "4T", "99999999999999999G", "µ"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_size_reads_back(bytes: u64) {
            prop_assert_eq!(Bytes(bytes).to_string().parse::<Bytes>().unwrap(), Bytes(bytes));
        }
    }
}
