//! A reader of pickles that executes nothing.
//!
//! A pickle is a program for a small stack machine, which may import and call anything; that is how
//! a file of weights can run code. This machine has the instructions that torch's own weights use,
//! and of the functions that they call it knows what comes of them: a tensor, a dictionary, or
//! something that is not looked into. Whatever else a pickle asks for ends the reading with its
//! name. Source: CPython's `pickletools.py`.
//!
//! Values live in one list and refer to each other by their place in it: a value that is shared a
//! million times, or nested a million deep, costs no more than the instructions that made it. Each
//! instruction makes at most one value, so memory is bounded by the length of the pickle.

mod globals;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::tensor::StoredType;
use globals::Global;

/// A place in [`Pickle::values`].
pub(super) type Id = usize;

/// What a pickle describes.
pub(super) struct Pickle<'a> {
    pub(super) values: Vec<Value<'a>>,
    pub(super) root: Id,
    /// How many bytes the program had.
    pub(super) length: usize,
}

/// A value.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Global(Global),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// An object of a class that is not looked into, and its attributes.
    Object(Option<Id>),
    Storage(Storage<'a>),
    Tensor(Tensor<'a>),
}

/// Numbers that tensors share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    /// `None` if its tensors say it.
    pub(super) dtype: Option<StoredType>,
    pub(super) key: &'a str,
    /// In elements; of one without type in bytes.
    pub(super) len: usize,
}

/// A view of a storage.
#[derive(Clone, Debug)]
pub(super) struct Tensor<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) dtype: StoredType,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// Runs the program at the beginning of `bytes`.
///
/// # Errors
/// A sentence, if it is cut off or asks for anything that weights do not need.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, String> {
    let mut machine = Machine {
        bytes,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
    };
    let root = machine.run()?;
    Ok(Pickle { values: machine.values, root, length: machine.at })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
    /// Pairs that calls have copied; more than there are instructions are no honest ones.
    copied: usize,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let place = self.at;
            let opcode = self.take::<1>()?[0];
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode).map_err(|error| format!("the pickle at byte {place}: {error}"))?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            // Protocol and frames say nothing that is needed.
            0x80 => self.take::<1>().map(drop)?,
            0x95 => self.take::<8>().map(drop)?,
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.pop().map(drop)?,
            b'1' => self.pop_to_mark().map(drop)?,
            // Constants.
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let number = i32::from_le_bytes(self.take()?);
                self.push(Value::Int(number.into()));
            }
            b'K' => {
                let number = self.take::<1>()?[0];
                self.push(Value::Int(number.into()));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.take()?);
                self.push(Value::Int(number.into()));
            }
            0x8a => {
                let length = self.take::<1>()?[0].into();
                let number = long(self.slice(length)?)?;
                self.push(Value::Int(number));
            }
            b'I' | b'L' => {
                let value = match self.line()? {
                    "00" => Value::Bool(false),
                    "01" => Value::Bool(true),
                    line => {
                        let number = line.trim_end_matches('L').parse();
                        Value::Int(number.map_err(|_| format!("`{}` is no number", shorten(line)))?)
                    }
                };
                self.push(value);
            }
            b'G' => {
                let number = f64::from_be_bytes(self.take()?);
                self.push(Value::Float(number));
            }
            // Texts; bytes are of no use here but in notes beside the weights.
            b'X' => self.text::<4>()?,
            0x8c => self.text::<1>()?,
            0x8d => self.text::<8>()?,
            b'S' | b'V' => {
                let text = self.line()?;
                let unquoted = text.strip_prefix(['\'', '"']).and_then(|text| text.strip_suffix(['\'', '"']));
                self.push(Value::Text(if opcode == b'S' { unquoted.unwrap_or(text) } else { text }));
            }
            b'U' | b'C' => self.bytes::<1>()?,
            b'T' | b'B' => self.bytes::<4>()?,
            0x8e => self.bytes::<8>()?,
            // Containers.
            b')' => self.push(Value::Tuple(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            0x8f => self.push(Value::Object(None)),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Value::List(items));
            }
            b'd' => {
                let pairs = pairs(&self.pop_to_mark()?);
                self.push(Value::Dict(pairs));
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
                let items = self.stack.split_off(start.ok_or("it takes more than there is")?);
                self.push(Value::Tuple(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(&items)?;
            }
            0x90 => self.pop_to_mark().map(drop)?, // items of a set
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(&[(key, value)])?;
            }
            b'u' => {
                let pairs = pairs(&self.pop_to_mark()?);
                self.insert(&pairs)?;
            }
            // Memory.
            b'q' => {
                let place = self.take::<1>()?[0].into();
                self.memorise(place)?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.take()?) as usize;
                self.memorise(place)?;
            }
            0x94 => self.memorise(self.memo.len())?,
            b'h' => {
                let place = self.take::<1>()?[0].into();
                self.recall(place)?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.take()?) as usize;
                self.recall(place)?;
            }
            // Names and calls.
            b'c' | b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
                if opcode == b'i' {
                    return Err(unknown(opcode));
                }
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name])
                else {
                    return Err("a name is no text".into());
                };
                self.global(module, name)?;
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(callable, arguments)?;
            }
            b'b' => {
                let (state, target) = (self.pop()?, self.top()?);
                if let Value::Object(attributes) = &mut self.values[target] {
                    *attributes = Some(state);
                }
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(storage));
            }
            _ => return Err(unknown(opcode)),
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let global = Global::named(module, name).ok_or_else(|| {
            format!(
                "it asks for `{}.{}`, which no file of weights needs; other programs may run its code",
                shorten(module),
                shorten(name)
            )
        })?;
        self.push(Value::Global(global));
        Ok(())
    }

    /// What comes of a call, without calling.
    fn call(&mut self, callable: Id, arguments: Id) -> Result<(), String> {
        let (&Value::Global(global), Value::Tuple(arguments)) =
            (&self.values[callable], &self.values[arguments])
        else {
            return Err("it calls what is no function".into());
        };
        let first = arguments.first().copied();
        let value = match global {
            Global::OrderedDict => {
                let pairs = self.listed_pairs(first);
                self.copied += pairs.len();
                if self.copied > self.bytes.len() {
                    return Err("it copies one list over and over".into());
                }
                Value::Dict(pairs)
            }
            Global::RebuildTensor => Value::Tensor(self.tensor(arguments)?),
            Global::RebuildParameter | Global::Size => {
                let inner = first.ok_or("a call lacks its argument")?;
                self.stack.push(inner);
                return Ok(());
            }
            Global::Inert => Value::Object(first),
            Global::StorageType(_) | Global::DType(_) => return Err("it makes a storage by a call".into()),
        };
        self.push(value);
        Ok(())
    }

    /// The pairs of a dictionary that is given as a list of them.
    fn listed_pairs(&self, list: Option<Id>) -> Vec<(Id, Id)> {
        let Some(Value::List(items)) = list.map(|list| &self.values[list]) else { return Vec::new() };
        let pair = |&item: &Id| match &self.values[item] {
            Value::Tuple(pair) | Value::List(pair) => Some((*pair.first()?, *pair.get(1)?)),
            _ => None,
        };
        items.iter().filter_map(pair).collect()
    }

    /// `(storage, offset, shape, strides, …)`, in version 3 with the element type behind two more.
    fn tensor(&self, arguments: &[Id]) -> Result<Tensor<'a>, String> {
        let argument = |i: usize| arguments.get(i).map(|&id| &self.values[id]);
        let Some(&Value::Storage(storage)) = argument(0) else {
            return Err("a tensor has no storage".into());
        };
        let dtype = match (storage.dtype, argument(6)) {
            (Some(dtype), _) | (None, Some(&Value::Global(Global::DType(dtype)))) => dtype,
            _ => return Err("a tensor has no element type that is known".into()),
        };
        let offset = argument(1).and_then(Value::size).ok_or("a tensor's offset is no size")?;
        let sizes = |i| match argument(i) {
            Some(Value::Tuple(sizes) | Value::List(sizes)) if sizes.len() <= 8 => {
                sizes.iter().map(|&id| self.values[id].size()).collect()
            }
            _ => None,
        };
        let (shape, strides): (Option<Vec<usize>>, Option<Vec<usize>>) = (sizes(2), sizes(3));
        match (shape, strides) {
            (Some(shape), Some(strides)) if shape.len() == strides.len() => {
                Ok(Tensor { storage, dtype, offset, shape, strides })
            }
            _ => Err("a tensor's shape and strides do not fit".into()),
        }
    }

    /// `("storage", type, key, device, length)`, in old files with a view behind it.
    fn storage(&self, id: Id) -> Result<Storage<'a>, String> {
        let Value::Tuple(parts) = &self.values[id] else { return Err("a storage has no description".into()) };
        let part = |i: usize| parts.get(i).map(|&id| &self.values[id]);
        match (part(0), part(1), part(2), part(4).and_then(Value::size), part(5)) {
            (
                Some(Value::Text("storage")),
                Some(&Value::Global(Global::StorageType(dtype))),
                Some(&Value::Text(key)),
                Some(len),
                None | Some(Value::None),
            ) => Ok(Storage { dtype, key, len }),
            _ => Err("a storage is described in a way that is not known".into()),
        }
    }

    fn append(&mut self, items: &[Id]) -> Result<(), String> {
        let target = self.top()?;
        match &mut self.values[target] {
            Value::List(list) => list.extend_from_slice(items),
            Value::Object(_) => {}
            _ => return Err("it appends to what is no list".into()),
        }
        Ok(())
    }

    fn insert(&mut self, pairs: &[(Id, Id)]) -> Result<(), String> {
        let target = self.top()?;
        match &mut self.values[target] {
            Value::Dict(dict) => dict.extend_from_slice(pairs),
            Value::Object(_) => {}
            _ => return Err("it inserts into what is no dictionary".into()),
        }
        Ok(())
    }

    fn memorise(&mut self, place: usize) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: usize) -> Result<(), String> {
        let value = self.memo.get(&place).ok_or("it recalls what it did not memorise")?;
        self.stack.push(*value);
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// Below this height the stack belongs to an open mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, String> {
        match self.stack.len() > self.floor() {
            true => self.stack.pop().ok_or_else(|| "it takes more than there is".into()),
            false => Err("it takes more than there is".into()),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("it closes what was not opened")?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| "it takes more than there is".into())
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or("the pickle is cut off")?;
        let slice = &self.bytes[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let slice = self.slice(N)?;
        slice.try_into().map_err(|_| "the pickle is cut off".into())
    }

    /// A line of text without its end.
    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("the pickle is cut off")?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| "a line is no UTF-8".into())
    }

    /// A length of N bytes and that many bytes.
    fn counted<const N: usize>(&mut self) -> Result<&'a [u8], String> {
        let mut length = [0; 8];
        length[..N].copy_from_slice(&self.take::<N>()?);
        let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| "the pickle is cut off")?;
        self.slice(length)
    }

    fn text<const N: usize>(&mut self) -> Result<(), String> {
        let text = std::str::from_utf8(self.counted::<N>()?).map_err(|_| "a text is no UTF-8")?;
        self.push(Value::Text(text));
        Ok(())
    }

    /// Python 2 wrote texts as bytes.
    fn bytes<const N: usize>(&mut self) -> Result<(), String> {
        let bytes = self.counted::<N>()?;
        self.push(std::str::from_utf8(bytes).map_or(Value::Object(None), Value::Text));
        Ok(())
    }
}

impl Value<'_> {
    fn size(&self) -> Option<usize> {
        match self {
            Self::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }
}

fn pairs(items: &[Id]) -> Vec<(Id, Id)> {
    items.as_chunks().0.iter().map(|&[key, value]| (key, value)).collect()
}

/// A whole number in two's complement.
fn long(bytes: &[u8]) -> Result<i64, String> {
    let Some(last) = bytes.last() else { return Ok(0) };
    if bytes.len() > 8 {
        // Larger numbers stand in the first pickle of torch's old files; nothing is computed with
        // them.
        return Ok(i64::MAX);
    }
    let mut number = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
    number[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(number))
}

fn unknown(opcode: u8) -> String {
    format!("the instruction {opcode:#04x} is none that files of weights need")
}

/// At most 60 characters.
fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}
