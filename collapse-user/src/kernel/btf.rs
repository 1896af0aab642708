//! Reader of BTF, the kernel's own description of its types.
//!
//! Rust has no relocations for kernel structs, so field offsets and argument layouts are looked
//! up here at run time. `/sys/kernel/btf/vmlinux` stands alone; a module's BTF extends it.
//! The input is not trusted: malformed BTF gives an error, never a panic or an endless loop.

mod layer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use layer::{Kind, Layer, Record};

/// Longest chain of typedefs, qualifiers and pointers that is followed.
const MAX_CHAIN: usize = 32;
/// Most members that are looked at to find one field.
const MAX_MEMBERS: usize = 1 << 16;
/// Most definitions of the same name that are compared.
const MAX_DEFINITIONS: usize = 256;
/// Size of a pointer on the architectures that the tool runs on.
const POINTER_SIZE: u32 = 8;

/// Why BTF could not be read, or does not answer a question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The first two bytes are something else, or the BTF is big-endian.
    #[error("not little-endian BTF: starts with {0:#06x}")]
    Magic(u16),
    /// A version of the format that does not exist yet.
    #[error("BTF version {0} is not supported")]
    Version(u8),
    /// Something reaches past the end of the data.
    #[error("BTF is cut short in its {0}")]
    Truncated(&'static str),
    /// A kind of record whose length is not known, so that no later record can be found.
    #[error("BTF has a type record of unknown kind {0}")]
    UnknownKind(u32),
    /// Larger, longer or deeper than anything a kernel has.
    #[error("BTF is too complex")]
    TooComplex,
    /// A record refers to a type that does not exist.
    #[error("BTF refers to type {0}, which does not exist")]
    NoSuchId(u32),
    /// Split BTF can only extend BTF that stands alone.
    #[error("split BTF cannot be the base of other split BTF")]
    SplitBase,
    /// No type or function has this name, or it is declared and never defined.
    #[error("no definition of `{0}`")]
    NotDefined(String),
    /// The struct has no such field.
    #[error("`{0}` has no field `{1}`")]
    NoSuchField(String, String),
    /// A path goes on below something that is not a struct or union.
    #[error("`{0}` is not a struct")]
    NotAStruct(String),
    /// The field shares its bytes with others and has no byte offset.
    #[error("`{0}` is a bitfield")]
    Bitfield(String),
    /// Several definitions have this name, and they differ in what was asked.
    #[error("definitions of `{0}` disagree")]
    Ambiguous(String),
    /// The name is not that of a function or of a typedef of a function pointer.
    #[error("`{0}` is not a function")]
    NotAFunction(String),
}

/// A parameter of a function or a raw tracepoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamType {
    /// Empty where the compiler kept none, as in the prototypes of tracepoints.
    pub name: String,
    /// As in C, without qualifiers of the value itself: `struct kvm_vcpu *`, `u64`, `int`.
    pub ty: String,
    /// In bytes.
    pub size: u32,
}

impl fmt::Display for ParamType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.name.is_empty() || self.ty.ends_with('*') { "" } else { " " };
        write!(f, "{}{space}{}", self.ty, self.name)
    }
}

/// The types of a kernel, or of a module and the kernel that it extends.
#[derive(Debug, Clone)]
pub struct Btf {
    base: Option<Arc<Layer>>,
    own: Arc<Layer>,
}

impl Btf {
    /// Reads BTF that stands alone: that of `vmlinux`.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        Ok(Self { base: None, own: Arc::new(Layer::parse(bytes, 1, 0)?) })
    }

    /// Reads the BTF of a module, which extends that of the kernel it was loaded into.
    pub fn parse_split(base: &Self, bytes: Vec<u8>) -> Result<Self, BtfError> {
        if base.base.is_some() {
            return Err(BtfError::SplitBase);
        }
        let base = Arc::clone(&base.own);
        let own = Layer::parse(bytes, base.end_type(), base.end_string())?;
        Ok(Self { base: Some(base), own: Arc::new(own) })
    }

    /// Byte offset of a field from the start of the first struct of `path`, as in
    /// `kvm_page_fault.goal_level` or `dentry.d_name.name`.
    ///
    /// Members of anonymous structs and unions count as members of the struct around them.
    /// A module's definition is preferred over the kernel's, which may be an older copy from a
    /// header. Several definitions are fine while they agree: 6.18 has up to four copies of the
    /// same struct in the BTF of `kvm`.
    pub fn field_offset(&self, path: &str) -> Result<u32, BtfError> {
        let mut parts = path.split('.');
        let first = parts.next().unwrap_or_default();
        let is_struct = |record: Record<'_>| record.kind.is_composite();
        agreed(path, &self.defined(first, is_struct)?, |record| {
            let mut place = Place { record, bits: 0 };
            for (depth, part) in parts.clone().enumerate() {
                if !place.record.kind.is_composite() {
                    return Err(BtfError::NotAStruct(prefix(path, depth + 1)));
                }
                place = self.member(place, part, &prefix(path, depth + 2))?.ok_or_else(|| {
                    BtfError::NoSuchField(prefix(path, depth + 1), part.to_owned())
                })?;
            }
            Ok(place.bits / 8)
        })
    }

    /// Size in bytes of a struct, union, enum, typedef or basic type.
    pub fn size_of(&self, name: &str) -> Result<u32, BtfError> {
        let has_size = |record: Record<'_>| {
            !matches!(record.kind, Kind::Fwd | Kind::Func | Kind::Var | Kind::DataSec)
        };
        agreed(name, &self.defined(name, has_size)?, |record| self.size(record))
    }

    /// Value of an enumerator, of the enum of this name or of any enum.
    ///
    /// `None` if there is none, or if several have different values.
    pub fn enum_value(&self, name: Option<&str>, variant: &str) -> Option<i64> {
        let mut values = self
            .layers()
            .flat_map(Layer::records)
            .filter(|record| name.is_none_or(|name| self.string(record.name) == name.as_bytes()))
            .flat_map(Record::enumerators)
            .filter(|&(name, _)| self.string(name) == variant.as_bytes())
            .map(|(_, value)| value);
        let value = values.next()?;
        values.all(|other| other == value).then_some(value)
    }

    /// Parameters of a function (`FUNC`), or of the function that a typedef points to.
    ///
    /// For a tracepoint, `btf_trace_<name>` gives the arguments that a raw tracepoint program
    /// sees: the leading `void *__data` is for the tracepoint itself and is left out.
    pub fn func_proto(&self, name: &str) -> Result<Vec<ParamType>, BtfError> {
        let is_function = |record: Record<'_>| matches!(record.kind, Kind::Func | Kind::Typedef);
        agreed(name, &self.defined(name, is_function)?, |record| {
            let mut target = self.target(record)?;
            if record.kind == Kind::Typedef && target.kind == Kind::Ptr {
                target = self.target(target)?;
            }
            if target.kind != Kind::FuncProto {
                return Err(BtfError::NotAFunction(name.to_owned()));
            }
            let data = usize::from(name.starts_with("btf_trace_"));
            target
                .params()
                .skip(data)
                .map(|(name, ty)| {
                    Ok(ParamType {
                        name: String::from_utf8_lossy(self.string(name)).into_owned(),
                        ty: self.type_name(ty)?,
                        size: self.resolve(ty)?.map_or(Ok(0), |record| self.size(record))?,
                    })
                })
                .collect()
        })
    }

    /// The module's layer, if this is a module, then the kernel's.
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        [Some(&self.own), self.base.as_ref()].into_iter().flatten().map(AsRef::as_ref)
    }

    fn string(&self, offset: u32) -> &[u8] {
        self.layers().find_map(|layer| layer.string(offset)).unwrap_or_default()
    }

    fn record(&self, id: u32) -> Result<Record<'_>, BtfError> {
        self.layers().find_map(|layer| layer.record(id)).ok_or(BtfError::NoSuchId(id))
    }

    /// The definitions called `name` of the first layer that has any which are `suitable`.
    fn defined<'a>(
        &'a self,
        name: &'a str,
        suitable: impl Fn(Record<'_>) -> bool,
    ) -> Result<Vec<Record<'a>>, BtfError> {
        for layer in self.layers() {
            let records: Vec<_> = layer
                .named(name, |offset| self.string(offset))
                .filter_map(|id| layer.record(id))
                .filter(|&record| suitable(record))
                .take(MAX_DEFINITIONS + 1)
                .collect();
            if records.len() > MAX_DEFINITIONS {
                return Err(BtfError::TooComplex);
            }
            if !records.is_empty() {
                return Ok(records);
            }
        }
        Err(BtfError::NotDefined(name.to_owned()))
    }

    /// The member called `name` of the struct at `place`, looking into anonymous members.
    fn member<'a>(
        &'a self,
        place: Place<'a>,
        name: &str,
        path: &str,
    ) -> Result<Option<Place<'a>>, BtfError> {
        let mut budget = MAX_MEMBERS;
        let mut pending = vec![place];
        while let Some(Place { record, bits }) = pending.pop() {
            for member in record.members() {
                budget = budget.checked_sub(1).ok_or(BtfError::TooComplex)?;
                let found = self.string(member.name);
                if !found.is_empty() && found != name.as_bytes() {
                    continue;
                }
                let bits = bits.checked_add(member.bit_offset).ok_or(BtfError::TooComplex)?;
                let ty = self.resolve(member.ty)?;
                if found == name.as_bytes() {
                    if member.bitfield_size != 0 || bits % 8 != 0 {
                        return Err(BtfError::Bitfield(path.to_owned()));
                    }
                    let record = ty.ok_or(BtfError::NoSuchId(member.ty))?;
                    return Ok(Some(Place { record, bits }));
                }
                pending.extend(
                    ty.filter(|ty| ty.kind.is_composite()).map(|record| Place { record, bits }),
                );
            }
        }
        Ok(None)
    }

    /// The record that `record` refers to, without typedefs and qualifiers.
    fn target(&self, record: Record<'_>) -> Result<Record<'_>, BtfError> {
        let id = record.size_or_type;
        self.resolve(id)?.ok_or(BtfError::NoSuchId(id))
    }

    /// The type behind `id` without typedefs and qualifiers; `None` for `void`.
    fn resolve(&self, mut id: u32) -> Result<Option<Record<'_>>, BtfError> {
        for _ in 0..MAX_CHAIN {
            if id == 0 {
                return Ok(None);
            }
            let record = self.record(id)?;
            if !record.kind.is_transparent() {
                return Ok(Some(record));
            }
            id = record.size_or_type;
        }
        Err(BtfError::TooComplex)
    }

    /// Size in bytes; 0 for what has none.
    fn size(&self, record: Record<'_>) -> Result<u32, BtfError> {
        let (mut record, mut count) = (record, 1_u32);
        for _ in 0..MAX_CHAIN {
            let id = match record.kind {
                Kind::Ptr => return count.checked_mul(POINTER_SIZE).ok_or(BtfError::TooComplex),
                Kind::Func | Kind::FuncProto | Kind::Fwd | Kind::DeclTag => return Ok(0),
                Kind::Array => {
                    let (element, length) = record.array().unwrap_or_default();
                    count = count.checked_mul(length).ok_or(BtfError::TooComplex)?;
                    element
                }
                kind if kind.is_transparent() || kind == Kind::Var => record.size_or_type,
                _ => {
                    return count.checked_mul(record.size_or_type).ok_or(BtfError::TooComplex);
                }
            };
            match self.resolve(id)? {
                Some(next) => record = next,
                None => return Ok(0),
            }
        }
        Err(BtfError::TooComplex)
    }

    /// The type as written in C, without qualifiers of the value itself.
    fn type_name(&self, mut id: u32) -> Result<String, BtfError> {
        let mut stars = String::new();
        let mut constant = "";
        for _ in 0..MAX_CHAIN {
            let record = if id == 0 { None } else { Some(self.record(id)?) };
            let keyword = match record.map(|record| record.kind) {
                Some(Kind::Ptr) => {
                    stars.push('*');
                    constant = "";
                    id = record.map_or(0, |record| record.size_or_type);
                    continue;
                }
                Some(kind @ (Kind::Const | Kind::Volatile | Kind::Restrict | Kind::TypeTag)) => {
                    if kind == Kind::Const && !stars.is_empty() {
                        constant = "const ";
                    }
                    id = record.map_or(0, |record| record.size_or_type);
                    continue;
                }
                Some(Kind::Union) => "union ",
                Some(Kind::Fwd) if record.is_some_and(|record| record.flag) => "union ",
                Some(Kind::Struct | Kind::Fwd) => "struct ",
                Some(Kind::Enum | Kind::Enum64) => "enum ",
                _ => "",
            };
            let name = match record {
                None => "void".into(),
                Some(record) if record.kind == Kind::FuncProto => "(function)".into(),
                Some(record) if record.name == 0 => "(anonymous)".into(),
                Some(record) => String::from_utf8_lossy(self.string(record.name)),
            };
            let space = if stars.is_empty() { "" } else { " " };
            return Ok(format!("{constant}{keyword}{name}{space}{stars}"));
        }
        Err(BtfError::TooComplex)
    }
}

/// What every definition answers, if all answer the same.
fn agreed<'a, T: PartialEq>(
    path: &str,
    definitions: &[Record<'a>],
    answer: impl Fn(Record<'a>) -> Result<T, BtfError>,
) -> Result<T, BtfError> {
    let ambiguous = || BtfError::Ambiguous(path.to_owned());
    let mut answers = definitions.iter().copied().map(answer);
    let first = answers.next().ok_or_else(ambiguous)?;
    if answers.all(|other| other == first) { first } else { Err(ambiguous()) }
}

/// A type at some distance from the start of the struct that the search began in.
#[derive(Clone, Copy)]
struct Place<'a> {
    record: Record<'a>,
    bits: u32,
}

/// The first `parts` parts of a dotted path.
fn prefix(path: &str, parts: usize) -> String {
    path.split('.').take(parts).collect::<Vec<_>>().join(".")
}
