//! What an id is given for, and whether a snapshot in the cache holds all of that.

use std::path::Path;

use serde_json::Value;

use crate::source::component::{COMPONENTS, Component, TOKENIZER, TOKENIZER_2};
use crate::source::folder::WeightFiles;
use crate::source::model::read_index;

/// What an id is given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A whole model.
    Model,
    /// The settings of a model, without weights.
    Settings,
    /// One network, from a repository of its own or from a model's.
    Component(&'static Component),
}

/// Whether a snapshot holds all that is wanted of it.
pub(super) fn is_complete(snapshot: &Path, wanted: Wanted) -> bool {
    match wanted {
        Wanted::Component(component) => {
            holds(snapshot, component, true) || holds(&component.folder(snapshot), component, true)
        }
        Wanted::Model | Wanted::Settings => read_index(snapshot).is_ok_and(|(_, index)| {
            let mut components = components(&index).peekable();
            components.peek().is_some()
                && components
                    .all(|component| holds(&component.folder(snapshot), component, wanted == Wanted::Model))
        }),
    }
}

/// Whether a folder holds a component.
fn holds(folder: &Path, component: &Component, with_weights: bool) -> bool {
    if [&TOKENIZER, &TOKENIZER_2].contains(&component) {
        let has = |name: &str| folder.join(name).is_file();
        return has("tokenizer.json") || (has("vocab.json") && has("merges.txt"));
    }
    let weights = || {
        WeightFiles::find(folder, component).is_ok_and(|files| files.paths.iter().all(|path| path.is_file()))
    };
    folder.join(component.config).is_file() && (!with_weights || component.weights.is_empty() || weights())
}

/// The components that a model's index lists.
pub(super) fn components(index: &Value) -> impl Iterator<Item = &'static Component> {
    COMPONENTS.into_iter().filter(|component| index[component.name][1].is_string())
}
