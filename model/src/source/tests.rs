//! Files that tell the truth, and files that do not.

use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use tempfile::TempDir;

use super::*;
use crate::error::Result;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A safetensors file with this header and `len` bytes of data.
fn write(path: &Path, header: &str, data: &[u8]) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    fs::write(path, bytes).expect("the temporary folder is writable");
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A file of one tensor in a folder of its own; the tensor's data begin at an odd address if the
/// header has an odd length.
fn one(header: &str, data: &[u8]) -> (TempDir, PathBuf) {
    let folder = folder();
    let path = folder.path().join("model.safetensors");
    write(&path, header, data);
    (folder, path)
}

fn error<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn all_three_element_types_are_read_aligned_or_not() {
    let halves: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
    let cases = [("F32", floats(&[1.5, -2.0])), ("F16", halves), ("BF16", vec![0xc0, 0x3f, 0x00, 0xc0])];
    for (dtype, data) in &cases {
        for spaces in 0..4 {
            let size = data.len();
            let header = format!(
                r#"{{"a.bias":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{size}]}}}}{}"#,
                " ".repeat(spaces)
            );
            let (_folder, path) = one(&header, data);
            let checkpoint = Checkpoint::from_files(&[path]).expect("a valid file");
            let found = checkpoint.weights().at("a").vector("bias", 2).expect("it is there");
            assert_eq!(found, [1.5, -2.0], "{dtype}, {spaces} spaces behind the header");
        }
    }
}

#[test]
fn a_table_adds_its_rows() {
    let header = r#"{"t":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
    let (_folder, path) = one(header, &floats(&[1.0, 2.0, 3.0, 4.0]));
    let checkpoint = Checkpoint::from_files(&[path]).expect("a valid file");
    let table = checkpoint.weights().table("t", [2, 2]).expect("it is there");
    let mut row = [10.0, 20.0];
    table.add_row(1, &mut row);
    assert_eq!(row, [13.0, 24.0]);
}

#[test]
fn a_wrong_shape_says_expected_and_found() {
    let header = r#"{"conv.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#;
    let (_folder, path) = one(header, &[0; 8]);
    let checkpoint = Checkpoint::from_files(&[path]).expect("a valid file");
    let w = checkpoint.weights().at("conv");
    let found = error(w.conv("weight", [2, 1, 3, 3]));
    assert!(found.contains("tensor `conv.weight`: expected [2, 1, 3, 3], found [2, 1]"), "{found}");
    assert!(found.contains("model.safetensors"), "{found}");
    let found = error(w.vector("bias", 2));
    assert!(found.contains("there is no tensor `conv.bias` (expected [2])"), "{found}");
    w.pointwise("weight", [2, 1]).expect("a matrix is also a 1×1 kernel");
}

#[test]
fn other_element_types_matter_only_when_they_are_read() {
    let header = r#"{"e.position_ids":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
    let (_folder, path) = one(header, &[0; 8]);
    let checkpoint = Checkpoint::from_files(&[path]).expect("a valid file");
    assert!(accounts(&[&checkpoint])[0].unknown.is_empty(), "position_ids carry no weights");
    let found = error(checkpoint.weights().vector("e.position_ids", 1));
    assert!(found.contains("expected element type F32, F16, BF16 or F8, found I64"), "{found}");
}

#[test]
fn leftovers_are_remembered() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    let (_folder, path) = one(header, &floats(&[1.0, 2.0]));
    let checkpoint = Checkpoint::from_files(&[path]).expect("a valid file");
    assert_eq!(checkpoint.weights().vector("b", 1).expect("it is there"), [2.0]);
    let [account] = &accounts(&[&checkpoint])[..] else { panic!("one file, one account") };
    assert_eq!((account.used, &account.unknown[..]), (1, &["a".to_owned()][..]));
    assert!(account.warnings()[0].contains("the first is `a`"));
}

#[test]
fn headers_that_lie_are_refused() {
    let tensor = |offsets: &str, shape: &str| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let cases = [
        ("truncated data", tensor("[0,8]", "[2]"), 4),
        ("more data than described", tensor("[0,8]", "[2]"), 9),
        ("shape and size disagree", tensor("[0,8]", "[3]"), 8),
        ("a hole in front", tensor("[4,12]", "[2]"), 12),
        ("offsets the wrong way round", tensor("[8,0]", "[2]"), 8),
        ("a shape that overflows", tensor("[0,8]", "[4294967296,4294967296,2]"), 8),
        ("a negative shape", tensor("[0,8]", "[-2]"), 8),
        ("an unknown type", r#"{"a":{"dtype":"F7","shape":[2],"data_offsets":[0,8]}}"#.into(), 8),
        ("no JSON", "{".into(), 0),
        ("a list", "[]".into(), 0),
        ("a space in front", format!(" {}", tensor("[0,8]", "[2]")), 8),
        (
            "a name twice",
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#
                .into(),
            8,
        ),
    ];
    for (what, header, size) in cases {
        let (_folder, path) = one(&header, &vec![0; size]);
        let found = error(Checkpoint::from_files(&[path]));
        assert!(found.contains("model.safetensors`: not a valid safetensors file"), "{what}: {found}");
    }
}

#[test]
fn files_that_are_no_safetensors_are_refused() {
    let folder = folder();
    let path = folder.path().join("x.safetensors");
    let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    for bytes in [&b""[..], b"short", b"PK\x03\x04 a zip file, not weights", &huge] {
        fs::write(&path, bytes).expect("writable");
        assert!(error(Checkpoint::from_files(std::slice::from_ref(&path))).contains("x.safetensors"));
    }
    assert!(error(Checkpoint::from_files(&[folder.path().join("absent")])).starts_with("cannot read"));
}

#[test]
fn the_plain_file_is_preferred_then_shards_then_fp16() {
    let folder = folder();
    let file = |name: &str| folder.path().join(name);
    let find = || WeightFiles::find(folder.path(), &UNET).map(|files| files.paths);
    assert!(error(find()).contains("expected `diffusion_pytorch_model.safetensors`"));

    fs::write(file("diffusion_pytorch_model.bin"), "").expect("writable");
    assert_eq!(find().expect("a pickle"), [file("diffusion_pytorch_model.bin")]);

    fs::write(file("diffusion_pytorch_model.fp16.safetensors"), "").expect("writable");
    assert_eq!(find().expect("fp16"), [file("diffusion_pytorch_model.fp16.safetensors")]);

    let index = file("diffusion_pytorch_model.safetensors.index.json");
    fs::write(&index, r#"{"weight_map": {"a": "s2", "b": "s1", "c": "s2"}}"#).expect("writable");
    assert_eq!(find().expect("shards"), [file("s1"), file("s2")]);
    fs::write(&index, r#"{"weight_map": {"a": "../secret"}}"#).expect("writable");
    assert!(error(find()).contains("expected a file name, found \"../secret\""));

    fs::write(file("diffusion_pytorch_model.safetensors"), "").expect("writable");
    assert_eq!(find().expect("plain"), [file("diffusion_pytorch_model.safetensors")]);
}

#[test]
fn a_tensor_belongs_to_one_shard() {
    let folder = folder();
    let paths = ["s1", "s2"].map(|name| folder.path().join(name));
    for path in &paths {
        write(path, r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4]);
    }
    assert!(error(Checkpoint::from_files(&paths)).contains("tensor `a` is also in"));
}

#[test]
fn a_schema_compares_itself_with_a_file() {
    let header = r#"{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;
    let (_folder, path) = one(header, &[0; 12]);
    let checkpoint = Checkpoint::from_files(&[path]).expect("a valid file");
    let schema = Schema::of(&checkpoint);
    let w = schema.weights();
    assert!(w.has("a") && !w.has("c"));
    w.pointwise("a", [2, 1]).expect("a schema has everything");
    w.vector("b", 3).expect("a schema has everything");
    w.vector("c", 4).expect("a schema has everything");
    let found: Vec<_> = schema
        .mismatches(&checkpoint)
        .into_iter()
        .map(|mismatch| (mismatch.expected.name, mismatch.expected.shape, mismatch.found))
        .collect();
    assert_eq!(found, [("b".into(), vec![3], Some(vec![1])), ("c".into(), vec![4], None)]);
}

/// OpenCLIP keeps queries, keys and values in one matrix.
#[test]
fn a_third_of_a_matrix_is_found_under_its_own_name() {
    let header = r#"{
        "cond_stage_model.model.token_embedding.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},
        "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight":
            {"dtype":"F32","shape":[6,1],"data_offsets":[4,28]}}"#;
    let (_folder, path) = one(header.trim_start(), &floats(&[9.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    let file = std::sync::Arc::new(TensorFile::open(&path).expect("a valid file"));
    let naming = Naming::of(&TEXT_ENCODER, &file).expect("a text encoder");
    assert!(naming.is_open_clip());
    let checkpoint = Checkpoint::within(file, naming);
    let layer = checkpoint.weights().at("text_model.encoder.layers.0.self_attn");
    for (name, expected) in [("q_proj", [0.0, 1.0]), ("k_proj", [2.0, 3.0]), ("v_proj", [4.0, 5.0])] {
        let found = checkpoint.find(&format!("text_model.encoder.layers.0.self_attn.{name}.weight"));
        assert_eq!(found.expect("it is there").elements().expect("floats").into_f32(), expected, "{name}");
        layer.at(name).linear("weight", [2, 1]).expect("a matrix of two rows");
    }
    assert!(checkpoint.find("text_model.encoder.layers.0.mlp.fc1.weight").is_none());
}

#[test]
fn eight_bits_are_scaled() {
    for (scale, scales, expected) in
        [("weight_scale", vec![2.0], [2.0, 4.0]), ("scale_weight", vec![2.0, 3.0], [2.0, 6.0])]
    {
        let end = 2 + 4 * scales.len();
        let header = format!(
            r#"{{"a.weight":{{"dtype":"F8_E4M3","shape":[2,1],"data_offsets":[0,2]}},
                "a.{scale}":{{"dtype":"F32","shape":[{}],"data_offsets":[2,{end}]}}}}"#,
            scales.len()
        );
        let (_folder, path) = one(&header, &[&[0x38, 0x40][..], &floats(&scales)].concat());
        let checkpoint = Checkpoint::from_files(&[path]).expect("a valid file");
        let found = checkpoint.find("a.weight").expect("it is there");
        assert_eq!(found.elements().expect("floats").into_f32(), expected, "{scale}");
        checkpoint.weights().at("a").linear("weight", [2, 1]).expect("a matrix");
        assert!(accounts(&[&checkpoint])[0].unknown.is_empty(), "{scale} was used as well");
    }
}

/// A source around another one, as adapters are.
#[test]
fn a_source_may_change_what_another_has() {
    struct Double;
    impl WeightDelta for Double {
        fn apply(&self, shape: &[usize], weights: &mut [f32]) {
            assert_eq!(shape, [2]);
            weights.iter_mut().for_each(|x| *x *= 2.0);
        }
    }
    struct Doubled(Checkpoint);
    impl TensorSource for Doubled {
        fn find(&self, name: &str) -> Option<FoundTensor<'_>> {
            let mut found = self.0.find(name)?;
            found.deltas.push(&Double);
            Some(found)
        }
        fn mark_used(&self, name: &str) {
            self.0.mark_used(name);
        }
        fn describe(&self) -> String {
            self.0.describe()
        }
    }
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let (_folder, path) = one(header, &floats(&[1.0, -3.0]));
    let source = Doubled(Checkpoint::from_files(&[path]).expect("a valid file"));
    assert_eq!(Weights::of(&source).vector("a", 2).expect("it is there"), [2.0, -6.0]);
}
