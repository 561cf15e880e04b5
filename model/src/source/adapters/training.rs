//! What trainers write into a file about its training: `ss_*` by kohya's scripts, `modelspec.*` by
//! the standard that Stability AI proposed (sai_model_spec).
//!
//! Of some eighty keys those are shown that help to use the file; the others are counted.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::printable;

/// Keys that are shown, and how.
const TOLD: [(&str, &str); 17] = [
    ("modelspec.title", "title"),
    ("modelspec.author", "author"),
    ("modelspec.description", "description"),
    ("modelspec.license", "licence"),
    ("modelspec.date", "date"),
    ("modelspec.architecture", "architecture"),
    ("modelspec.prediction_type", "prediction"),
    ("modelspec.resolution", "trained at"),
    ("modelspec.trigger_phrase", "trigger phrase"),
    ("ss_sd_model_name", "trained on"),
    ("ss_base_model_version", "base model"),
    ("ss_network_module", "network"),
    ("ss_network_dim", "rank"),
    ("ss_network_alpha", "alpha"),
    ("ss_resolution", "trained at"),
    ("ss_clip_skip", "CLIP skip"),
    ("ss_steps", "training steps"),
];
/// Words that the pictures of the training had, with counts, as JSON in JSON.
const TAGS: &str = "ss_tag_frequency";
/// As many of these words are shown.
const MOST_TAGS: usize = 8;
/// Letters of a value; some files carry pages, and pictures in base64.
const LONGEST: usize = 200;

/// Lines for a person.
pub fn lines(metadata: &BTreeMap<String, String>) -> Vec<String> {
    let told = TOLD.iter().filter_map(|(key, label)| {
        let value = metadata.get(*key).filter(|value| !value.is_empty() && *value != "None")?;
        Some(format!("{label}: {}", shortened(value)))
    });
    let mut lines: Vec<String> = told.collect();
    let words = frequent_words(metadata);
    if !words.is_empty() {
        lines.push(format!("words of the training, most frequent first: {}", words.join(", ")));
    }
    let is_known = |key: &str| TOLD.iter().any(|(known, _)| *known == key) || key == TAGS;
    let is_trainers =
        |key: &&String| key.starts_with("ss_") || key.starts_with("modelspec.") || key.starts_with("sshs_");
    let (trainers, own): (Vec<_>, Vec<_>) =
        metadata.keys().filter(|key| !is_known(key)).partition(is_trainers);
    lines.extend(own.iter().map(|key| format!("{key}: {}", shortened(&metadata[*key]))));
    if !trainers.is_empty() {
        lines.push(format!("{} further notes of the trainer, such as `{}`", trainers.len(), trainers[0]));
    }
    lines
}

/// Words that make the file show its effect: its trigger phrase, or what its pictures were called
/// most often.
pub fn trigger_words(metadata: &BTreeMap<String, String>) -> Vec<String> {
    match metadata.get("modelspec.trigger_phrase").filter(|phrase| !phrase.is_empty()) {
        Some(phrase) => phrase.split(',').map(|word| word.trim().to_owned()).collect(),
        None => frequent_words(metadata),
    }
}

/// `{"folder": {"fox": 12, "snow": 3}}` → fox, snow.
fn frequent_words(metadata: &BTreeMap<String, String>) -> Vec<String> {
    let folders: Option<Value> = metadata.get(TAGS).and_then(|text| serde_json::from_str(text).ok());
    let mut counts: BTreeMap<String, f64> = BTreeMap::new();
    for folder in folders.iter().filter_map(Value::as_object).flat_map(|folders| folders.values()) {
        for (word, count) in folder.as_object().into_iter().flatten() {
            *counts.entry(word.trim().to_owned()).or_default() += count.as_f64().unwrap_or(0.0);
        }
    }
    let mut words: Vec<_> = counts.into_iter().filter(|(word, _)| !word.is_empty()).collect();
    words.sort_by(|a, b| b.1.total_cmp(&a.1));
    words.into_iter().take(MOST_TAGS).map(|(word, _)| shortened(&word)).collect()
}

/// On one line, and not too long.
fn shortened(value: &str) -> String {
    let value = printable(&value.split_whitespace().collect::<Vec<_>>().join(" "));
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_is_told_and_the_rest_is_counted() {
        let metadata = [
            ("ss_network_dim", "16"),
            ("ss_network_alpha", "8"),
            ("ss_sd_model_name", "v1-5-pruned.safetensors"),
            ("ss_tag_frequency", r#"{"10_fox": {"snow": 3, "a fox": 12}, "b": {"snow ": 4}}"#),
            ("ss_cache_latents", "True"),
            ("ss_seed", "42"),
            ("modelspec.title", "Foxes\nin snow"),
            ("modelspec.thumbnail", "data:image/jpeg;base64,/9j/"),
            ("own", &"x".repeat(1000)),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let lines = lines(&metadata);
        assert_eq!(
            lines[..5],
            [
                "title: Foxes in snow",
                "trained on: v1-5-pruned.safetensors",
                "rank: 16",
                "alpha: 8",
                "words of the training, most frequent first: a fox, snow",
            ]
        );
        assert_eq!(lines[5], format!("own: {}…", "x".repeat(LONGEST)));
        assert_eq!(lines[6], "3 further notes of the trainer, such as `modelspec.thumbnail`");
        assert_eq!(trigger_words(&metadata), ["a fox", "snow"]);
        let strange = [("ss_tag_frequency".to_owned(), "[1, {".to_owned())].into();
        assert_eq!(super::lines(&strange), Vec::<String>::new());
    }
}
