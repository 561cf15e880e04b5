//! What a file of adapters is, without a model to compare it with.

use super::keys::Role;
use super::lora::{family_of_width, groups};
use crate::source::{TEXT_ENCODER, TensorFile};

/// What a file is, without a model to compare it with.
pub struct Summary {
    /// "LoRA".
    pub method: &'static str,
    /// Layers of the UNet and of the text encoder.
    pub layers: [usize; 2],
    /// What these layers are, and how many of each.
    pub kinds: Vec<(&'static str, usize)>,
    /// The smallest and the largest rank, if there are any.
    pub ranks: Option<(usize, usize)>,
    /// The smallest and the largest alpha, if the file says any.
    pub alphas: Option<(f32, f32)>,
    /// Channels of the texts that the UNet reads, which tell the family.
    pub text_width: Option<usize>,
    /// Words for which it holds vectors.
    pub tokens: Vec<String>,
}

impl Summary {
    /// What `file` is, if it is an adapter.
    pub fn of(file: &TensorFile) -> Option<Self> {
        let (groups, tokens) = groups(file).ok()?;
        let has = |test: &dyn Fn(&Role) -> bool| groups.values().any(|group| group.keys().any(test));
        let method = match () {
            () if has(&|role| *role == Role::Magnitude) => "DoRA",
            () if has(&|role| *role == Role::Down) => "LoRA",
            () if has(&|role| matches!(role, Role::HadaB(_))) => "LoHa",
            () if has(&|role| matches!(role, Role::Kron(_) | Role::KronB(_))) => "LoKr",
            () if has(&|role| *role == Role::OnInput) => "(IA)³",
            () => "difference",
        };
        let is_text = |name: &&String| name.starts_with("lora_te") || name.starts_with(TEXT_ENCODER.name);
        let text = groups.keys().filter(is_text).count();
        let factors = groups.values().flatten();
        let ranked = factors.filter(|(role, _)| matches!(role, Role::Down | Role::HadaB(_) | Role::KronB(2)));
        let ranks: Vec<usize> = ranked.filter_map(|(_, factor)| factor.shape.first().copied()).collect();
        let cross = groups.iter().find(|(name, _)| {
            let name = name.replace('_', ".");
            name.ends_with(".attn2.to.k") || name.ends_with(".attn2.processor.to.k")
        });
        let down = cross.and_then(|(_, group)| group.get(&Role::Down));
        let alphas = groups.values().filter_map(|group| group.get(&Role::Alpha));
        let alphas: Vec<f32> = alphas
            .filter_map(|alpha| file.tensor(&alpha.name)?.to_f32()?.first().copied())
            .filter(|alpha| alpha.is_finite())
            .collect();
        let kinds = KINDS.iter().map(|(kind, _)| {
            let of_kind = groups.keys().filter(|name| kind_of(name) == *kind);
            (*kind, of_kind.count())
        });
        Some(Self {
            method,
            kinds: kinds.filter(|(_, count)| *count > 0).collect(),
            alphas: alphas.iter().copied().reduce(f32::min).zip(alphas.iter().copied().reduce(f32::max)),
            layers: [groups.len() - text, text],
            ranks: ranks.iter().min().copied().zip(ranks.iter().max().copied()),
            text_width: down.and_then(|down| down.shape.get(1).copied()),
            tokens,
        })
    }

    /// In a few words: "LoRA for Stable Diffusion 1.x".
    pub fn title(&self) -> String {
        let family =
            self.text_width.map_or(String::new(), |width| format!(" for {}", family_of_width(width)));
        format!("{}{family}", self.method)
    }

    /// In lines.
    pub fn lines(&self) -> Vec<String> {
        let [unet, text] = self.layers;
        let mut lines = vec![format!("{unet} layers of the UNet, {text} of the text encoder")];
        let kinds: Vec<_> = self.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        lines.push(format!("layers: {}", kinds.join(", ")));
        lines.extend(self.ranks.map(|(least, most)| range("rank", least, most)));
        lines.extend(self.alphas.map(|(least, most)| range("alpha", least, most)));
        lines.extend(
            self.text_width
                .map(|width| format!("for {} (texts of {width} channels)", family_of_width(width))),
        );
        lines.extend((!self.tokens.is_empty()).then(|| format!("vectors for {}", self.tokens.join(", "))));
        lines
    }
}

/// Kinds of layers, and parts of names by which they are known; what has none is of the last kind.
const KINDS: [(&str, &[&str]); 5] = [
    ("attention", &["attn"]),
    ("feed-forward", &["_ff_", ".ff.", "mlp", "fc1", "fc2"]),
    ("convolution", &["conv", "in_layers", "out_layers", "skip_connection", "_op"]),
    ("projection", &["proj"]),
    ("other", &[]),
];

fn kind_of(name: &str) -> &'static str {
    let found = KINDS.iter().find(|(_, parts)| parts.iter().any(|part| name.contains(part)));
    found.map_or(KINDS[KINDS.len() - 1].0, |(kind, _)| kind)
}

/// "rank 4", or "rank 4 to 16".
fn range<T: PartialEq + std::fmt::Display>(what: &str, least: T, most: T) -> String {
    match least == most {
        true => format!("{what} {least}"),
        false => format!("{what} {least} to {most}"),
    }
}
