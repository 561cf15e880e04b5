//! Packed weights that are kept from one load of a network to the next, so that another weight of
//! an adapter packs only the layers that the adapter changes.
//!
//! ```text
//! load 1    conv_in  ─ packed ─┐        attn.to_q + 0.8·LoRA ─ packed ─┐
//! load 2    conv_in  ──────────┴ same   attn.to_q + 0.5·LoRA ─ packed anew
//! ```
//!
//! Layers hold their packed weights by `Arc`. A tensor is the same as before if the same changes
//! are applied to it, as objects in memory: each [`WeightDelta`] that was not opened anew.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{TensorSource, WeightDelta};
use crate::error::Result;

/// What was packed, by the tensor's name and the kind of weights.
#[derive(Default)]
pub(crate) struct PackedStore {
    entries: Mutex<BTreeMap<(String, TypeId), Entry>>,
}

struct Entry {
    changes: Vec<usize>,
    /// Keeps those alive, so that no other change gets their address.
    _source: Option<Arc<dyn TensorSource>>,
    weights: Arc<dyn Any + Send + Sync>,
}

/// A store, and the source from which a network is loaded now.
#[derive(Clone, Copy)]
pub(crate) struct Reuse<'a> {
    pub(crate) store: &'a PackedStore,
    pub(crate) source: &'a Arc<dyn TensorSource>,
}

impl Reuse<'_> {
    /// The packed weights of the tensor `names[0]`, of which `names` are all that it is made of.
    ///
    /// # Errors
    /// Those of `pack`, which is called if they are not there, or if other changes apply.
    pub(super) fn get<W: Send + Sync + 'static>(
        self,
        names: &[String],
        pack: impl FnOnce() -> Result<W>,
    ) -> Result<Arc<W>> {
        let deltas = names.iter().filter_map(|name| self.source.find(name)).flat_map(|found| found.deltas);
        let changes: Vec<usize> = deltas.map(address).collect();
        let key = (names[0].clone(), TypeId::of::<W>());
        let known = self.store.entries().remove(&key).filter(|entry| entry.changes == changes);
        let known = known.and_then(|entry| entry.weights.downcast::<W>().ok());
        let weights = match known {
            Some(weights) => weights,
            None => Arc::new(pack()?), // what was packed before is freed by now
        };
        let _source = (!changes.is_empty()).then(|| Arc::clone(self.source));
        let entry = Entry { changes, _source, weights: Arc::clone(&weights) as _ };
        self.store.entries().insert(key, entry);
        Ok(weights)
    }
}

fn address(delta: &dyn WeightDelta) -> usize {
    std::ptr::from_ref(delta).cast::<()>() as usize
}

impl PackedStore {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<(String, TypeId), Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
