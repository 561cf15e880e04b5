//! The text: what A1111's reader makes of it, and that ours survives the way there and back.

use super::*;

fn settings(parameters: &Parameters) -> Vec<(&str, &str)> {
    parameters.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

#[test]
fn a_picture_of_a1111() {
    let text = "a photo of a (cat:1.2), sharp\nby the sea\nNegative prompt: blurry, dark\nugly\nSteps: 20, Sampler: DPM++ 2M \
                Karras, CFG scale: 7, Seed: 965400086, Size: 512x768, Model hash: 45dee52b12, Model: v1-5, Lora hashes: \
                \"a: 1f, b: 2e\", Version: v1.10.1";
    let found = Parameters::parse(text);
    assert_eq!(found.prompt, "a photo of a (cat:1.2), sharp\nby the sea");
    assert_eq!(found.negative_prompt, "blurry, dark\nugly");
    #[rustfmt::skip]
    assert_eq!(settings(&found), [
        ("Steps", "20"), ("Sampler", "DPM++ 2M Karras"), ("CFG scale", "7"), ("Seed", "965400086"), ("Size", "512x768"),
        ("Model hash", "45dee52b12"), ("Model", "v1-5"), ("Lora hashes", "a: 1f, b: 2e"), ("Version", "v1.10.1"),
    ]);
    assert_eq!(found.to_string(), text);
}

#[test]
fn a_last_line_with_two_settings_is_a_prompt() {
    let found = Parameters::parse("a cat\nstyle: oil, colour: red");
    assert_eq!((found.prompt.as_str(), found.settings.len()), ("a cat\nstyle: oil, colour: red", 0));
    let found = Parameters::parse("Steps: 1, Seed: 2, Size: 8x8");
    assert_eq!((found.prompt.as_str(), found.settings.len()), ("", 3));
    assert_eq!(Parameters::parse(""), Parameters::default());
}

#[test]
fn odd_values_are_read_as_a1111_reads_them() {
    // A key has at least two characters; an empty value is dropped; an open quote runs to the
    // comma.
    let found = Parameters::parse(
        r#"p
Steps: 1, a: 2, Empty: , Quote: "open, Tab: "a\tb", VAE/x-y z: 3"#,
    );
    assert_eq!(found.prompt, "p");
    let expected = [("Steps", "1"), ("Quote", "\"open"), ("Tab", "a\tb"), ("VAE/x-y z", "3")];
    assert_eq!(settings(&found), expected);
}

#[test]
fn what_is_written_reads_back() {
    for (prompt, negative) in
        [("a fox", ""), ("", "dark"), ("", ""), ("two\nlines, with: colons", "Größe 東京 🦊\n\nafter a gap")]
    {
        let mut parameters =
            Parameters { prompt: prompt.into(), negative_prompt: negative.into(), settings: Vec::new() };
        for value in ["7", "a, b", "x: y", "line\nbreak", "back\\slash, \"quoted\"", "é: 東"] {
            parameters.push("Some key", value);
        }
        assert_eq!(Parameters::parse(&parameters.to_string()), parameters);
    }
}
