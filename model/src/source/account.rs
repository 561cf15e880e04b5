//! What became of each tensor of a model's files: used, ignored for a reason, or not known.
//!
//! Files carry more than a picture needs: a second copy of the weights, tables that are computed
//! anew, what training left. Each such tensor has its reason here. What has none is reported by
//! name, since a model of another architecture shows itself so: the layers that we know were all
//! found, and others are left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;

/// What became of the tensors of one file, or of the shards of one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The file; of several their folder.
    pub path: PathBuf,
    /// How many tensors are used.
    pub used: usize,
    /// Reason → the tensors that it explains.
    pub ignored: BTreeMap<&'static str, Vec<String>>,
    /// Tensors that no layer asks for, and that nothing explains.
    pub unknown: Vec<String>,
}

impl Account {
    /// A sentence each about tensors that nothing explains, and about a choice that could have been
    /// another.
    pub fn warnings(&self) -> Vec<String> {
        let (path, count) = (self.path.display(), self.unknown.len());
        let unknown = self.unknown.first().map(|first| {
            format!(
                "`{path}`: {count} tensors of the file are not part of this model, the first is `{first}`"
            )
        });
        let ema = self.ignored.contains_key(EMA).then(|| {
            format!("`{path}`: the file also holds averaged (EMA) weights of the UNet, which are not taken")
        });
        unknown.into_iter().chain(ema).collect()
    }
}

/// What became of the tensors of these networks' files, once all networks have looked for theirs.
pub fn accounts(checkpoints: &[&Checkpoint]) -> Vec<Account> {
    let mut accounts: Vec<(&Path, &Checkpoint, BTreeSet<String>)> = Vec::new();
    for checkpoint in checkpoints {
        let Some(path) = checkpoint.paths().next() else { continue };
        match accounts.iter_mut().find(|(other, ..)| *other == path) {
            Some((.., used)) => used.extend(checkpoint.used()),
            None => accounts.push((path, checkpoint, checkpoint.used())),
        }
    }
    let account = |(path, checkpoint, used): (&Path, &Checkpoint, BTreeSet<String>)| {
        let several = checkpoint.files().len() > 1;
        let path = if several { path.parent().unwrap_or(path) } else { path };
        let mut account =
            Account { path: path.to_owned(), used: 0, ignored: BTreeMap::new(), unknown: Vec::new() };
        for name in checkpoint.names() {
            match (used.contains(name), reason(name, &used)) {
                (true, _) => account.used += 1,
                (false, Some(reason)) => account.ignored.entry(reason).or_default().push(name.to_owned()),
                (false, None) => account.unknown.push(name.to_owned()),
            }
        }
        account
    };
    accounts.into_iter().map(account).collect()
}

/// What a tensor is that no layer asks for, by the beginning of its name.
const BEGINNINGS: [(&str, &str); 24] = [
    ("alphas_cumprod", SCHEDULE),
    ("betas", SCHEDULE),
    ("sqrt_", SCHEDULE),
    ("log_one_minus_alphas_cumprod", SCHEDULE),
    ("posterior_", SCHEDULE),
    ("lvlb_weights", SCHEDULE),
    ("logvar", SCHEDULE),
    ("scale_factor", SCHEDULE),
    ("denoiser.", SCHEDULE),
    ("model_ema.decay", TRAINING),
    ("model_ema.num_updates", TRAINING),
    ("first_stage_model.loss.", TRAINING),
    ("loss.", TRAINING),
    ("optimizer_states.", TRAINING),
    ("callbacks.", TRAINING),
    ("lr_scheduler", TRAINING),
    ("embedding_manager.", TRAINING),
    ("global_step", MARK),
    ("v_pred", MARK),
    ("ztsnr", MARK),
    ("scaled_fp8", MARK),
    ("cond_stage_model.model.visual.", IMAGE_TOWER),
    ("cond_stage_model.transformer.vision_model.", IMAGE_TOWER),
    ("vision_model.", IMAGE_TOWER),
];

/// The same by the end of its name.
const ENDS: [(&str, &str); 10] = [
    ("position_ids", "the numbers 0 to 76, which need not be stored"),
    ("attn_mask", "the causal mask, which need not be stored"),
    ("text_projection", PROJECTION),
    ("text_projection.weight", PROJECTION),
    ("visual_projection.weight", PROJECTION),
    ("logit_scale", PROJECTION),
    (".input_scale", FP8),
    (".scale_input", FP8),
    (".comfy_quant", FP8),
    (".num_batches_tracked", TRAINING),
];

const SCHEDULE: &str = "the noise schedule of its training, which is computed anew";
const TRAINING: &str = "what its training needed";
const MARK: &str = "a mark that says what kind of model it is";
const IMAGE_TOWER: &str = "an encoder of images, which takes no part";
const PROJECTION: &str = "the comparison of texts with images, which takes no part";
const FP8: &str = "for arithmetic in fp8, which is not used";
const EMA: &str = "averaged (EMA) weights; the others of the same UNet are taken";
const NOT_EMA: &str = "the weights that were averaged; the average (EMA) is taken";
const LAST_LAYERS: &str = "layers of the text encoder behind the last one that is used";
const ENCODER: &str = "the VAE's encoder, in a form that cannot be used";
const REPLACED: &str = "a component that is taken from another place";

/// Why a tensor is not used, if that is known.
fn reason(name: &str, used: &BTreeSet<String>) -> Option<&'static str> {
    let begins = BEGINNINGS.iter().find(|(beginning, _)| name.starts_with(beginning));
    let ends = ENDS.iter().find(|(end, _)| name.ends_with(end));
    if let Some(&(_, reason)) = begins.or(ends) {
        return Some(reason);
    }
    let uses = |prefix: &str| {
        let first = used.range(prefix.to_owned()..).next();
        first.is_some_and(|name| name.starts_with(prefix))
    };
    if name.starts_with("model_ema.") {
        return Some(EMA);
    }
    if name.starts_with("model.diffusion_model.") && uses("model_ema.") {
        return Some(NOT_EMA);
    }
    let components = [
        "model.diffusion_model.",
        "unet.",
        "first_stage_model.",
        "vae.",
        "cond_stage_model.",
        "conditioner.embedders.0.",
        "conditioner.embedders.1.",
        "text_encoder.",
        "text_encoder_2.",
    ];
    for prefix in components {
        if name.starts_with(prefix) && !uses(prefix) {
            return Some(REPLACED);
        }
    }
    if name.contains("transformer.resblocks.") || name.contains("encoder.layers.") {
        return Some(LAST_LAYERS);
    }
    let encoder = ["encoder.", "quant_conv.", "first_stage_model.encoder.", "first_stage_model.quant_conv."];
    encoder.iter().any(|prefix| name.starts_with(prefix)).then_some(ENCODER)
}
