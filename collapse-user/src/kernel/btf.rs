//! Reader of BTF, the kernel's description of its types.
//!
//! Rust has no relocations for kernel structs, so field offsets and argument layouts are looked up
//! at run time. `/sys/kernel/btf/vmlinux` is complete; a module's BTF extends it. The input is not
//! trusted: malformed BTF gives an error, never a panic or an endless loop.

mod layer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use layer::{BtfKind, Layer, Record};

/// Maximum length of a chain of typedefs, qualifiers and pointers.
const MAX_CHAIN: usize = 32;
/// Maximum number of members examined to find one field.
const MAX_MEMBERS: usize = 1 << 16;
/// Maximum number of definitions of one name.
const MAX_DEFINITIONS: usize = 256;
/// Size of a pointer on supported architectures, bytes.
const POINTER_SIZE: u32 = 8;

/// Reason why BTF could not be read, or a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The first two bytes are wrong, or the BTF is big-endian.
    #[error("not little-endian BTF: starts with {0:#06x}")]
    Magic(u16),
    /// The format has an unsupported version.
    #[error("BTF version {0} is not supported")]
    Version(u8),
    /// A section or record extends past the end of the data.
    #[error("BTF is cut short in its {0}")]
    Truncated(&'static str),
    /// A record is of unknown kind and therefore of unknown length, so that later ones cannot be
    /// found.
    #[error("BTF has a type record of unknown kind {0}")]
    UnknownKind(u32),
    /// A limit was exceeded that no kernel's BTF comes near.
    #[error("BTF is too complex")]
    TooComplex,
    /// A record refers to a type that does not exist.
    #[error("BTF refers to type {0}, which does not exist")]
    NoSuchId(u32),
    /// The base of split BTF is itself split BTF.
    #[error("split BTF cannot be the base of other split BTF")]
    SplitBase,
    /// No type or function has this name, or it is declared and never defined.
    #[error("no definition of `{0}`")]
    NotDefined(String),
    /// The struct has no such field.
    #[error("`{0}` has no field `{1}`")]
    NoSuchField(String, String),
    /// A path continues below a type that is neither struct nor union.
    #[error("`{0}` is not a struct")]
    NotAStruct(String),
    /// The field shares its bytes with others and has no byte offset.
    #[error("`{0}` is a bitfield")]
    Bitfield(String),
    /// Several definitions have this name, and give different answers.
    #[error("definitions of `{0}` disagree")]
    Ambiguous(String),
    /// The name is not that of a function or of a typedef of a function pointer.
    #[error("`{0}` is not a function")]
    NotAFunction(String),
}

/// A parameter of a function or a raw tracepoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamType {
    /// Name; empty where the compiler kept none, as in the prototypes of tracepoints.
    pub name: String,
    /// Type as in C, without qualifiers of the value itself: `struct kvm_vcpu *`, `u64`, `int`.
    pub ty: String,
    /// Size, bytes.
    pub size: u32,
}

impl fmt::Display for ParamType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.name.is_empty() || self.ty.ends_with('*') { "" } else { " " };
        write!(f, "{}{space}{}", self.ty, self.name)
    }
}

/// The types of a kernel, or those of a module and of the kernel that it extends.
#[derive(Debug, Clone)]
pub struct Btf {
    base: Option<Arc<Layer>>,
    own: Arc<Layer>,
}

impl Btf {
    /// Parses complete BTF: that of `vmlinux`.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        Ok(Self { base: None, own: Arc::new(Layer::parse(bytes, 1, 0)?) })
    }

    /// Parses the BTF of a module, which extends that of the kernel it was loaded into.
    pub fn parse_split(base: &Self, bytes: Vec<u8>) -> Result<Self, BtfError> {
        if base.base.is_some() {
            return Err(BtfError::SplitBase);
        }
        let base = Arc::clone(&base.own);
        let own = Layer::parse(bytes, base.end_type(), base.end_string())?;
        Ok(Self { base: Some(base), own: Arc::new(own) })
    }

    /// Returns the byte offset of a field from the start of the first struct of `path`, as in
    /// `kvm_page_fault.goal_level` or `dentry.d_name.name`.
    ///
    /// Members of anonymous structs and unions count as members of the struct around them. A
    /// module's definition is preferred over the kernel's, which may be an older copy from a
    /// header. Several definitions are accepted if they agree: 6.18 has up to four copies of one
    /// struct in the BTF of `kvm`.
    pub fn field_offset(&self, path: &str) -> Result<u32, BtfError> {
        let mut parts = path.split('.');
        let first = parts.next().unwrap_or_default();
        let is_struct = |record: Record<'_>| record.kind.is_composite();
        agreed(path, &self.defined(first, is_struct)?, |record| {
            let mut place = FoundType { record, bits: 0 };
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

    /// Returns the size of a struct, union, enum, typedef or basic type, bytes.
    pub fn size_of(&self, name: &str) -> Result<u32, BtfError> {
        let has_size = |record: Record<'_>| {
            !matches!(record.kind, BtfKind::Fwd | BtfKind::Func | BtfKind::Var | BtfKind::DataSec)
        };
        agreed(name, &self.defined(name, has_size)?, |record| self.size(record))
    }

    /// Returns the value of an enumerator of the enum called `name`, or of any enum.
    ///
    /// `None` if no enumerator has this name, or if several do that have different values.
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

    /// Returns the parameters of a function (`FUNC`), or of the function that a typedef points to.
    ///
    /// For a tracepoint, `btf_trace_<name>` gives the arguments that a raw tracepoint program
    /// sees. The leading `void *__data` is for the tracepoint itself and is left out.
    pub fn func_proto(&self, name: &str) -> Result<Vec<ParamType>, BtfError> {
        let is_function =
            |record: Record<'_>| matches!(record.kind, BtfKind::Func | BtfKind::Typedef);
        agreed(name, &self.defined(name, is_function)?, |record| {
            let mut target = self.target(record)?;
            if record.kind == BtfKind::Typedef && target.kind == BtfKind::Ptr {
                target = self.target(target)?;
            }
            if target.kind != BtfKind::FuncProto {
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

    /// Returns the module's layer, if this is a module, then the kernel's.
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        [Some(&self.own), self.base.as_ref()].into_iter().flatten().map(AsRef::as_ref)
    }

    fn string(&self, offset: u32) -> &[u8] {
        self.layers().find_map(|layer| layer.string(offset)).unwrap_or_default()
    }

    fn record(&self, id: u32) -> Result<Record<'_>, BtfError> {
        self.layers().find_map(|layer| layer.record(id)).ok_or(BtfError::NoSuchId(id))
    }

    /// Returns the `suitable` definitions called `name` of the first layer that has any.
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

    /// Finds the member called `name` of the struct at `place`, searching anonymous members too.
    fn member<'a>(
        &'a self,
        place: FoundType<'a>,
        name: &str,
        path: &str,
    ) -> Result<Option<FoundType<'a>>, BtfError> {
        let mut budget = MAX_MEMBERS;
        let mut pending = vec![place];
        while let Some(FoundType { record, bits }) = pending.pop() {
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
                    return Ok(Some(FoundType { record, bits }));
                }
                pending.extend(
                    ty.filter(|ty| ty.kind.is_composite()).map(|record| FoundType { record, bits }),
                );
            }
        }
        Ok(None)
    }

    /// Returns the record that `record` refers to, behind typedefs and qualifiers.
    fn target(&self, record: Record<'_>) -> Result<Record<'_>, BtfError> {
        let id = record.size_or_type;
        self.resolve(id)?.ok_or(BtfError::NoSuchId(id))
    }

    /// Returns the type `id`, behind typedefs and qualifiers; `None` for `void`.
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

    /// Returns the size of a type, bytes; 0 for types that have none.
    fn size(&self, record: Record<'_>) -> Result<u32, BtfError> {
        let (mut record, mut count) = (record, 1_u32);
        for _ in 0..MAX_CHAIN {
            let id = match record.kind {
                BtfKind::Ptr => return count.checked_mul(POINTER_SIZE).ok_or(BtfError::TooComplex),
                BtfKind::Func | BtfKind::FuncProto | BtfKind::Fwd | BtfKind::DeclTag => {
                    return Ok(0);
                }
                BtfKind::Array => {
                    let (element, length) = record.array().unwrap_or_default();
                    count = count.checked_mul(length).ok_or(BtfError::TooComplex)?;
                    element
                }
                kind if kind.is_transparent() || kind == BtfKind::Var => record.size_or_type,
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

    /// Returns the type as written in C, without qualifiers of the value itself.
    fn type_name(&self, mut id: u32) -> Result<String, BtfError> {
        let mut stars = String::new();
        let mut constant = "";
        for _ in 0..MAX_CHAIN {
            let record = if id == 0 { None } else { Some(self.record(id)?) };
            let keyword = match record.map(|record| record.kind) {
                Some(BtfKind::Ptr) => {
                    stars.push('*');
                    constant = "";
                    id = record.map_or(0, |record| record.size_or_type);
                    continue;
                }
                Some(
                    kind @ (BtfKind::Const
                    | BtfKind::Volatile
                    | BtfKind::Restrict
                    | BtfKind::TypeTag),
                ) => {
                    if kind == BtfKind::Const && !stars.is_empty() {
                        constant = "const ";
                    }
                    id = record.map_or(0, |record| record.size_or_type);
                    continue;
                }
                Some(BtfKind::Union) => "union ",
                Some(BtfKind::Fwd) if record.is_some_and(|record| record.flag) => "union ",
                Some(BtfKind::Struct | BtfKind::Fwd) => "struct ",
                Some(BtfKind::Enum | BtfKind::Enum64) => "enum ",
                _ => "",
            };
            let name = match record {
                None => "void".into(),
                Some(record) if record.kind == BtfKind::FuncProto => "(function)".into(),
                Some(record) if record.name == 0 => "(anonymous)".into(),
                Some(record) => String::from_utf8_lossy(self.string(record.name)),
            };
            let space = if stars.is_empty() { "" } else { " " };
            return Ok(format!("{constant}{keyword}{name}{space}{stars}"));
        }
        Err(BtfError::TooComplex)
    }
}

/// Returns the answer of every definition, if all agree.
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

/// A type, and its distance from the start of the struct in which the search began.
#[derive(Clone, Copy)]
struct FoundType<'a> {
    record: Record<'a>,
    bits: u32,
}

/// Returns the first `parts` parts of a dotted path.
fn prefix(path: &str, parts: usize) -> String {
    path.split('.').take(parts).collect::<Vec<_>>().join(".")
}
