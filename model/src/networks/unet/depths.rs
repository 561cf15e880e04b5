//! How deep the UNet's transformers are.
//!
//! ```text
//! SD 1.x, 2.x   1                                one block in each
//! SDXL          [1, 2, 10]                       for each level; the way up has the same in reverse
//! SSD-1B        [1, [2, 2], [4, 4]]              for each transformer of a level, and the way up
//!               [[4, 4, 10], [2, 1, 1], 1]       has a list of its own
//! ```
//!
//! The keys are diffusers' `transformer_layers_per_block` and
//! `reverse_transformer_layers_per_block`. The middle block is as deep as the last level.

use serde_json::Value;

use crate::error::Result;
use crate::source::config::{COUNT, ConfigFile};

/// Transformer blocks in each transformer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformerDepths {
    /// For each down block, from the outermost in, and each of its layers.
    pub down: Vec<Vec<usize>>,
    /// Of the middle block.
    pub mid: usize,
    /// For each up block, from the innermost out, and each of its layers, one more than on the way
    /// down.
    pub up: Vec<Vec<usize>>,
}

const DOWN: &str = "transformer_layers_per_block";
const UP: &str = "reverse_transformer_layers_per_block";

impl TransformerDepths {
    /// Reads both keys. `layers`: those of each down block.
    ///
    /// # Errors
    /// If a list does not have an entry for each block, or for each layer of a block.
    pub(super) fn read(file: &ConfigFile, layers: &[usize]) -> Result<Self> {
        let up_layers: Vec<usize> = layers.iter().rev().map(|layers| layers + 1).collect();
        let down = read(file, DOWN, layers)?.unwrap_or_else(|| vec![Depth::All(1); layers.len()]);
        let up = match read(file, UP, &up_layers)? {
            Some(up) => up,
            None if down.iter().any(|depth| matches!(depth, Depth::Each(_))) => {
                return Err(file.error(format_args!(
                    "`{DOWN}` differs within a block and `{UP}` is absent; expected both"
                )));
            }
            None => down.iter().rev().cloned().collect(),
        };
        let mid = match &down[down.len() - 1] {
            Depth::All(depth) => *depth,
            // The block is at the innermost level; diffusers takes the entry of its first layer.
            Depth::Each(depths) => depths[0],
        };
        let spread = |depths: Vec<Depth>, layers: &[usize]| {
            depths.into_iter().zip(layers).map(|(depth, &layers)| depth.for_layers(layers)).collect()
        };
        Ok(Self { down: spread(down, layers), mid, up: spread(up, &up_layers) })
    }
}

/// The depth of the transformers of a block.
#[derive(Clone)]
enum Depth {
    /// The same for all.
    All(usize),
    /// One for each.
    Each(Vec<usize>),
}

impl Depth {
    fn for_layers(self, layers: usize) -> Vec<usize> {
        match self {
            Self::All(depth) => vec![depth; layers],
            Self::Each(depths) => depths,
        }
    }
}

/// A number for all blocks, or a list with a number or a list for each; `None` if the key is
/// absent.
fn read(file: &ConfigFile, key: &'static str, layers: &[usize]) -> Result<Option<Vec<Depth>>> {
    let Some(value) = file.get(key).cloned() else { return Ok(None) };
    let Value::Array(list) = value else {
        let depth = file.count(key, 1, COUNT)?;
        return Ok(Some(vec![Depth::All(depth); layers.len()]));
    };
    if list.len() != layers.len() {
        return Err(file.error(format_args!(
            "`{key}` has {} entries; expected {}, one for each block",
            list.len(),
            layers.len()
        )));
    }
    let depth = |value: &Value| {
        let depth = value.as_u64().and_then(|depth| usize::try_from(depth).ok());
        depth.filter(|depth| COUNT.contains(depth)).ok_or_else(|| {
            file.error(format_args!(
                "`{key}` contains {value}; expected whole numbers from {} to {}",
                COUNT.start(),
                COUNT.end()
            ))
        })
    };
    let entry = |(value, &layers): (&Value, &usize)| match value {
        Value::Array(depths) if depths.len() == layers => {
            depths.iter().map(depth).collect::<Result<_>>().map(Depth::Each)
        }
        Value::Array(depths) => Err(file.error(format_args!(
            "`{key}` contains a list of {} entries; expected {layers}, one for each layer of the block",
            depths.len()
        ))),
        depth_of_all => depth(depth_of_all).map(Depth::All),
    };
    list.iter().zip(layers).map(entry).collect::<Result<_>>().map(Some)
}
