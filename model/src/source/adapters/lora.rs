//! A file of adapters: what it holds for each layer of a model.
//!
//! ```text
//! tensors of the file → by layer (keys.rs) → the model's layers (targets.rs) → deltas (delta.rs)
//! ```
//!
//! Everything that could go wrong does so here, before a weight is changed: of each factor the type
//! and shape are compared with the layer's, and alpha must be a number. What the file holds beside
//! is reported: nothing is left out in silence.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::delta::{Delta, Factor, Form, Matrix, by_rows};
use super::keys::{self, Role};
use super::peft::{PeftConfig, is_peft, weights_of};
use super::targets::{Target, Targets};
use crate::error::{Error, Result};
use crate::source::{Component, TEXT_ENCODER, TensorFile, UNET};

/// An adapter and how strongly it counts.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSpec {
    /// The file, or the folder that PEFT or diffusers wrote.
    pub path: PathBuf,
    /// The weight in the UNet.
    pub unet: f32,
    /// The weight in the text encoder, or in both.
    pub text_encoder: f32,
}

/// An opened adapter.
pub struct LoraAdapter {
    spec: LoraSpec,
    file: Arc<TensorFile>,
    /// Network, tensor and what happens to it.
    deltas: Vec<(&'static Component, String, Arc<Delta>)>,
    /// Layers for which the model has none of their name.
    left: Vec<String>,
    /// Vectors for words, which files of the first format hold as well.
    tokens: Vec<String>,
    ranks: Vec<usize>,
    method: &'static str,
    /// What is written about it elsewhere.
    settings: Option<PeftConfig>,
}

/// The tensors of one layer: part → name in the file.
pub(super) type Group = BTreeMap<Role, Factor>;

impl LoraAdapter {
    /// Opens a file for a model that has these layers.
    ///
    /// # Errors
    /// If it is no adapter, one for models of another family, or one whose numbers cannot be used.
    pub fn open(spec: &LoraSpec, targets: &Targets) -> Result<Self> {
        let file = Arc::new(TensorFile::open(&weights_of(&spec.path))?);
        let (groups, tokens) = groups(&file)?;
        let first_format = groups.keys().any(|name| first_format_number(name).is_some());
        let numbered = match first_format {
            true => [targets.first_format_unet(), targets.first_format_text_encoder()],
            false => [Vec::new(), Vec::new()],
        };
        let find = |name: &str| match first_format_number(name) {
            Some((true, i)) => numbered[0].get(i).copied(),
            Some((false, i)) => numbered[1].get(i).copied(),
            None => targets.find(name),
        };
        let mut made = Self {
            spec: spec.clone(),
            file: Arc::clone(&file),
            deltas: Vec::new(),
            left: Vec::new(),
            tokens,
            ranks: Vec::new(),
            method: "",
            settings: PeftConfig::of(&file)?,
        };
        let other = groups.keys().find_map(|name| keys::other_family(name, targets.is_xl()));
        if let Some((found, width)) = other_width(&groups, &find, targets) {
            return Err(Error::in_file(
                file.path(),
                format_args!(
                    "this adapter is for {}, whose texts have {found} channels; this model's have {width}",
                    family_of_width(found)
                ),
            ));
        }
        for (name, group) in &groups {
            match find(name) {
                Some(target) => made.add(name, group, target)?,
                None => made.left.push(name.clone()),
            }
        }
        if made.deltas.is_empty() || other.is_some() {
            let first = made.left.first().or(groups.keys().next()).cloned().unwrap_or_default();
            let of = other.unwrap_or("another model");
            return Err(Error::in_file(
                file.path(),
                format_args!(
                    "this adapter is for {of}: {} of its {} layers are in this model (`{first}` is not)",
                    groups.len() - made.left.len(),
                    groups.len(),
                ),
            ));
        }
        if first_format && numbered[0].len() + numbered[1].len() < groups.len() {
            return Err(Error::in_file(
                file.path(),
                "numbers more layers than attention and feed-forward of this model have; adapters of other layers in this format cannot be told apart",
            ));
        }
        Ok(made)
    }

    /// What is asked for.
    pub fn spec(&self) -> &LoraSpec {
        &self.spec
    }

    /// The file.
    pub fn file(&self) -> &TensorFile {
        &self.file
    }

    /// The name by which prompts and pictures call it: the file's without ending.
    pub fn name(&self) -> String {
        stem(&self.spec.path)
    }

    /// How many layers of the file were found in the model, and how many it has.
    pub fn counts(&self) -> (usize, usize) {
        let used = self.ranks.len();
        (used, used + self.left.len())
    }

    /// The layers of the file that the model does not have.
    pub fn left(&self) -> &[String] {
        &self.left
    }

    /// Words for which the file holds vectors.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The method, in words.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The smallest and the largest rank; 0 is for those that have none.
    pub fn ranks(&self) -> (usize, usize) {
        let ranks = self.ranks.iter().copied();
        (ranks.clone().min().unwrap_or(0), ranks.max().unwrap_or(0))
    }

    /// What is done to the tensors of a network.
    pub fn deltas(&self, component: &Component) -> impl Iterator<Item = (&str, &Arc<Delta>)> {
        let own = self.deltas.iter().filter(move |(of, ..)| *of == component);
        own.map(|(_, name, delta)| (name.as_str(), delta))
    }

    /// "detail.safetensors: 264 of 264 tensors, weight 0.8".
    pub fn describe(&self) -> String {
        let file = self.spec.path.file_name().unwrap_or_default().to_string_lossy();
        let (used, all) = self.counts();
        let LoraSpec { unet, text_encoder, .. } = self.spec;
        let weight = match unet == text_encoder {
            true => format!("weight {unet}"),
            false => format!("weights {unet} (UNet) and {text_encoder} (text encoder)"),
        };
        format!("{file}: {used} of {all} tensors, {weight}")
    }

    /// A sentence about what the model does not have, or what the file does not say.
    pub fn warning(&self) -> Option<String> {
        let Some(first) = self.left.first() else {
            let silent = is_peft(self.file.path()) && self.settings.is_none();
            return silent.then(|| {
                format!(
                    "{}: there is no `adapter_config.json` beside it, which says alpha; alpha is taken to be the rank",
                    self.describe()
                )
            });
        };
        let others = match self.left.len() {
            1 => String::new(),
            n => format!(" and {} others", n - 1),
        };
        Some(format!("{}: not used: `{first}`{others}, which this model does not have", self.describe()))
    }

    fn add(&mut self, name: &str, group: &Group, target: &Target) -> Result<()> {
        let layer = Layer { name, group, target, file: &self.file, settings: self.settings.as_ref() };
        let (form, rank) = layer.form()?;
        let scale = layer.scale(rank)?;
        let weight = if *target.component == UNET { self.spec.unet } else { self.spec.text_encoder };
        let delta = |form, scale, magnitude| {
            Arc::new(Delta { file: Arc::clone(&self.file), form, scale, magnitude, weight })
        };
        let magnitude = layer.magnitude()?;
        self.method = match (&form, &magnitude) {
            (_, Some(_)) => "DoRA",
            (Some(Form::LowRank { .. }), _) => "LoRA",
            (Some(Form::Hadamard(_)), _) => "LoHa",
            (Some(Form::Kronecker { .. }), _) => "LoKr",
            (Some(Form::Scale { .. }), _) => "(IA)³",
            _ if self.method.is_empty() => "difference",
            _ => self.method,
        };
        let mut deltas = Vec::new();
        if let Some(form) = form {
            deltas.push((
                target.component,
                format!("{}.weight", target.module),
                delta(form, scale, magnitude),
            ));
        }
        if let Some(diff) = group.get(&Role::DiffBias) {
            if !target.bias {
                return Err(layer.error("changes a bias, and the layer has none"));
            }
            layer.expect(diff, &[target.shape[0]])?;
            let form = Form::Difference(diff.clone());
            deltas.push((target.component, format!("{}.bias", target.module), delta(form, 1.0, None)));
        }
        self.deltas.extend(deltas);
        self.ranks.push(rank.unwrap_or(0));
        Ok(())
    }
}

/// A file's name without its ending.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The width of the texts that an adapter's layers read, and the model's, if they differ: the
/// commonest mistake.
fn other_width<'a>(
    groups: &BTreeMap<String, Group>,
    find: &impl Fn(&str) -> Option<&'a Target>,
    targets: &Targets,
) -> Option<(usize, usize)> {
    let width = targets.text_width()?;
    let found = groups.iter().filter_map(|(name, group)| {
        find(name).filter(|target| target.module.ends_with(".attn2.to_k"))?;
        group.get(&Role::Down)?.shape.get(1).copied()
    });
    found.into_iter().find(|&found| found != width).map(|found| (found, width))
}

pub(super) fn family_of_width(width: usize) -> &'static str {
    match width {
        768 => "Stable Diffusion 1.x",
        1024 => "Stable Diffusion 2.x",
        2048 => "Stable Diffusion XL",
        _ => "another model",
    }
}

/// `unet:3` → the UNet's layer 3.
fn first_format_number(name: &str) -> Option<(bool, usize)> {
    let (network, number) = name.split_once(':')?;
    let is_unet = match network {
        n if n == UNET.name => true,
        n if n == TEXT_ENCODER.name => false,
        _ => return None,
    };
    Some((is_unet, number.parse().ok()?))
}

/// The file's tensors by layer, and the words for which it holds vectors.
pub(super) fn groups(file: &TensorFile) -> Result<(BTreeMap<String, Group>, Vec<String>)> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let (mut tokens, mut strange) = (Vec::new(), Vec::new());
    for tensor in file.tensors() {
        if let Some(method) = keys::other_method(tensor.name) {
            return Err(Error::in_file(
                file.path(),
                format_args!(
                    "is an adapter by {method}; LoRA, LoHa, LoKr, (IA)³, DoRA and differences can be used"
                ),
            ));
        }
        let vector = tensor.shape.len() == 1 && tensor.name.starts_with('<') && tensor.name.ends_with('>');
        match keys::split(tensor.name) {
            Some((layer, role)) => {
                let factor = Factor { name: tensor.name.to_owned(), shape: tensor.shape.to_vec() };
                groups.entry(layer.to_owned()).or_default().insert(role, factor);
            }
            None if vector => tokens.push(tensor.name.to_owned()),
            None => strange.push(tensor.name.to_owned()),
        }
    }
    // A whole model's layers have weights, and nothing else that an adapter has.
    let adapters = groups
        .values()
        .filter(|group| !group.contains_key(&Role::Scale) || group.contains_key(&Role::OnInput));
    if adapters.count() < groups.len() || groups.is_empty() {
        let names: Vec<_> = file.tensors().take(1).map(|tensor| tensor.name.to_owned()).collect();
        let found = names.first().map_or("nothing".into(), |name| format!("`{name}`"));
        return Err(Error::in_file(
            file.path(),
            format_args!("is no adapter: expected tensors such as `….lora_down.weight`, found {found}"),
        ));
    }
    match strange.first() {
        None => Ok((groups, tokens)),
        Some(name) => Err(Error::in_file(
            file.path(),
            format_args!(
                "`{name}` is no tensor of an adapter that is known (and {} others)",
                strange.len() - 1
            ),
        )),
    }
}

/// What a file holds for one layer.
struct Layer<'a> {
    name: &'a str,
    group: &'a Group,
    target: &'a Target,
    file: &'a TensorFile,
    settings: Option<&'a PeftConfig>,
}

impl Layer<'_> {
    fn error(&self, message: impl Display) -> Error {
        Error::in_file(self.file.path(), format_args!("`{}`: {message}", self.name))
    }

    fn get(&self, role: Role) -> Option<&Factor> {
        self.group.get(&role)
    }

    fn need(&self, role: Role) -> Result<&Factor> {
        let found =
            || self.group.values().map(|factor| format!("`{}`", factor.name)).collect::<Vec<_>>().join(", ");
        self.get(role).ok_or_else(|| self.error(format_args!("is incomplete: there is only {}", found())))
    }

    /// `[out, in, taps]`; a vector has one input.
    fn sizes(&self) -> [usize; 3] {
        let shape = &self.target.shape;
        let side = |i: usize| shape.get(i).copied().unwrap_or(1);
        [side(0), side(1), shape.iter().skip(2).product()]
    }

    fn expect(&self, factor: &Factor, shape: &[usize]) -> Result<()> {
        let float = self.file.tensor(&factor.name).is_some_and(|tensor| tensor.dtype.is_float());
        if !float {
            return Err(self.error(format_args!("`{}` holds no numbers that can be weights", factor.name)));
        }
        let trimmed = |shape: &[usize]| {
            let ones = shape.iter().rev().take_while(|&&side| side == 1).count();
            shape[..shape.len() - ones].to_vec()
        };
        match trimmed(&factor.shape) == trimmed(shape) {
            true => Ok(()),
            false => Err(self.error(format_args!(
                "`{}` is {:?}; expected {shape:?} for a layer of {:?}",
                factor.name, factor.shape, self.target.shape
            ))),
        }
    }

    /// The first side of a factor; a rank of 0 means nothing.
    fn rank(&self, factor: &Factor) -> Result<usize> {
        match factor.shape.first() {
            Some(&rank) if rank > 0 && factor.shape.len() > 1 => Ok(rank),
            _ => Err(self.error(format_args!("`{}` is {:?}: a rank of 0", factor.name, factor.shape))),
        }
    }

    /// What happens to the weight, and the rank that alpha is divided by.
    fn form(&self) -> Result<(Option<Form>, Option<usize>)> {
        let [out, width, taps] = self.sizes();
        let kernel =
            |rank: usize| [vec![rank, rank], self.target.shape.iter().skip(2).copied().collect()].concat();
        if self.group.contains_key(&Role::Down) || self.group.contains_key(&Role::Up) {
            let (down, up) = (self.need(Role::Down)?, self.need(Role::Up)?);
            let rank = self.rank(down)?;
            let mid = self.get(Role::Mid);
            self.expect(up, &[out, rank])?;
            match mid {
                Some(mid) => {
                    self.expect(mid, &kernel(rank))?;
                    self.expect(down, &[rank, width])?;
                }
                None => self.expect(down, &[&[rank], &self.target.shape[1..]].concat())?,
            }
            let form = Form::LowRank { up: up.clone(), mid: mid.cloned(), down: down.clone() };
            return Ok((Some(form), Some(rank)));
        }
        if self.group.keys().any(|role| matches!(role, Role::HadaA(_) | Role::HadaB(_))) {
            let mut products = Vec::new();
            for i in [1, 2] {
                let (a, b, t) =
                    (self.need(Role::HadaA(i))?, self.need(Role::HadaB(i))?, self.get(Role::HadaKernel(i)));
                let rank = self.rank(b)?;
                match t {
                    Some(t) => {
                        self.expect(a, &[rank, out])?;
                        self.expect(t, &kernel(rank))?;
                        self.expect(b, &[rank, width])?;
                    }
                    None => {
                        self.expect(a, &[out, rank])?;
                        self.expect(b, &[rank, width * taps])?;
                    }
                }
                products.push((a.clone(), t.cloned(), b.clone()));
            }
            let rank = products[0].2.shape[0];
            let products = products.try_into().map_err(|_| self.error("is incomplete"))?;
            return Ok((Some(Form::Hadamard(products)), Some(rank)));
        }
        if self.group.keys().any(|role| matches!(role, Role::Kron(_) | Role::KronA(_))) {
            return self.kronecker();
        }
        if let Some(diff) = self.get(Role::Diff) {
            self.expect(diff, &self.target.shape)?;
            return Ok((Some(Form::Difference(diff.clone())), None));
        }
        if let Some(factors) = self.get(Role::Scale) {
            let on_input = self.number(self.need(Role::OnInput)?)? != 0.0;
            let expected = if on_input { width } else { out };
            if factors.shape.iter().product::<usize>() != expected {
                return Err(self.error(format_args!(
                    "`{}` is {:?}; expected {expected} factors",
                    factors.name, factors.shape
                )));
            }
            return Ok((Some(Form::Scale { factors: factors.clone(), on_input }), None));
        }
        match self.get(Role::DiffBias) {
            Some(_) => Ok((None, None)),
            None => Err(self.need(Role::Down).err().unwrap_or_else(|| self.error("is incomplete"))),
        }
    }

    fn kronecker(&self) -> Result<(Option<Form>, Option<usize>)> {
        let [out, width, taps] = self.sizes();
        let mut rank = None;
        let mut side = |i: u8| -> Result<(Matrix, [usize; 2])> {
            if let Some(whole) = self.get(Role::Kron(i)) {
                let rest: usize = whole.shape.iter().skip(2).product();
                return match *whole.shape {
                    [rows, columns, ..] if i == 1 || rest == taps => {
                        Ok((Matrix::Whole(whole.clone()), [rows, columns]))
                    }
                    _ => Err(self.error(format_args!(
                        "`{}` is {:?}, which is no such kernel",
                        whole.name, whole.shape
                    ))),
                };
            }
            let (a, b) = (self.need(Role::KronA(i))?, self.need(Role::KronB(i))?);
            let r = self.rank(b)?;
            rank = Some(r);
            let columns: usize = b.shape[1..].iter().product();
            if let (2, Some(kernel)) = (i, self.get(Role::KronKernel)) {
                let middle = self.rank(a)?;
                self.expect(
                    kernel,
                    &[vec![middle, r], self.target.shape.iter().skip(2).copied().collect()].concat(),
                )?;
                let sides = [a.shape[1], columns];
                return Ok((Matrix::Tucker(a.clone(), kernel.clone(), b.clone()), sides));
            }
            let taps = if i == 2 { taps } else { 1 };
            self.expect(a, &[self.rank(a)?, r])?;
            Ok((Matrix::Product(a.clone(), b.clone()), [a.shape[0], columns / taps]))
        };
        let (first, [a, c]) = side(1)?;
        let (second, [b, d]) = side(2)?;
        if a * b != out || c * d != width || a == 0 || c == 0 {
            let shape = &self.target.shape;
            return Err(self.error(format_args!("[{a}, {c}] ⊗ [{b}, {d}] is no weight of {shape:?}")));
        }
        for role in
            [Role::Kron(1), Role::Kron(2), Role::KronA(1), Role::KronB(1), Role::KronA(2), Role::KronB(2)]
        {
            if let Some(factor) = self.get(role) {
                self.expect(factor, &factor.shape)?;
            }
        }
        Ok((Some(Form::Kronecker { first, second }), rank))
    }

    /// alpha / rank, or 1 where there is no alpha or no rank.
    fn scale(&self, rank: Option<usize>) -> Result<f32> {
        let scale = match (self.get(Role::Alpha), rank, self.settings) {
            (Some(alpha), Some(rank), _) => self.number(alpha)? / rank as f32,
            (Some(alpha), None, _) if !self.number(alpha)?.is_finite() => f32::NAN,
            (None, Some(rank), Some(settings)) => {
                settings.scale(self.target.component, &self.target.module, rank)?.unwrap_or(1.0)
            }
            _ => 1.0,
        };
        match scale.is_finite() {
            true => Ok(scale),
            false => Err(self.error(format_args!("alpha is {scale}; expected a finite number"))),
        }
    }

    fn magnitude(&self) -> Result<Option<Factor>> {
        let Some(magnitude) = self.get(Role::Magnitude) else { return Ok(None) };
        let [out, width, _] = self.sizes();
        let expected =
            if by_rows(&magnitude.shape) && !(out == 1 && width != 1) { vec![out] } else { vec![1, width] };
        self.expect(magnitude, &expected)?;
        Ok(Some(magnitude.clone()))
    }

    /// A single number, of any type.
    fn number(&self, factor: &Factor) -> Result<f32> {
        let tensor = self.file.tensor(&factor.name);
        let value = tensor.filter(|tensor| tensor.len() == 1).and_then(|tensor| match tensor.to_f32() {
            Some(numbers) => numbers.first().copied(),
            None => tensor
                .bytes
                .iter()
                .rev()
                .try_fold(0u64, |n, &byte| n.checked_mul(256)?.checked_add(byte.into()))
                .map(|n| n as f32),
        });
        value.ok_or_else(|| {
            self.error(format_args!("`{}` is {:?}; expected one number", factor.name, factor.shape))
        })
    }
}
