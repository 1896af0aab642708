//! One BTF object: header, type records, strings.
//!
//! All bounds are checked in one pass, while the records are indexed, so that reading a record
//! afterwards cannot fail. References between records are not checked here: they may point into
//! another layer.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::ops::Range;
use std::sync::OnceLock;

use super::BtfError;

/// First two bytes of a BTF object, as a little-endian number (`BTF_MAGIC`).
const MAGIC: u16 = 0xeb9f;
/// The only version of the format (`BTF_VERSION`).
const VERSION: u8 = 1;
/// Size of the header up to and including `str_len`; newer kernels may append to it.
const HEADER_LEN: usize = 24;
/// Size of `struct btf_type`.
const RECORD_LEN: usize = 12;
/// Maximum length of a name, above `KSYM_NAME_LEN` (512), so that a missing terminator costs little.
const MAX_NAME: usize = 1024;

/// A kind of type record (`BTF_KIND_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BtfKind {
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    DataSec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl BtfKind {
    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Int,
            2 => Self::Ptr,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Fwd,
            8 => Self::Typedef,
            9 => Self::Volatile,
            10 => Self::Const,
            11 => Self::Restrict,
            12 => Self::Func,
            13 => Self::FuncProto,
            14 => Self::Var,
            15 => Self::DataSec,
            16 => Self::Float,
            17 => Self::DeclTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            _ => return None,
        })
    }

    /// Returns the size of the data that follows a record of this kind with `vlen` elements, bytes.
    fn body_len(self, vlen: usize) -> usize {
        match self {
            Self::Int | Self::Var | Self::DeclTag => 4,
            Self::Array => 12,
            Self::Struct | Self::Union | Self::DataSec | Self::Enum64 => 12 * vlen,
            Self::Enum | Self::FuncProto => 8 * vlen,
            Self::Ptr
            | Self::Fwd
            | Self::Typedef
            | Self::Volatile
            | Self::Const
            | Self::Restrict
            | Self::Func
            | Self::Float
            | Self::TypeTag => 0,
        }
    }

    /// Returns whether the type is a struct or union.
    pub(super) fn is_composite(self) -> bool {
        matches!(self, Self::Struct | Self::Union)
    }

    /// Returns whether the record only renames or qualifies another type.
    pub(super) fn is_transparent(self) -> bool {
        matches!(
            self,
            Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag
        )
    }
}

/// A type record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) kind: BtfKind,
    /// Offset of the name in the string section; 0 for an anonymous type.
    pub(super) name: u32,
    /// A flag that depends on the kind: bitfields in a struct, signed values in an enum.
    pub(super) flag: bool,
    /// Size in bytes, or the id of the type that this one refers to, depending on the kind.
    pub(super) size_or_type: u32,
    body: &'a [u8],
}

/// A member of a struct or union.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) name: u32,
    pub(super) ty: u32,
    /// Offset from the start of the struct, bits.
    pub(super) bit_offset: u32,
    /// Size of a bitfield, bits; 0 for other members.
    pub(super) bitfield_size: u32,
}

impl<'a> Record<'a> {
    /// Returns the members of a struct or union, in order; none for any other kind.
    pub(super) fn members(self) -> impl Iterator<Item = Member> + use<'a> {
        let body = if self.kind.is_composite() { self.body } else { &[] };
        body.chunks_exact(12).map(move |entry| {
            let offset = u32_at(entry, 8);
            let (bit_offset, bitfield_size) =
                if self.flag { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
            Member { name: u32_at(entry, 0), ty: u32_at(entry, 4), bit_offset, bitfield_size }
        })
    }

    /// Returns the name offset and type id of each parameter of a function prototype.
    pub(super) fn params(self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        let body = if self.kind == BtfKind::FuncProto { self.body } else { &[] };
        body.chunks_exact(8).map(|entry| (u32_at(entry, 0), u32_at(entry, 4)))
    }

    /// Returns the name offset and value of each enumerator.
    pub(super) fn enumerators(self) -> impl Iterator<Item = (u32, i64)> + use<'a> {
        let (body, width) = match self.kind {
            BtfKind::Enum => (self.body, 8),
            BtfKind::Enum64 => (self.body, 12),
            _ => (&[][..], 8),
        };
        body.chunks_exact(width).map(move |entry| {
            let low = u32_at(entry, 4);
            let value = match (width, self.flag) {
                (12, _) => (u64::from(u32_at(entry, 8)) << 32 | u64::from(low)) as i64,
                (_, true) => i64::from(low as i32),
                (_, false) => i64::from(low),
            };
            (u32_at(entry, 0), value)
        })
    }

    /// Returns the element type id and the number of elements of an array.
    pub(super) fn array(self) -> Option<(u32, u32)> {
        (self.kind == BtfKind::Array).then(|| (u32_at(self.body, 0), u32_at(self.body, 8)))
    }
}

/// A BTF object, complete or extending another.
#[derive(Debug)]
pub(super) struct Layer {
    data: Vec<u8>,
    /// Start of each record in `data`.
    records: Vec<u32>,
    strings: Range<usize>,
    first_type: u32,
    first_string: u32,
    /// Hash of the name, and index into `records`, of each named record, sorted.
    names: OnceLock<Vec<(u64, u32)>>,
}

impl Layer {
    /// Indexes `data`, whose type ids start at `first_type` and string offsets at `first_string`.
    pub(super) fn parse(
        data: Vec<u8>,
        first_type: u32,
        first_string: u32,
    ) -> Result<Self, BtfError> {
        let header = data.get(..HEADER_LEN).ok_or(BtfError::Truncated("header"))?;
        let magic = u16::from_le_bytes([header[0], header[1]]);
        if magic != MAGIC {
            return Err(BtfError::Magic(magic));
        }
        if header[2] != VERSION {
            return Err(BtfError::Version(header[2]));
        }
        let header_len = u32_at(header, 4) as usize;
        if header_len < HEADER_LEN {
            return Err(BtfError::Truncated("header"));
        }
        let section = |at: usize, what| {
            let start = header_len.checked_add(u32_at(header, at) as usize);
            let end = start.and_then(|start| start.checked_add(u32_at(header, at + 4) as usize));
            match (start, end) {
                (Some(start), Some(end)) if end <= data.len() => Ok(start..end),
                _ => Err(BtfError::Truncated(what)),
            }
        };
        let types = section(8, "type section")?;
        let strings = section(16, "string section")?;
        let records = index_records(&data, types)?;
        // Ids and string offsets are 32 bits wide across both layers.
        if first_type.checked_add(records.len() as u32).is_none()
            || first_string.checked_add(strings.len() as u32).is_none()
        {
            return Err(BtfError::TooComplex);
        }
        Ok(Self { data, records, strings, first_type, first_string, names: OnceLock::new() })
    }

    /// Returns the id after the last one of this layer.
    pub(super) fn end_type(&self) -> u32 {
        self.first_type + self.records.len() as u32
    }

    /// Returns the string offset after the last one of this layer.
    pub(super) fn end_string(&self) -> u32 {
        self.first_string + self.strings.len() as u32
    }

    /// Returns the record with this id, if it is in this layer.
    pub(super) fn record(&self, id: u32) -> Option<Record<'_>> {
        let index = id.checked_sub(self.first_type)?;
        let start = *self.records.get(index as usize)? as usize;
        read_record(&self.data, start).ok()
    }

    /// Returns all records of this layer.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.records.iter().filter_map(|&start| read_record(&self.data, start as usize).ok())
    }

    /// Returns the string at this offset, if it is in this layer.
    pub(super) fn string(&self, offset: u32) -> Option<&[u8]> {
        let offset = offset.checked_sub(self.first_string)? as usize;
        let rest = self.data[self.strings.clone()].get(offset..)?;
        rest[..rest.len().min(MAX_NAME)].split(|&byte| byte == 0).next()
    }

    /// Returns the ids of the records of this layer that have this name. `string` resolves names,
    /// which may be in the layer below.
    pub(super) fn named<'a, F>(&'a self, name: &'a str, string: F) -> impl Iterator<Item = u32>
    where
        F: Fn(u32) -> &'a [u8] + Copy + 'a,
    {
        let names = self.names.get_or_init(|| {
            let mut names: Vec<_> = (0..)
                .zip(self.records())
                .filter(|(_, record)| record.name != 0)
                .map(|(index, record)| (hash(string(record.name)), index))
                .collect();
            names.sort_unstable();
            names
        });
        let wanted = hash(name.as_bytes());
        let start = names.partition_point(|&(hash, _)| hash < wanted);
        names[start..]
            .iter()
            .take_while(move |&&(hash, _)| hash == wanted)
            .map(|&(_, index)| self.first_type + index)
            .filter(move |&id| {
                self.record(id).is_some_and(|record| string(record.name) == name.as_bytes())
            })
    }
}

/// Returns the start of each record of the type section.
fn index_records(data: &[u8], types: Range<usize>) -> Result<Vec<u32>, BtfError> {
    let section = &data[..types.end];
    let mut records = Vec::new();
    let mut start = types.start;
    while start < types.end {
        let record = read_record(section, start)?;
        records.push(u32::try_from(start).map_err(|_| BtfError::TooComplex)?);
        start += RECORD_LEN + record.body.len();
    }
    Ok(records)
}

fn read_record(data: &[u8], start: usize) -> Result<Record<'_>, BtfError> {
    let truncated = BtfError::Truncated("type record");
    let Some(rest) = data.get(start..) else { return Err(truncated) };
    let Some((fixed, rest)) = rest.split_at_checked(RECORD_LEN) else { return Err(truncated) };
    let info = u32_at(fixed, 4);
    // 16 bits of length and 5 of kind are in use. The adjacent bits were always zero, and are read
    // because both would grow into them.
    let (number, vlen) = (info >> 24 & 0x7f, info & 0x00ff_ffff);
    let kind = BtfKind::from_number(number).ok_or(BtfError::UnknownKind(number))?;
    let body = rest.get(..kind.body_len(vlen as usize)).ok_or(truncated)?;
    Ok(Record {
        kind,
        name: u32_at(fixed, 0),
        flag: info >> 31 != 0,
        size_or_type: u32_at(fixed, 8),
        body,
    })
}

/// Reads the little-endian number at `at`, which the caller knows to be inside `bytes`.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    hasher.finish()
}
