//! Configs that must load, configs that must not, and the tensors of the published text encoders.

use std::path::Path;

use super::*;
use crate::source::Schema;
use crate::source::config::ConfigFile;

fn config(text: &str) -> Result<ClipTextConfig> {
    ClipTextConfig::from_config(ConfigFile::parse(Path::new("text_encoder/config.json"), text)?)
}

fn with_projection(text: &str) -> Result<ClipTextConfig> {
    ClipTextConfig::with_projection(ConfigFile::parse(Path::new("text_encoder_2/config.json"), text)?)
}

#[test]
fn the_published_encoders_have_so_many_tensors_and_parameters() {
    let sd15 = r#"{"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12, "dropout": 0.0}"#;
    let sd21 = r#"{"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 23, "hidden_act": "gelu"}"#;
    let big_g = r#"{"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32, "hidden_act": "gelu", "projection_dim": 1280}"#;
    // Counted by transformers.
    let cases = [
        (config(sd15), (196, 123_060_480usize)),
        (config(sd21), (372, 340_387_840)),
        (with_projection(big_g), (517, 694_659_840)),
    ];
    for (config, expected) in cases {
        let schema = Schema::new();
        let config = config.expect("a supported config");
        ClipTextModel::load(&schema.weights(), &config).expect("a schema has every tensor");
        let tensors = schema.tensors();
        let parameters = tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        assert_eq!((tensors.len(), parameters), expected);
    }
}

#[test]
fn what_is_not_supported_is_named() {
    for (text, expected) in [
        (r#"{"hidden_act": "relu"}"#, r#"`hidden_act` is "relu"; expected "quick_gelu" or "gelu""#),
        (r#"{"num_attention_heads": 7}"#, "`hidden_size` 512 is not a multiple of `num_attention_heads` 7"),
        (r#"{"model_type": "t5"}"#, "`model_type` is \"t5\", which is not supported"),
        (r#"{"use_attention_mask": true}"#, "`use_attention_mask` is true"),
        (r#"{"vocab_size": 0}"#, "`vocab_size` is 0"),
    ] {
        let error = config(text).expect_err("an unsupported config").to_string();
        assert!(error.contains("`text_encoder/config.json`") && error.contains(expected), "{error}");
    }
}
