//! What can be rented: a shape of compute with a price.
//!
//! A SKU never changes once it is there: usage, invoices and recorded passes name it and mean what it was when they were written. Another
//! shape is another SKU; one that is no longer wanted is retired, takes no new work, and what runs on it goes on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// The longest name of a SKU or a family, in characters: it stands in paths and in the names of quotas.
pub const NAME_CHARS_MAX: usize = 63;
/// The fewest thousandths of a core: below it the kernel's share of a core is too small to be kept.
pub const CPUS_MILLI_MIN: u32 = 10;
/// The most thousandths of cores one instance may have: more than any one machine.
pub const CPUS_MILLI_MAX: u32 = 4_096_000;
/// The least memory, in bytes: what a program needs to begin at all.
pub const MEMORY_BYTES_MIN: u64 = 16 << 20;
/// The most memory, in bytes: more than any one machine.
pub const MEMORY_BYTES_MAX: u64 = 64 << 40;
/// The most accelerators one instance may have: more than any one machine.
pub const GPUS_MAX: u32 = 1_024;
/// The most one instance may count for in quotas.
pub const UNITS_MAX: u32 = 10_000;
/// The longest model of accelerators, in characters.
pub const GPU_MODEL_CHARS_MAX: usize = 100;
/// The most SKUs a catalogue may hold, retired ones included: it is read whole at every pass.
pub const SKUS_MAX: usize = 1_000;

/// A rentable shape. Jobs ask for one; a site has room for so many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sku {
    /// Its name: `cpu.1`, `h100.8`.
    pub name: String,
    /// Thousandths of a CPU core.
    pub cpus_milli: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Whole accelerators.
    pub gpus: u32,
    /// Thousandths of one accelerator, where there is no whole one. Nothing offers parts yet: no engine holds them apart.
    #[serde(default, skip_serializing_if = "is_none")]
    pub gpu_milli: u16,
    /// Model of the accelerators; none where there are none, or where any will do.
    pub gpu_model: Option<String>,
    /// What quotas count it as, together with others of this family; none: its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// How many units of its family one instance counts for; none: its accelerators, else one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is what serde asks for")]
const fn is_none(thousandths: &u16) -> bool {
    *thousandths == 0
}

/// Why a SKU makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is not usable: {why}")]
pub struct SkuError {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it, and what would do.
    pub why: String,
}

impl Sku {
    /// What quotas count it as.
    pub fn family(&self) -> &str {
        self.family.as_deref().unwrap_or(&self.name)
    }

    /// How many units of its family one instance counts for.
    pub fn units(&self) -> u32 {
        self.units.unwrap_or(self.gpus).max(1)
    }

    /// Whether it is a shape that a machine could have, under names that can be spoken of.
    pub fn check(&self) -> Result<(), SkuError> {
        let wrong = |field, why: String| Err(SkuError { field, why });
        let between = |field, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) { Ok(()) } else { wrong(field, format!("expected {least} to {most}")) }
        };
        for (field, name) in [("name", Some(&self.name)), ("family", self.family.as_ref())] {
            if name.is_some_and(|name| !is_name(name)) {
                return wrong(
                    field,
                    "expected 1 to 63 of `a-z`, `0-9`, `.`, `-`, beginning with a letter or a digit".into(),
                );
            }
        }
        between("cpus_milli", self.cpus_milli.into(), CPUS_MILLI_MIN.into(), CPUS_MILLI_MAX.into())?;
        between("memory_bytes", self.memory_bytes, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX)?;
        between("gpus", self.gpus.into(), 0, GPUS_MAX.into())?;
        if let Some(units) = self.units {
            between("units", units.into(), 1, UNITS_MAX.into())?;
        }
        if self.gpu_milli > 999 {
            return wrong(
                "gpu_milli",
                "a part of one accelerator is 1 to 999 thousandths; whole ones go in `gpus`".into(),
            );
        }
        if self.gpu_milli > 0 && self.gpus > 0 {
            return wrong("gpu_milli", "a part of an accelerator does not go beside whole ones".into());
        }
        match &self.gpu_model {
            Some(_) if self.gpus == 0 && self.gpu_milli == 0 => {
                wrong("gpu_model", "there are no accelerators: set `gpus`, or leave the model out".into())
            }
            Some(model) if !is_model(model) => {
                wrong("gpu_model", format!("expected 1 to {GPU_MODEL_CHARS_MAX} characters, no blanks at its ends"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a SKU or a family may be called so.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.chars().next().is_some_and(plain)
        && name.len() <= NAME_CHARS_MAX
        && name.chars().all(|c| plain(c) || matches!(c, '.' | '-'))
}

fn is_model(model: &str) -> bool {
    let count = model.chars().count();
    (1..=GPU_MODEL_CHARS_MAX).contains(&count) && model.trim() == model && !model.chars().any(char::is_control)
}

/// A SKU as the catalogue keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The shape; never another under the same name.
    pub sku: Sku,
    /// When it was first offered.
    pub created_at: Time,
    /// Since when it takes no new work; none while it does.
    pub retired_at: Option<Time>,
    /// Grows by one with every change.
    pub version: u64,
}

/// Everything that was ever rented, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    offers: Vec<Offer>,
}

impl Catalogue {
    /// A catalogue of these.
    pub fn new(mut offers: Vec<Offer>) -> Self {
        offers.sort_by(|one, other| one.sku.name.cmp(&other.sku.name));
        Self { offers }
    }

    /// All of them, retired ones too, by name.
    pub fn offers(&self) -> &[Offer] {
        &self.offers
    }

    /// The SKU of this name, retired or not: what runs on it, and what was billed for it, goes by it.
    pub fn sku(&self, name: &str) -> Option<&Sku> {
        self.offer(name).map(|offer| &offer.sku)
    }

    /// The offer of this name, retired or not.
    pub fn offer(&self, name: &str) -> Option<&Offer> {
        let place = self.offers.binary_search_by(|offer| offer.sku.name.as_str().cmp(name)).ok()?;
        self.offers.get(place)
    }

    /// What new work may be put on, by name.
    pub fn offered(&self) -> impl Iterator<Item = &Sku> {
        self.offers.iter().filter(|offer| offer.retired_at.is_none()).map(|offer| &offer.sku)
    }

    /// What quotas may speak of: the families of all SKUs, of retired ones too, since what runs on those still counts.
    pub fn families(&self) -> BTreeSet<&str> {
        self.offers.iter().map(|offer| offer.sku.family()).collect()
    }
}

/// The SKUs every cloud starts with.
pub fn default_skus() -> Vec<Sku> {
    const GIB: u64 = 1 << 30;
    let plain = |name: String, cores: u32, gib: u64, gpus: u32| Sku {
        name,
        cpus_milli: cores * 1000,
        memory_bytes: gib * GIB,
        gpus,
        gpu_milli: 0,
        gpu_model: None,
        family: None,
        units: None,
    };
    let cpu = |cores: u32| plain(format!("cpu.{cores}"), cores, u64::from(cores) * 4, 0);
    vec![cpu(1), cpu(2), cpu(4), plain("gpu.1".into(), 4, 32, 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sku(change: impl FnOnce(&mut Sku)) -> Result<(), &'static str> {
        let mut sku = default_skus().remove(3);
        change(&mut sku);
        sku.check().map_err(|error| error.field)
    }

    #[test]
    fn a_shape_is_refused_by_the_field_that_makes_no_sense() {
        assert!(default_skus().iter().all(|sku| sku.check().is_ok()));
        assert_eq!(sku(|sku| sku.name = "h100-80gb.8".into()), Ok(()));
        for name in ["", "H100", ".a", "-a", "a_b", "a/b", "é", &"a".repeat(64)] {
            assert_eq!(sku(|sku| sku.name = name.into()), Err("name"), "{name}");
            assert_eq!(sku(|sku| sku.family = Some(name.into())), Err("family"), "{name}");
        }
        assert_eq!(sku(|sku| sku.cpus_milli = 0), Err("cpus_milli"));
        assert_eq!(sku(|sku| sku.cpus_milli = u32::MAX), Err("cpus_milli"));
        assert_eq!(sku(|sku| sku.memory_bytes = 0), Err("memory_bytes"));
        assert_eq!(sku(|sku| sku.memory_bytes = u64::MAX), Err("memory_bytes"));
        assert_eq!(sku(|sku| sku.gpus = 1_025), Err("gpus"));
        assert_eq!(sku(|sku| sku.units = Some(0)), Err("units"));
        assert_eq!(sku(|sku| (sku.gpus, sku.gpu_model) = (0, Some("H100".into()))), Err("gpu_model"));
        assert_eq!(sku(|sku| sku.gpu_model = Some(" ".into())), Err("gpu_model"));
        assert_eq!(sku(|sku| sku.gpu_milli = 500), Err("gpu_milli"), "beside a whole one");
        assert_eq!(sku(|sku| (sku.gpus, sku.gpu_milli) = (0, 500)), Ok(()));
        assert_eq!(sku(|sku| (sku.gpus, sku.gpu_milli) = (0, 1_000)), Err("gpu_milli"));
    }

    #[test]
    fn units_are_what_was_said_else_accelerators_else_one() {
        let of = |gpus, units| Sku { gpus, units, ..default_skus().remove(0) }.units();
        assert_eq!((of(0, None), of(8, None), of(0, Some(5)), of(8, Some(3))), (1, 8, 5, 3));
    }

    #[test]
    fn a_catalogue_offers_what_is_not_retired_and_knows_what_was() {
        let offer = |sku: Sku, retired_at| Offer { sku, created_at: Time::from_millis(0), retired_at, version: 1 };
        let mut skus = default_skus();
        skus[1].family = Some("cpu".into());
        let offers = skus.into_iter().rev().enumerate();
        let catalogue =
            Catalogue::new(offers.map(|(at, sku)| offer(sku, (at == 2).then(|| Time::from_millis(1)))).collect());
        assert_eq!(catalogue.offered().map(|sku| sku.name.as_str()).collect::<Vec<_>>(), ["cpu.1", "cpu.4", "gpu.1"]);
        assert_eq!(catalogue.sku("cpu.2").map(|sku| sku.cpus_milli), Some(2000));
        assert_eq!(catalogue.sku("cpu.3"), None);
        assert_eq!(catalogue.families().into_iter().collect::<Vec<_>>(), ["cpu", "cpu.1", "cpu.4", "gpu.1"]);
    }
}
