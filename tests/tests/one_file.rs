//! `model/examples/one_file.rs` draws the picture that the engine draws.

use aquatint_model::samplers::SamplerChoice;
use aquatint_model::{EMBEDDED, LoadOptions, Pipeline, TextToImage};
use aquatint_tests::path;

#[allow(dead_code, reason = "the example's `main` is not called here")]
#[path = "../../model/examples/one_file.rs"]
mod one_file;

#[test]
fn the_one_file_version_agrees_with_the_engine() {
    let pipeline = Pipeline::load(EMBEDDED, &LoadOptions::default()).expect("it is in the program");
    let folder = path("../../model/embedded"); // from the goldens
    // Words, digits, signs and letters beyond ASCII are tokenized alike, too.
    for (prompt, seed, steps) in [("a castle at night", 7, 4), ("2 Café-cats, it's 10!", 11, 2)] {
        let request = TextToImage {
            prompt: prompt.into(),
            seed: seed.into(),
            steps,
            sampler: SamplerChoice::parse(Some("DDIM"), None).expect("a sampler"),
            ..pipeline.defaults()
        };
        let engine = pipeline.text_to_image(&request, &mut |_| {}).expect("a picture");
        let planes = one_file::draw(&folder, prompt, seed, steps).expect("the files are there");
        let count = planes.len() / 3;
        assert_eq!(engine.pixels().len(), planes.len());
        let levels = (0..count).flat_map(|i| [planes[i], planes[count + i], planes[2 * count + i]]);
        let worst = engine.pixels().iter().zip(levels).map(|(a, b)| a.abs_diff(b)).max();
        assert!(worst <= Some(1), "`{prompt}`: a value differs by {worst:?} levels");
    }
}
