//! A network of the pipeline, in memory as long as it is needed.
//!
//! ```text
//! check      is everything in the file, in the right shape? nothing is read        when the model is loaded
//! get        from memory, or from the file, which stays open                       text encoder → UNet → VAE decoder
//! release    frees it                                                              unless another picture will need it
//! ```
//!
//! Stable Diffusion 1.5 in 16 bits is 1.7 GB of UNet, 0.25 of text encoder and 0.1 of VAE decoder;
//! they are never needed at the same time. A single picture frees each before it loads the next,
//! which costs nothing: each is loaded once either way.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::found::TensorSource;
use super::packed::{PackedStore, Reuse};
use super::reader::Weights;
use super::schema::Schema;
use crate::error::Result;
use crate::precisions::Precisions;

/// A network, its weights' source, and how to get from the one to the other.
pub(crate) struct LazyNetwork<T> {
    precisions: Precisions,
    load: Load<T>,
    /// Whether it stays in memory.
    keep: bool,
    /// What is packed, if it stays.
    packed: PackedStore,
    state: Mutex<State<T>>,
}

struct State<T> {
    source: Arc<dyn TensorSource>,
    loaded: Option<Arc<T>>,
    /// The last one that was loaded, as long as somebody uses it.
    used: Weak<T>,
}

type Load<T> = Box<dyn Fn(&Weights<'_>) -> Result<T> + Send + Sync>;

impl<T> LazyNetwork<T> {
    /// A network that is not loaded yet.
    pub(crate) fn new(
        source: Arc<dyn TensorSource>,
        precisions: Precisions,
        keep: bool,
        load: impl Fn(&Weights<'_>) -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        let state = Mutex::new(State { source, loaded: None, used: Weak::new() });
        Self { precisions, load: Box::new(load), keep, packed: PackedStore::default(), state }
    }

    /// Whether the source holds what the network needs; its numbers are not read.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape or type.
    pub(crate) fn check(&self) -> Result<()> {
        let source = self.source();
        (self.load)(&Weights::of(&*source).without_numbers()).map(drop)
    }

    /// Where its weights come from.
    pub(crate) fn source(&self) -> Arc<dyn TensorSource> {
        Arc::clone(&self.state().source)
    }

    /// Takes the weights from another source from now on, which differs from the one before in what
    /// it changes alone. What is loaded is freed; of a network that stays in memory, when it is
    /// loaded again: then the layers that are changed otherwise are packed anew, and no others.
    pub(crate) fn set_source(&self, source: Arc<dyn TensorSource>) {
        *self.state() = State { source, loaded: None, used: Weak::new() };
    }

    /// The network, loaded if it is not there.
    ///
    /// Nothing is locked while it loads: packing runs on the thread pool, where this thread may
    /// come by another request for the same network. If two load it at the same time, one of the
    /// results is kept.
    ///
    /// # Errors
    /// As for [`check`](Self::check).
    pub(crate) fn get(&self) -> Result<Arc<T>> {
        self.get_reporting(&mut |_| {})
    }

    /// The same; `report` is called with the share that is loaded, in per cent, when it changes,
    /// and not at all if the network is in memory.
    ///
    /// # Errors
    /// As for [`check`](Self::check).
    pub(crate) fn get_reporting(&self, report: &mut dyn FnMut(usize)) -> Result<Arc<T>> {
        {
            let state = self.state();
            if let Some(loaded) = state.loaded.clone().or_else(|| state.used.upgrade()) {
                return Ok(loaded);
            }
        }
        let source = self.source();
        let schema = Schema::of(&*source);
        (self.load)(&schema.weights())?;
        let total: usize = schema.tensors().iter().map(|spec| spec.shape.iter().product::<usize>()).sum();
        let (read, told, report) = (Cell::new(0), Cell::new(usize::MAX), RefCell::new(report));
        let on_read = |numbers: usize| {
            read.set(read.get() + numbers);
            let percent = 100 * read.get() / total.max(1);
            if told.replace(percent) != percent {
                (report.borrow_mut())(percent);
            }
        };
        let weights = Weights::of(&*source).for_precision(self.precisions);
        let reuse = Reuse { store: &self.packed, source: &source };
        let weights = if self.keep { weights.reusing(reuse) } else { weights };
        let network = Arc::new((self.load)(&weights.reporting(&on_read))?);
        let mut state = self.state();
        if !Arc::ptr_eq(&state.source, &source) {
            return Ok(network); // asked for before the source was another
        }
        let network = Arc::clone(state.loaded.get_or_insert(network));
        state.used = Arc::downgrade(&network);
        Ok(network)
    }

    /// Frees the network, unless it is to be kept, or as soon as it is used no more.
    pub(crate) fn release(&self) {
        if !self.keep {
            self.state().loaded = None;
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::layers::Linear;
    use crate::source::{Checkpoint, UNET};
    use crate::tools::random_model::{Architecture, DType, RandomModel};

    fn network(folder: &std::path::Path, name: &'static str, keep: bool) -> LazyNetwork<Linear> {
        let file = Checkpoint::open(&UNET.folder(folder), &UNET).expect("it was just written");
        LazyNetwork::new(Arc::new(file), Precisions::default(), keep, move |w| {
            Linear::load(&w.at(name), [128, 32])
        })
    }

    #[test]
    fn a_network_is_loaded_once_and_kept_only_if_it_should_be() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tiny");
        let model = RandomModel { architecture: Architecture::TINY, dtype: DType::F16, seed: 0 };
        model.write(&path, &mut |_, _| {}).expect("the folder is writable");
        for keep in [false, true] {
            let network = network(&path, "time_embedding.linear_1", keep);
            network.check().expect("it is there");
            assert!(network.state().loaded.is_none(), "a check loads nothing");
            let first = network.get().expect("it is there");
            assert!(Arc::ptr_eq(&first, &network.get().expect("it is there")));
            network.release();
            assert!(Arc::ptr_eq(&first, &network.get().expect("it is there")), "it is still used");
            network.release();
            drop(first);
            assert_eq!(network.state().used.upgrade().is_some(), keep);
            let mut shares = Vec::new();
            network.get_reporting(&mut |percent| shares.push(percent)).expect("it is there");
            let rises = shares.is_sorted_by(|a, b| a < b);
            assert!(rises && shares.last().copied() == (!keep).then_some(100), "{shares:?}");
        }
        let kept = network(&path, "time_embedding.linear_1", true);
        let first = kept.get().expect("it is there");
        kept.set_source(kept.source());
        let mut share = 0;
        let again = kept.get_reporting(&mut |percent| share = percent).expect("it is there");
        assert_eq!(share, 100, "what need not be read counts as well");
        assert!(!Arc::ptr_eq(&first, &again) && first.shares_weights(&again), "nothing is packed twice");
        let absent = network(&path, "time_embedding.linear_9", false);
        let error = absent.check().expect_err("there is no such tensor").to_string();
        assert!(error.contains("time_embedding.linear_9.weight"), "{error}");
    }
}
