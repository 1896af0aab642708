//! VMs of the overview: which are listed, in which order, and which one is selected.

use std::cmp::Ordering;

use super::{
    column::Column,
    nav::Nav,
    scene::{Scene, name},
    vm_state::VmState,
};
use collapse_model::{
    Vm,
    wording::{huge_share, mapped_sum},
};

/// Sort key of a row. Unknown numbers come last.
#[derive(PartialEq)]
enum Rank {
    Text(String),
    Number(f64),
}

impl Rank {
    fn of(column: Column, scene: &Scene, vm: &Vm) -> Self {
        let number = |n: Option<f64>| Self::Number(n.unwrap_or(-1.0));
        match column {
            Column::Name => Self::Text(name(vm).to_lowercase()),
            Column::Pid => number(vm.process.as_ref().map(|process| f64::from(process.pid))),
            Column::State => Self::Number(f64::from(VmState::of(vm, scene) as u8)),
            Column::Mapped => number(scene.pages(vm).map(|pages| mapped_sum(pages) as f64)),
            Column::Huge => number(scene.pages(vm).and_then(huge_share)),
            Column::Back => number(scene.region_totals(vm).map(|fate| fate.lost as f64)),
            Column::Rate(id) => {
                number(id.metric().rate(&vm.history, scene.coverage, scene.latest()))
            }
        }
    }

    /// Orders names from A to Z and numbers from the greatest down.
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => b.total_cmp(a),
            (Self::Text(_), Self::Number(_)) => Ordering::Less,
            (Self::Number(_), Self::Text(_)) => Ordering::Greater,
        }
    }
}

/// VMs listed, in the order shown.
pub fn rows<'a>(scene: &Scene<'a>, nav: &Nav) -> impl Iterator<Item = &'a Vm> + use<'a> {
    let wanted = nav.filter.to_lowercase();
    let is_wanted = |vm: &&Vm| {
        let pid = vm.process.as_ref().map(|process| process.pid.to_string());
        name(vm).to_lowercase().contains(&wanted) || pid.is_some_and(|pid| pid == wanted)
    };
    // At the end of a recording most VMs are gone, and they are what it is about.
    let ended = scene.track.is_some();
    let vms = scene.model.vms.values().filter(|vm| !vm.gone || ended || nav.vm == Some(vm.key));
    let mut rows: Vec<_> =
        vms.filter(is_wanted).map(|vm| (Rank::of(nav.sort, scene, vm), vm)).collect();
    rows.sort_by(|(a, vm), (b, other)| {
        let order = a.compare(b);
        let order = if nav.reversed { order.reverse() } else { order };
        order.then(vm.key.born.cmp(&other.key.born)).then(vm.key.cmp(&other.key))
    });
    rows.into_iter().map(|(_, vm)| vm)
}

/// The VM that the user selected, or the first one listed.
pub fn selected<'a>(scene: &Scene<'a>, nav: &Nav) -> Option<&'a Vm> {
    let chosen = nav.vm.and_then(|key| scene.model.vms.get(&key));
    chosen.or_else(|| rows(scene, nav).next())
}
