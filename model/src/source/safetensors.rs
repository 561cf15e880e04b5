//! The header of a safetensors file.
//!
//! ```text
//! 8 bytes   length n of the header, little endian
//! n bytes   JSON: {"conv_in.weight": {"dtype": "F16", "shape": [320, 4, 3, 3], "data_offsets": [0, 23040]}, …}
//! the rest  the numbers, without holes
//! ```
//!
//! The crate `safetensors` refuses headers that lie: sizes that do not match, ranges that overlap,
//! leave holes or end elsewhere than the file does. What it lets pass and the format forbids is
//! refused here.

use std::collections::HashSet;
use std::fmt;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use super::header::{Entry, Header};
use super::tensor::StoredType;

/// What the header says; otherwise why it cannot be believed.
pub(super) fn read(bytes: &[u8]) -> Result<Header, String> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let data_start = 8 + header;
    if data_start.checked_add(metadata.data_len()) != Some(bytes.len()) {
        return Err("the header describes more than the file holds".into());
    }
    check_header(&bytes[8..data_start])?;
    let entry = |info: &safetensors::tensor::TensorInfo| Entry {
        dtype: stored_type(info.dtype),
        shape: info.shape.clone(),
        range: data_start + info.data_offsets.0..data_start + info.data_offsets.1,
        strides: None,
    };
    Ok(Header {
        tensors: metadata.tensors().into_iter().map(|(name, info)| (name, entry(info))).collect(),
        metadata: metadata.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
    })
}

fn stored_type(dtype: Dtype) -> StoredType {
    match dtype {
        Dtype::F64 => StoredType::F64,
        Dtype::F32 => StoredType::F32,
        Dtype::F16 => StoredType::F16,
        Dtype::BF16 => StoredType::Bf16,
        Dtype::F8_E4M3 => StoredType::F8E4M3,
        Dtype::F8_E5M2 => StoredType::F8E5M2,
        Dtype::I64 => StoredType::I64,
        Dtype::I32 => StoredType::I32,
        Dtype::I16 => StoredType::I16,
        Dtype::I8 => StoredType::I8,
        Dtype::U8 => StoredType::U8,
        Dtype::BOOL => StoredType::Bool,
        Dtype::U16 => StoredType::Other("U16"),
        Dtype::U32 => StoredType::Other("U32"),
        Dtype::U64 => StoredType::Other("U64"),
        _ => StoredType::Other("another type"),
    }
}

/// A header must begin with `{` and must not have a name twice.
fn check_header(header: &[u8]) -> Result<(), String> {
    if header.first() != Some(&b'{') {
        return Err("the header does not begin with `{`".into());
    }
    serde_json::from_slice::<UniqueKeys>(header).map(|_| ()).map_err(|error| error.to_string())
}

/// A JSON object whose keys all differ; its values are skipped.
struct UniqueKeys;

impl<'de> serde::Deserialize<'de> for UniqueKeys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> serde::de::Visitor<'de> for Keys {
            type Value = UniqueKeys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<UniqueKeys, A::Error> {
                let mut seen = HashSet::new();
                while let Some((key, serde::de::IgnoredAny)) = map.next_entry::<String, _>()? {
                    if seen.contains(&key) {
                        return Err(serde::de::Error::custom(format_args!(
                            "tensor `{key}` is in the header twice"
                        )));
                    }
                    seen.insert(key);
                }
                Ok(UniqueKeys)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
