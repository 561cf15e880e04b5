//! The header of a file that `torch.save` wrote: `.ckpt`, `.pt`, `.bin`.
//!
//! ```text
//! since 2020   a ZIP archive: name/data.pkl says what there is, name/data/0, name/data/1, … are the numbers
//! before       five pickles one behind the other: a magic number, a version, the machine, what there is, the keys of
//!              the storages; then each storage: 8 bytes with its length and the numbers
//! ```
//!
//! What there is are dictionaries in dictionaries. A tensor's name is the path to it,
//! `string_to_param.*`; an outermost `state_dict`, as training frameworks write it, is left out.
//! Numbers and texts beside tensors become metadata.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use super::header::{Entry, Header};
use super::pickle::{self, Id, Pickle, Tensor, Value};
use super::zip;

/// Whether the first bytes are those of such a file.
pub(super) fn is(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") || bytes.starts_with(b"\x80\x04")
}

/// What the header says; otherwise why it cannot be believed.
pub(super) fn read(bytes: &[u8]) -> Result<Header, String> {
    if bytes.starts_with(b"PK") { read_archive(bytes) } else { read_old(bytes) }
}

fn read_archive(bytes: &[u8]) -> Result<Header, String> {
    let members = zip::members(bytes)?;
    let mut pickles = members.keys().filter_map(|name| name.strip_suffix("data.pkl"));
    let (Some(root), None) = (pickles.next(), pickles.next()) else {
        return Err("the archive has no `data.pkl`, or several; expected one that `torch.save` wrote".into());
    };
    let member = |name: &str| members.get(&format!("{root}{name}")).cloned();
    if member("byteorder").is_some_and(|range| &bytes[range] != b"little") {
        return Err("its numbers are big-endian; convert it on the machine that wrote it".into());
    }
    if member("constants.pkl").is_some() {
        return Err("it is a TorchScript program; expected weights alone".into());
    }
    let program = member("data.pkl").unwrap_or_default();
    let pickle = pickle::read(&bytes[program])?;
    header(&pickle, |key| member(&format!("data/{key}")))
}

fn read_old(bytes: &[u8]) -> Result<Header, String> {
    /// 0x1950a86a20f9469cfc6c as a pickle.
    const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    if !bytes.starts_with(MAGIC) {
        // No file of torch's, but what it asks for is worth saying.
        pickle::read(bytes)?;
        return Err("it is a pickle, but none that `torch.save` wrote".into());
    }
    let mut at = MAGIC.len();
    let mut next = || -> Result<Pickle<'_>, String> {
        let pickle = pickle::read(&bytes[at..])?;
        at += pickle.length;
        Ok(pickle)
    };
    let (_version, machine, contents, keys) = (next()?, next()?, next()?, next()?);
    let little = pairs(&machine, machine.root).any(|(name, value)| {
        matches!(
            (&machine.values[name], &machine.values[value]),
            (Value::Text("little_endian"), Value::Bool(true))
        )
    });
    if !little {
        return Err("its numbers are big-endian; convert it on the machine that wrote it".into());
    }
    let Value::List(order) = &keys.values[keys.root] else {
        return Err("the list of its storages is missing".into());
    };
    let sizes: HashMap<&str, usize> = contents.values.iter().filter_map(size_of_storage).collect();
    let mut storages = HashMap::new();
    for &key in order {
        let Value::Text(key) = keys.values[key] else { return Err("the key of a storage is no text".into()) };
        let size = *sizes.get(key).ok_or("it has a storage that no tensor uses")?;
        let cut = || format!("the storage `{key}` is cut off");
        let length: &[u8; 8] = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(cut)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|n| n.checked_mul(size));
        let start = at + 8;
        let end = length.and_then(|length| start.checked_add(length)).filter(|&end| end <= bytes.len());
        at = end.ok_or_else(cut)?;
        storages.insert(key, start..at);
    }
    header(&contents, |key| storages.get(key).cloned())
}

/// Key and bytes of an element.
fn size_of_storage<'a>(value: &Value<'a>) -> Option<(&'a str, usize)> {
    match value {
        Value::Storage(storage) => Some((storage.key, storage.dtype.map_or(Some(1), |dtype| dtype.size())?)),
        _ => None,
    }
}

/// How many numbers a tensor may have beyond those that are stored.
const MOST_EXPANDED: usize = 1 << 20;

/// How deep dictionaries may lie in each other. Checkpoints of training have six levels.
const DEEPEST: usize = 16;

/// The tensors of a pickle and where their numbers are.
fn header(pickle: &Pickle<'_>, storage: impl Fn(&str) -> Option<Range<usize>>) -> Result<Header, String> {
    let mut header = Header { tensors: BTreeMap::new(), metadata: BTreeMap::new() };
    // Each container once, however often it is referred to.
    let mut seen = HashSet::from([pickle.root]);
    let mut open = vec![(String::new(), pickle.root, 0)];
    while let Some((path, id, depth)) = open.pop() {
        for (name, value) in children(pickle, id) {
            let name = match (path.as_str(), name.as_str()) {
                ("", "state_dict") if is_container(&pickle.values[value]) => String::new(),
                ("", _) => name,
                _ => format!("{path}.{name}"),
            };
            match &pickle.values[value] {
                Value::Tensor(tensor) => {
                    let entry =
                        entry(tensor, &storage).map_err(|error| format!("tensor `{name}`: {error}"))?;
                    if header.tensors.insert(name.clone(), entry).is_some() {
                        return Err(format!("tensor `{name}` is there twice"));
                    }
                }
                Value::Int(number) => drop(header.metadata.insert(name, number.to_string())),
                Value::Float(number) => drop(header.metadata.insert(name, number.to_string())),
                Value::Bool(value) => drop(header.metadata.insert(name, value.to_string())),
                Value::Text(text) => drop(header.metadata.insert(name, (*text).to_owned())),
                container if is_container(container) && seen.insert(value) => {
                    if depth == DEEPEST {
                        return Err(format!("`{name}` is nested deeper than {DEEPEST} levels"));
                    }
                    open.push((name, value, depth + 1));
                }
                _ => {}
            }
        }
    }
    if let Value::Tensor(tensor) = &pickle.values[pickle.root] {
        header.tensors.insert("tensor".into(), entry(tensor, &storage)?);
    }
    Ok(header)
}

fn is_container(value: &Value<'_>) -> bool {
    matches!(value, Value::Dict(_) | Value::List(_) | Value::Tuple(_) | Value::Object(Some(_)))
}

/// What is in a container, by name or number.
fn children(pickle: &Pickle<'_>, id: Id) -> Vec<(String, Id)> {
    match &pickle.values[id] {
        Value::List(items) | Value::Tuple(items) => {
            items.iter().enumerate().map(|(i, &item)| (i.to_string(), item)).collect()
        }
        Value::Object(Some(attributes)) if is_container(&pickle.values[*attributes]) => {
            vec![("attributes".into(), *attributes)]
        }
        _ => pairs(pickle, id)
            .filter_map(|(key, value)| match &pickle.values[key] {
                Value::Text(text) => Some(((*text).to_owned(), value)),
                Value::Int(number) => Some((number.to_string(), value)),
                _ => None,
            })
            .collect(),
    }
}

fn pairs<'a>(pickle: &'a Pickle<'_>, id: Id) -> impl Iterator<Item = (Id, Id)> + 'a {
    let pairs = match &pickle.values[id] {
        Value::Dict(pairs) => &pairs[..],
        _ => &[],
    };
    pairs.iter().copied()
}

fn entry(tensor: &Tensor<'_>, storage: &impl Fn(&str) -> Option<Range<usize>>) -> Result<Entry, String> {
    let range = storage(tensor.storage.key).ok_or("its storage is missing")?;
    let size = tensor.dtype.size().ok_or("its type has no size")?;
    let len = if tensor.storage.dtype.is_some() { tensor.storage.len } else { tensor.storage.len / size };
    if len.checked_mul(size).is_none_or(|bytes| bytes > range.len()) {
        return Err(format!("its storage has {} bytes; expected {len} numbers of {size}", range.len()));
    }
    let numbers = tensor.shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    let reach =
        tensor.shape.iter().zip(&tensor.strides).try_fold(tensor.offset, |reach, (&side, &stride)| {
            reach.checked_add(side.saturating_sub(1).checked_mul(stride)?)
        });
    // One number may stand for many (`expand`), but a small file must not ask for any amount of
    // memory so.
    let fits = numbers.is_some_and(|numbers| numbers <= len.max(MOST_EXPANDED))
        && (numbers == Some(0) || reach.is_some_and(|reach| reach < len));
    if !fits {
        return Err(format!("its shape {:?} does not fit into its storage of {len} numbers", tensor.shape));
    }
    let numbers = numbers.unwrap_or(0);
    let mut row_major = Vec::new();
    let mut stride = 1;
    for &side in tensor.shape.iter().rev() {
        row_major.insert(0, stride);
        stride *= side.max(1);
    }
    let matters = |(i, &side): (usize, &usize)| side > 1 && tensor.strides[i] != row_major[i];
    let plain = !tensor.shape.iter().enumerate().any(matters);
    let start = range.start + if numbers == 0 { 0 } else { tensor.offset * size };
    Ok(Entry {
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        range: if plain { start..start + numbers * size } else { start..range.start + len * size },
        strides: (!plain).then(|| tensor.strides.clone()),
    })
}
