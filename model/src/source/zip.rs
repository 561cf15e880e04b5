//! The table of a ZIP archive whose members are stored as they are, which is how torch writes one.
//!
//! ```text
//! member: 30 bytes, name, extra field, data       …       table: an entry for each member       end: where the table is
//! ```
//!
//! Read from the end: the last record points to the table, the table to the members. Large archives
//! have 64-bit copies of the numbers that do not fit into 32. Source: PKWARE's *APPNOTE.TXT*,
//! sections 4.3 and 4.5.

use std::collections::HashMap;
use std::ops::Range;

/// Name → where the member's bytes are.
pub(super) fn members(bytes: &[u8]) -> Result<HashMap<String, Range<usize>>, String> {
    read(bytes).map_err(str::to_owned)
}

fn read(bytes: &[u8]) -> Result<HashMap<String, Range<usize>>, &'static str> {
    const CUT: &str = "its table of contents is cut off";
    let [count, mut at] = table(bytes).ok_or(CUT)?;
    let mut members = HashMap::new();
    for _ in 0..count {
        let entry = Reader { bytes, at };
        if entry.u32(0) != Some(0x0201_4b50) {
            return Err(CUT);
        }
        let numbers = (|| {
            let lengths = [entry.u16(28)?, entry.u16(30)?, entry.u16(32)?];
            let name = entry.slice(46, lengths[0])?;
            let extra = Reader { bytes: entry.slice(46 + lengths[0], lengths[1])?, at: 0 };
            let mut wide = extra.wide_numbers();
            // In this order, and each only if it does not fit.
            let mut number = |at| match entry.u32(at)? {
                u32::MAX => wide.next(),
                number => Some(number as usize),
            };
            let (size, stored, header) = (number(24)?, number(20)?, number(42)?);
            Some((lengths, name, size, stored, header, entry.u16(8)?, entry.u16(10)?))
        })();
        let Some((lengths, name, size, stored, header, flags, method)) = numbers else { return Err(CUT) };
        if flags & 1 != 0 || method != 0 || size != stored {
            return Err("a member is compressed or encrypted; torch stores all of them as they are");
        }
        let member = Reader { bytes, at: header };
        let start = (|| {
            let fits = member.u32(0)? == 0x0403_4b50;
            let start = header.checked_add(30 + member.u16(26)? + member.u16(28)?)?;
            (fits && start.checked_add(size)? <= bytes.len()).then_some(start)
        })();
        let start = start.ok_or("a member lies outside of the file")?;
        let name = std::str::from_utf8(name).map_err(|_| "the name of a member is no UTF-8")?;
        if members.insert(name.to_owned(), start..start + size).is_some() {
            return Err("two members have the same name");
        }
        at += 46 + lengths.iter().sum::<usize>();
    }
    Ok(members)
}

/// How many entries the table has, and where it is.
fn table(bytes: &[u8]) -> Option<[usize; 2]> {
    const END: usize = 22;
    const LONGEST_COMMENT: usize = 0xffff;
    let last = bytes.len().checked_sub(END)?;
    let first = last.saturating_sub(LONGEST_COMMENT);
    let at = (first..=last).rev().find(|&at| bytes[at..].starts_with(b"PK\x05\x06"))?;
    let end = Reader { bytes, at };
    let numbers = [end.u16(10)?, end.u32(16)? as usize];
    if numbers != [0xffff, 0xffff_ffff] && numbers[1] != 0xffff_ffff && numbers[0] != 0xffff {
        return Some(numbers);
    }
    let locator = Reader { bytes, at: at.checked_sub(20)? };
    if locator.u32(0)? != 0x0706_4b50 {
        return None;
    }
    let end = Reader { bytes, at: locator.u64(8)? };
    (end.u32(0)? == 0x0606_4b50).then_some([end.u64(32)?, end.u64(48)?])
}

/// Little-endian numbers behind a position, all of them checked.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn slice(&self, offset: usize, length: usize) -> Option<&'a [u8]> {
        let start = self.at.checked_add(offset)?;
        self.bytes.get(start..start.checked_add(length)?)
    }

    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.slice(offset, N)?.try_into().ok()
    }

    fn u16(&self, offset: usize) -> Option<usize> {
        self.array(offset).map(|bytes| usize::from(u16::from_le_bytes(bytes)))
    }

    fn u32(&self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_le_bytes)
    }

    fn u64(&self, offset: usize) -> Option<usize> {
        self.array(offset).and_then(|bytes| usize::try_from(u64::from_le_bytes(bytes)).ok())
    }

    /// The 64-bit numbers of an extra field, whose own number is 1.
    fn wide_numbers(&self) -> impl Iterator<Item = usize> + use<> {
        let mut at = 0;
        let mut numbers = Vec::new();
        while let (Some(kind), Some(length)) = (self.u16(at), self.u16(at + 2)) {
            if kind == 1 {
                numbers.extend((0..length / 8).map_while(|i| self.u64(at + 4 + 8 * i)));
                break;
            }
            at += 4 + length;
        }
        numbers.into_iter()
    }
}
