use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// A builder of small BTF objects.
struct BtfBuilder {
    types: Vec<u8>,
    strings: Vec<u8>,
    names: HashMap<String, u32>,
    next: u32,
    first_string: u32,
}

impl BtfBuilder {
    fn new() -> Self {
        let names = HashMap::from([(String::new(), 0)]);
        Self { types: vec![], strings: vec![0], names, next: 1, first_string: 0 }
    }

    /// Starts BTF that extends `base`.
    fn on(base: &Self) -> Self {
        Self {
            types: vec![],
            strings: vec![],
            names: base.names.clone(),
            next: base.next,
            first_string: base.strings.len() as u32,
        }
    }

    fn name(&mut self, name: &str) -> u32 {
        let next = self.first_string + self.strings.len() as u32;
        let offset = *self.names.entry(name.to_owned()).or_insert(next);
        if offset == next {
            self.strings.extend_from_slice(name.as_bytes());
            self.strings.push(0);
        }
        offset
    }

    fn record(&mut self, name: &str, info: u32, size_or_type: u32, body: &[u32]) -> u32 {
        let name = self.name(name);
        for word in [name, info, size_or_type].iter().chain(body) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        self.next += 1;
        self.next - 1
    }

    fn int(&mut self, name: &str, size: u32) -> u32 {
        self.record(name, 1 << 24, size, &[size * 8])
    }

    /// Adds a record without a body: pointer, typedef, qualifier, function.
    fn reference(&mut self, kind: u32, name: &str, ty: u32) -> u32 {
        self.record(name, kind << 24, ty, &[])
    }

    fn array(&mut self, ty: u32, length: u32) -> u32 {
        self.record("", 3 << 24, 0, &[ty, ty, length])
    }

    /// Adds a struct (4) or union (5) with (name, type, byte offset) members.
    fn composite(&mut self, kind: u32, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let body: Vec<_> = members
            .iter()
            .flat_map(|&(name, ty, offset)| [self.name(name), ty, offset * 8])
            .collect();
        self.record(name, kind << 24 | members.len() as u32, size, &body)
    }

    fn proto(&mut self, params: &[(&str, u32)]) -> u32 {
        let body: Vec<_> = params.iter().flat_map(|&(name, ty)| [self.name(name), ty]).collect();
        self.record("", 13 << 24 | params.len() as u32, 0, &body)
    }

    fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types, types, strings] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.types);
        bytes.extend_from_slice(&self.strings);
        bytes
    }

    fn btf(&self) -> Btf {
        Btf::parse(self.bytes()).unwrap()
    }
}

const PTR: u32 = 2;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const CONST: u32 = 10;
const FUNC: u32 = 12;

/// Makes the BTF of a small kernel, with the shapes that matter in a real one.
fn kernel() -> BtfBuilder {
    let mut b = BtfBuilder::new();
    let int = b.int("int", 4);
    let u64_ = b.int("unsigned long long", 8);
    let u64_ = b.reference(TYPEDEF, "u64", u64_);
    let gauges = b.composite(
        STRUCT,
        "",
        24,
        &[("pages_4k", u64_, 0), ("pages_2m", u64_, 8), ("pages_1g", u64_, 16)],
    );
    let array = b.array(u64_, 3);
    let pages = b.composite(UNION, "", 24, &[("", gauges, 0), ("pages", array, 0)]);
    let stat =
        b.composite(STRUCT, "kvm_vm_stat", 32, &[("remote_tlb_flush", u64_, 0), ("", pages, 8)]);
    let stat = b.reference(CONST, "", stat);
    let stat = b.reference(TYPEDEF, "vm_stat_t", stat);
    let kvm = b.composite(STRUCT, "kvm", 64, &[("userspace_pid", int, 0), ("stat", stat, 16)]);
    let kvm_ptr = b.reference(PTR, "", kvm);
    b.composite(STRUCT, "kvm_vcpu", 16, &[("kvm", kvm_ptr, 0), ("vcpu_id", int, 8)]);
    b.reference(FWD, "kvm_page_fault", 0);
    b
}

#[test]
fn fields_are_found_through_anonymous_members_typedefs_and_qualifiers() {
    let btf = kernel().btf();
    assert_eq!(btf.field_offset("kvm.userspace_pid"), Ok(0));
    assert_eq!(btf.field_offset("kvm.stat"), Ok(16));
    assert_eq!(btf.field_offset("kvm.stat.pages_4k"), Ok(24));
    assert_eq!(btf.field_offset("kvm.stat.pages_1g"), Ok(40));
    assert_eq!(btf.field_offset("kvm.stat.pages"), Ok(24));
}

#[test]
fn missing_things_are_named() {
    let btf = kernel().btf();
    let error = |path| btf.field_offset(path).unwrap_err().to_string();
    assert_eq!(error("kvm.stat.lpages"), "`kvm.stat` has no field `lpages`");
    assert_eq!(error("kvm.userspace_pid.x"), "`kvm.userspace_pid` is not a struct");
    assert_eq!(error("kvm_vcpu.kvm.stat"), "`kvm_vcpu.kvm` is not a struct");
    assert_eq!(error("tdp_iter.gfn"), "no definition of `tdp_iter`");
    // A forward declaration defines nothing.
    assert_eq!(error("kvm_page_fault.gfn"), "no definition of `kvm_page_fault`");
    assert_eq!(error(""), "no definition of ``");
}

#[test]
fn bitfields_have_no_byte_offset() {
    let mut b = BtfBuilder::new();
    let int = b.int("int", 4);
    let (level, rest) = (b.name("level"), b.name("rest"));
    let body = [level, int, 4 << 24, rest, int, 32];
    b.record("role", 1 << 31 | STRUCT << 24 | 2, 8, &body);
    let btf = b.btf();
    assert_eq!(btf.field_offset("role.level"), Err(BtfError::Bitfield("role.level".into())));
    assert_eq!(btf.field_offset("role.rest"), Ok(4));
}

#[test]
fn duplicates_are_accepted_while_they_agree() {
    let mut b = BtfBuilder::new();
    let int = b.int("int", 4);
    b.composite(STRUCT, "same", 8, &[("a", int, 0), ("b", int, 4)]);
    b.composite(STRUCT, "same", 12, &[("a", int, 0), ("b", int, 8)]);
    let btf = b.btf();
    assert_eq!(btf.field_offset("same.a"), Ok(0));
    assert_eq!(btf.field_offset("same.b"), Err(BtfError::Ambiguous("same.b".into())));
    assert_eq!(btf.size_of("same"), Err(BtfError::Ambiguous("same".into())));
}

#[test]
fn a_module_goes_before_the_kernel_unless_it_only_declares() {
    let base = kernel();
    let mut module = BtfBuilder::on(&base);
    module.reference(FWD, "kvm_vcpu", 0);
    let int = 1;
    module.composite(STRUCT, "kvm", 8, &[("userspace_pid", int, 4)]);
    module.composite(STRUCT, "kvm_page_fault", 8, &[("goal_level", int, 4)]);
    let kernel = base.btf();
    let btf = Btf::parse_split(&kernel, module.bytes()).unwrap();
    assert_eq!(btf.field_offset("kvm.userspace_pid"), Ok(4));
    assert_eq!(btf.field_offset("kvm_vcpu.vcpu_id"), Ok(8));
    assert_eq!(btf.field_offset("kvm_page_fault.goal_level"), Ok(4));
    assert_eq!(kernel.field_offset("kvm.userspace_pid"), Ok(0));
    assert_eq!(Btf::parse_split(&btf, module.bytes()).unwrap_err(), BtfError::SplitBase);
}

#[test]
fn sizes() {
    let btf = kernel().btf();
    assert_eq!(btf.size_of("kvm"), Ok(64));
    assert_eq!(btf.size_of("u64"), Ok(8));
    assert_eq!(btf.size_of("vm_stat_t"), Ok(32));
    assert_eq!(btf.size_of("kvm_page_fault"), Err(BtfError::NotDefined("kvm_page_fault".into())));
}

#[test]
fn arguments_of_tracepoints_and_functions() {
    let base = kernel();
    let mut b = BtfBuilder::on(&base);
    let void_ptr = b.reference(PTR, "", 0);
    let vcpu = b.composite(STRUCT, "kvm_vcpu", 16, &[]);
    let vcpu_ptr = b.reference(PTR, "", vcpu);
    let vcpu_const = b.reference(CONST, "", vcpu);
    let vcpu_const_ptr = b.reference(PTR, "", vcpu_const);
    let (int, u64_) = (1, 3);
    let proto = b.proto(&[("", void_ptr), ("", vcpu_ptr), ("", u64_), ("", int)]);
    let ptr = b.reference(PTR, "", proto);
    b.reference(TYPEDEF, "btf_trace_kvm_page_fault", ptr);
    let proto = b.proto(&[("vcpu", vcpu_const_ptr), ("level", int)]);
    b.reference(FUNC, "kvm_tdp_page_fault", proto);
    let btf = Btf::parse_split(&base.btf(), b.bytes()).unwrap();

    let shown = |name| {
        let params = btf.func_proto(name).unwrap();
        params.iter().map(|p| format!("{p}:{}", p.size)).collect::<Vec<_>>()
    };
    assert_eq!(shown("btf_trace_kvm_page_fault"), ["struct kvm_vcpu *:8", "u64:8", "int:4"]);
    assert_eq!(shown("kvm_tdp_page_fault"), ["const struct kvm_vcpu *vcpu:8", "int level:4"]);
    assert_eq!(btf.func_proto("vm_stat_t"), Err(BtfError::NotAFunction("vm_stat_t".into())));
    assert_eq!(btf.func_proto("absent"), Err(BtfError::NotDefined("absent".into())));
}

#[test]
fn enumerators() {
    let mut b = BtfBuilder::new();
    let (fixed, retry, both) = (b.name("RET_PF_FIXED"), b.name("RET_PF_RETRY"), b.name("BOTH"));
    b.record("", 6 << 24 | 2, 4, &[retry, 1, fixed, 5]);
    b.record("small", 1 << 31 | 6 << 24 | 1, 4, &[both, u32::MAX]);
    b.record("large", 19 << 24 | 1, 8, &[both, 1, 1]);
    let btf = b.btf();
    assert_eq!(btf.enum_value(None, "RET_PF_FIXED"), Some(5));
    assert_eq!(btf.enum_value(Some("small"), "BOTH"), Some(-1));
    assert_eq!(btf.enum_value(Some("large"), "BOTH"), Some((1 << 32) + 1));
    assert_eq!(btf.enum_value(None, "BOTH"), None);
    assert_eq!(btf.enum_value(None, "ABSENT"), None);
}

#[test]
fn cycles_end() {
    let mut b = BtfBuilder::new();
    b.reference(TYPEDEF, "t", 1);
    b.composite(STRUCT, "s", 4, &[("", 3, 0), ("", 3, 0), ("t", 1, 0)]);
    b.composite(STRUCT, "", 4, &[("", 3, 0), ("", 3, 0)]);
    b.array(4, 1);
    b.reference(TYPEDEF, "a", 4);
    let btf = b.btf();
    assert_eq!(btf.size_of("t"), Err(BtfError::TooComplex));
    assert_eq!(btf.size_of("a"), Err(BtfError::TooComplex));
    assert_eq!(btf.field_offset("s.absent"), Err(BtfError::TooComplex));
    assert_eq!(btf.field_offset("s.t"), Err(BtfError::TooComplex));
}

#[test]
fn what_is_not_btf_is_refused() {
    let parse = |bytes: &[u8]| Btf::parse(bytes.to_vec()).unwrap_err();
    let good = kernel().bytes();
    assert_eq!(parse(&[]), BtfError::Truncated("header"));
    assert_eq!(parse(&good[..good.len() - 1]), BtfError::Truncated("string section"));
    let mut big_endian = good.clone();
    big_endian.swap(0, 1);
    assert_eq!(parse(&big_endian), BtfError::Magic(0x9feb));
    let mut newer = good.clone();
    newer[2] = 2;
    assert_eq!(parse(&newer), BtfError::Version(2));
    let mut b = BtfBuilder::new();
    b.record("future", 0x7f << 24, 0, &[]);
    assert_eq!(parse(&b.bytes()), BtfError::UnknownKind(0x7f));
}

/// Makes every query; only their termination matters.
fn interrogate(btf: &Btf) {
    let names =
        ["kvm", "kvm.stat.pages_4k", "kvm.userspace_pid", "kvm_vcpu.kvm", "u64", "t", "s.t"];
    for name in names {
        let _ = btf.field_offset(name);
        let _ = btf.size_of(name);
        let _ = btf.func_proto(name);
        let _ = btf.enum_value(None, name);
        let _ = btf.enum_value(Some(name), name);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..512), magic: bool) {
        if magic && bytes.len() > 3 {
            bytes[..3].copy_from_slice(&[0x9f, 0xeb, 1]);
        }
        if let Ok(btf) = Btf::parse(bytes) {
            interrogate(&btf);
        }
    }

    #[test]
    fn damaged_btf_never_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let base = kernel();
        let mut bytes = base.bytes();
        for (index, value) in damage {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(btf) = Btf::parse_split(&base.btf(), bytes.clone()) {
            interrogate(&btf);
        }
        if let Ok(btf) = Btf::parse(bytes) {
            interrogate(&btf);
        }
    }
}
