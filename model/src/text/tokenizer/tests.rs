//! The published vocabulary against known vectors, a tiny one by hand, and folders that lie.

use super::*;
use crate::ErrorKind;

/// A folder with the given files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a temporary file");
    }
    folder
}

/// `<folder>` with CLIP's vocabulary and the given further files.
fn clip(files: &[(&str, &str)]) -> Tokenizer {
    let folder = folder(files);
    write_clip_vocabulary(folder.path()).expect("writable");
    Tokenizer::load(folder.path()).expect("a valid folder")
}

/// The published `special_tokens_map.json` of Stable Diffusion 2.x.
const SD_2: &str = r#"{"bos_token": {"content": "<|startoftext|>", "lstrip": false, "normalized": true, "rstrip": false,
    "single_word": false}, "eos_token": {"content": "<|endoftext|>", "lstrip": false, "normalized": true, "rstrip": false,
    "single_word": false}, "pad_token": "!", "unk_token": {"content": "<|endoftext|>", "lstrip": false, "normalized": true,
    "rstrip": false, "single_word": false}}"#;

/// It ends inside of its decoder.
const TRUNCATED: &str = r#"{"version":"1.0","decoder":{"type":"ByteLevel""#;

/// The tokens from start to end mark, without padding.
fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let encoding = tokenizer.encode(text).expect("any text has tokens");
    assert_eq!(encoding.ids.len(), tokenizer.max_length());
    let end = encoding.ids.iter().position(|&id| id == tokenizer.end).expect("an end mark");
    assert!(encoding.ids[end + 1..].iter().all(|&id| id == tokenizer.pad), "padding of {text:?}");
    encoding.ids[..=end].to_vec()
}

/// What transformers 5.23 gives for the same vocabulary.
#[test]
fn clips_vocabulary_gives_transformers_tokens() {
    let tokenizer = clip(&[]);
    assert_eq!((tokenizer.max_length(), tokenizer.vocab_size(), tokenizer.pad), (77, 49408, 49407));
    let known: &[(&str, &[u32])] = &[
        ("", &[]),
        ("a photo of a cat", &[320, 1125, 539, 320, 2368]),
        ("  A  photo\tOF a\n\nCat ", &[320, 1125, 539, 320, 2368]),
        (
            "a photo of an astronaut riding a horse on mars",
            &[320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496],
        ),
    ];
    for &(text, expected) in known {
        let marked = [&[49406], expected, &[49407]].concat();
        assert_eq!(ids(&tokenizer, text), marked, "{text:?}");
    }
    // NFC: the two spellings of é are one.
    assert_eq!(ids(&tokenizer, "caf\u{e9}"), ids(&tokenizer, "cafe\u{301}"));
}

#[test]
fn stable_diffusion_2_pads_with_token_0_and_finds_it_in_the_text() {
    let one = clip(&[]);
    let two = clip(&[
        ("special_tokens_map.json", SD_2),
        ("tokenizer_config.json", r#"{"pad_token": "<|endoftext|>"}"#),
    ]);
    assert_eq!(two.pad, 0);
    assert_eq!(ids(&one, "cat !"), [49406, 2368, 256, 49407]);
    assert_eq!(ids(&two, "cat !"), [49406, 2368, 0, 49407]);
}

#[test]
fn what_does_not_fit_is_cut_and_reported() {
    let tokenizer = clip(&[]);
    let encode = |text: &str| tokenizer.encode(text).expect("any text has tokens");
    let full = encode(&"cat ".repeat(75));
    assert_eq!(full.cut, None);
    assert_eq!(full.ids[75..], [2368, 49407]);
    let long = encode(&format!("{} Hündin, schläft", "cat ".repeat(75)));
    assert_eq!(long.ids, full.ids);
    assert_eq!(long.cut.as_deref(), Some("Hündin, schläft"));
    // A sign of several bytes may be cut in its middle: the report shows it whole.
    let broken = encode(&format!("{}\u{1f98a}\u{1f98a}", "cat ".repeat(74)));
    assert!(broken.cut.is_some_and(|cut| cut.starts_with('\u{1f98a}')));
}

#[test]
fn special_tokens_in_the_text_are_found() {
    let tokenizer = clip(&[]);
    assert_eq!(ids(&tokenizer, "<|startoftext|>cat")[..3], [49406, 49406, 2368]);
}

const VOCAB: &str =
    r#"{"a": 0, "b": 1, "a</w>": 2, "b</w>": 3, "ab</w>": 4, "<|startoftext|>": 5, "<|endoftext|>": 6}"#;
const MERGES: &str = "#version: 0.2\na b</w>\n";

#[test]
fn a_tiny_vocabulary_by_hand() {
    let config = r#"{"model_max_length": 8, "pad_token": {"content": "a", "__type": "AddedToken"}}"#;
    let files = [("vocab.json", VOCAB), ("merges.txt", MERGES), ("tokenizer_config.json", config)];
    let tokenizer = Tokenizer::load(folder(&files).path()).expect("a valid folder");
    assert_eq!(tokenizer.vocab_size(), 7);
    // `a` is the padding here, and so special; `c` is unknown and becomes the end mark.
    let encoding = tokenizer.encode("bb b c").expect("tokens");
    assert_eq!(encoding, Encoding { ids: vec![5, 1, 3, 3, 6, 6, 0, 0], cut: None });

    let plain = r#"{"model_max_length": 8, "added_tokens_decoder": {"6": {"content": "<|endoftext|>"}}}"#;
    let files = [("vocab.json", VOCAB), ("merges.txt", MERGES), ("tokenizer_config.json", plain)];
    let tokenizer = Tokenizer::load(folder(&files).path()).expect("a valid folder");
    assert_eq!(tokenizer.encode("AB ba b").expect("tokens").ids, [5, 4, 1, 2, 3, 6, 6, 6]);
}

#[test]
fn tokenizer_json_is_read_and_its_own_padding_is_ignored() {
    let files = [("vocab.json", VOCAB), ("merges.txt", MERGES)];
    let mut words = Tokenizer::load(folder(&files).path()).expect("a valid folder").words;
    words.with_padding(Some(tokenizers::PaddingParams::default()));
    let json = words.to_string(false).expect("serializable");
    let config = r#"{"model_max_length": 6}"#;
    let folder = folder(&[("tokenizer.json", &json), ("tokenizer_config.json", config)]);
    let tokenizer = Tokenizer::load(folder.path()).expect("a valid folder");
    let encoding = tokenizer.encode("ab b ab a b").expect("tokens");
    assert_eq!(encoding, Encoding { ids: vec![5, 4, 3, 4, 2, 6], cut: Some("b".to_owned()) });
}

#[test]
fn a_folder_that_lies_is_named() {
    let settings = |text| [("vocab.json", VOCAB), ("merges.txt", MERGES), ("tokenizer_config.json", text)];
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "expected `tokenizer.json`, or `vocab.json` and `merges.txt`; found neither"),
        (&[("vocab.json", VOCAB)], "merges.txt`: No such file"),
        (&[("merges.txt", MERGES)], "vocab.json`: No such file"),
        (&[("tokenizer.json", "{")], "tokenizer.json`: EOF while parsing"),
        (&[("vocab.json", "[1]"), ("merges.txt", MERGES)], "expected an object of tokens and their numbers"),
        (
            &[("vocab.json", r#"{"a": -1}"#), ("merges.txt", MERGES)],
            "expected an object of tokens and their numbers",
        ),
        (&[("vocab.json", VOCAB), ("merges.txt", "a b</w>\nab\n")], "line 2: expected two symbols"),
        (&[("vocab.json", VOCAB), ("merges.txt", "a q\n")], "does not belong to `vocab.json`"),
        (&[("vocab.json", r#"{"a": 0}"#), ("merges.txt", "")], "lacks the special token `<|startoftext|>`"),
        (&settings("null"), "tokenizer_config.json`: not a JSON object"),
        (&settings(r#"{"pad_token": 7}"#), "`pad_token` is 7; expected a token"),
        (
            &settings(r#"{"model_max_length": -77}"#),
            "`model_max_length` is -77; expected a whole number from 3",
        ),
        (&settings(r#"{"model_max_length": 2}"#), "`model_max_length` is 2; expected a whole number from 3"),
    ];
    for (files, expected) in cases {
        let error = Tokenizer::load(folder(files).path()).expect_err("it cannot be loaded");
        assert!(error.to_string().contains(expected), "found {error}, expected {expected}");
        assert_eq!(error.kind(), ErrorKind::Model);
    }
    assert!(Tokenizer::load(Path::new("/no/such/folder")).is_err());
    let unset = settings(r#"{"model_max_length": 1000000000000000019884624838656}"#);
    assert_eq!(Tokenizer::load(folder(&unset).path()).map(|t| t.max_length()).ok(), Some(77));
}

/// A learned token is one number, behind the vocabulary; transformers 5.23 gives the same.
#[test]
fn learned_tokens_are_read_from_either_file() {
    let old = ("added_tokens.json", r#"{"sks-style": 49409, "<cat-toy>": 49408}"#);
    let new = (
        "tokenizer_config.json",
        r#"{"added_tokens_decoder": {"49406": {"content": "<|startoftext|>", "special": true},
            "49407": {"content": "<|endoftext|>", "special": true}, "49408": {"content": "<cat-toy>",
            "normalized": true, "special": false}, "49409": {"content": "sks-style", "special": false}}}"#,
    );
    for file in [old, new] {
        let tokenizer = clip(&[file]);
        assert_eq!(tokenizer.vocab_size(), 49410, "{}", file.0);
        let expected = [49406, 320, 49408, 530, 49409, 267, 2870, 49407];
        assert_eq!(ids(&tokenizer, "a <cat-toy> in sks-style, oil"), expected, "{}", file.0);
        assert_eq!(ids(&tokenizer, "A <CAT-TOY>"), [49406, 320, 49408, 49407], "{}", file.0);
    }
}

#[test]
fn added_tokens_that_do_not_continue_the_vocabulary_are_refused() {
    let refused = |name: &str, text: &str| {
        let folder = folder(&[(name, text)]);
        write_clip_vocabulary(folder.path()).expect("writable");
        let error = Tokenizer::load(folder.path()).expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::Model);
        error.to_string()
    };
    let error = refused("added_tokens.json", r#"{"<a>": 49408, "<b>": 49410}"#);
    assert!(error.contains("the added token `<b>` has number 49410; expected 49409"), "{error}");
    let error = refused("added_tokens.json", r#"{"cat</w>": 7}"#);
    assert!(error.contains("`cat</w>` has number 7; expected 2368"), "{error}");
    let error = refused("added_tokens.json", r#"{"<a>": "x"}"#);
    assert!(error.contains("`<a>` is \"x\"; expected its number"), "{error}");
    // A hundred thousand of them: no longer than reading the file.
    let many: Vec<String> = (0..100_000).map(|i| format!(r#""{i}": {{"content": "t{i}"}}"#)).collect();
    let many = format!(r#"{{"added_tokens_decoder": {{{}}}}}"#, many.join(","));
    let start = std::time::Instant::now();
    let error = refused("tokenizer_config.json", &many);
    assert!(error.contains("`t0`") && start.elapsed().as_secs() < 20, "{error}, {:?}", start.elapsed());
}

/// The crate `tokenizers` panics on the first, and its own reader of `decoder` on the second.
#[test]
fn a_truncated_file_is_named() {
    for text in [TRUNCATED, r#"{"version": "1.0", "decoder": {"type": "BPEDecoder""#, "{", "[]"] {
        let error = Tokenizer::load(folder(&[("tokenizer.json", text)]).path()).expect_err("it is truncated");
        assert_eq!(error.kind(), ErrorKind::Model);
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}

#[test]
fn a_line_without_end_is_shortened() {
    let long = "x".repeat(1_000_000);
    let error = Tokenizer::load(folder(&[("vocab.json", "{}"), ("merges.txt", &long)]).path());
    let error = error.expect_err("it is no merge").to_string();
    assert!(error.contains("line 1: expected two symbols") && error.len() < 400, "{}", error.len());
}
